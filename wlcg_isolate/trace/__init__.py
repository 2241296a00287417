"""
Evidence about payloads: record, journal, reading back.
"""

from __future__ import annotations

from wlcg_isolate._events import add_trace_id, bind_trace_id, current_trace_id
from wlcg_isolate.trace.journal import Journal, close_journals, journal_for
from wlcg_isolate.trace.read import Entry, Position, follow, iter_records, read_records
from wlcg_isolate.trace.record import TraceRecord
from wlcg_isolate.trace.seal import export_keys

__all__ = [
    "Entry",
    "Journal",
    "Position",
    "TraceRecord",
    "add_trace_id",
    "bind_trace_id",
    "close_journals",
    "current_trace_id",
    "export_keys",
    "follow",
    "iter_records",
    "journal_for",
    "read_records",
]

"""
Evidence about payloads: record, journal, reading back.
"""

from __future__ import annotations

from wlcg_isolate._events import add_trace_id, bind_trace_id, current_trace_id
from wlcg_isolate.trace.journal import Journal, journal_for
from wlcg_isolate.trace.read import read_records
from wlcg_isolate.trace.record import TraceRecord

__all__ = [
    "Journal",
    "TraceRecord",
    "add_trace_id",
    "bind_trace_id",
    "current_trace_id",
    "journal_for",
    "read_records",
]

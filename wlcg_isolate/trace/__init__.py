"""
Evidence about payloads: record, journal, reading back.
"""

from __future__ import annotations

from wlcg_isolate.trace.journal import Journal, close_journals, journal_for
from wlcg_isolate.trace.read import Entry, Position, follow, iter_records, read_records
from wlcg_isolate.trace.record import TraceRecord
from wlcg_isolate.trace.seal import export_keys

__all__ = [
    "Entry",
    "Journal",
    "Position",
    "TraceRecord",
    "close_journals",
    "export_keys",
    "follow",
    "iter_records",
    "journal_for",
    "read_records",
]

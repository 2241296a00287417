"""
Evidence about payloads: record, journal, reading back.
"""

from __future__ import annotations

from wlcg_isolate.trace.journal import Journal, journal_for
from wlcg_isolate.trace.read import read_records
from wlcg_isolate.trace.record import TraceRecord

__all__ = ["Journal", "TraceRecord", "journal_for", "read_records"]

"""
The trace records of a payload that its pilot started itself.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from wlcg_isolate._supervisor import VERIFIES
from wlcg_isolate.errors import Problem
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.policy import Policy
from wlcg_isolate.remains.left import Seen
from wlcg_isolate.remains.start import Start
from wlcg_isolate.trace import TraceRecord
from wlcg_isolate.trace.describe import outcome_fields, reasons
from wlcg_isolate.trace.guard import GuardedJournal
from wlcg_isolate.trace.pilot import common_fields, entity_id
from wlcg_isolate.trace.record import timestamp_of

#: What each record of a payload says of its beginning.
_IDENTITY = ("wlcg.vo", "wlcg.job", "wlcg.token", "wlcg.identity", "user.", "related.user", "container.image.name")

#: And what a refusal says as well.
_ASKED = ("process.args_count", "wlcg.process.args_sha256", "process.working_directory")


def write_records(start: Start, seen: Optional[Seen], outcome: Outcome) -> Outcome:
    """
    Write the records, as the policy of the start wants it.

    Returns:
        The outcome, which must not be lost with them: with what was lost.
    """
    journal = GuardedJournal(start.trace_dirs, start.policy, needed=False)
    for one in _records(start, seen, outcome):
        journal.write_after(one)

    return journal.told(outcome)


def _records(start: Start, seen: Optional[Seen], outcome: Outcome) -> Iterator[TraceRecord]:
    common = {**_some(start.record, *_IDENTITY), **_writer(start)}
    if seen is None or not outcome.started:
        problem = Problem(kind=outcome.kind, message=outcome.message, origin="the start", advice="")
        about = {"event.reason": reasons([problem]), "wlcg.authz.decision": "denied", **outcome_fields(outcome)}
        fields = {**common, **_some(start.record, *_ASKED), **about}
        yield TraceRecord(action="payload.refused", trace_id=start.trace_id, fields=fields)
        return
    process = _process(seen)
    words = seen.started.get("namespaces", "").split()
    about_start = {
        **start.record,
        **_writer(start),
        **process,
        "process.vpid": _number(seen, "inner_pid"),
        **{f"wlcg.ns.{name}": int(inode) for name, inode in zip(words[::2], words[1::2])},
        "wlcg.isolation.starter": "shell",
        "wlcg.isolation.starter_reason": "the pilot started it itself",
        "wlcg.isolation.verified": list(VERIFIES),
    }
    stamp = timestamp_of(datetime.datetime.fromtimestamp(seen.begin, datetime.timezone.utc))
    yield TraceRecord(action="payload.start", trace_id=start.trace_id, fields=about_start, timestamp=stamp)
    ended = {**common, **outcome_fields(outcome), **process}
    yield TraceRecord(action="payload.end", trace_id=start.trace_id, fields=ended)


def _writer(start: Start) -> dict[str, Any]:
    """
    Name the process that writes the record, which need not be the one that
    planned; what only the plan knows stays.
    """
    kept = {name: value for name, value in common_fields(Policy()).items() if value is not None}

    return {**kept, **_some(start.record, "wlcg.site", "wlcg.pilot.name")}


def _process(seen: Seen) -> dict[str, Any]:
    pid, ticks = _number(seen, "pid"), _number(seen, "start_ticks")

    return {
        "process.pid": pid,
        "process.entity_id": None if pid is None else entity_id(pid, ticks),
        "wlcg.process.start_ticks": ticks,
    }


def _some(record: Mapping[str, Any], *beginnings: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name.startswith(beginnings)}


def _number(seen: Seen, name: str) -> Optional[int]:
    text = seen.started.get(name, "")

    return int(text) if text.isdigit() else None

"""
The trace records of a payload that its pilot started itself.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any, Optional

import attrs

from wlcg_isolate import _events
from wlcg_isolate._supervisor import VERIFIES
from wlcg_isolate.errors import Problem, TraceError
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.remains.left import Seen
from wlcg_isolate.remains.start import Start
from wlcg_isolate.trace import TraceRecord, journal_for

#: What the end of a payload says of its beginning.
_IDENTITY = ("wlcg.vo", "wlcg.job", "wlcg.token", "wlcg.identity", "wlcg.user", "user.")


def write_records(start: Start, seen: Optional[Seen], outcome: Outcome) -> None:
    """
    Write the records; the outcome must not be lost with them.
    """
    try:
        journal = journal_for(start.trace_dirs)
        for one in _records(start, seen, outcome):
            journal.write(one)
    except TraceError as error:
        _events.emit("trace.lost", trace_id=start.trace_id, reason=str(error))


def _records(start: Start, seen: Optional[Seen], outcome: Outcome) -> Iterator[TraceRecord]:
    problem = Problem(kind=outcome.kind, message=outcome.message, origin="the start", advice="")
    refused = TraceRecord.refused([problem], outcome)
    if seen is None or not outcome.started:
        about = ("process.args", "wlcg.process.args", "container.image.name", "process.working")
        yield attrs.evolve(refused, fields={**_some(start.record, *_IDENTITY, *about), **refused.fields})
        return
    process = {"process.pid": _number(seen, "pid"), "wlcg.process.start_ticks": _number(seen, "start_ticks")}
    words = seen.started.get("namespaces", "").split()
    about_start = {
        **start.record,
        **process,
        "process.vpid": _number(seen, "inner_pid"),
        **{f"wlcg.ns.{name}": int(inode) for name, inode in zip(words[::2], words[1::2])},
        "wlcg.isolation.starter": "shell",
        "wlcg.isolation.starter_reason": "the pilot started it itself",
        "wlcg.isolation.verified": list(VERIFIES),
    }
    begin = datetime.datetime.fromtimestamp(seen.begin, datetime.timezone.utc)
    stamp = begin.isoformat(timespec="microseconds").replace("+00:00", "Z")
    yield TraceRecord(action="payload.start", trace_id=start.trace_id, fields=about_start, timestamp=stamp)
    ended = {name: value for name, value in refused.fields.items() if name != "event.reason"}
    fields = {**_some(start.record, *_IDENTITY), **ended, **process}
    yield TraceRecord(action="payload.end", trace_id=start.trace_id, fields=fields)


def _some(record: Mapping[str, Any], *beginnings: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name.startswith(beginnings)}


def _number(seen: Seen, name: str) -> Optional[int]:
    text = seen.started.get(name, "")

    return int(text) if text.isdigit() else None

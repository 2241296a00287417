"""
Ask a question in two steps of whatever runs SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

from wlcg_isolate.trace.query.columns import FINAL_EVENTS
from wlcg_isolate.trace.query.payloads import NEEDED
from wlcg_isolate.trace.query.question import Question
from wlcg_isolate.trace.query.rows import Row
from wlcg_isolate.trace.query.statement import MANY, Hit, Statement, hits_of, records_of, span

#: Run a statement over the files of a time; ordered by user, or else by node.
Run = Callable[[Statement, tuple[Any, Any], bool], Sequence[Sequence[Any]]]


def records(run: Run, question: Question, *, whole: bool) -> list[Row]:
    """
    Return the records of all payloads that a question means.

    Args:
        run: Who runs the statements.

        question: What is asked.

        whole: Whether the records are wanted in full.
    """
    owners = bool(question.users)
    hits = [Hit(*values) for values in run(hits_of(question), question.bounds(), owners)]
    hits.sort(key=lambda hit: (hit.first, hit.payload_id))
    names = (*NEEDED, "extra") if whole else NEEDED
    rows: list[Row] = []
    for begin in range(0, len(hits), MANY):
        some = hits[begin : begin + MANY]
        reach = question.lookback
        statement = records_of(some, names, reach, owners=owners)
        rows += [dict(zip(names, values)) for values in run(statement, span(some, reach), owners)]

    return alive(question, rows)


def alive(question: Question, rows: list[Row]) -> list[Row]:
    """
    Leave out records of payloads that were not there at the time asked for.
    """
    starts: dict[str, int] = {}
    firsts: dict[str, int] = {}
    ends: dict[str, int] = {}
    for row in rows:
        name, time = row["payload_id"], row["time"]
        firsts[name] = min(time, firsts.get(name, time))
        if row["event_action"] == "payload.start":
            starts[name] = min(time, starts.get(name, time))
        if row["event_action"] in FINAL_EVENTS:
            ends[name] = max(time, ends.get(name, time))
    meant = {name for name, first in firsts.items() if question.alive(starts.get(name, first), ends.get(name))}

    return [row for row in rows if row["payload_id"] in meant]

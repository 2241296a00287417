"""
Ask a question in steps of whatever runs SQL.

Steps: which payloads may be meant, from what identifies them; where those are
many, which of them were there at the time, from three columns; then all
columns of the records of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable

from wlcg_isolate.trace.query.columns import FINAL_EVENTS
from wlcg_isolate.trace.query.payloads import NEEDED
from wlcg_isolate.trace.query.question import Question
from wlcg_isolate.trace.query.rows import Row
from wlcg_isolate.trace.query.statement import Hit, Statement, hits_of, records_of, span

#: Run a statement over the files of a time; ordered by user, or else by node.
Run = Callable[[Statement, tuple[Any, Any], bool], Sequence[Sequence[Any]]]

#: What tells when a payload was there.
_LIFE = ("payload_id", "event_action", "time")

#: Of more payloads than this not all columns are read before it is known which were there.
_FEW = 100

#: So many payloads are named in one statement.
_MANY, _MANY_LIVES = 5_000, 20_000


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
    timed = (question.since, question.until, question.started_after) != (None, None, None)
    if timed and question.wanted() and len(hits) > _FEW:
        meant = living(question, _rows(run, question, hits, _LIFE, _MANY_LIVES, whole=False))
        hits = [hit for hit in hits if hit.payload_id in meant]
    names = (*NEEDED, "extra") if whole else NEEDED
    rows = list(_rows(run, question, hits, names, _MANY, whole=True))
    meant = living(question, rows)

    return [row for row in rows if row["payload_id"] in meant]


def _rows(
    run: Run, question: Question, hits: Sequence[Hit], names: Sequence[str], many: int, *, whole: bool
) -> Iterator[Row]:
    owners = bool(question.users)
    first, last = question.bounds(whole=whole)
    for begin in range(0, len(hits), many):
        some = hits[begin : begin + many]
        low, high = span(some, question.lookback)
        when = (low if first is None else max(low, first), high if last is None else min(high, last))
        for values in run(records_of(some, names, when, owners=owners), when, owners):
            yield dict(zip(names, values))


def living(question: Question, rows: Iterable[Row]) -> set[str]:
    """
    Tell which payloads were there at the time asked for, from their records
    up to its end.
    """
    last = question.bounds()[1]
    starts: dict[str, int] = {}
    firsts: dict[str, int] = {}
    ends: dict[str, int] = {}
    for row in rows:
        name, time, action = row["payload_id"], row["time"], row["event_action"]
        firsts[name] = min(time, firsts.get(name, time))
        if action == "payload.start":
            starts[name] = min(time, starts.get(name, time))
        if action in FINAL_EVENTS and (last is None or time <= last):
            ends[name] = max(time, ends.get(name, time))

    return {name for name, first in firsts.items() if question.alive(starts.get(name, first), ends.get(name))}

"""
Ask a question in steps of whatever runs SQL.

Steps: which payloads may be meant, from what identifies them; where those are
many, which of them were there at the time, from when their records are; then
all columns of the records of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Callable

from wlcg_isolate.trace.query.columns import FINAL_EVENTS
from wlcg_isolate.trace.query.payloads import NEEDED
from wlcg_isolate.trace.query.question import Question
from wlcg_isolate.trace.query.rows import Row
from wlcg_isolate.trace.query.statement import Hit, Statement, hits_of, lives_of, records_of

#: Run a statement over the files of a time; ordered by user, or else by node.
Run = Callable[[Statement, tuple[Any, Any], bool], Sequence[Sequence[Any]]]

#: Of more payloads than this not all columns are read before it is known which were there.
_FEW = 1_000

#: So many payloads are named in one statement.
_MANY = 5_000


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
    # Without further conditions, all records of the time were looked at.
    exact = not question.wanted()
    if question.bounds() != (None, None) and not exact and len(hits) > _FEW:
        known = {hit.payload_id: hit for hit in hits}
        lives = run(lives_of(question, hits, owners=owners), question.bounds(), owners)
        hits, exact = [known[name]._replace(first=first, last=last) for name, first, last in lives], True
    hits.sort(key=lambda hit: (hit.first, hit.payload_id))
    names = (*NEEDED, "extra") if whole else NEEDED
    rows: list[Row] = []
    for begin in range(0, len(hits), _MANY):
        some = hits[begin : begin + _MANY]
        when = _when(question, some, exact=exact)
        rows += [dict(zip(names, v)) for v in run(records_of(some, names, when, owners=owners), when, owners)]
    meant = living(question, rows)

    return [row for row in rows if row["payload_id"] in meant]


def _when(question: Question, hits: Sequence[Hit], *, exact: bool) -> tuple[int, int]:
    """
    Return from when to when records of payloads can lie.
    """
    low = min(hit.first for hit in hits) - (0 if exact else question.lookback)
    high = max(hit.last for hit in hits) + question.lookback
    first, last = question.bounds(whole=True)

    return low if first is None else max(low, first), high if last is None else min(high, last)


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

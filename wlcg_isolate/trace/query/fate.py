"""
What became of payloads of whose end there is no record.

Rules:

1. A process that is alive says more than any record: it runs, even where its
   pilot said that it was over.
2. A payload is lost when something shows that nobody can record its end any
   more; that says nothing of how it ended.
3. Where nothing shows either, it stays open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from wlcg_isolate.trace.query.alive import on_this_node
from wlcg_isolate.trace.query.conditions import All, AtLeast, Is
from wlcg_isolate.trace.query.engine import Engine
from wlcg_isolate.trace.query.payloads import Payload
from wlcg_isolate.trace.query.rows import Row, loads
from wlcg_isolate.trace.query.times import recorded, shown

#: Event to the column by which it is looked for.
_ENDS = {"pilot.end": "wlcg_pilot_id", "log.close": "file_id", "log.recovered": "recovered_file_id"}

#: A pilot with more files than this one after the other is not followed further.
_FILES = 100


class _Sign(NamedTuple):
    """
    What shows that a pilot was over.
    """

    time: int
    event: str


def tell(engine: Engine, payloads: Sequence[Payload], rows: Iterable[Row], lookback: int) -> list[Payload]:
    """
    Say of open payloads whether they run or were lost, where that is known.

    Args:
        engine: Who is asked for signs of their pilots' end.

        payloads: All that were found.

        rows: Their records.

        lookback: For how long after their start signs are looked for, in
            microseconds.

    Returns:
        All payloads; those that were open with `state_by`, which says what
        shows it, and with `over_by`, when they were lost.
    """
    waiting = {one["trace_id"]: one for one in payloads if one["state"] == "open"}
    if not waiting:
        return list(payloads)
    here = {name: on_this_node(one) for name, one in waiting.items()}
    left = {name: one for name, one in waiting.items() if (here[name] or ("",))[0] != "running"}
    signs = _signs(engine, left, rows, lookback) if left else {}
    told = {name: {**one, **_told(signs.get(name), here[name])} for name, one in waiting.items()}

    return [told.get(one["trace_id"], one) for one in payloads]


def _told(sign: Any, here: Any) -> dict[str, Any]:
    if sign is not None:
        return {"state": "lost", "state_by": sign.event, "over_by": shown(sign.time)}
    if here is None:
        return {}
    state, by, over_by = here

    return {"state": state, "state_by": by, **({} if over_by is None else {"over_by": shown(over_by)})}


def _signs(engine: Engine, waiting: dict[str, Payload], rows: Iterable[Row], lookback: int) -> dict[str, _Sign]:
    """
    Look for the earliest sign that each payload's pilot was over.
    """
    begins = {name: recorded(one["started"] or one["last_seen"]) or 0 for name, one in waiting.items()}
    bounds = (min(begins.values()), max(begins.values()) + lookback)
    pilots: dict[Any, set[str]] = {}
    files: dict[Any, set[str]] = {}
    for name, one in waiting.items():
        pilots.setdefault(one["wlcg.pilot.id"], set()).add(name)
    for row in rows:
        if row["payload_id"] in waiting:
            files.setdefault(row["file_id"], set()).add(row["payload_id"])
    found: dict[str, _Sign] = {}
    for sign, names in [
        *_in(engine, "pilot.end", pilots, bounds),
        *_closed(engine, files, bounds),
    ]:
        for name in names:
            if sign.time >= begins[name]:
                found[name] = min(sign, found.get(name, sign))

    return found


def _closed(engine: Engine, files: dict[Any, set[str]], bounds: tuple[int, int]) -> Iterator[tuple[_Sign, set[str]]]:
    """
    Follow pilots through their files to how the last one ends.
    """
    for _ in range(_FILES):
        yield from _in(engine, "log.recovered", files, bounds)
        following: dict[Any, set[str]] = {}
        for row, names in _of(engine, "log.close", files, bounds):
            said = loads(row["extra"])
            after = said.get("wlcg.journal.next")
            if said.get("wlcg.journal.close.reason") != "rotated":
                yield _Sign(row["time"], "log.close"), names
            elif isinstance(after, dict) and isinstance(after.get("file_id"), str):
                following.setdefault(after["file_id"], set()).update(names)
        files = following
        if not files:
            return


def _in(
    engine: Engine, event: str, keys: dict[Any, set[str]], bounds: tuple[int, int]
) -> Iterator[tuple[_Sign, set[str]]]:
    for row, names in _of(engine, event, keys, bounds):
        yield _Sign(row["time"], event), names


def _of(
    engine: Engine, event: str, keys: dict[Any, set[str]], bounds: tuple[int, int]
) -> Iterator[tuple[Row, set[str]]]:
    column = _ENDS[event]
    values = sorted(key for key in keys if key)
    if not values:
        return
    condition = All([Is("event_action", (event,)), Is(column, values), AtLeast("time", bounds[0])])
    for row in engine.rows(condition, ("time", column, "extra"), bounds):
        yield row, keys[row[column]]

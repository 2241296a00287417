"""
Ask a question of whatever holds the records.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

import attrs

from wlcg_isolate.errors import Problem, TraceError
from wlcg_isolate.trace.query.columns import KEYS
from wlcg_isolate.trace.query.engine import Engine
from wlcg_isolate.trace.query.fate import tell
from wlcg_isolate.trace.query.files import files_of
from wlcg_isolate.trace.query.payloads import Payload, in_order, payloads_of
from wlcg_isolate.trace.query.plain import Plain
from wlcg_isolate.trace.query.question import Question
from wlcg_isolate.trace.query.times import recorded, shown

ENGINES = ("auto", "plain", "duckdb", "spark")


@attrs.frozen(kw_only=True)
class Answer:
    """
    What was found.

    Attributes:
        payloads: In the order of their start, each as the JSON Schema
            ``payloads.schema.json`` tells.

        remarks: One for each file that was not read, or not all of it.
    """

    payloads: list[Payload]
    remarks: list[str]


def find(places: Sequence[str], question: Question, *, engine: str = "auto", whole: bool = False) -> Answer:
    """
    Find payloads.

    Args:
        places: Directories, files or patterns of them.

        question: Which payloads.

        engine: One of `ENGINES`; ``"auto"`` takes DuckDB where it is
            installed, and otherwise plain Python.

        whole: Whether payloads carry their records in full.

    Raises:
        TraceError: Records cannot be read, or not by that engine.
    """
    with engine_for(places, engine) as asked:
        return Answer(payloads=payloads(asked, question, whole=whole), remarks=asked.remarks)


def payloads(engine: Engine, question: Question, *, whole: bool = False) -> list[Payload]:
    """
    Find payloads, and say of those without an end what became of them.
    """
    rows = engine.records(question, whole=whole)

    return tell(engine, payloads_of(rows, whole=whole), rows, question.lookback)


def neighbours(engine: Engine, payload: Payload, question: Question) -> list[Payload]:
    """
    Find who shared the node with a payload: those there at the same time, and
    those that came later in its pilot.

    Args:
        engine: Who is asked.

        payload: Whose neighbours.

        question: Its skew and lookback count.
    """
    since = recorded(payload["started"] or payload["last_seen"])
    until = recorded(payload["ended"] or payload.get("over_by"))
    asked = Question(
        hosts=_given(payload["host.name"]),
        boots=_given(payload["host.boot.id"]),
        since=since,
        until=until,
        skew=question.skew,
        lookback=question.lookback,
    )
    found = payloads(engine, asked)
    if payload["wlcg.pilot.id"]:
        later = Question(
            pilots=_given(payload["wlcg.pilot.id"]), since=since, skew=question.skew, lookback=question.lookback
        )
        found += payloads(engine, later)
    others = {one["trace_id"]: one for one in found if one["trace_id"] != payload["trace_id"]}

    return sorted(others.values(), key=in_order)


def _given(value: Optional[str]) -> tuple[str, ...]:
    return (value,) if value else ()


def sightings(engine: Engine, question: Question, key: str) -> list[dict[str, Any]]:
    """
    Tell when each value of a key was first and last seen.

    Args:
        engine: Who is asked.

        question: Over which payloads.

        key: A key of payloads that holds one value.

    Raises:
        TraceError: There is no such key.
    """
    column = KEYS.get(key)
    if column is None or column.kind not in ("text", "int"):
        known = ", ".join(k for k, c in KEYS.items() if c.kind in ("text", "int"))
        raise TraceError(
            [Problem(kind="usage", message=f"there is no key {key!r}", origin="--seen", advice=f"name one of {known}")]
        )
    names = ("value", "first_seen", "last_seen", "payloads", "refused")
    found = [dict(zip(names, values)) for values in engine.seen(question, column.name)]
    for one in found:
        one["first_seen"], one["last_seen"] = shown(one["first_seen"]), shown(one["last_seen"])

    return sorted(found, key=lambda s: (s["first_seen"], str(s["value"])))


@contextlib.contextmanager
def engine_for(places: Iterable[str], name: str = "auto") -> Iterator[Engine]:
    """
    Open the engine that suits the files.

    Raises:
        TraceError: Records cannot be read, or not by that engine.
    """
    files = files_of(places)
    if name == "spark":
        from wlcg_isolate.trace.query.spark import Spark

        with Spark(files) as spark:
            yield spark
    elif name == "plain" or (name == "auto" and not files.parquet and importlib.util.find_spec("duckdb") is None):
        yield Plain(files)
    else:
        from wlcg_isolate.trace.query.duck import Duck

        with Duck(files) as duck:
            yield duck

"""
Write a question as SQL for DuckDB and Spark.

The table `records` has the columns of `columns.py`.  Values are parameters,
never text.  ``{p0}`` stands for one until an engine puts its own mark there.

First which payloads are meant, from a few columns of many records; then the
columns of their few records, of which node and time are known by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

from wlcg_isolate.trace.query.columns import FINAL_EVENTS, PAYLOAD_EVENTS
from wlcg_isolate.trace.query.conditions import All, AnyOf, AtLeast, AtMost, Condition, Is, Parameters, sql
from wlcg_isolate.trace.query.question import Question

Statement = tuple[str, dict[str, Any]]

#: So many values of a column are looked for one by one.
_FEW = 8

#: Rows of more nodes or users than this lie everywhere.
_PLACES = 500

#: The columns of `Hit`.
_COLUMNS = "payload_id, min(host_name), min(owner), min(time), max(time)"


class Hit(NamedTuple):
    """
    A payload that may be meant, and where its records are.
    """

    payload_id: str
    host_name: str
    owner: str
    first: int
    last: int


def hits_of(question: Question) -> Statement:
    """
    Select the payloads that a question means, as the columns of `Hit`; a few
    more where a time is asked for, which `Question.alive` tells.
    """
    parameters = Parameters()
    scope = question.scope()
    parts = [f"({_hit(part, scope, parameters)})" for part in question.wanted()]
    if not parts:
        life = _life(question, parameters)
        text = f"SELECT {_COLUMNS} FROM records WHERE {sql(scope, parameters)} GROUP BY payload_id{life}"
        return text, parameters.values
    names = "payload_id, host_name, owner, time"
    steps = [f"hit{i} AS (SELECT DISTINCT {names} FROM {part} AS found)" for i, part in enumerate(parts)]
    inside = " AND ".join(f"payload_id IN (SELECT payload_id FROM hit{i})" for i in range(1, len(parts)))
    text = (
        f"WITH {', '.join(steps)} SELECT {_COLUMNS} FROM hit0 {f'WHERE {inside} ' if inside else ''}GROUP BY payload_id"
    )

    return text, parameters.values


def lives_of(question: Question, hits: Sequence[Hit], *, owners: bool) -> Statement:
    """
    Select of payloads that were found those that were there at the time, with
    the first and the last moment of their records up to its end.
    """
    parameters = Parameters()
    text, values = hits_of(question)
    meant = text.format(**{name: parameters.add(value) for name, value in values.items()})
    scope = sql(All([question.scope(), *_place(hits, owners=owners)]), parameters)
    text = (
        f"SELECT payload_id, min(time), max(time) FROM records WHERE {scope} AND payload_id IN "
        f"(SELECT payload_id FROM ({meant}) AS meant) GROUP BY payload_id{_life(question, parameters)}"
    )

    return text, parameters.values


def _hit(part: Condition, scope: Condition, parameters: Parameters) -> str:
    # Each way and value on its own: an equation is what statistics and Bloom filters of row groups are asked for.
    ways = [one for way in (part.parts if isinstance(part, AnyOf) else (part,)) for one in _single(way)]
    names = "payload_id, host_name, owner, time"

    return " UNION ALL ".join(f"SELECT {names} FROM records WHERE {sql(All([way, scope]), parameters)}" for way in ways)


def _single(way: Condition) -> Sequence[Condition]:
    if isinstance(way, Is) and len(way.values) <= _FEW:
        return [Is(way.column, (value,)) for value in way.values]

    return [way]


def _life(question: Question, parameters: Parameters) -> str:
    """
    Write what `Question.alive` says.
    """
    start = parameters.add("payload.start")
    began = f"coalesce(min(CASE WHEN event_action = {start} THEN time END), min(time))"
    ends = ", ".join(parameters.add(event) for event in FINAL_EVENTS)
    ended = f"max(CASE WHEN event_action IN ({ends}) THEN time END)"
    parts = [f"{began} IS NOT NULL"]
    if question.until is not None:
        parts.append(f"{began} <= {parameters.add(question.until + question.skew)}")
    if question.started_after is not None:
        parts.append(f"{began} > {parameters.add(question.started_after)}")
    if question.since is not None:
        parts.append(f"coalesce({ended} >= {parameters.add(question.since - question.skew)}, TRUE)")

    return f" HAVING {' AND '.join(parts)}"


def records_of(hits: Sequence[Hit], columns: Sequence[str], when: tuple[int, int], *, owners: bool) -> Statement:
    """
    Select the records of payloads.

    Args:
        hits: The payloads.

        columns: What of each record.

        when: From which to which moment.

        owners: Whether the records are ordered by their users.
    """
    parameters = Parameters()
    parts: list[Condition] = [Is("event_action", PAYLOAD_EVENTS), *_place(hits, owners=owners)]
    parts += [AtLeast("time", when[0]), AtMost("time", when[1]), Is("payload_id", [hit.payload_id for hit in hits])]

    return f"SELECT {', '.join(columns)} FROM records WHERE {sql(All(parts), parameters)}", parameters.values


def _place(hits: Sequence[Hit], *, owners: bool) -> list[Condition]:
    # A record that names nobody has no owner.
    names = {"", *(hit.owner for hit in hits)} if owners else {hit.host_name for hit in hits}
    if len(names) > _PLACES or (not owners and not all(names)):
        return []

    return [Is("owner" if owners else "host_name", sorted(names))]


def rows_with(condition: Condition, columns: Sequence[str]) -> Statement:
    """
    Select some columns of the records for which a condition holds.
    """
    parameters = Parameters()

    return f"SELECT {', '.join(columns)} FROM records WHERE {sql(condition, parameters)}", parameters.values


def seen(question: Question, column: str) -> Statement:
    """
    Count, for each value of a column, payloads and refusals, with the first
    and the last moment.
    """
    parameters = Parameters()
    hits, values = hits_of(question)
    renamed = {name: parameters.add(value) for name, value in values.items()}
    refused = parameters.add("payload.refused")
    text = (
        f"SELECT {column} AS value, min(time) AS first_seen, max(time) AS last_seen, "
        f"count(DISTINCT payload_id) AS payloads, "
        f"count(DISTINCT CASE WHEN event_action = {refused} THEN payload_id END) AS refused FROM records "
        f"WHERE {sql(question.scope(), parameters)} AND {column} IS NOT NULL "
        f"AND payload_id IN (SELECT payload_id FROM ({hits.format(**renamed)}) AS meant) GROUP BY {column}"
    )

    return text, parameters.values


def marked(statement: Statement, mark: Callable[[str], str]) -> Statement:
    """
    Put an engine's own marks for parameters into a statement.
    """
    text, values = statement
    used = {name: value for name, value in values.items() if "{" + name + "}" in text}

    return text.format(**{name: mark(name) for name in used}), used

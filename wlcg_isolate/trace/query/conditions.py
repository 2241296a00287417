"""
What a question asks of a record, said once for every engine.

A condition is data.  `sql` writes it in words that DuckDB and Spark have in
common, with a parameter for every value; `holds` tells of one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

import attrs

from wlcg_isolate._values import as_tuple


@attrs.frozen
class Is:
    """
    A column has one of these values.
    """

    column: str
    values: tuple[Any, ...] = attrs.field(converter=as_tuple)


@attrs.frozen
class Has:
    """
    A column that is a list has one of these values in it.
    """

    column: str
    values: tuple[Any, ...] = attrs.field(converter=as_tuple)


@attrs.frozen
class AtLeast:
    """
    A column's number is not below this one.
    """

    column: str
    value: int


@attrs.frozen
class AtMost:
    """
    A column's number is not above this one.
    """

    column: str
    value: int


@attrs.frozen
class All:
    """
    Each of these holds; that is so where there is none.
    """

    parts: tuple[Condition, ...] = attrs.field(converter=as_tuple)


@attrs.frozen
class AnyOf:
    """
    One of these holds; that is not so where there is none.
    """

    parts: tuple[Condition, ...] = attrs.field(converter=as_tuple)


Condition = Union[Is, Has, AtLeast, AtMost, All, AnyOf]


class Parameters:
    """
    The values of one statement, by names that hold no dollar or colon.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def add(self, value: Any) -> str:
        """
        Take a value in, and return what stands for it in the text.
        """
        name = f"p{len(self.values)}"
        self.values[name] = value

        return "{" + name + "}"


def sql(condition: Condition, parameters: Parameters) -> str:
    """
    Write a condition as SQL.
    """
    if isinstance(condition, (All, AnyOf)):
        word, none = (" AND ", "TRUE") if isinstance(condition, All) else (" OR ", "FALSE")
        return "(" + (word.join(sql(part, parameters) for part in condition.parts) or none) + ")"
    if isinstance(condition, Is):
        marks = [parameters.add(value) for value in condition.values]
        # One value as an equation: that is what statistics of row groups are compared with.
        if len(marks) == 1:
            return f"{condition.column} = {marks[0]}"
        return f"{condition.column} IN ({', '.join(marks)})" if marks else "FALSE"
    if isinstance(condition, Has):
        tests = [f"array_contains({condition.column}, {parameters.add(value)})" for value in condition.values]
        return "(" + (" OR ".join(tests) or "FALSE") + ")"
    sign = ">=" if isinstance(condition, AtLeast) else "<="

    return f"{condition.column} {sign} {parameters.add(condition.value)}"


def holds(condition: Condition, row: Mapping[str, Any]) -> bool:
    """
    Tell whether a condition holds for one row.
    """
    if isinstance(condition, All):
        return all(holds(part, row) for part in condition.parts)
    if isinstance(condition, AnyOf):
        return any(holds(part, row) for part in condition.parts)
    value = row[condition.column]
    if value is None:
        return False
    if isinstance(condition, Is):
        return value in condition.values
    if isinstance(condition, Has):
        return not set(condition.values).isdisjoint(value)

    return bool(value >= condition.value if isinstance(condition, AtLeast) else value <= condition.value)

"""
The exceptions of this library, and the findings that they carry.

The tree::

    IsolateError              every error that this library raises by intent
      +-- RequestError        the request is not valid
      +-- PolicyError         a policy value or file is not valid
      +-- HostError           the node could not be read
      +-- PlanError           no isolated way to run this payload on this node
      +-- LaunchError         the payload was not started
      +-- TraceError          a record could not be written or read

Each carries *all* problems that were found, not only the first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable, TypeVar

import attrs

from wlcg_isolate._kinds import KINDS
from wlcg_isolate._scrub import scrub
from wlcg_isolate._values import printable

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")


def _known_kind(_instance: object, _attribute: object, value: str) -> None:
    if value not in KINDS:
        msg = f"{value!r} is not a kind of problem; see wlcg_isolate._kinds"
        raise ValueError(msg)


@attrs.frozen(kw_only=True)
class Problem:
    """
    One thing that is wrong.

    Its text goes to logs, outcomes and records: what has the form of a
    credential is taken out.

    Attributes:
        kind: A stable word from the list in ``docs/reference/kinds.md``.

        message: What is wrong, without a full stop.

        origin: Where the offending value came from (``"--bind"``,
            ``"request.binds[0]"``, a file name, ...).

        advice: What to do about it.
    """

    kind: str = attrs.field(validator=_known_kind)
    message: str = attrs.field(converter=scrub)
    origin: str = attrs.field(default="", converter=scrub)
    advice: str = attrs.field(default="", converter=scrub)

    def __str__(self) -> str:
        """
        Render as one line.
        """
        line = f"{self.kind}: {self.message}"
        if self.origin:
            line += f" (from {self.origin})"
        if self.advice:
            line += f"; {self.advice}"

        return printable(line)


class IsolateError(Exception):
    """
    Base of all errors of this library.

    Args:
        problems: Everything that was found, at least one.

    Attributes:
        problems: The same as a tuple, never empty.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        if not self.problems:
            msg = "an error without a problem says nothing"
            raise ValueError(msg)
        super().__init__("\n".join(str(p) for p in self.problems))

    def __reduce__(self) -> tuple[type, tuple[tuple[Problem, ...]]]:
        """
        Pickle by the problems, since the message alone would lose them.
        """
        return type(self), (self.problems,)


def gather(items: Iterable[_Item], read: Callable[[_Item], _Value]) -> tuple[list[_Value], list[Problem]]:
    """
    Read each of several items.

    Returns:
        What could be read, and all problems of what could not.
    """
    values: list[_Value] = []
    problems: list[Problem] = []
    for item in items:
        try:
            values.append(read(item))
        except IsolateError as e:
            problems += e.problems

    return values, problems


class RequestError(IsolateError):
    """
    The request is not valid.
    """


class PolicyError(IsolateError):
    """
    A policy value or file is not valid.
    """


class HostError(IsolateError):
    """
    The node could not be read.
    """


class PlanError(IsolateError):
    """
    There is no isolated way to run this payload on this node.
    """


class LaunchError(IsolateError):
    """
    The payload was not started.
    """


class TraceError(IsolateError):
    """
    A trace record could not be written or read.
    """

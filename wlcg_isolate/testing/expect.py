"""
What a test says of a plan, or of a payload that ran.

Each of these takes either: of a plan it is asked what was decided, of a
payload what it really had.  One that was never started satisfies nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Optional, Union

from wlcg_isolate.errors import IsolateError
from wlcg_isolate.plan import Plan
from wlcg_isolate.testing.harness import Ran


def assert_absent(what: Union[Plan, Ran], name: str, *names: str) -> None:
    """
    Say that a variable, and others, do not arrive.

    Raises:
        AssertionError: One does, or the payload was never started.
    """
    environ = _environ(what)
    for one in (name, *names):
        if one in environ:
            raise AssertionError(f"{one} arrives at the payload{_why(what, one)}")


def assert_arrives(what: Union[Plan, Ran], name: str, value: Optional[str] = None) -> None:
    """
    Say that a variable arrives.

    Args:
        what: A plan, or what became of a payload.

        name: The variable.

        value: Its value there; any, when None.

    Raises:
        AssertionError: It does not, or not so.
    """
    environ = _environ(what)
    if name not in environ:
        raise AssertionError(f"{name} does not arrive at the payload{_why(what, name)}")
    if value is not None and environ[name] != value:
        raise AssertionError(f"{name} arrives as {environ[name]!r}, not as {value!r}{_why(what, name)}")


def assert_bound(
    what: Union[Plan, Ran], target: str, *, source: Optional[str] = None, writable: Optional[bool] = None
) -> None:
    """
    Say that there is a bind.

    Args:
        what: A plan, or what became of a payload.

        target: Where it is in the container.

        source: What it shows; any, when None.  Only a plan can tell.

        writable: Whether it can be written; either, when None.

    Raises:
        AssertionError: There is none, or another one.
    """
    binds = _binds(what)
    if target not in binds:
        raise AssertionError(f"nothing is bound at {target}{_skipped(what, target)}; there are: {', '.join(binds)}")
    found, can_write = binds[target]
    if source is not None and found != source:
        raise AssertionError(f"{target} shows {found or 'what only a plan can tell'}, not {source}")
    if writable is not None and can_write != writable:
        raise AssertionError(f"{target} can{'' if can_write else 'not'} be written")


def assert_not_bound(what: Union[Plan, Ran], target: str) -> None:
    """
    Say that there is no bind at a target.

    Raises:
        AssertionError: There is one, or the payload was never started.
    """
    if target in _binds(what):
        raise AssertionError(f"{target} is bound")


@contextmanager
def refused(*kinds: str) -> Iterator[None]:
    """
    Say that what is done within is refused, for just these kinds of reasons.

    Raises:
        AssertionError: It is not, or for others.
    """
    try:
        yield
    except IsolateError as e:
        found = {problem.kind for problem in e.problems}
        if kinds and found != set(kinds):
            raise AssertionError(f"refused for {', '.join(sorted(found))}, not for {', '.join(kinds)}: {e}") from e
    else:
        raise AssertionError(f"it is not refused{' for ' if kinds else ''}{', '.join(kinds)}")


def _environ(what: Union[Plan, Ran]) -> Mapping[str, str]:
    if isinstance(what, Plan):
        return what.payload_environ
    if what.environ is None:
        raise AssertionError(f"nothing is known of the payload's variables: {what.outcome.message}")

    return what.environ


def _binds(what: Union[Plan, Ran]) -> dict[str, tuple[Optional[str], bool]]:
    if isinstance(what, Plan):
        return {bind.target: (bind.source, bind.writable) for bind in what.mounts}
    if what.mounts is None:
        raise AssertionError(f"nothing is known of the payload's binds: {what.outcome.message}")

    return {target: (None, writable) for target, writable in what.mounts.items()}


def _why(what: Union[Plan, Ran], name: str) -> str:
    return f"\n{what.why(name)}" if isinstance(what, Plan) else ""


def _skipped(what: Union[Plan, Ran], target: str) -> str:
    if not isinstance(what, Plan):
        return ""
    reasons = [bind.reason for bind in what.binds if bind.target == target and bind.decision == "skip"]

    return f" ({'; '.join(reasons)})" if reasons else ""

"""
Make the container, with what waits in it.
"""

from __future__ import annotations

import contextlib
from typing import Callable, Optional

import attrs

from wlcg_isolate.environment import fits_shell
from wlcg_isolate.errors import LaunchError, Problem
from wlcg_isolate.launch.handshake import Payload
from wlcg_isolate.launch.standing import NoMarkerError, Standing
from wlcg_isolate.launch.starters import Loader, LoaderError, Shell, Starter
from wlcg_isolate.launch.verdict import not_started
from wlcg_isolate.plan import Plan

Made = tuple[Standing, Payload]


@attrs.frozen(kw_only=True)
class Wanted:
    """
    What the caller of a launch wants beside the plan.

    Attributes:
        streams: The payload's standard descriptors.

        terminal: Path of the terminal that becomes its controlling one, or
            None.

        on_ready: Called when the container stands; when it raises, the
            payload never runs.

        cancelled: Asked now and then while the container is being made; once
            it says yes, the payload is not started.
    """

    streams: tuple[int, ...]
    terminal: Optional[str] = None
    on_ready: Optional[Callable[[Payload], None]] = None
    cancelled: Optional[Callable[[], bool]] = None


def stand_up(plan: Plan, wanted: Wanted) -> Made:
    """
    Make the container, with a shell in it where the loader is not to be had;
    the record tells why.

    Args:
        plan: The plan.

        wanted: What else is wanted.

    Raises:
        LaunchError: It cannot be made, and nothing is left of it.
    """
    reason = plan.starter_reason
    refusal: tuple[Problem, ...] = ()
    if plan.starter == "loader":
        try:
            with contextlib.ExitStack() as opened:
                return _stand(plan, Loader(opened), wanted)
        except LoaderError as e:
            reason = f"the loader cannot be made: {e}"
        except NoMarkerError as e:
            # Runtimes do not say what they cannot execute, so anything
            # unknown may be it; whatever has a name of its own is not.
            if e.problems[0].kind != "runtime-failed":
                raise
            refusal = e.problems
            reason = f"no start marker of the loader: {refusal[0].message}"
        _shell_must_fit(plan, reason)
    try:
        standing, payload = _stand(plan, Shell(), wanted)
    except NoMarkerError as e:
        raise LaunchError(dict.fromkeys((*e.problems, *refusal))) from None

    return standing, payload._replace(starter_reason=reason)


def _shell_must_fit(plan: Plan, reason: str) -> None:
    if plan.isolation.filtered:
        raise not_started("nesting-refused", f"{reason}; no shell keeps a payload from nesting", "the node")
    unfit = [name for name in plan.payload_environ if not fits_shell(name)]
    if unfit:
        raise not_started("loader-refused", f"{reason}; no shell can deliver {', '.join(unfit)}", "the node")


def _stand(plan: Plan, starter: Starter, wanted: Wanted) -> Made:
    standing = Standing(plan, starter, wanted.streams, wanted.terminal)
    try:
        return standing, standing.await_payload(wanted.cancelled)
    except BaseException:
        standing.abandon()
        raise

"""
Tell how a payload ended from what was seen of it, or why it never began.
"""

from __future__ import annotations

import signal
from typing import Any, Optional

from wlcg_isolate._values import printable
from wlcg_isolate.errors import LaunchError, Problem
from wlcg_isolate.launch import process
from wlcg_isolate.loader.release import NOT_EXECUTABLE_STATUS, NOT_FOUND_STATUS
from wlcg_isolate.outcome import Outcome, Usage, of_kind, of_payload, signal_name
from wlcg_isolate.plan import Plan

_NOT_EXECUTED = (NOT_FOUND_STATUS, NOT_EXECUTABLE_STATUS)


def not_started(kind: str, message: str, origin: str, advice: str = "run wlcg-isolate doctor") -> LaunchError:
    """
    Make the error that says why the payload was not started.
    """
    return LaunchError([Problem(kind=kind, message=message, origin=origin, advice=advice)])


def judge(
    plan: Plan,
    launcher: process.Child,
    inner: Optional[process.Ended],
    *,
    wall: float,
    timed_out: bool,
    passed_on: Optional[int],
    not_executed: Optional[int] = None,
) -> Outcome:
    """
    Put together what is known of the end.

    Args:
        plan: The plan.

        launcher: The runtime, which has ended.

        inner: How the payload's own process ended, where the kernel tells.

        wall: Seconds since the payload's release.

        timed_out: Whether the time limit was over.

        passed_on: The last signal that was passed on to the payload.

        not_executed: The exit status by which the loader said that it could
            execute nothing.
    """
    ended = launcher.ended or process.Ended(None, None)
    end = inner or _from_launcher(ended)
    more: dict[str, Any] = {"trace_id": plan.trace_id, "usage": _usage(launcher, wall)}
    if timed_out:
        limit = f"stopped after its time limit of {plan.timeout:g} s"
        return of_kind("time-limit", limit, started=True, exit_code=end.exit_code, signal=end.signal, **more)
    if end.exit_code is None and end.signal is None:
        reason = "the runtime was reaped by somebody else in the pilot's process, and the kernel does not tell more"
        return of_kind("end-unseen", reason, started=True, **more)
    # A runtime also ends by the signal that ended the payload, or process 1,
    # which a payload can kill by tracing it: that is no loss of the runtime.
    if ended.signal is not None and passed_on is None and not launcher.has_reaped():
        reason = f"the runtime was ended by {signal_name(ended.signal)} while the payload ran"
        return of_kind("runtime-lost", reason, started=True, signal=ended.signal, **more)
    if end.signal is not None and end.signal == passed_on:
        reason = f"ended by {signal_name(end.signal)}, which was passed on to it"
        return of_kind("stopped", reason, started=True, signal=end.signal, **more)
    # The payload itself may say so, too, by way of process 1; it fools nobody
    # but its owner then, and a status of its own is never hidden.
    if not_executed in _NOT_EXECUTED and not_executed == end.exit_code:
        found = not_executed != NOT_FOUND_STATUS
        kind, fault = ("command-not-executable", "cannot be executed") if found else ("command-not-found", "not found")
        reason = f"{printable(plan.request.payload.command[0])}: {fault} (exit status {not_executed})"
        return of_kind(kind, reason, started=True, exit_code=not_executed, **more)

    return of_payload(end.exit_code, end.signal, **more)


def _from_launcher(ended: process.Ended) -> process.Ended:
    """
    Read the payload's end from the runtime's exit status.

    With a PID namespace of its own the runtime turns signal N into status
    128+N, which a payload may also use itself: the shell's convention
    decides, where the kernel does not tell (before Linux 6.15).
    """
    code = ended.exit_code
    if code is not None and 128 < code <= 128 + signal.SIGRTMAX:
        return process.Ended(None, code - 128)

    return ended


def _usage(launcher: process.Child, wall: float) -> Usage:
    usage = launcher.usage

    return Usage(
        wall_seconds=round(wall, 6),
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 6) if usage else 0.0,
        max_rss_bytes=usage.ru_maxrss * 1024 if usage else 0,
    )

"""
Tell how a payload ended from what was seen of it, or why it never began.
"""

from __future__ import annotations

import signal
from typing import Any, Optional

import attrs

from wlcg_isolate._values import printable
from wlcg_isolate.errors import LaunchError, Problem
from wlcg_isolate.launch import process
from wlcg_isolate.launch.child import Child
from wlcg_isolate.loader.release import NOT_EXECUTABLE_STATUS, NOT_FOUND_STATUS
from wlcg_isolate.outcome import Outcome, Usage, of_kind, of_payload, signal_name
from wlcg_isolate.plan import Plan

_NOT_EXECUTED = (NOT_FOUND_STATUS, NOT_EXECUTABLE_STATUS)

#: What is said of a payload that was asked to end.
_CAUSES = {"time-limit": "stopped after its time limit of {:g} s", "stop": "stopped because the pilot asked for it"}

#: getrusage(2) counts in blocks of this size, whatever the disk's is.
_BLOCK = 512


def not_started(kind: str, message: str, origin: str, advice: str = "run wlcg-isolate doctor") -> LaunchError:
    """
    Make the error that says why the payload was not started.
    """
    return LaunchError([Problem(kind=kind, message=message, origin=origin, advice=advice)])


@attrs.define(kw_only=True)
class End:
    """
    What this process knows of a payload's end, because it had a part in it.

    Attributes:
        plan: The plan.

        wall: Seconds since the payload's release.

        peak: Peak of the whole tree's memory in bytes, or None.

        asked: Seconds of grace, once somebody has asked for the end.

        cause: ``"time-limit"`` or ``"stop"`` when the payload was asked to
            end for that reason, or None.

        killed: Whether the runtime was ended from here.

        passed_on: The signals that were passed on to the payload.

        not_executed: The exit status by which the loader said that it could
            execute nothing.
    """

    plan: Plan
    wall: float = 0.0
    peak: Optional[int] = None
    asked: Optional[float] = None
    cause: Optional[str] = None
    killed: bool = False
    passed_on: set[int] = attrs.field(factory=set)
    not_executed: Optional[int] = None


def judge(end: End, launcher: Child, inner: Optional[process.Ended]) -> Outcome:
    """
    Put together what is known of the end.

    Args:
        end: What this process had to do with it.

        launcher: The runtime, which has ended.

        inner: How the payload's own process ended, where the kernel tells.
    """
    ended = launcher.ended or process.Ended(None, None)
    status = inner or _from_launcher(ended)
    more: dict[str, Any] = {"trace_id": end.plan.trace_id, "usage": usage_of(launcher.usage, end.wall, end.peak)}
    seen: dict[str, Any] = {"exit_code": status.exit_code, "signal": status.signal, **more}
    if end.cause is not None:
        reason = _CAUSES[end.cause].format(end.plan.timeout)
        return of_kind("stopped" if end.cause == "stop" else end.cause, reason, started=True, **seen)
    if status.exit_code is None and status.signal is None:
        reason = "the runtime was reaped by somebody else in the pilot's process, and the kernel does not tell more"
        return of_kind("end-unseen", reason, started=True, **more)
    if _is_lost(end, launcher, inner):
        reason = f"the runtime was ended by {signal_name(ended.signal or 0)} while the payload ran"
        return of_kind("runtime-lost", reason, started=True, signal=ended.signal, **more)
    if status.signal in end.passed_on:
        reason = f"ended by {signal_name(status.signal or 0)}, which was passed on to it"
        return of_kind("stopped", reason, started=True, signal=status.signal, **more)
    # The payload itself may say so, too, by way of process 1; it fools nobody
    # but its owner then, and a status of its own is never hidden.
    if end.not_executed in _NOT_EXECUTED and end.not_executed == status.exit_code:
        return _not_executed(end, more)

    return of_payload(status.exit_code, status.signal, **more)


def _is_lost(end: End, launcher: Child, inner: Optional[process.Ended]) -> bool:
    """
    Tell whether the runtime was killed, and the container with it.

    A runtime also ends by the signal that ended the payload, or process 1,
    which a payload can kill by tracing it: that is no loss of the runtime.
    """
    number = None if launcher.ended is None else launcher.ended.signal
    if number is None or end.killed or number in end.passed_on:
        return False

    return not launcher.has_reaped() and (inner is None or inner.signal == signal.SIGKILL)


def _not_executed(end: End, more: dict[str, Any]) -> Outcome:
    found = end.not_executed != NOT_FOUND_STATUS
    kind, fault = ("command-not-executable", "cannot be executed") if found else ("command-not-found", "not found")
    reason = f"{printable(end.plan.request.payload.command[0])}: {fault} (exit status {end.not_executed})"

    return of_kind(kind, reason, started=True, exit_code=end.not_executed, **more)


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


def usage_of(found: Optional[Any], wall: float, peak: Optional[int] = None) -> Usage:
    """
    Say what was used; None what nobody was told, because somebody else
    reaped the runtime.

    Args:
        found: As `os.wait4` has it: of the runtime and all its descendants
            that were reaped.

        wall: Seconds since the payload's release.

        peak: Peak of the whole tree's memory in bytes, or None.
    """
    known: dict[str, Any] = {"wall_seconds": round(wall, 6), "tree_peak_bytes": peak}
    if found is None:
        return Usage(**known)

    return Usage(
        **known,
        cpu_seconds=round(found.ru_utime + found.ru_stime, 6),
        max_rss_bytes=found.ru_maxrss * 1024,
        user_seconds=round(found.ru_utime, 6),
        system_seconds=round(found.ru_stime, 6),
        minor_faults=found.ru_minflt,
        major_faults=found.ru_majflt,
        read_bytes=found.ru_inblock * _BLOCK,
        written_bytes=found.ru_oublock * _BLOCK,
        voluntary_switches=found.ru_nvcsw,
        involuntary_switches=found.ru_nivcsw,
    )

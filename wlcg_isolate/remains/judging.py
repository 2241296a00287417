"""
Tell who failed from what was seen of a start.
"""

from __future__ import annotations

from typing import Any, Optional

from wlcg_isolate._kinds import KINDS
from wlcg_isolate.errors import Problem
from wlcg_isolate.loader.program import NOT_RELEASED
from wlcg_isolate.outcome import Outcome, Usage, of_kind, of_payload, runtime_failure, signal_name
from wlcg_isolate.remains.left import Seen
from wlcg_isolate.remains.start import Start

#: Exit statuses of env(1) when it cannot execute the runtime.
_NOT_EXECUTED = (126, 127)

#: The last signal (signal(7)), and what a shell adds to its number.
_LAST_SIGNAL, _BY_SIGNAL = 64, 128


def judge(start: Start, seen: Seen) -> Outcome:
    """
    Put together what is known.

    The files tell whether the payload started; the exit status, how it ended.
    """
    if seen.started.get("trace_id") != start.trace_id or seen.refused:
        problem = refusal(seen)
        return of_kind(problem.kind, str(problem), started=False, trace_id=start.trace_id)
    # With a PID namespace the runtime turns signal N into 128+N, as shells do.
    signal = _signal_in(seen.status)
    status = None if signal else seen.status
    usage = Usage(wall_seconds=round(seen.wall, 6), cpu_seconds=round(seen.cpu, 6))
    more: dict[str, Any] = {"trace_id": start.trace_id, "usage": usage}
    if "limit" in seen.flags:
        limit = f"stopped after its time limit of {start.timeout or 0:g} s"
        return of_kind("time-limit", limit, started=True, exit_code=status, signal=signal, **more)
    if "lost" in seen.flags:
        reason = "stopped, because whoever waited for it had gone"
        return of_kind("stopped", reason, started=True, exit_code=status, signal=signal, **more)
    if seen.killed_by is not None:
        reason = f"the runtime was ended by {signal_name(seen.killed_by)} while the payload ran"
        return of_kind("runtime-lost", reason, started=True, signal=seen.killed_by, **more)

    return of_payload(status, signal, **more)


def refusal(seen: Seen) -> Problem:
    """
    Say why a payload did not start.
    """
    kind, _, message = seen.refused.strip().partition(" ")
    if kind in KINDS:
        return _problem(kind, message, "the check from outside")
    if "hung" in seen.flags:
        return _problem("runtime-hung", "no start marker in time", "the runtime")
    if seen.status in _NOT_EXECUTED and seen.words.startswith("env: "):
        return _problem("runtime-vanished", seen.words.strip(), "this node")
    if seen.status == NOT_RELEASED:
        return _problem("runtime-killed", "whoever was to release the payload had gone", "this node")

    return runtime_failure(seen.words, killed_by=seen.killed_by or _signal_in(seen.status))


def _signal_in(status: Optional[int]) -> Optional[int]:
    return status - _BY_SIGNAL if status is not None and _BY_SIGNAL < status <= _BY_SIGNAL + _LAST_SIGNAL else None


def left_nothing(start: Start, exit_code: Optional[int]) -> Outcome:
    """
    Make the outcome of a start that left nothing: without the file that the
    release comes after, no payload was released.
    """
    code = "" if exit_code is None else f" (exit status {exit_code})"
    message = f"the start has left nothing in {', '.join(start.trace_dirs)}{code}: it was refused, or never tried"
    problem = _problem("trace-unwritable", message, "trace.directories")

    return of_kind(problem.kind, str(problem), started=False, trace_id=start.trace_id)


def _problem(kind: str, message: str, origin: str) -> Problem:
    return Problem(kind=kind, message=message, origin=origin, advice="run wlcg-isolate doctor")

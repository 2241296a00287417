"""
What happened, and who failed.

Rules:

1. Whether the payload started is known, not guessed: the launch saw its
   start marker or did not.
2. Text is read only where that is not known (`classify` without *started*),
   or to name the cause when the runtime is known to have failed.  What a
   payload prints never makes it a runtime failure when it did start.
"""

from __future__ import annotations

import signal as signals
from collections.abc import Mapping
from typing import Any, Optional, Union

import attrs

from wlcg_isolate._kinds import KINDS
from wlcg_isolate._messages import cause_of, looks_like_failure
from wlcg_isolate.errors import IsolateError, Problem

#: Exit status of ``wlcg-isolate run`` when the payload never started.
NOT_STARTED_STATUS = 125

#: Shown in place of 0 when the payload was stopped because its time was over,
#: as timeout(1) does.
TIME_LIMIT_STATUS = 124


@attrs.frozen(kw_only=True)
class Usage:
    """
    What the payload used, its container's set-up included.

    All but the wall time is what the kernel has counted for the runtime's
    process and all of its descendants, each at its end (``wait4(2)``): exact
    and without any sampling.  It is None where the kernel told somebody else
    in the pilot's process.  A process that is still there when the payload
    has ended is killed with the container, and not counted.

    Attributes:
        wall_seconds: From the payload's release to the container's end.

        cpu_seconds: User and system time.

        max_rss_bytes: Largest resident set of any one process.

        tree_peak_bytes: Peak of the memory of all processes together, caches
            of files included; only where the payload has a cgroup (version
            2) of its own.

        user_seconds: Time in programs.

        system_seconds: Time in the kernel.

        minor_faults: Page faults without I/O.

        major_faults: Page faults that had to read.

        read_bytes: What was read from disks; what caches, FUSE and network
            file systems gave is not in it.

        written_bytes: What was written and meant for disks.

        voluntary_switches: How often a process waited for something.

        involuntary_switches: How often a process had to let another one run.
    """

    wall_seconds: float
    cpu_seconds: Optional[float] = None
    max_rss_bytes: Optional[int] = None
    tree_peak_bytes: Optional[int] = None
    user_seconds: Optional[float] = None
    system_seconds: Optional[float] = None
    minor_faults: Optional[int] = None
    major_faults: Optional[int] = None
    read_bytes: Optional[int] = None
    written_bytes: Optional[int] = None
    voluntary_switches: Optional[int] = None
    involuntary_switches: Optional[int] = None


@attrs.frozen(kw_only=True)
class Outcome:
    """
    The end of a payload, or why it never began.

    Attributes:
        started: Whether the payload's first instruction was reached.

        failed_by: None, ``"payload"``, ``"runtime"``, ``"policy"``,
            ``"timeout"``, ``"signal"`` or ``"suspension"``.

        exit_code: The payload's own, or None.

        signal: Number of the signal that ended it, or None.

        kind: A stable word from ``docs/reference/kinds.md``.

        retry: ``"same-node"``, ``"other-node"``, ``"never"`` or None.

        message: The cause for a person, one line for each problem.

        trace_id: The payload's identity in the records, or None.

        usage: What it used; None when it never started.
    """

    started: bool
    failed_by: Optional[str]
    exit_code: Optional[int]
    signal: Optional[int]
    kind: str
    retry: Optional[str]
    message: str
    trace_id: Optional[str] = None
    usage: Optional[Usage] = None

    @property
    def status(self) -> int:
        """
        The exit status that a shell would show.
        """
        if not self.started:
            return NOT_STARTED_STATUS
        if self.signal is not None:
            return 128 + self.signal

        if self.exit_code is None:
            return NOT_STARTED_STATUS
        # A failure must not look like success to a caller who reads nothing else.
        return self.exit_code or (0 if self.failed_by is None else TIME_LIMIT_STATUS)

    def to_dict(self) -> dict[str, Any]:
        """
        Return the outcome in plain types, as ``--outcome`` writes it.
        """
        usage = None if self.usage is None else attrs.asdict(self.usage)

        return {**attrs.asdict(self, recurse=False), "usage": usage}


def of_kind(kind: str, message: str = "", *, started: bool, **more: Any) -> Outcome:
    """
    Make the outcome that *kind* stands for.
    """
    meaning = KINDS[kind]

    return Outcome(
        started=started,
        failed_by=meaning.failed_by,
        exit_code=more.pop("exit_code", None),
        signal=more.pop("signal", None),
        kind=kind,
        retry=meaning.retry,
        message=message or meaning.meaning,
        **more,
    )


def of_dict(data: Mapping[str, Any]) -> Outcome:
    """
    Make the outcome that `Outcome.to_dict` gave.
    """
    usage = data["usage"]

    return Outcome(**{**data, "usage": None if usage is None else Usage(**usage)})


def of_refusal(error: IsolateError, trace_id: Optional[str] = None) -> Outcome:
    """
    Make the outcome of a payload that was never started because of *error*.

    The first problem gives the kind; the retry advice is the most pessimistic
    of all problems.
    """
    first = error.problems[0].kind
    retries = {KINDS[problem.kind].retry for problem in error.problems}
    worst = next((r for r in ("never", "other-node", "same-node") if r in retries), None)
    message = "\n".join(str(problem) for problem in error.problems)

    return attrs.evolve(of_kind(first, message, started=False, trace_id=trace_id), retry=worst)


def of_payload(exit_code: Optional[int], signal: Optional[int], **more: Any) -> Outcome:
    """
    Make the outcome of a payload that started and ended by itself.
    """
    if signal is not None:
        return of_kind("ended-by-signal", f"ended by {signal_name(signal)}", started=True, signal=signal, **more)
    if exit_code:
        return of_kind("exit-nonzero", f"exit status {exit_code}", started=True, exit_code=exit_code, **more)

    return of_kind("success", started=True, exit_code=0, **more)


def signal_name(number: int) -> str:
    """
    Name a signal: ``SIGTERM (15)``.
    """
    try:
        return f"{signals.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"


def runtime_failure(stderr: Union[str, bytes], *, killed_by: Optional[int] = None, command: bool = False) -> Problem:
    """
    Name the cause when the runtime is known to have failed.

    Args:
        stderr: What the runtime printed.

        killed_by: The signal that ended it, or None.

        command: Whether the payload's own command was the runtime's.
    """
    if killed_by is not None:
        return Problem(
            kind="runtime-killed",
            message=f"the runtime was ended by {signal_name(killed_by)} before the payload started",
            origin="the runtime",
            advice="look for who sent it: memory limit, batch system, operator",
        )

    return cause_of(stderr, command=command)


def classify(exit_code: int, stderr: Union[str, bytes], started: Optional[bool] = None) -> Outcome:
    """
    Tell who failed, for callers that start processes themselves.

    Args:
        exit_code: As `subprocess.Popen.returncode` has it: negative for a
            signal.

        stderr: Standard error of the runtime, the payload's mixed in or not.

        started: Whether the payload started, when the caller knows.  When
            it is None the answer is a guess: the runtime failed when the
            last that was printed is a failure that runtimes are known to
            print, and the exit status is the one that goes with it.

    Returns:
        What happened.  Where the runtime says that the payload's command is
        not in the image or cannot be executed, the payload failed, though it
        has not started.
    """
    signal = -exit_code if exit_code < 0 else None
    if started is None:
        started = not looks_like_failure(exit_code, stderr)
    if not started:
        problem = runtime_failure(stderr, killed_by=signal, command=True)
        return of_kind(problem.kind, str(problem), started=False)

    return of_payload(None if signal else exit_code, signal)

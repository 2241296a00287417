"""
What became of the jobs of PanDA's pilot 3.

Rules:

1. The start of each job is remembered here, in the pilot's memory, where no
   payload reaches it.
2. The pilot is imported where its list of errors is needed, and nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from typing import Any, Optional, Union

import attrs

from wlcg_isolate import mappings
from wlcg_isolate._values import as_tuple
from wlcg_isolate.errors import IsolateError, RequestError
from wlcg_isolate.launch import leftovers
from wlcg_isolate.outcome import Outcome, classify, of_dict, of_kind
from wlcg_isolate.pilots.cric import text_of
from wlcg_isolate.plan import scratch_name
from wlcg_isolate.remains import Start, outcome_of

__all__ = ["FileStart", "interpret", "outcome_for", "remember", "resolve_transform_error"]

#: Of a process; codes of the pilot are larger.
_LARGEST_STATUS = 255

#: What the pilot has for a process that it never saw end, and no signal 1.
#: Source: PanDAWMS/pilot3, pilot/control/payloads/generic.py, run.
_UNSEEN = -1

#: Source: PanDAWMS/pilot3, pilot/common/errorcodes.py, UNKNOWNTRFFAILURE.
_UNKNOWN_FAILURE = 1315

#: The line leaves its status unless its shell is ended, which the pilot does, with TERM first.
_BY_PILOT = 128 + signal.SIGTERM

#: More than a site lets a payload take for its end.
_STOP_SECONDS = 120.0

#: What a killed process needs to be gone, with all that it ran.
_END_SECONDS, _PAUSE_SECONDS = 2.0, 0.05

#: How the names of private directories begin.
_SCRATCH = scratch_name("")

#: How many jobs are remembered: more than a pilot runs at a time by far.
_MOST_JOBS = 256


@attrs.frozen(kw_only=True)
class FileStart:
    """
    A start by the command line.

    Attributes:
        outcome: File that takes the outcome.

        files: All that were written for it.

        trace_dirs: Directories for trace records.

        since: When it was prepared, in microseconds since 1970.
    """

    outcome: str
    files: tuple[str, ...] = attrs.field(default=(), converter=as_tuple)
    trace_dirs: tuple[str, ...] = attrs.field(default=(), converter=as_tuple)
    since: int = attrs.field(factory=lambda: time.time_ns() // 1000)


_starts: dict[str, Union[Start, FileStart, Outcome]] = {}


def remember(job: Any, start: Union[Start, FileStart, Outcome]) -> None:
    """
    Remember the job's last start, or why there was none.
    """
    key = text_of(job, "jobid")
    # The latest is the last, whether it was there before or not.
    _starts.pop(key, None)
    _starts[key] = start
    for old in list(_starts)[:-_MOST_JOBS]:
        _starts.pop(old, None)


def outcome_for(job: Any) -> Optional[Outcome]:
    """
    Tell what became of the job's last command, once that has ended; None for
    a job that was never wrapped here.
    """
    start = _starts.get(text_of(job, "jobid"))
    if start is None or isinstance(start, Outcome):
        return start
    outcome = _outcome_in(start, job) if isinstance(start, FileStart) else _outcome_left_by(start)
    # Short, and the same whenever it is asked for again.
    remember(job, outcome)

    return outcome


def _outcome_left_by(start: Start) -> Outcome:
    deadline = time.monotonic() + _STOP_SECONDS
    while True:
        for status in (None, _BY_PILOT):
            with contextlib.suppress(RequestError):
                return outcome_of(start, status)
        # The pilot has ended the line's shell, and what watches the payload gives it time to end.
        if time.monotonic() > deadline:
            return of_kind(
                "stopped", "told to end by the pilot, and has not yet", started=True, signal=int(signal.SIGTERM)
            )
        time.sleep(_PAUSE_SECONDS)


def _outcome_in(start: FileStart, job: Any) -> Outcome:
    """
    Read the outcome that ``run`` has written: nobody else can write there.
    """
    try:
        with open(start.outcome, encoding="utf-8") as opened:
            outcome = of_dict(json.load(opened))
    except (OSError, ValueError):
        outcome = _lost(start, text_of(job, "jobid"))
        _tidy(start, job.workdir)
    for file in start.files:
        with contextlib.suppress(OSError):
            os.unlink(file)

    return outcome


def _tidy(start: FileStart, workdir: str) -> None:
    """
    Remove what a killed command line has left: the pilot packs the working
    directory into the job's log, where a copy of a proxy must not be.
    """
    deadline = time.monotonic() + _END_SECONDS
    with contextlib.suppress(OSError):
        while True:
            leftovers.forget()
            leftovers.clean(start.trace_dirs)
            if not any(name.startswith(_SCRATCH) for name in os.listdir(workdir)) or time.monotonic() > deadline:
                return
            time.sleep(_PAUSE_SECONDS)


def _lost(start: FileStart, job_id: str) -> Outcome:
    """
    Tell what is known when the command line was killed: the records say
    whether the payload had started.
    """
    from wlcg_isolate.trace.query import Question, find

    places = [place for place in start.trace_dirs if os.path.isdir(place)]
    question = Question(jobs=(job_id,), started_after=start.since, lookback=0)
    found = []
    with contextlib.suppress(IsolateError, OSError):
        found = find(places, question, engine="plain").payloads if places else []
    if not any(payload["started"] for payload in found):
        return classify(-signal.SIGKILL, "", started=False)

    # The pilot does it, with TERM first.
    reason = "ended, and before it could tell so did the command line that ran it"
    return of_kind("stopped", reason, started=True, signal=int(signal.SIGTERM))


def resolve_transform_error(exit_code: int, stderr: str, job: Any = None) -> int:
    """
    Give the pilot's error code, in place of its own function of this name.

    With a job that was wrapped here, what the start has left decides.
    Without one it is a guess from what was printed, which a payload can
    steer.  A code of the pilot's own, such as that of a time limit, stays.
    """
    if exit_code > _LARGEST_STATUS:
        return exit_code
    outcome = None if job is None else outcome_for(job)
    if outcome is None and exit_code == _UNSEEN:
        return _UNKNOWN_FAILURE
    if outcome is None:
        outcome = classify(exit_code, stderr)

    return mappings.panda(outcome)[0]


def interpret(job: Any) -> int:
    """
    Put the truth into the job, after the pilot's own look at what the payload
    printed: for the ``diagnose`` module of a plug-in.

    The error code that is reported first is the outcome's, unless a monitor
    of the pilot has ended the payload and said why; the exit status is the
    payload's own (the pilot takes it modulo 255).

    Returns:
        0 for a success.
    """
    outcome = outcome_for(job)
    if outcome is None:
        return 0
    if outcome.kind == "success" and job.transexitcode:
        # Another command of the job failed, such as one after the payload: the pilot has seen which.
        return 0
    code, text = mappings.panda(outcome)
    if outcome.exit_code is not None:
        job.transexitcode = outcome.exit_code
    from pilot.common.errorcodes import ErrorCodes

    errors = ErrorCodes()
    for guessed in _GUESSED:
        job.piloterrorcodes, job.piloterrordiags = errors.remove_error_code(guessed)
    if code:
        # What else is there, a monitor has put there: it knows why it ended the payload.
        first = outcome.signal is None or not job.piloterrorcodes
        job.piloterrorcodes, job.piloterrordiags = errors.add_error_code(code, priority=first, msg=text)

    return int(code != 0)


#: What the pilot guesses from standard error and the exit status.
#: Source: PanDAWMS/pilot3, pilot/common/errorcodes.py, resolve_transform_error.
_GUESSED = (1103, 1110, 1199, 1305, 1306, 1307, 1308, 1309, 1315, 1325, 1345, 1368, 1372, 1378)

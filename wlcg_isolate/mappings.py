"""
What an outcome is called by pilots and batch systems, for those who report
to one: PanDA, DIRAC, HTCondor, GlideinWMS, OSG and sysexits.

The functions look up in one table, `wlcg_isolate._codes.TABLE`; what they
give is explained in ``docs/reference/mappings.md``.
"""

from __future__ import annotations

import signal as signals
from typing import Any, NamedTuple, Optional

from wlcg_isolate._codes import CONDOR, PANDA, SYSEXITS, TABLE
from wlcg_isolate._values import printable
from wlcg_isolate.outcome import Outcome

__all__ = [
    "HTCondor",
    "Hook",
    "dirac",
    "glideinwms",
    "htcondor",
    "htcondor_hook",
    "one_line",
    "osg_hook",
    "panda",
    "sysexit",
]

#: pilot3, ErrorCodes.get_kill_signal_error_code.
_PANDA_SIGNALS = ("SIGTERM", "SIGQUIT", "SIGSEGV", "SIGXCPU", "SIGUSR1", "SIGBUS", "SIGINT")


#: What one node misses, and mostly all do: the job's own choice.
_HELD = ("image-missing",)


class HTCondor(NamedTuple):
    """
    What HTCondor is told.

    Attributes:
        code: The hold code (below 1000) or vacate code, or None.

        subcode: Its subcode.

        wrapper_error: The line for the file that ``_CONDOR_WRAPPER_ERROR_FILE``
            names, which puts the job back in the queue; None where it must
            not exist.
    """

    code: Optional[int]
    subcode: int
    wrapper_error: Optional[str]


class Hook(NamedTuple):
    """
    What a prepare hook of HTCondor answers.

    Attributes:
        status: ``HookStatusCode``: 1 to 299 hold the job, 300 and above put
            it back in the queue.

        message: ``HookStatusMessage``, one line.

        exit_code: The hook's own exit status, as OSG's hook makes it.
    """

    status: int
    message: str
    exit_code: int


def panda(outcome: Outcome) -> tuple[int, str]:
    """
    Give pilot3's error code and diagnostics, as its ``resolve_transform_error``
    does; (0, "") for success.

    The payload's own exit status is not in it: `Outcome.exit_code`.
    """
    if outcome.kind == "success":
        return 0, ""
    name = TABLE[outcome.kind].panda
    by = _signal_name(outcome.signal)
    if outcome.kind == "stopped" and by in _PANDA_SIGNALS:
        name = by
    elif outcome.kind == "ended-by-signal" and by == "SIGSEGV":
        name = "PAYLOADSIGSEGV"

    return PANDA[name], one_line(outcome)


def dirac(outcome: Outcome) -> dict[str, Any]:
    """
    Give what a computing element returns: ``S_OK(status of the payload)``, or
    ``S_ERROR`` where the job is to be rescheduled.
    """
    if _goes_back(outcome):
        return {"OK": False, "Errno": 0, "Message": one_line(outcome), "CallStack": []}

    return {"OK": True, "Value": outcome.status}


def htcondor(outcome: Outcome) -> HTCondor:
    """
    Give the hold or vacate code, and what a job wrapper writes.
    """
    if _is_held(outcome):
        return HTCondor(CONDOR["HookPrepareJobFailure"], sysexit(outcome), None)
    name = TABLE[outcome.kind].condor

    return HTCondor(CONDOR[name] if name else None, 0, one_line(outcome) if _goes_back(outcome) else None)


def glideinwms(outcome: Outcome) -> Optional[str]:
    """
    Give the error type for ``error_gen -error``, or None for ``-ok``.
    """
    return TABLE[outcome.kind].glideinwms


def osg_hook(outcome: Outcome) -> Hook:
    """
    Give what a prepare hook answers that made a plan, or tried a start.
    """
    status = sysexit(outcome) if _is_held(outcome) else TABLE[outcome.kind].osg

    # As OSG's hook makes it: no failure may look like a success.
    return Hook(status, one_line(outcome) if status else "", status and (status % 100 or 100))


def htcondor_hook(outcome: Outcome) -> Hook:
    """
    Give what a prepare hook answers in a pool: as `osg_hook`, but a job whose
    image is missing is held.

    HTCondor matches what goes back to the queue again at once, to the same
    node; what is held, ``periodic_release`` can let go by its subcode.
    """
    if outcome.kind in _HELD and not outcome.started:
        return Hook(sysexit(outcome), one_line(outcome), sysexit(outcome))

    return osg_hook(outcome)


def sysexit(outcome: Outcome) -> int:
    """
    Give the exit status: the payload's own where it ended by itself.
    """
    name = TABLE[outcome.kind].sysexit

    return outcome.status if name is None else SYSEXITS[name]


def one_line(outcome: Outcome) -> str:
    """
    Give kind and cause in one line: HTCondor takes no more (HTCONDOR-2305).
    """
    text = printable(" | ".join(outcome.message.splitlines()))

    return text if text.startswith(f"{outcome.kind}: ") else f"{outcome.kind}: {text}"


def _goes_back(outcome: Outcome) -> bool:
    """
    Tell whether the job is to be tried again, by no fault of its payload.
    """
    if outcome.retry == "never" or outcome.failed_by == "payload":
        return False

    return not outcome.started or outcome.failed_by == "runtime"


def _is_held(outcome: Outcome) -> bool:
    """
    Tell whether somebody must change something first: one of several problems
    is enough, also when another one gave the kind.
    """
    return outcome.retry == "never" and not outcome.started


def _signal_name(number: Optional[int]) -> str:
    try:
        return "" if number is None else signals.Signals(number).name
    except ValueError:
        return ""

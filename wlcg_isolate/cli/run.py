"""
``wlcg-isolate run``: run a payload isolated.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, Optional

from wlcg_isolate._values import absolute_path
from wlcg_isolate.cli import options
from wlcg_isolate.cli.output import OutcomeFile, report, workdir_of
from wlcg_isolate.errors import IsolateError, RequestError
from wlcg_isolate.launch import Container
from wlcg_isolate.outcome import NOT_STARTED_STATUS, TIME_LIMIT_STATUS, Outcome
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Payload, Request
from wlcg_isolate.run import refuse, run_isolated, trace_places
from wlcg_isolate.trace import close_journals
from wlcg_isolate.trace.pilot import end_pilot
from wlcg_isolate.trace.sending import flush

if TYPE_CHECKING:
    from wlcg_isolate.cli.terminal import Terminal

_EPILOG = f"""\
Exit status: the payload's own; 128+N when signal N ended it; {NOT_STARTED_STATUS} when it never
started; {TIME_LIMIT_STATUS} in place of 0 when its time was over.  A payload may use any of
these itself: --outcome FILE tells without doubt.

"""

#: Passed on to the payload: what batch systems and people send.  XCPU comes
#: from Grid Engine, LSF and Slurm; the kernel's own is for this process alone.
_FORWARDED = (
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGTERM",
    "SIGUSR1",
    "SIGUSR2",
    "SIGXCPU",
    "SIGCONT",
    "SIGTSTP",
    "SIGWINCH",
)

#: Those of them that mean an end also before the payload has started.
_FATAL = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    # Until the outcome is written, so that no signal can take it away.
    with _Signals() as signals:
        return _main(argv, signals)


def _main(argv: Sequence[str], signals: _Signals) -> int:
    parser = options.parser_for("run", "Run a payload isolated in a container.", _EPILOG)
    parsed = options.parse(parser, argv)
    problems = list(parsed.problems)
    file: Optional[OutcomeFile] = None
    if parsed.outcome is not None:
        try:
            file = OutcomeFile(parsed.outcome, workdir_of(parsed))
        except IsolateError as e:
            problems += e.problems

    if problems or parsed.request is None:
        asked = parsed.request or Request(payload=Payload(command=("unknown",)), trace_dir=_absolute(parsed.trace_dir))
        where = trace_places(asked, parsed.policy)
        outcome = refuse(RequestError(problems), parsed.request, where, _known_policy(parsed))
    else:
        outcome = _run(parsed.request, parsed.policy, signals)

    _end(outcome, file)

    return outcome.status


def run_and_tell(
    work: Callable[[Callable[[Request, Policy], Outcome]], Outcome],
    on_start: Optional[Callable[[Container], None]] = None,
) -> Outcome:
    """
    Do what ``run`` does around a payload, for other commands that run one.

    Args:
        work: Gives the outcome.  It is handed the function that runs a
            request with this process's signals and terminal.

        on_start: Called with the running payload.
    """
    with _Signals() as signals:
        signals.told = on_start
        outcome = work(lambda request, policy: _run(request, policy, signals))
        _end(outcome, None)

    return outcome


def _end(outcome: Outcome, file: Optional[OutcomeFile]) -> None:
    # The process ends without what Python does at its end.
    end_pilot()
    close_journals()
    # Whoever loses patience while receivers are waited for has the outcome.
    if file is not None:
        file.write(outcome)
    flush()
    if not outcome.started:
        report(outcome.message)


def _known_policy(parsed: options.Parsed) -> Optional[Policy]:
    """
    Return the policy, unless it could not be read: the one that stands in
    for it does not know how users may be recorded.
    """
    return None if any(problem.kind.startswith("policy-") for problem in parsed.problems) else parsed.policy


def _run(request: Request, policy: Policy, signals: _Signals) -> Outcome:
    terminal = None
    if _has_person():
        from wlcg_isolate.cli.terminal import Terminal

        with contextlib.suppress(OSError):
            terminal = signals.terminal = Terminal()
    try:
        streams = {} if terminal is None else terminal.streams()
        return run_isolated(request, policy, on_start=signals.pass_on_to, cancelled=signals.fatal, **streams)
    finally:
        if terminal is not None:
            signals.terminal = None
            terminal.close()


def _has_person() -> bool:
    """
    Tell whether any standard stream is a terminal.
    """
    return any(os.isatty(fd) for fd in (0, 1, 2))


def _absolute(path: Optional[str]) -> Optional[str]:
    found = absolute_path(path) if path else ""

    return found if found.startswith("/") else None


class _Signals:
    """
    Passes this process's signals on to the payload.

    Those that come before the payload runs are kept; one that means an end
    stops the start instead.
    """

    def __init__(self) -> None:
        self._container: Optional[Container] = None
        self._early: list[int] = []
        self._previous: dict[int, Any] = {}
        self.terminal: Optional[Terminal] = None
        self.told: Optional[Callable[[Container], None]] = None

    def __enter__(self) -> _Signals:
        for name in _FORWARDED:
            number = getattr(signal, name)
            # What is ignored (nohup) stays so, for the payload as well.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._handle)

        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def fatal(self) -> bool:
        """
        Tell whether the payload is not wanted any more.
        """
        return any(number in _FATAL for number in self._early)

    def pass_on_to(self, container: Container) -> None:
        """
        Take note of the running payload.
        """
        if self.terminal is not None:
            self.terminal.connect(container)
        self._container = container
        for number in self._take_early():
            self._handle(number, None)
        if self.told is not None:
            self.told(container)

    def _take_early(self) -> tuple[int, ...]:
        early, self._early = tuple(self._early), []

        return early

    def _handle(self, number: int, _frame: object) -> None:
        if self._container is None:
            self._early.append(number)
        elif number == signal.SIGTSTP:
            self._suspend(self._container)
        elif number == signal.SIGWINCH and self.terminal is not None:
            self.terminal.resize()
        else:
            if number == signal.SIGCONT and self.terminal is not None:
                self.terminal.take()
            self._container.send_signal(number)
            if number == signal.SIGHUP:
                # One that is stopped must hear it, as when a terminal goes.
                self._container.send_signal(signal.SIGCONT)

    def _suspend(self, container: Container) -> None:
        """
        Stop the payload, which is in no shell's job, and then this process.
        """
        container.suspend()
        if self.terminal is not None:
            self.terminal.give_back()
        os.kill(os.getpid(), signal.SIGSTOP)

"""
The whole way: decide, record, start, watch, record.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, NamedTuple, Optional, Union

import attrs

from wlcg_isolate import launch
from wlcg_isolate._checks import NO_WORKDIR
from wlcg_isolate._shelter import NoThreadError, is_interruptible, sheltered
from wlcg_isolate._values import is_below, normal_path
from wlcg_isolate.errors import IsolateError, PolicyError
from wlcg_isolate.host import trace_candidates
from wlcg_isolate.outcome import Outcome, of_refusal
from wlcg_isolate.plan import Plan, make_plan
from wlcg_isolate.policy import Policy
from wlcg_isolate.policy.settle import settle
from wlcg_isolate.request import Request
from wlcg_isolate.trace import bind_trace_id, payload as records
from wlcg_isolate.trace.guard import GuardedJournal
from wlcg_isolate.trace.reading import protected_identity
from wlcg_isolate.trace.telling import Telling

#: Called with the running payload, so that a caller can pass signals on.
OnStart = Callable[[launch.Container], None]


def run_isolated(
    request: Request,
    policy: Policy,
    *,
    on_start: Optional[OnStart] = None,
    cancelled: Optional[Callable[[], bool]] = None,
    **streams: Any,
) -> Outcome:
    """
    Run a payload isolated, with its traces.

    Args:
        request: What the pilot asks.

        policy: What site and experiment allow.

        on_start: Called when the payload runs, with the running payload.

        cancelled: Asked while the container is being made; once it says yes,
            the payload is not started.

        **streams: *stdin*, *stdout*, *stderr* as for `launch.start`.

    Returns:
        What happened, a refusal included; this function raises only what is
        nobody's intent.
    """
    try:
        plan = make_plan(request, policy)
    except IsolateError as error:
        return refuse(error, request, trace_places(request, policy), policy)

    return launch_plan(plan, on_start=on_start, cancelled=cancelled, **streams)


def trace_places(request: Optional[Request], policy: Policy) -> Iterator[str]:
    """
    List the directories for the records of a payload that has no plan.

    Args:
        request: What was asked, as far as it was understood.

        policy: What the files say.
    """
    # What else the request wants of policy may be what it is refused for.
    for asked in () if request is None else (request, attrs.evolve(request, settings={})):
        with contextlib.suppress(PolicyError):
            return trace_candidates(settle(policy, asked, {}), os.environ, os.geteuid())

    return trace_candidates(policy, os.environ, os.geteuid())


def launch_plan(
    plan: Plan,
    *,
    on_start: Optional[OnStart] = None,
    cancelled: Optional[Callable[[], bool]] = None,
    **streams: Any,
) -> Outcome:
    """
    Run a plan's payload and wait for its end, with its traces.

    ``payload.start`` is on disk before the payload's first instruction; when
    it cannot be written, the payload is not started, unless policy says so.

    Args:
        plan: The plan.

        on_start: Called when the payload runs, with the running payload.

        cancelled: Asked while the container is being made; once it says yes,
            the payload is not started.

        **streams: *stdin*, *stdout*, *stderr* as for `launch.start`.

    Returns:
        What happened, a failed start included.
    """
    with bind_trace_id(plan.trace_id):
        if is_interruptible():
            with contextlib.suppress(NoThreadError):
                return _Sheltered(plan, cancelled, streams).run(on_start)
        begun = begin(plan, cancelled, streams)
        return begun if isinstance(begun, Outcome) else _see_out(begun, on_start)


class _Sheltered:
    """
    A payload from its start to its end, in a thread that no signal handler
    interrupts; *on_start* is called in the caller's own.
    """

    def __init__(self, plan: Plan, cancelled: Optional[Callable[[], bool]], streams: Mapping[str, Any]) -> None:
        self._plan = plan
        self._asked = cancelled
        self._streams = streams
        self._container: Optional[launch.Container] = None
        self._stands = threading.Event()
        self._told = threading.Event()
        self._in_haste = False

    def run(self, on_start: Optional[OnStart]) -> Outcome:
        """
        Run it.

        Raises:
            NoThreadError: There can be no more threads.
        """
        if on_start is None:
            self._told.set()
            return sheltered(self._all, self._hurry)

        return sheltered(self._all, self._hurry, lambda: self._tell(on_start))

    def _all(self) -> Outcome:
        try:
            begun = begin(self._plan, self._is_cancelled, self._streams)
            if isinstance(begun, Outcome):
                return begun
            self._container = begun.container
        finally:
            self._stands.set()

        return _see_out(begun, self._await_told)

    def _await_told(self, container: launch.Container) -> None:
        self._told.wait()
        if self._in_haste:
            container.stop(0)

    def _tell(self, on_start: OnStart) -> None:
        self._stands.wait()
        if self._container is not None:
            on_start(self._container)
            if not self._container.is_ours:
                # A child that *on_start* forked came here; this is refused.
                self._container.wait()
        self._told.set()

    def _is_cancelled(self) -> bool:
        return self._in_haste or (self._asked is not None and self._asked())

    def _hurry(self) -> None:
        self._in_haste = True
        self._told.set()
        if self._container is not None:
            self._container.stop(0)


def _see_out(begun: Begun, on_start: Optional[OnStart]) -> Outcome:
    container = begun.container
    with begun.telling.of(container):
        try:
            if on_start is not None:
                on_start(container)
            outcome = container.wait()
        except BaseException:
            # A child that *on_start* forked is not the one that ends it.
            if container.is_ours:
                container.kill()
                begun.telling.ended(container.wait())
            raise
        return begun.telling.ended(outcome)


class Begun(NamedTuple):
    """
    A payload that runs.

    Attributes:
        telling: Its records.

        container: The running payload.
    """

    telling: Telling
    container: launch.Container


def begin(plan: Plan, cancelled: Optional[Callable[[], bool]], streams: Mapping[str, Any]) -> Union[Begun, Outcome]:
    """
    Start a plan's payload; the outcome is of one that was not started.

    Args:
        plan: The plan.

        cancelled: As for `launch_plan`.

        streams: *stdin*, *stdout*, *stderr* as for `launch.start`.
    """
    try:
        telling = Telling(plan)
        container = launch.start(plan, on_ready=telling.started, cancelled=cancelled, **streams)
    except IsolateError as error:
        return _refused(error, plan.request, plan.trace_dirs, plan.trace_id, plan.policy)

    return Begun(telling, container)


def refuse(
    error: IsolateError,
    request: Optional[Request],
    trace_dirs: Iterable[str],
    policy: Optional[Policy] = None,
) -> Outcome:
    """
    Turn an error into the outcome of a payload that was never started, and
    record it where that is possible.

    Args:
        error: Why.

        request: What was asked, as far as it was understood.

        trace_dirs: Where the record may go, best first.

        policy: What holds here; where it is not known, the record names no
            user.
    """
    trace_id = str(uuid.uuid4())
    with bind_trace_id(trace_id):
        return _refused(error, request, _out_of_sight(trace_dirs, request), trace_id, policy)


def _out_of_sight(trace_dirs: Iterable[str], request: Optional[Request]) -> list[str]:
    """
    Leave out what is in the working directory, where an earlier payload may
    have left links to elsewhere.
    """
    workdir = None if request is None else request.workdir
    with contextlib.suppress(OSError):
        workdir = normal_path(workdir or os.getcwd())
    if workdir is None or workdir in NO_WORKDIR:
        return list(trace_dirs)

    return [place for place in trace_dirs if not is_below(place, workdir)]


def _refused(
    error: IsolateError,
    request: Optional[Request],
    trace_dirs: Iterable[str],
    trace_id: str,
    policy: Optional[Policy],
) -> Outcome:
    outcome = of_refusal(error, trace_id)
    who = records.withheld(request)
    if policy is not None and request is not None:
        # What refuses the payload may be that its identity cannot be read or protected.
        with contextlib.suppress(IsolateError):
            who = protected_identity(request.identity, policy, trace_id)
    known = policy or Policy()
    # Where no record can be written, the refusal itself still stands.
    journal = GuardedJournal(trace_dirs, known, needed=False)
    journal.write_after(records.refused(error.problems, outcome, request, known, who))

    return journal.told(outcome)

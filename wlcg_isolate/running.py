"""
A payload that runs while its pilot does something else.

Rules:

1. A thread sees to each payload: it keeps the time limit, and writes the end
   record once, whether or not anybody waits, and when the handle is dropped.
2. A pilot that ends in an orderly way stops its payloads first, so that each
   has its record.
3. A child that the pilot forks can neither wait for a payload nor end it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable, Optional, cast

from wlcg_isolate._shelter import NoThreadError, is_interruptible, sheltered
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.plan import Plan
from wlcg_isolate.run import Begun, begin
from wlcg_isolate.trace import bind_trace_id

if TYPE_CHECKING:
    from types import TracebackType


def start_plan(plan: Plan, *, cancelled: Optional[Callable[[], bool]] = None, **streams: Any) -> Running:
    """
    Start a plan's payload and return when it runs.

    Like `launch_plan` in all else: one that cannot be started is recorded,
    and its outcome is at once in the handle.

    Args:
        plan: The plan.

        cancelled: Asked while the container is being made; once it says yes,
            the payload is not started.

        **streams: *stdin*, *stdout*, *stderr* as for `launch.start`; the
            caller may close its own as soon as this returns.
    """
    with bind_trace_id(plan.trace_id):
        if is_interruptible():
            with contextlib.suppress(NoThreadError):
                return _Sheltered(plan, cancelled, streams).start()
        return _start(plan, cancelled, streams)


def _start(plan: Plan, cancelled: Optional[Callable[[], bool]], streams: Mapping[str, Any]) -> Running:
    begun = begin(plan, cancelled, streams)

    return Running(plan, begun if isinstance(begun, Begun) else None, begun if isinstance(begun, Outcome) else None)


class _Sheltered:
    """
    A start in a thread that no signal handler interrupts.

    Who was interrupted has no handle: the payload is stopped.
    """

    def __init__(self, plan: Plan, cancelled: Optional[Callable[[], bool]], streams: Mapping[str, Any]) -> None:
        self._plan = plan
        self._asked = cancelled
        self._streams = streams
        self._running: Optional[Running] = None
        self._in_haste = False

    def start(self) -> Running:
        """
        Start it.

        Raises:
            NoThreadError: There can be no more threads.
        """
        return sheltered(self._run, self._hurry)

    def _run(self) -> Running:
        self._running = _start(self._plan, self._is_cancelled, self._streams)
        if self._in_haste:
            self._running.stop(0)

        return self._running

    def _is_cancelled(self) -> bool:
        return self._in_haste or (self._asked is not None and self._asked())

    def _hurry(self) -> None:
        self._in_haste = True
        if self._running is not None:
            self._running.stop(0)


class Running:
    """
    A payload that was started by `start_plan`.

    All methods may be called from any thread.  As a context manager it stops
    the payload at the end of the block, and waits.

    Attributes:
        plan: Its plan.
    """

    def __init__(self, plan: Plan, begun: Optional[Begun], outcome: Optional[Outcome]) -> None:
        """
        Use `start_plan`.
        """
        self.plan = plan
        self._begun = begun
        self._outcome = outcome
        self._error: Optional[BaseException] = None
        self._owner = os.getpid()
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[Running], object]] = []
        self._scope = contextlib.ExitStack()
        if begun is None:
            self._done.set()
            return
        self._scope.enter_context(begun.telling.of(begun.container))
        _living.add(self)
        try:
            # Not to be waited for by the interpreter: _stop_all does, in time.
            threading.Thread(target=self._see_to_it, name=f"payload-{self.trace_id}", daemon=True).start()
        except BaseException:
            begun.container.kill()
            self._see_to_it()
            raise

    @property
    def trace_id(self) -> str:
        """
        The payload's identity in all records.
        """
        return self.plan.trace_id

    @property
    def pid(self) -> Optional[int]:
        """
        The payload's process id on the host; None when it was not started.
        """
        return None if self._begun is None else self._begun.container.pid

    @property
    def namespaces(self) -> Mapping[str, int]:
        """
        Inode numbers of the payload's namespaces, by name; those that differ
        from the pilot's are its own.
        """
        return {} if self._begun is None else dict(self._begun.container.payload.namespaces)

    def poll(self) -> Optional[Outcome]:
        """
        Return the outcome, or None while the payload runs.
        """
        return self.wait() if self._done.is_set() or not self._is_ours() else None

    def wait(self, timeout: Optional[float] = None) -> Outcome:
        """
        Wait for the end.  Everything is reaped, removed and recorded by then.

        Args:
            timeout: Seconds that this call waits; the payload goes on.

        Raises:
            TimeoutError: It has not ended by then.

            RuntimeError: Another process started the payload.
        """
        if not self._done.is_set() and not self._is_ours():
            msg = "a payload can be waited for only by the process that started it"
            raise RuntimeError(msg)
        if not self._done.wait(timeout):
            raise TimeoutError
        if self._error is not None:
            raise self._error

        return cast("Outcome", self._outcome)

    async def wait_async(self) -> Outcome:
        """
        Wait for the end in a coroutine.  Its cancellation leaves the payload
        alone.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        # The loop may be gone by then.
        self.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(ended.set))
        await ended.wait()

        return self.wait()

    def add_done_callback(self, function: Callable[[Running], object]) -> None:
        """
        Have *function* called with this handle once the payload has ended, in
        a thread of the library; at once when it has ended already.
        """
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(function)
                return
        function(self)

    def send_signal(self, number: int) -> bool:
        """
        Pass a signal on to the payload.

        Returns:
            Whether it was still there.
        """
        return self._begun is not None and self._begun.container.send_signal(number)

    def stop(self, grace: Optional[float] = None) -> None:
        """
        Ask for the end of the payload, and return at once: TERM to all of its
        processes, the grace, then KILL.

        Args:
            grace: Seconds; the policy's when nothing else is said.  0 kills
                at once.
        """
        if self._begun is not None:
            self._begun.container.stop(grace)

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if self._is_ours():
            self.stop()
            self.wait()

    def _is_ours(self) -> bool:
        return os.getpid() == self._owner

    def _see_to_it(self) -> None:
        begun = cast("Begun", self._begun)
        try:
            with bind_trace_id(self.trace_id), self._scope:
                self._outcome = begun.container.wait()
                self._outcome = begun.telling.ended(self._outcome)
        except BaseException as e:  # noqa: BLE001 - raised again by whoever waits
            self._error = None if self._outcome is not None else e
        with self._lock:
            self._done.set()
        _living.discard(self)
        for function in self._callbacks:
            function(self)


_living: set[Running] = set()


def _stop_all() -> None:
    left = list(_living)
    for running in left:
        running.stop()
    for running in left:
        with contextlib.suppress(Exception):
            running.wait()


# A forked child has none.
os.register_at_fork(after_in_child=_living.clear)
atexit.register(_stop_all)

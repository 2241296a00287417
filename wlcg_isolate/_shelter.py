"""
Do what must come to its end out of reach of what signal handlers raise.

Python runs handlers in its main thread, between any two steps of what that
does: a ``KeyboardInterrupt`` could come after a process was started and before
anybody took note of it.  So the work is done by another thread, which the
main thread waits for, however often it is interrupted.
"""

from __future__ import annotations

import contextvars
import os
import threading
from typing import Callable, Generic, Optional, TypeVar, cast

T = TypeVar("T")

#: How often it is looked for signals, and for a thread that says nothing.
_ASK_SECONDS = 0.2


class NoThreadError(Exception):
    """
    There can be no more threads; nothing was called.
    """


def is_interruptible() -> bool:
    """
    Tell whether what signal handlers raise is raised here.
    """
    return threading.current_thread() is threading.main_thread()


def sheltered(
    function: Callable[[], T], hurry: Callable[[], object], meanwhile: Optional[Callable[[], object]] = None
) -> T:
    """
    Return what *function* returns, which another thread calls.

    Args:
        function: What must come to its end.

        hurry: Called whenever this thread is interrupted: bring the end
            about.  What was raised here goes on when *function* has ended.

        meanwhile: Called in this thread.

    Raises:
        NoThreadError: There can be no more threads; nothing was called.
    """
    call = _Call(function)
    owner = os.getpid()
    try:
        call.start()
        if meanwhile is not None:
            meanwhile()
        # The kernel may give a signal to another thread: Python's handler runs once this one does something.
        while not call.done.wait(_ASK_SECONDS):
            pass
    except BaseException:
        # A child that *meanwhile* forked does not have that thread.
        if os.getpid() == owner:
            call.see_out(hurry)
        raise

    return call.value()


class _Call(Generic[T]):
    """
    One call in a thread of its own.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._context = contextvars.copy_context()
        self._claim = threading.Lock()
        self._result: Optional[T] = None
        self._error: Optional[BaseException] = None
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """
        Begin.

        Raises:
            NoThreadError: It cannot.
        """
        try:
            self.thread.start()
        except RuntimeError as e:
            raise NoThreadError from e

    def _run(self) -> None:
        if not self._claim.acquire(blocking=False):
            return
        try:
            self._result = self._context.run(self._function)
        except BaseException as e:  # noqa: BLE001 - raised again by whoever waits
            self._error = e
        finally:
            self.done.set()

    def see_out(self, hurry: Callable[[], object]) -> None:
        """
        Wait for the end, or see to it that there is no begin.
        """
        try:
            if self._claim.acquire(blocking=False):
                # The thread was not there yet, and now has nothing to do.
                self.done.set()
                return
            hurry()
            while not self.done.wait(_ASK_SECONDS) and self.thread.is_alive():
                pass
        except BaseException:  # noqa: BLE001 - one more; the first is raised
            self.see_out(hurry)

    def value(self) -> T:
        """
        Give what was returned, or raise what was raised.
        """
        if self._error is not None:
            raise self._error

        return cast("T", self._result)

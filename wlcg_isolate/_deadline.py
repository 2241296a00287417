"""
Stop waiting for a file system that does not answer.

A ``stat`` or ``read`` on a network file system may never return.  Python
cannot interrupt it, but it can stop waiting: the call is made by a daemon
thread, and one that does not answer is left behind.
"""

from __future__ import annotations

import threading
from typing import Callable, Generic, Optional, TypeVar

T = TypeVar("T")


class _Call(threading.Thread, Generic[T]):
    """
    One call in a thread of its own.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self.result: Optional[T] = None
        self.error: Optional[BaseException] = None

    def run(self) -> None:
        try:
            self.result = self._function()
        except BaseException as e:  # noqa: BLE001 - handed on to the waiting thread
            self.error = e


def within(seconds: float, function: Callable[[], T]) -> Optional[T]:
    """
    Return what *function* returns, or None when it does not within *seconds*.

    Raises:
        Exception: Whatever *function* raised in time.
    """
    call = _Call(function)
    call.start()
    call.join(seconds)
    if call.is_alive():
        return None
    if call.error is not None:
        raise call.error

    return call.result

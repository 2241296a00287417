"""
Look at paths with a deadline.

A ``stat`` on a network file system may never return.  Python cannot
interrupt it, but it can stop waiting: the look is made by a daemon thread,
and one that does not answer is left behind.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterable
from typing import Callable, Generic, Optional, TypeVar

from wlcg_isolate.host.facts import PathFact

T = TypeVar("T")

_MISSING = (errno.ENOENT, errno.ENOTDIR)


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


def look_at(path: str) -> PathFact:
    """
    Look at one path, for as long as it takes.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as e:
        missing = isinstance(e, OSError) and e.errno in _MISSING
        return PathFact(
            path=path,
            state="missing" if missing else "unreadable",
            resolved=os.path.realpath(path) if missing else None,
            is_link=os.path.islink(path),
            reason=(e.strerror or str(e)) if isinstance(e, OSError) else str(e),
        )
    directory = stat.S_ISDIR(found.st_mode)

    return PathFact(
        path=path,
        state="present",
        kind=kind_of(found.st_mode),
        resolved=os.path.realpath(path),
        is_link=os.path.islink(path),
        readable=os.access(path, os.R_OK | (os.X_OK if directory else 0), effective_ids=True),
        writable=os.access(path, os.W_OK | (os.X_OK if directory else 0), effective_ids=True),
    )


def kind_of(mode: int) -> str:
    """
    Name the kind of file that *mode* (``st_mode``) tells of.
    """
    if stat.S_ISDIR(mode):
        return "directory"

    return "file" if stat.S_ISREG(mode) else "other"


def look_at_all(paths: Iterable[str], seconds: float) -> dict[str, PathFact]:
    """
    Look at *paths*, waiting at most *seconds* for each that hangs.

    One thread looks at them in turn; when one hangs, the rest go to a new
    thread, so that a single dead file system does not hide the others.
    """
    facts: dict[str, PathFact] = {}
    left: list[str] = list(dict.fromkeys(paths))
    while left:
        batch = tuple(left)
        done: dict[str, PathFact] = {}

        def look(batch: tuple[str, ...] = batch, done: dict[str, PathFact] = done) -> bool:
            for path in batch:
                done[path] = look_at(path)
            return True

        answered = within(seconds, look)
        snapshot = dict(done)
        facts.update(snapshot)
        left = [path for path in batch if path not in snapshot]
        if answered is None and left:
            stuck = left.pop(0)
            facts[stuck] = PathFact(path=stuck, state="no-answer", reason=f"no answer within {seconds:g} s")

    return facts

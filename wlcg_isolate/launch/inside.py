"""
Open a path below somebody else's root.

No link leads out of that root: every component is opened by itself, as
``openat2(2)`` does with ``RESOLVE_IN_ROOT``, which older kernels and Python
lack.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Optional

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

#: path_resolution(7): the kernel's own limit.
_MAX_LINKS = 40


def open_inside(root: int, path: str) -> int:
    """
    Open a path below a root, without reading or mounting what is there.

    Args:
        root: Descriptor of the root.

        path: Absolute path as seen from it.

    Returns:
        A descriptor (``O_PATH``), which the caller must close.

    Raises:
        OSError: It is not there, or may not be looked at.
    """
    passed = [os.dup(root)]
    try:
        _walk(passed, path)
        return passed.pop()
    finally:
        for fd in passed:
            os.close(fd)


def _walk(passed: list[int], path: str) -> None:
    todo = _parts(path)
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            _up(passed, 1)
            continue
        passed.append(os.open(part, _LOOK, dir_fd=passed[-1]))
        goal = _goal_of(passed[-1])
        if goal is None:
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        _up(passed, len(passed) if goal.startswith("/") else 1)
        todo += _parts(goal)


def _up(passed: list[int], steps: int) -> None:
    """
    Go back, but never above the root.
    """
    while steps and len(passed) > 1:
        os.close(passed.pop())
        steps -= 1


def _goal_of(fd: int) -> Optional[str]:
    if not stat.S_ISLNK(os.fstat(fd).st_mode):
        return None

    return os.readlink("", dir_fd=fd)


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part and part != "."]

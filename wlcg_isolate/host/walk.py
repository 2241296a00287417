"""
Follow paths on the host, looking at each component once.

Every look at a component may cost a round trip on a network file system, and
the paths of a plan have most of theirs in common.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from typing import NamedTuple, Optional, Union

from wlcg_isolate._values import is_below

#: path_resolution(7): the kernel's own limit.
_MAX_LINKS = 40

_MISSING = (errno.ENOENT, errno.ENOTDIR)


class Goal(NamedTuple):
    """
    Where a path leads.

    Attributes:
        resolved: With all links followed, as far as it exists; None when it
            cannot be told.

        status: What is there, or None.

        is_link: Whether the path itself is a symbolic link.

        error: Why nothing is there, or why it cannot be told.
    """

    resolved: Optional[str]
    status: Optional[os.stat_result]
    is_link: bool
    error: Optional[OSError] = None


class Walker:
    """
    Remembers every component that it has looked at.

    Not for use by two threads at once.
    """

    def __init__(self, automounts: Iterable[str] = ()) -> None:
        """
        Start with nothing known.

        Args:
            automounts: Where file systems are mounted on demand.
        """
        self._automounts = tuple(automounts)
        self._known: dict[str, Union[os.stat_result, OSError]] = {}
        self._goals: dict[str, str] = {}

    def follow(self, path: str) -> Goal:
        """
        Follow a normal absolute path.

        Raises:
            ValueError: It is no path that a system could have.
        """
        goal = self._follow(path)
        if goal.resolved is not None and is_below(goal.resolved, "/proc"):
            # The kernel's links there lead where their text does not say.
            return _by_the_kernel(path)

        return goal

    def _follow(self, path: str) -> Goal:
        todo = [part for part in reversed(path.split("/")) if part]
        here, links, is_link = "", 0, False
        status: Union[os.stat_result, OSError] = self._look("/") if not todo else OSError()
        while todo:
            part = todo.pop()
            if part == "..":
                here = here.rpartition("/")[0]
                status = self._look(here or "/")
                continue
            there = f"{here}/{part}"
            status = self._look(there)
            if isinstance(status, OSError):
                known = status.errno in _MISSING
                return Goal(_joined(there, todo) if known else None, None, is_link, status)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                is_link = is_link or not todo
                if links > _MAX_LINKS:
                    return Goal(None, None, is_link, OSError(errno.ELOOP, os.strerror(errno.ELOOP)))
                text = self._link(there)
                here = "" if text.startswith("/") else here
                todo += [part for part in reversed(text.split("/")) if part and part != "."]
                status = self._look(here or "/")
                continue
            here = there
            if todo and not stat.S_ISDIR(status.st_mode):
                return Goal(_joined(here, todo), None, is_link, OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
        if isinstance(status, OSError):
            return Goal(None, None, is_link, status)

        return Goal(here or "/", status, is_link)

    def _look(self, path: str) -> Union[os.stat_result, OSError]:
        found = self._known.get(path)
        if found is None:
            try:
                if any(is_below(path, place) for place in self._automounts):
                    _mount(path)
                found = os.lstat(path)
            except OSError as e:
                found = e
            self._known[path] = found

        return found

    def _link(self, path: str) -> str:
        if path not in self._goals:
            self._goals[path] = os.readlink(path)

        return self._goals[path]


def _mount(path: str) -> None:
    """
    Have mounted what is mounted on demand; a stat of the place itself would
    not do that.

    Raises:
        OSError: It cannot be mounted.
    """
    with contextlib.suppress(NotADirectoryError, PermissionError):
        os.stat(f"{path}/.")


def _joined(path: str, todo: list[str]) -> str:
    return os.path.normpath("/".join((path, *reversed(todo))))


def _by_the_kernel(path: str) -> Goal:
    try:
        found = os.stat(path)
    except OSError as e:
        known = e.errno in _MISSING
        return Goal(os.path.realpath(path) if known else None, None, os.path.islink(path), e)

    return Goal(os.path.realpath(path), found, os.path.islink(path))

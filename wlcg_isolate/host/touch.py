"""
Look at paths with a deadline.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Iterable
from typing import Callable, Optional

from wlcg_isolate._deadline import within
from wlcg_isolate.host.facts import PathFact
from wlcg_isolate.host.walk import Walker

__all__ = ["kind_of", "look_at", "look_at_all", "within"]

_MISSING = (errno.ENOENT, errno.ENOTDIR)


def look_at(path: str, walker: Optional[Walker] = None, *, light: bool = False) -> PathFact:
    """
    Look at one path, for as long as it takes.

    Args:
        path: The path.

        walker: Knows what was looked at before.

        light: Whether the file system is asked for this user's rights only
            where the mode of the file denies them.
    """
    try:
        goal = (walker or Walker()).follow(path)
    except (OSError, ValueError) as e:
        reason = (e.strerror or str(e)) if isinstance(e, OSError) else str(e)
        return PathFact(path=path, state="unreadable", reason=reason)
    found = goal.status
    if found is None:
        error = goal.error or OSError(errno.EIO, os.strerror(errno.EIO))
        return PathFact(
            path=path,
            state="missing" if error.errno in _MISSING else "unreadable",
            resolved=goal.resolved,
            is_link=goal.is_link,
            reason=error.strerror or str(error),
        )
    enter = os.X_OK if stat.S_ISDIR(found.st_mode) else 0

    return PathFact(
        path=path,
        state="present",
        kind=kind_of(found.st_mode),
        resolved=goal.resolved,
        is_link=goal.is_link,
        readable=_may(path, found, os.R_OK | enter, light=light),
        writable=_may(path, found, os.W_OK | enter, light=light),
    )


def _may(path: str, found: os.stat_result, wanted: int, *, light: bool) -> bool:
    if light and _mode_allows(found, wanted):
        return True

    return os.access(path, wanted, effective_ids=True)


def _mode_allows(found: os.stat_result, wanted: int) -> bool:
    """
    Tell whether the mode alone gives this user rights; lists of rights
    (acl(5)) may give more.
    """
    uid = os.geteuid()
    if uid == 0:
        return True
    shift = 6 if found.st_uid == uid else 3 if found.st_gid == os.getegid() else 0

    return (found.st_mode >> shift) & wanted == wanted


def kind_of(mode: int) -> str:
    """
    Name the kind of file that *mode* (``st_mode``) tells of.
    """
    if stat.S_ISDIR(mode):
        return "directory"

    return "file" if stat.S_ISREG(mode) else "other"


def look_at_all(
    paths: Iterable[str],
    deadline: Callable[[str], float],
    *,
    light: frozenset[str] = frozenset(),
    automounts: Iterable[str] = (),
) -> dict[str, PathFact]:
    """
    Look at *paths*, waiting for each no longer than *deadline* says.

    One thread looks at them in turn; when one hangs, the rest go to a new
    thread, so that a single dead file system does not hide the others.

    Args:
        paths: Where to look.

        deadline: The seconds that one look at a path may take.

        light: Those whose rights are taken from the mode where it gives any.

        automounts: Where file systems are mounted on demand.
    """
    facts: dict[str, PathFact] = {}
    left = list(dict.fromkeys(paths))
    while left:
        turn = _Turn(left, light, Walker(automounts))
        turn.start()
        silent = turn.wait(deadline)
        if turn.error is not None:
            raise turn.error
        found = turn.found[: len(left) if silent is None else silent]
        facts.update((fact.path, fact) for fact in found)
        if silent is None:
            break
        path = left[silent]
        facts[path] = PathFact(path=path, state="no-answer", reason=f"no answer within {deadline(path):g} s")
        left = left[silent + 1 :]

    return facts


class _Turn(threading.Thread):
    """
    Looks at paths one after the other.
    """

    def __init__(self, paths: list[str], light: frozenset[str], walker: Walker) -> None:
        super().__init__(daemon=True)
        self._paths = paths
        self._light = light
        self._walker = walker
        self._over = threading.Event()
        self._current = (0, time.monotonic())
        self.found: list[PathFact] = []
        self.error: Optional[BaseException] = None

    def run(self) -> None:
        try:
            for i, path in enumerate(self._paths):
                self._current = (i, time.monotonic())
                self.found.append(look_at(path, self._walker, light=path in self._light))
        except BaseException as e:  # noqa: BLE001 - handed on to the waiting thread
            self.error = e
        self._over.set()

    def wait(self, deadline: Callable[[str], float]) -> Optional[int]:
        """
        Wait until all is seen.

        Returns:
            None, or the number of the path that gives no answer.
        """
        pause = min(map(deadline, self._paths))
        while not self._over.wait(pause):
            i, since = self._current
            left = since + deadline(self._paths[i]) - time.monotonic()
            if left <= 0 and self._current[0] == i:
                return i
            pause = max(left, 0.001)

        return None

"""
Look at paths with a deadline.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from typing import Callable, Union

from wlcg_isolate._deadline import within
from wlcg_isolate.host.facts import PathFact

__all__ = ["kind_of", "look_at", "look_at_all", "within"]

_MISSING = (errno.ENOENT, errno.ENOTDIR)


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


def look_at_all(paths: Iterable[str], deadline: Callable[[str], float]) -> dict[str, PathFact]:
    """
    Look at *paths*, waiting for each no longer than *deadline* says.

    One thread looks at them in turn; when one hangs, the rest go to a new
    thread, so that a single dead file system does not hide the others.

    Args:
        paths: Where to look.

        deadline: The seconds that one look at a path may take.
    """
    facts: dict[str, PathFact] = {}
    left = list(dict.fromkeys(paths))
    while left:
        answers: SimpleQueue[Union[PathFact, BaseException]] = SimpleQueue()
        threading.Thread(target=_look_in_turn, args=(tuple(left), answers), daemon=True).start()
        while left:
            path = left.pop(0)
            seconds = deadline(path)
            try:
                answer = answers.get(timeout=seconds)
            except Empty:
                facts[path] = PathFact(path=path, state="no-answer", reason=f"no answer within {seconds:g} s")
                break
            if isinstance(answer, BaseException):
                raise answer
            facts[path] = answer

    return facts


def _look_in_turn(paths: tuple[str, ...], answers: SimpleQueue[Union[PathFact, BaseException]]) -> None:
    try:
        for path in paths:
            answers.put(look_at(path))
    except BaseException as e:  # noqa: BLE001 - handed on to the waiting thread
        answers.put(e)

"""
Remove what pilots that were killed have left of their payloads' directories.

Rules:

1. Only what is provably nobody's is touched: the note's writer was a process
   of this boot and this PID namespace that is there no more; or of an earlier
   boot, and both the directory and the note are on disks that no other node
   has.  In either case nobody holds the note's lock.
2. A working directory is the payload's, and what it holds is not to be
   trusted: it must be the very directory that was noted, no link is followed,
   and only the private directory and empty mount points go.
3. A start never fails for it, and waits only so long.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator

from wlcg_isolate import _events
from wlcg_isolate._deadline import within
from wlcg_isolate.host import procfs
from wlcg_isolate.launch.claims import DIRECTORY, Found, Note, is_local, notes_in
from wlcg_isolate.launch.scratch import empty, unlock, writable

#: How long a start waits for all of it.
_SECONDS = 10.0

#: How often one pilot looks.
_PAUSE_SECONDS = 60.0

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_looked: dict[str, float] = {}
_lock = threading.Lock()


def clean(directories: Iterable[str]) -> None:
    """
    Remove what the notes in trace directories prove to be left over.

    Each directory is looked at now and then only.
    """
    due = [directory for directory in directories if _is_due(directory)]
    if due:
        within(_SECONDS, lambda: _clean(due))


def forget() -> None:
    """
    Look anew the next time.
    """
    with _lock:
        _looked.clear()


def _is_due(directory: str) -> bool:
    if not os.path.isdir(os.path.join(directory, DIRECTORY)):
        return False
    with _lock:
        now = time.monotonic()
        if now - _looked.get(directory, -_PAUSE_SECONDS) < _PAUSE_SECONDS:
            return False
        _looked[directory] = now

    return True


def _clean(directories: Iterable[str]) -> None:
    found = [one for directory in directories for one in notes_in(directory)]
    in_use = {one.note.workdir for one in found if one.living}
    for one in found:
        if one.living or not _is_nobodys(one):
            continue
        # Two pilots that start at once need not both do it.
        with contextlib.suppress(OSError), _locked(os.path.join(one.directory, one.name)) as path:
            # Another payload's binds may have their mount points in the same directory: the next start may see.
            with_points = one.note.workdir not in in_use
            _remove(one.note, with_points=with_points)
            if with_points or not one.note.made:
                os.unlink(path)
            _events.emit("leftover.removed", directory=one.note.workdir, name=one.note.name)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[str]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield path
    finally:
        os.close(fd)


def _is_nobodys(found: Found) -> bool:
    """
    Tell whether a note's writer, which is no process here, is none anywhere.
    """
    note = found.note
    if note.boot and note.boot == procfs.boot_id():
        return note.pid_namespace == procfs.namespaces().get("pid")

    return bool(note.boot) and is_local(note.workdir) and is_local(found.directory)


def _remove(note: Note, *, with_points: bool) -> None:
    """
    Remove what a note names, mount points outside the tree only when asked.

    Raises:
        OSError: Not all of it can be removed.
    """
    try:
        work = os.open(note.workdir, _OPEN_DIR)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        found = os.fstat(work)
        # Devices may have other numbers after a boot.
        if found.st_ino != note.inode or (found.st_dev != note.device and note.boot == procfs.boot_id()):
            return
        with contextlib.suppress(FileNotFoundError), writable(work):
            _remove_tree(work, note.name)
        for path in reversed(note.made if with_points else ()):
            with contextlib.suppress(OSError):
                _remove_point(work, path)
    finally:
        os.close(work)


def _remove_tree(work: int, name: str) -> None:
    if not stat.S_ISDIR(os.lstat(name, dir_fd=work).st_mode):
        # The payload has put something else there, and may keep it.
        return
    unlock(work, name)
    root = os.open(name, _OPEN_DIR, dir_fd=work)
    try:
        empty(root)
    finally:
        os.close(root)
    os.rmdir(name, dir_fd=work)


def _remove_point(work: int, path: str) -> None:
    *parents, last = path.split("/")
    here = os.dup(work)
    try:
        for name in parents:
            below = os.open(name, _OPEN_DIR, dir_fd=here)
            os.close(here)
            here = below
        found = os.lstat(last, dir_fd=here)
        if stat.S_ISDIR(found.st_mode):
            os.rmdir(last, dir_fd=here)
        elif stat.S_ISREG(found.st_mode) and found.st_size == 0:
            os.unlink(last, dir_fd=here)
    finally:
        os.close(here)

"""
Where trace records are kept on the node.

One file per pilot process, in JSON lines, append only, mode 0600.  `write`
returns when the line is on disk.  A payload cannot see the directory: the
plan refuses any bind that would show it.
"""

from __future__ import annotations

import datetime
import json
import os
import stat
import threading
from collections.abc import Iterable

from wlcg_isolate.errors import Problem, TraceError
from wlcg_isolate.trace.record import TraceRecord


class Journal:
    """
    The file of one process in one directory.

    Safe to use from many threads; after a fork, use `journal_for` again.
    """

    def __init__(self, directory: str) -> None:
        """
        Create the directory, if it is not there, and a new file in it.

        Raises:
            TraceError: That is not possible, or another user could exchange
                the directory.
        """
        self._lock = threading.Lock()
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as e:
            raise _unwritable(directory, e.strerror or str(e)) from e
        try:
            _refuse_foreign(directory)
            self.path, self._fd = _create(directory, fd)
        except OSError as e:
            raise _unwritable(directory, e.strerror or str(e)) from e
        finally:
            os.close(fd)

    def write(self, record: TraceRecord) -> None:
        """
        Append one record and wait until it is on disk.

        Raises:
            TraceError: It is not.
        """
        line = json.dumps(record.to_dict(), ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            try:
                # One write per line, so that a reader never sees half of it;
                # the rest of a short one (a full disk) follows or fails.
                left = memoryview(line)
                while left:
                    left = left[os.write(self._fd, left) :]
                os.fdatasync(self._fd)
            except OSError as e:
                raise _unwritable(self.path, e.strerror or str(e)) from e


_open: dict[tuple[int, str], Journal] = {}
_open_lock = threading.Lock()


def journal_for(directories: Iterable[str]) -> Journal:
    """
    Return this process's journal in the first directory that takes one.

    Raises:
        TraceError: With a problem for each directory.
    """
    problems: list[Problem] = []
    with _open_lock:
        for directory in directories:
            key = (os.getpid(), directory)
            if key not in _open:
                try:
                    _open[key] = Journal(directory)
                except TraceError as e:
                    problems += e.problems
                    continue
            return _open[key]

    raise TraceError(problems or [_problem("", "no directory for trace records is known")])


def _refuse_foreign(directory: str) -> None:
    """
    Refuse a path that another user could have prepared, or can exchange.

    That is so where a name lies in a directory that everybody may write to
    (such as /var/tmp) and belongs to somebody else.

    Raises:
        OSError: It is such a path.
    """
    path = os.path.realpath(directory)
    while path != "/":
        parent = os.path.dirname(path)
        owner = os.stat(path).st_uid
        if os.stat(parent).st_mode & stat.S_IWOTH and owner not in (0, os.geteuid()):
            raise OSError(None, f"{path} belongs to user {owner}")
        path = parent


def _create(directory: str, fd: int) -> tuple[str, int]:
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    name = f"{now}-{os.uname().nodename}-{os.getpid()}.jsonl"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(name, flags, 0o600, dir_fd=fd)
    # An unusual umask must not make it unreadable for its owner.
    if stat.S_IMODE(os.fstat(file).st_mode) != 0o600:
        os.fchmod(file, 0o600)
    # The name itself must survive a crash, too.
    os.fsync(fd)

    return os.path.join(directory, name), file


def _unwritable(path: str, reason: str) -> TraceError:
    return TraceError([_problem(path, reason)])


def _problem(path: str, reason: str) -> Problem:
    return Problem(
        kind="trace-unwritable",
        message=f"trace records cannot be written to {path}: {reason}" if path else reason,
        origin="--trace-dir",
        advice="name a directory of this user that can be written",
    )

"""
The directory of a journal, and the making of files in it.

Rules:

1. What is written to was made here: by this process, under a name that did
   not exist, in a directory that nobody else can exchange.
2. Modes do not depend on the caller's umask.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import stat
from typing import NamedTuple

from wlcg_isolate.errors import Problem, TraceError

SUFFIX = ".jsonl"


def open_directory(directory: str) -> int:
    """
    Make a directory, if it is not there, and open it.

    Raises:
        TraceError: That is not possible, or another user could exchange what
            is in it.
    """
    try:
        return open_own_directory(directory)
    except OSError as e:
        raise unwritable(directory, e.strerror or str(e)) from e


def open_own_directory(directory: str) -> int:
    """
    Make a directory, if it is not there, and open it.

    Raises:
        OSError: That is not possible, or another user could exchange what is
            in it.
    """
    make_directory(os.path.abspath(directory))
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _refuse_foreign(directory)
        _refuse_open(fd)
    except OSError:
        os.close(fd)
        raise

    return fd


class Created(NamedTuple):
    """
    A file that was made.

    Attributes:
        name: Its name in the directory.

        fd: Open for appending.
    """

    name: str
    fd: int


def create(directory: int) -> Created:
    """
    Make a file whose name begins with the present time.

    Raises:
        OSError: That is not possible.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(1000):
        name = f"{now.strftime('%Y%m%dT%H%M%S.%fZ')}-{os.uname().nodename}-{os.getpid()}{SUFFIX}"
        with contextlib.suppress(FileExistsError):
            fd = os.open(name, flags, 0o600, dir_fd=directory)
            if stat.S_IMODE(os.fstat(fd).st_mode) != 0o600:
                os.fchmod(fd, 0o600)
            return Created(name, fd)
        # A clock that was set back, or that is coarse.
        now += datetime.timedelta(microseconds=1)

    raise OSError(None, "no name is free")


def listing(directory: int) -> list[str]:
    """
    List the names of all files of records, oldest first.

    Raises:
        OSError: The directory cannot be read.
    """
    return sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX))


def is_at(path: str, fd: int) -> bool:
    """
    Tell whether a path still leads to an open file.
    """
    try:
        there = os.lstat(path)
    except OSError:
        return False
    here = os.fstat(fd)

    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def make_directory(directory: str) -> None:
    """
    Make a directory and its parents, for their owner alone.
    """
    if os.path.lexists(directory):
        return
    make_directory(os.path.dirname(directory))
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return
    if stat.S_IMODE(os.stat(directory).st_mode) & 0o700 != 0o700:
        os.chmod(directory, 0o700)


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


def _refuse_open(fd: int) -> None:
    mode = os.fstat(fd).st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise OSError(None, "every user of the node may exchange files in it (chmod o-w, or set the sticky bit)")


def unwritable(path: str, reason: str) -> TraceError:
    """
    Make the error of records that cannot be written.
    """
    return TraceError([problem(path, reason)])


def problem(path: str, reason: str) -> Problem:
    """
    Tell why records cannot be written.
    """
    return Problem(
        kind="trace-unwritable",
        message=f"trace records cannot be written to {path}: {reason}" if path else reason,
        origin="--trace-dir",
        advice="name a directory of this user that can be written",
    )

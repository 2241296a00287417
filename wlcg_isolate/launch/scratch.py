"""
The payload's private directories on the working directory's disk.

Rules:

1. Everything is reached through descriptors that were opened before the
   payload started.  Afterwards the working directory is the payload's: any
   name in it may have become a link to somewhere else.
2. What was there before stays; what was made here goes, whatever the payload
   put into it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Optional

from wlcg_isolate import _render
from wlcg_isolate.credentials import DIRECTORY
from wlcg_isolate.launch.claims import Claim, claim
from wlcg_isolate.plan import Plan

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Made(NamedTuple):
    """
    A mount point that was made: descriptor of its parent, name and kind.
    """

    parent: int
    name: str
    kind: str


class Scratch:
    """
    Makes, and removes again, what a plan needs below its working directory.

    Use as a context manager around the whole life of the payload.
    """

    def __init__(self, plan: Plan, credentials: Optional[Mapping[str, bytes]] = None) -> None:
        """
        Prepare for a plan.

        Args:
            plan: The plan.

            credentials: Names and contents of the payload's credentials.
        """
        self._plan = plan
        self._credentials = credentials or {}
        self._name = os.path.basename(plan.scratch)
        self._made: list[_Made] = []
        self._claim: Optional[Claim] = None
        self._work = -1
        self._root = -1

    def __enter__(self) -> Scratch:
        """
        Make everything, or nothing.

        Raises:
            OSError: The disk is full or read-only.
        """
        try:
            self._work = os.open(self._plan.workdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            points = list(_render.workdir_mount_points(self._plan))
            self._claim = claim(self._plan.trace_dirs, self._work, self._name, (point for point, _ in points))
            os.mkdir(self._name, 0o700, dir_fd=self._work)
            # The umask may be anything.
            unlock(self._work, self._name)
            self._root = os.open(self._name, _OPEN_DIR, dir_fd=self._work)
            for name in ("tmp", "var_tmp"):
                os.mkdir(name, dir_fd=self._root)
                os.chmod(name, 0o1777, dir_fd=self._root)  # noqa: S103 - as /tmp is everywhere
            self._write_credentials()
            for path, kind in _render.scratch_mount_points(self._plan):
                self._make_below(self._root, os.path.relpath(path, self._plan.scratch), kind)
            for relative, kind in points:
                self._make_below(self._work, relative, kind, remember=True)
        except BaseException:
            self.__exit__()
            raise

        return self

    def __exit__(self, *_: object) -> None:
        """
        Remove what was made.
        """
        for made in reversed(self._made):
            # Not empty any more, or replaced by the payload: then it is the
            # payload's, and stays with the rest of its working directory.
            with contextlib.suppress(OSError), writable(made.parent):
                if made.kind == "directory":
                    os.rmdir(made.name, dir_fd=made.parent)
                elif os.stat(made.name, dir_fd=made.parent, follow_symlinks=False).st_size == 0:
                    os.unlink(made.name, dir_fd=made.parent)
            os.close(made.parent)
        self._made.clear()
        if self._root >= 0:
            with contextlib.suppress(OSError), writable(self._root):
                empty(self._root)
            os.close(self._root)
            self._root = -1
        if self._work >= 0:
            # Under its own name, unless the payload moved it; then what is
            # left is an empty directory of the payload's.
            with contextlib.suppress(OSError), writable(self._work):
                os.rmdir(self._name, dir_fd=self._work)
            os.close(self._work)
            self._work = -1
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def _write_credentials(self) -> None:
        """
        Write the payload's credentials, for its user alone.
        """
        if not self._credentials:
            return
        os.mkdir(DIRECTORY, 0o700, dir_fd=self._root)
        directory = os.open(DIRECTORY, _OPEN_DIR, dir_fd=self._root)
        try:
            for name, content in self._credentials.items():
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with open(os.open(name, flags, 0o600, dir_fd=directory), "wb") as f:
                    os.fchmod(f.fileno(), 0o600)
                    f.write(content)
        finally:
            os.close(directory)

    def _make_below(self, base: int, path: str, kind: str, *, remember: bool = False) -> None:
        """
        Make a mount point and its parents below *base*, following no links.
        """
        here = os.dup(base)
        try:
            *parents, last = path.split("/")
            for name in parents:
                self._make_one(here, name, "directory", remember=remember)
                below = os.open(name, _OPEN_DIR, dir_fd=here)
                os.close(here)
                here = below
            self._make_one(here, last, kind, remember=remember)
        finally:
            os.close(here)

    def _make_one(self, parent: int, name: str, kind: str, *, remember: bool) -> None:
        try:
            if kind == "directory":
                os.mkdir(name, dir_fd=parent)
            else:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent))
        except FileExistsError:
            return
        if remember:
            self._made.append(_Made(os.dup(parent), name, kind))


@contextlib.contextmanager
def writable(directory: int) -> Iterator[None]:
    """
    Let its owner change a directory for a moment, whatever the payload made
    of its mode.
    """
    mode = stat.S_IMODE(os.fstat(directory).st_mode)
    locked = mode & stat.S_IRWXU != stat.S_IRWXU
    with contextlib.suppress(OSError):
        if locked:
            os.fchmod(directory, mode | stat.S_IRWXU)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if locked:
                os.fchmod(directory, mode)


def empty(directory: int) -> None:
    """
    Remove everything in a directory that a hostile program may have filled.

    No link is followed, no path is longer than two names and no depth costs
    a descriptor: a subdirectory's entries are moved up until it is empty.

    Args:
        directory: Descriptor of the directory.

    Raises:
        OSError: Something cannot be removed even by its owner.
    """
    counter = 0
    while True:
        entries = os.listdir(directory)
        if not entries:
            return
        for name in entries:
            if not _is_directory(directory, name):
                os.unlink(name, dir_fd=directory)
                continue
            counter = _flatten(directory, name, counter)
            os.rmdir(name, dir_fd=directory)


def _flatten(directory: int, name: str, counter: int) -> int:
    """
    Remove the files of a subdirectory and move its directories up.
    """
    unlock(directory, name)
    below = os.open(name, _OPEN_DIR, dir_fd=directory)
    try:
        for child, is_dir in list(_entries(below)):
            if not is_dir:
                os.unlink(child, dir_fd=below)
                continue
            unlock(below, child)
            counter = _next_free(directory, counter)
            os.rename(child, _own_name(counter), src_dir_fd=below, dst_dir_fd=directory)
    finally:
        os.close(below)

    return counter


def unlock(directory: int, name: str) -> None:
    """
    Let the owner enter and write a subdirectory.

    By way of a descriptor, since chmod(2) on the name would follow a link
    that takes its place meanwhile.
    """
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)
    finally:
        os.close(fd)


def _own_name(counter: int) -> str:
    return f".up-{counter}"


def _next_free(directory: int, counter: int) -> int:
    """
    Count on to a name that nobody has.

    Counting, where the payload took many of them, costs one look for each and
    keeps a name shorter than a directory can hold.
    """
    while True:
        counter += 1
        try:
            os.lstat(_own_name(counter), dir_fd=directory)
        except FileNotFoundError:
            return counter


def _entries(directory: int) -> Iterator[tuple[str, bool]]:
    for name in os.listdir(directory):
        yield name, _is_directory(directory, name)


def _is_directory(directory: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)

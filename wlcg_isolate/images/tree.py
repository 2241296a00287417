"""
An unpacked directory as an image's root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple, Optional

_PATH_ONLY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: A pipe in the place of a file must not block whoever opens it.
_PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Entry(NamedTuple):
    """
    One entry of the tree.

    Attributes:
        kind: ``"directory"``, ``"file"``, ``"link"`` or ``"other"``.

        path: Where it is, from the root, without a slash before it.
    """

    kind: str
    path: str


class Tree:
    """
    The tree at a path.

    What was looked at once is known: each look may cost a round trip on a
    network file system.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: dict[str, Optional[Entry]] = {}
        self._goals: dict[str, str] = {}

    def root(self) -> Entry:
        """
        Return the root directory.
        """
        return Entry("directory", "")

    def child(self, node: Entry, name: str) -> Optional[Entry]:
        """
        Look at *name* in a directory.
        """
        path = f"{node.path}/{name}" if node.path else name
        if path not in self._known:
            self._known[path] = self._look(path)

        return self._known[path]

    def goal(self, node: Entry) -> str:
        """
        Read where a link points to.
        """
        if node.path not in self._goals:
            self._goals[node.path] = os.readlink(os.path.join(self._path, node.path))

        return self._goals[node.path]

    def _look(self, path: str) -> Optional[Entry]:
        try:
            mode = os.lstat(os.path.join(self._path, path)).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None

        return Entry("link" if stat.S_ISLNK(mode) else kind_of(mode), path)

    def names(self, node: Entry, most: int) -> list[str]:
        """
        List up to *most* names of a directory.
        """
        with self._beneath(node.path, _PATH_ONLY & ~getattr(os, "O_PATH", 0)) as fd, os.scandir(fd) as entries:
            return [entry.name for entry, _ in zip(entries, range(most))]

    def read(self, node: Entry, offset: int, size: int) -> bytes:
        """
        Read up to *size* bytes of a file.
        """
        with self._beneath(node.path, _PLAIN) as fd:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "it is no file any more")
            return os.pread(fd, size, offset)

    @contextlib.contextmanager
    def _beneath(self, path: str, flags: int) -> Iterator[int]:
        """
        Open what was found, following no link: one that is met now was not
        there before, and would lead out of the tree.
        """
        *parents, last = path.split("/") if path else ["."]
        fd = os.open(self._path, _PATH_ONLY)
        try:
            for name in parents:
                below = os.open(name, _PATH_ONLY, dir_fd=fd)
                os.close(fd)
                fd = below
            opened = os.open(last, flags, dir_fd=fd)
        finally:
            os.close(fd)
        try:
            yield opened
        finally:
            os.close(opened)


def kind_of(mode: int) -> str:
    """
    Name the kind of file that *mode* (``st_mode``) tells of.
    """
    if stat.S_ISDIR(mode):
        return "directory"

    return "file" if stat.S_ISREG(mode) else "other"

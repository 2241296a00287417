"""
Read the kernel's table of mounts of a process (proc(5), ``mountinfo``).

Nothing here knows of containers, and nothing touches the file systems that
are mounted: the table alone tells what is seen at a path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple, Optional

#: Blanks, tabs, newlines and backslashes in a name are written in octal.
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """
    One mount.

    Attributes:
        number: Its id.

        parent: Id of the mount that it is mounted on.

        device: Numbers of its file system's device, as ``major:minor``.

        root: Path in that file system which is its root.

        point: Where it is mounted, as the process sees it.

        read_only: Whether nothing can be written through it.

        fs_type: Type of its file system.

        receives: Whether what is mounted below its origin appears here, too.
    """

    number: int
    parent: int
    device: str
    root: str
    point: str
    read_only: bool
    fs_type: str
    receives: bool


class Mounts:
    """
    The table of one process.
    """

    def __init__(self, text: str) -> None:
        self._all = {mount.number: mount for mount in _parse(text)}
        self._on = {(mount.parent, mount.point): mount for mount in self._all.values()}

    def __getitem__(self, number: int) -> Mount:
        return self._all[number]

    def __iter__(self) -> Iterator[Mount]:
        return iter(self._all.values())

    def at(self, path: str) -> Optional[Mount]:
        """
        Return the mount that is seen at a normal path without links: what is
        mounted over another one, or over a directory above it, counts.
        """
        found = next((m for m in self._all.values() if m.point == "/" and m.parent not in self._all), None)
        for place in _steps(path):
            while found is not None and (found.number, place) in self._on:
                found = self._on[found.number, place]

        return found

    def seen(self) -> Iterator[Mount]:
        """
        List the mounts that no other one hides.
        """
        return (mount for mount in self._all.values() if self.at(mount.point) is mount)


def mounts_of(pid: object = "self") -> Mounts:
    """
    Read the table of a process.

    Raises:
        OSError: There is no such process, or it may not be looked at.
    """
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        return Mounts(f.read())


def origin_of(fd: int, mounts: Mounts) -> tuple[str, str]:
    """
    Tell what an open file or directory is, by file system and path in it.

    Args:
        fd: Its descriptor.

        mounts: The table of this process.

    Returns:
        As `Mount.device` and `Mount.root` of a mount of it.
    """
    mount = mounts[_mount_id(fd)]
    path = os.readlink(f"/proc/self/fd/{fd}")
    below = os.path.relpath(path, mount.point)

    return mount.device, os.path.normpath(os.path.join(mount.root, below))


def _mount_id(fd: int) -> int:
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("mnt_id:"))


def _steps(path: str) -> Iterator[str]:
    yield "/"
    for i, sign in enumerate(path):
        if sign == "/" and i:
            yield path[:i]
    if path != "/":
        yield path


def _parse(text: str) -> Iterator[Mount]:
    for line in text.split("\n"):
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if dash and len(fields) >= 6:
            yield Mount(
                number=int(fields[0]),
                parent=int(fields[1]),
                device=fields[2],
                root=_plain(fields[3]),
                point=_plain(fields[4]),
                read_only="ro" in (*fields[5].split(","), *after.split(" ")[-1].split(",")),
                fs_type=after.partition(" ")[0],
                receives=any(word.startswith(("master:", "shared:")) for word in fields[6:]),
            )


def _plain(name: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), name) if "\\" in name else name

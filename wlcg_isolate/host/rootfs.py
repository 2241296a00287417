"""
Look up paths inside an image's own root, never on the host.

A link inside an image that points to ``/data`` means the image's ``/data``.
``os.path.realpath(root + path)`` and ``stat(root + path)`` follow it to the
host's.  Here every component is looked at with ``lstat``, and links and
``..`` are resolved against the root, as ``openat2(2)`` does with
``RESOLVE_IN_ROOT``.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Optional

from wlcg_isolate.host.facts import TargetFact
from wlcg_isolate.host.touch import kind_of

#: path_resolution(7): the kernel's own limit.
_MAX_LINKS = 40

#: ELF header, e_machine (System V ABI and its processor supplements).
_ELF_MACHINES = {3: "i686", 21: "ppc64", 62: "x86_64", 183: "aarch64", 243: "riscv64"}


def look_inside(root: str, path: str) -> TargetFact:
    """
    Look up *path* inside the tree at *root*.
    """
    try:
        resolved, mode = _walk(root, path)
    except OSError as e:
        return TargetFact(path=path, reason=e.strerror or str(e))

    return TargetFact(
        path=path,
        kind=None if mode is None else kind_of(mode),
        resolves_to=resolved,
    )


def _walk(root: str, path: str) -> tuple[str, Optional[int]]:
    """
    Follow *path* from *root*.

    Returns:
        The resolved path inside the root, and the mode of what is there; None
        for the mode when nothing is there (the path then keeps its missing
        rest).
    """
    todo = [part for part in reversed(path.split("/")) if part and part != "."]
    here: list[str] = []
    mode: Optional[int] = stat.S_IFDIR
    links = 0
    while todo:
        part = todo.pop()
        if mode is not None and not stat.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if mode is None:
            # Nothing is below, or above by "..", what is not there.
            here.append(part)
            continue
        if part == "..":
            del here[-1:]
            continue
        full = os.path.join(root, *here, part)
        try:
            mode = os.lstat(full).st_mode
        except (FileNotFoundError, NotADirectoryError):
            mode = None
        if mode is not None and stat.S_ISLNK(mode):
            links += 1
            if links > _MAX_LINKS:
                raise OSError(None, "too many levels of symbolic links")
            goal = os.readlink(full)
            if goal.startswith("/"):
                here = []
            todo += [p for p in reversed(goal.split("/")) if p and p != "."]
            mode = stat.S_IFDIR
            continue
        here.append(part)

    return "/" + "/".join(here), mode


def machine_of(root: str, path: str = "/bin/sh") -> Optional[str]:
    """
    Read the architecture of a program in the tree at *root*.

    Returns:
        A name as `os.uname` spells it, ``"unknown"`` for an ELF machine that
        is not in the table, or None when there is no ELF file.
    """
    found = look_inside(root, path)
    if found.kind != "file" or found.resolves_to is None:
        return None
    try:
        with open(root + found.resolves_to, "rb") as f:
            head = f.read(20)
    except OSError:
        return None
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return None
    big = head[5:6] == b"\x02"
    name = _ELF_MACHINES.get(int.from_bytes(head[18:20], "big" if big else "little"), "unknown")

    return "ppc64le" if name == "ppc64" and not big else name

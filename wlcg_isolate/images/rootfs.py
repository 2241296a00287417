"""
Look up paths inside an image's own root, never on the host.

A link inside an image that points to ``/data`` means the image's ``/data``.
``os.path.realpath(root + path)`` and ``stat(root + path)`` follow it to the
host's.  Here every component is looked at by itself, and links and ``..`` are
resolved against the root, as ``openat2(2)`` does with ``RESOLVE_IN_ROOT``.

What a root is made of, a directory or a file, is behind `Root`.
"""

from __future__ import annotations

import errno
import os
from typing import Any, NamedTuple, Optional, Protocol

from wlcg_isolate.images.fault import ImageFault

#: path_resolution(7): the kernel's own limit.
_MAX_LINKS = 40

#: Longer ones are no paths for the kernel (PATH_MAX).
_MAX_PATH = 4096


class Root(Protocol):
    """
    What a look-up needs of an image's root.

    A node is an object of the root's own with the attribute ``kind``:
    ``"directory"``, ``"file"``, ``"link"`` or ``"other"``.
    """

    def root(self) -> Any:
        """
        Return the node of the root directory.
        """

    def child(self, node: Any, name: str) -> Any:
        """
        Return the node with *name* in a directory, or None.
        """

    def goal(self, node: Any) -> str:
        """
        Return where a link points to.
        """

    def names(self, node: Any, most: int) -> list[str]:
        """
        List up to *most* names in a directory.
        """

    def read(self, node: Any, offset: int, size: int) -> bytes:
        """
        Read up to *size* bytes of a file.
        """


class Found(NamedTuple):
    """
    Where a path leads inside a root.

    Attributes:
        path: The path with all links followed; behind what is missing, as it
            was given.

        node: What is there, or None.

        link: Whether the path itself is a link.
    """

    path: str
    node: Any
    link: bool = False

    @property
    def kind(self) -> Optional[str]:
        """
        What is there: ``"directory"``, ``"file"``, ``"other"`` or None.
        """
        return None if self.node is None else str(self.node.kind)


def look_up(root: Root, path: str, trail: Optional[list[tuple[str, str]]] = None) -> Found:
    """
    Follow *path* from *root*.

    Args:
        root: The root.

        path: Absolute path as seen from it.

        trail: Gets the places that the way passes, each with what is left of
            the path there.

    Raises:
        OSError: It leads through a file, in circles, or cannot be read.

        ImageFault: The image is damaged.
    """
    if "\0" in path or len(path) > _MAX_PATH:
        raise OSError(errno.EINVAL, "no path that a system could have")
    way = _Way(root)
    todo = _parts(path)
    is_link = False
    while todo:
        part = todo.pop()
        if trail is not None and part != "..":
            trail.append(("/" + "/".join((*way.names, part)), "/".join(reversed(todo))))
        node = way.step(part)
        if node is not None and node.kind == "link":
            is_link = is_link or not todo
            todo += way.follow(node)
            if len(todo) > _MAX_PATH:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))

    return Found("/" + "/".join(way.names), way.here, is_link)


class _Way:
    """
    The way from the root to where a look-up is.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._links = 0
        self.names: list[str] = []
        # One for each name, and the root before; less where nothing is there.
        self._nodes: list[Any] = [root.root()]

    @property
    def here(self) -> Any:
        """
        What is at the end of the way, or None.
        """
        return self._nodes[-1] if len(self._nodes) > len(self.names) else None

    def step(self, part: str) -> Any:
        """
        Go down, or up by "..".

        Returns:
            What is there now; a link is not gone into.
        """
        here = self.here
        if here is None:
            # Nothing is below, or above by "..", what is not there.
            self.names.append(part)
            return None
        if here.kind != "directory":
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if part == "..":
            del self.names[-1:]
            del self._nodes[len(self.names) + 1 :]
            return self.here
        node = self._root.child(here, part)
        if node is None or node.kind != "link":
            self.names.append(part)
            self._nodes += [] if node is None else [node]

        return node

    def follow(self, link: Any) -> list[str]:
        """
        Return the parts of a link's goal, last first; back at the root when
        it is absolute.
        """
        self._links += 1
        if self._links > _MAX_LINKS:
            raise OSError(errno.ELOOP, "too many levels of symbolic links")
        goal = self._root.goal(link)
        if goal.startswith("/"):
            self.names.clear()
            del self._nodes[1:]

        return _parts(goal)


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part and part != "."]


def read_file(root: Root, path: str, most: int) -> Optional[bytes]:
    """
    Read the first *most* bytes of the file at *path*, or None.
    """
    try:
        found = look_up(root, path)
        return root.read(found.node, 0, most) if found.kind == "file" else None
    except (OSError, ImageFault):
        return None


def list_names(root: Root, path: str, most: int = 1000) -> list[str]:
    """
    List the first *most* names in the directory at *path*; none if it is none.
    """
    try:
        found = look_up(root, path)
        return root.names(found.node, most) if found.kind == "directory" else []
    except (OSError, ImageFault):
        return []

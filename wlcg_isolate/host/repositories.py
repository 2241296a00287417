"""
Ask CVMFS which state of a repository a payload sees.

The answers are extended attributes of the repository (user.revision,
user.root_hash: cvmfs, "Extended attributes").  A client may hide or protect
them, and one that is sick never answers: that is said in the place of an
answer, and nobody waits for it longer than policy allows.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from typing import Any

#: Attribute to its name in the record.
_ATTRIBUTES = {"user.fqrn": "fqrn", "user.revision": "revision", "user.root_hash": "root_hash"}


def repositories_of(paths: Iterable[str], root: str = "/cvmfs") -> list[str]:
    """
    List the repositories that *paths* are in, in order.
    """
    begin = root.rstrip("/") + "/"
    names = (path[len(begin) :].partition("/")[0] for path in paths if path.startswith(begin))

    return list(dict.fromkeys(name for name in names if name))


class RepositoryLook:
    """
    A look at repositories that goes on while a container is made.
    """

    def __init__(self, names: Iterable[str], seconds: float, root: str = "/cvmfs") -> None:
        """
        Begin.

        Args:
            names: Full names of the repositories.

            seconds: How long all answers together may take from now.

            root: Where the repositories are.
        """
        self._names = tuple(names)
        self._root = root
        self._until = time.monotonic() + seconds
        self._seconds = seconds
        self._found: dict[str, dict[str, Any]] = {}
        self._thread = threading.Thread(target=self._look, daemon=True)
        # Most images and binds are in none, and a thread costs more than they do.
        if self._names:
            self._thread.start()

    def result(self) -> list[dict[str, Any]]:
        """
        Return what is known by now, or by the deadline.

        Returns:
            For each repository ``fqrn``, and ``revision`` and ``root_hash``
            or ``error``.
        """
        if not self._names:
            return []
        self._thread.join(max(0.0, self._until - time.monotonic()))
        silent = f"unavailable: no answer within {self._seconds:g} s"

        return [self._found.get(name, {"fqrn": name, "error": silent}) for name in self._names]

    def _look(self) -> None:
        for name in self._names:
            self._found[name] = _state_of(name, os.path.join(self._root, name))


def _state_of(name: str, path: str) -> dict[str, Any]:
    state: dict[str, Any] = {"fqrn": name}
    for attribute, field in _ATTRIBUTES.items():
        try:
            value = os.getxattr(path, attribute).decode("ascii", "replace").rstrip("\0\n")
        except OSError as e:
            state["error"] = f"unavailable: {attribute}: {e.strerror or e}"
            continue
        state[field] = int(value) if field == "revision" and value.isdigit() else value

    return state

"""
What waits in the container and becomes the payload.

`Loader` is a program of our own, which takes nothing from the image and
passes every name and every byte on.  `Shell` is the image's ``/bin/sh``, for
nodes where the loader cannot be executed.  Both keep to one protocol:

1. The process writes its id to descriptor 4: the start marker.
2. It reads the release from descriptor 3, and waits for it.  When the host
   goes away it ends with 125, and nothing is executed.
3. It changes to the payload's directory, says on descriptor 4 that it has
   read all, takes descriptors 5, 6 and 7 as its standard ones, closes all
   others and becomes the payload.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Mapping
from typing import Optional, Union

from wlcg_isolate import _render
from wlcg_isolate._values import IDENTIFIER
from wlcg_isolate.host.loader import LOADER_FD, PATH, open_loader
from wlcg_isolate.launch.inherited import Environ, last_descriptor
from wlcg_isolate.loader import release
from wlcg_isolate.loader.filter import restrictions
from wlcg_isolate.loader.program import MARKER_FD, NOT_RELEASED, RELEASE_FD, WAITING_FDS
from wlcg_isolate.plan import Plan


class LoaderError(Exception):
    """
    The loader cannot be made on this node.
    """


class Loader:
    """
    The program of our own.

    Attributes:
        name: What records call it.

        command: What the runtime starts.

        descriptors: What it needs beside the protocol's: number there to
            number here.

        assumed: What image and runtime are taken to have set when the kernel
            hides it; None when there is no telling.
    """

    name = "loader"
    command = (PATH,)
    assumed: Optional[Environ] = None

    def __init__(self, stack: contextlib.ExitStack) -> None:
        """
        Make its file, which is closed with *stack*.

        Raises:
            LoaderError: It cannot be made here.
        """
        try:
            self._fd = open_loader(os.uname().machine)
        except OSError as e:
            raise LoaderError(e.strerror) from e
        stack.callback(os.close, self._fd)
        self.descriptors: Mapping[int, int] = {LOADER_FD: self._fd}

    def is_program_of(self, pid: int) -> bool:
        """
        Tell whether a process is executing it: the image's own programs may
        have written the marker.
        """
        try:
            return os.path.samestat(os.stat(f"/proc/{pid}/exe"), os.fstat(self._fd))
        except OSError:
            return False

    def release(self, pid: int, plan: Plan, found: Environ, environ: Environ) -> bytes:
        """
        Write what turns it into the payload.

        Args:
            pid: Its process.

            plan: The plan.

            found: What image and runtime set.

            environ: What the payload gets.
        """
        del found
        command = [os.fsencode(word) for word in plan.request.payload.command]

        return release.lay_out(
            command,
            [name + b"=" + value for name, value in environ.items()],
            paths=release.candidates(command[0], environ.get(b"PATH")),
            directory=os.fsencode(plan.home),
            last_fd=max(last_descriptor(pid), *WAITING_FDS),
            restrictions=restrictions(
                os.uname().machine, nesting=plan.isolation.nesting, keyrings=plan.isolation.keyrings
            ),
        )


class Shell:
    """
    The image's ``/bin/sh``.

    The attributes are those of `Loader`.
    """

    name = "shell"
    #: ``exit`` is reached only when the host has gone away.
    command = ("/bin/sh", "-c", f'echo "$$" >&{MARKER_FD}; . /proc/self/fd/{RELEASE_FD}; exit {NOT_RELEASED}')
    descriptors: Mapping[int, int] = {}
    assumed: Optional[Environ] = dict.fromkeys((name.encode() for name in _render.RUNTIME_ADDS), b"")

    def is_program_of(self, pid: int) -> bool:
        """
        Say yes: which program an image has as its shell is its own affair.
        """
        del pid

        return True

    def release(self, pid: int, plan: Plan, found: Environ, environ: Environ) -> bytes:
        """
        Write the text that turns it into the payload.
        """
        del pid
        # The runtime starts elsewhere when the pilot's current directory is
        # gone (Apptainer 1.4.5).  This comes first: a shell may export OLDPWD.
        lines = [b"cd " + _quoted(os.fsencode(plan.home)) + f" || exit {NOT_RELEASED}".encode()]
        gone = [name for name in (*found, b"OLDPWD") if name not in environ and IDENTIFIER.match(os.fsdecode(name))]
        lines.append(b"unset " + b" ".join(gone))
        changed = {name: value for name, value in environ.items() if found.get(name) != value or name == b"PWD"}
        lines += [b"export " + name + b"=" + _quoted(value) for name, value in changed.items()]
        lines.append(b"set -- " + b" ".join(_quoted(os.fsencode(word)) for word in plan.request.payload.command))
        moves = " ".join(f"{i}<&{fd}" if i == 0 else f"{i}>&{fd}" for i, fd in enumerate(WAITING_FDS))
        closes = " ".join(f"{fd}<&-" for fd in (RELEASE_FD, MARKER_FD, *WAITING_FDS))
        lines.append(f"echo >&{MARKER_FD} || exit {NOT_RELEASED}".encode())
        lines += [f"exec {moves} {closes}".encode(), b'exec "$@"', b""]

        return b"\n".join(lines)


Starter = Union[Loader, Shell]


def _quoted(value: bytes) -> bytes:
    return os.fsencode(shlex.quote(os.fsdecode(value)))

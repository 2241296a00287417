"""
How host and container agree that the payload starts.

The runtime is started with a short shell program in the payload's place.
When the container stands, that program

1. writes its own process id to descriptor 4: the start marker;
2. reads what to do from descriptor 3, and waits for it;
3. does it: sets the variables, says on descriptor 4 that it has read all,
   takes the caller's descriptors 5, 6 and 7 as its standard ones, closes all
   others and becomes the payload.

Between 1 and 2 the host finds the process, checks from outside that it is
isolated, and writes the trace record.  If the host dies or refuses, the shell
reads an empty text and ends: the payload never runs.

The runtime's own output goes to a file of its own, so that it can never be
mixed up with the payload's.  Command and variables are in no argument list
and on no disk, and every byte but NUL arrives as it is: bytes that are not
UTF-8 do not survive the runtime's own ways (Apptainer 1.4.5).
"""

from __future__ import annotations

import os
import re
import resource
import shlex
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Optional

from wlcg_isolate import _render
from wlcg_isolate._values import IDENTIFIER
from wlcg_isolate.host import procfs
from wlcg_isolate.images.digests import is_same
from wlcg_isolate.launch import process
from wlcg_isolate.plan import Plan

RELEASE_FD = 3
READY_FD = 4
#: Where the payload's standard descriptors wait.  All are below 10, since
#: dash takes no number of two digits in a redirection.
WAITING_FDS = (5, 6, 7)

#: ``exit`` is reached only when the host has gone away.
SHIM = f'echo "$$" >&{READY_FD}; . /proc/self/fd/{RELEASE_FD}; exit 125'

_RUNTIME_NAMES = re.compile(r"(APPTAINER|SINGULARITY)")

#: execve(2): each word costs its NUL byte and a pointer.
_PER_WORD = 9

#: For the program's path and what the shell itself adds.
_SPARE = 8192

#: fs/exec.c of Linux 4.13 and newer: ARG_MAX, and three quarters of the
#: default stack.
_LEAST_EXEC, _MOST_EXEC = 131_072, 6 * 1024 * 1024

#: What must differ between host and container.
_SEPARATE = ("pid", "mnt", "ipc")


class Payload(NamedTuple):
    """
    The process that becomes the payload, as seen from the host.

    Attributes:
        pid: Process id on the host.

        inner_pid: Process id in the container.

        init: Process id on the host of the container's process 1, or None.

        start_ticks: When it started, in clock ticks since boot.

        namespaces: Inode numbers by name.
    """

    pid: int
    inner_pid: int
    init: Optional[int]
    start_ticks: Optional[int]
    namespaces: Mapping[str, int]


def find_payload(launcher: int, marker: bytes) -> Optional[Payload]:
    """
    Find the process that wrote *marker* among the launcher's descendants.
    """
    try:
        inner = int(marker)
    except ValueError:
        return None
    family = procfs.family(launcher)
    for pid, numbers in family.items():
        if numbers[-1] == inner:
            init = next((p for p, n in family.items() if n[-1] == 1 and len(n) == len(numbers)), None)
            return Payload(
                pid=pid,
                inner_pid=inner,
                init=init,
                start_ticks=procfs.start_ticks(pid),
                namespaces=procfs.namespaces(pid),
            )

    return None


def replaced_image(plan: Plan) -> str:
    """
    Say that the image file is not the one that was examined, or "".

    Asked when the container stands: what the runtime opened in between is
    what was examined, or its inode's times have moved.
    """
    image = plan.image
    if image.identity is None or is_same(image.resolved_path, image.identity):
        return ""

    return f"{image.resolved_path} was replaced after it was examined"


def shared_namespaces(payload: Payload, *, userns: bool, pid: bool = True) -> tuple[str, ...]:
    """
    List the namespaces that the container has not of its own.

    Some settings of a node drop ``--pid`` and ``--ipc`` without a word
    (``allow pid ns = no``), so the answer of the kernel counts.
    """
    host = procfs.namespaces()
    wanted = [name for name in (*_SEPARATE, "user") if (userns or name != "user") and (pid or name != "pid")]

    return tuple(name for name in wanted if payload.namespaces.get(name) in (None, host.get(name)))


def release_text(plan: Plan, payload: Payload) -> bytes:
    """
    Write what turns the waiting shell into the payload.
    """
    image_environ = _environ_of(payload.pid)
    wanted = plan.payload_environ
    # The runtime starts elsewhere when the pilot's current directory is gone
    # (Apptainer 1.4.5).  This comes first: a shell may export OLDPWD.
    lines = [b"cd " + _quoted(plan.home) + b" || exit 125", b"unset OLDPWD"]
    lines += [b"unset " + name.encode() for name in _added_by_runtime(image_environ)]
    if "LD_LIBRARY_PATH" not in wanted:
        lines += _without_runtime_libs(image_environ)
    lines += [b"export " + name.encode() + b"=" + _quoted(value) for name, value in wanted.items()]
    lines.append(b"set -- " + b" ".join(_quoted(word) for word in plan.request.payload.command))
    moves = " ".join(f"{i}<&{fd}" if i == 0 else f"{i}>&{fd}" for i, fd in enumerate(WAITING_FDS))
    closes = " ".join(f"{fd}<&-" for fd in (RELEASE_FD, READY_FD, *WAITING_FDS))
    lines.append(f"echo >&{READY_FD} || exit 125".encode())
    lines += [f"exec {moves} {closes}".encode(), b'exec "$@"', b""]

    return b"\n".join(lines)


def oversize(plan: Plan, payload: Payload) -> int:
    """
    Tell how many bytes the payload's arguments and environment, the image's
    own included, are above what the kernel lets a program start with.

    Left to the kernel, the waiting shell would end with 126, as if the
    payload had.
    """
    environ = {**_environ_of(payload.pid), **{n: os.fsencode(v) for n, v in plan.payload_environ.items()}}
    size = sum(len(os.fsencode(word)) + _PER_WORD for word in plan.request.payload.command)
    size += sum(len(name) + 1 + len(value) + _PER_WORD for name, value in environ.items())

    return max(0, size + _SPARE - _exec_limit())


def await_taken(ready: int, seconds: float) -> None:
    """
    Wait until the shell says that it has read all.

    A pipe takes what is written also when nobody reads it any more: without
    this, a container that ended here would pass for a payload that did.

    Raises:
        TimeoutError: It says nothing.

        BrokenPipeError: It has gone.
    """
    if not process.wait_readable([ready], seconds):
        raise TimeoutError
    if not os.read(ready, 1):
        raise BrokenPipeError


def _exec_limit() -> int:
    """
    Compute the limit of execve(2); the payload inherits this process's.
    """
    stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
    quarter = _MOST_EXEC if stack == resource.RLIM_INFINITY else stack // 4

    return max(_LEAST_EXEC, min(quarter, _MOST_EXEC))


def _quoted(value: str) -> bytes:
    return os.fsencode(shlex.quote(value))


def _environ_of(pid: int) -> dict[str, bytes]:
    """
    Read what runtime and image set.

    A set-uid runtime may hide it; then the usual additions are assumed.
    """
    try:
        with open(f"/proc/{pid}/environ", "rb") as f:
            raw = f.read()
    except OSError:
        return dict.fromkeys(_render.RUNTIME_ADDS, b"")
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if b"=" in entry)

    return {os.fsdecode(name): value for name, _, value in pairs}


def _added_by_runtime(environ: Mapping[str, bytes]) -> Iterator[str]:
    for name in environ:
        if IDENTIFIER.match(name) and (_RUNTIME_NAMES.match(name) or name in _render.RUNTIME_ADDS):
            yield name


def _without_runtime_libs(environ: Mapping[str, bytes]) -> Iterator[bytes]:
    value = environ.get("LD_LIBRARY_PATH")
    if value is None:
        return
    parts = [part for part in value.split(b":") if part and part != _render.RUNTIME_LIBS.encode()]
    if parts:
        yield b"export LD_LIBRARY_PATH=" + _quoted(os.fsdecode(b":".join(parts)))
    else:
        yield b"unset LD_LIBRARY_PATH"

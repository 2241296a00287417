"""
How host and container agree that the payload starts.

The runtime is started with a `starters.Starter` in the payload's place.
Between its start marker and its release the host finds the process, checks
from outside that it is isolated, and writes the trace record.  If the host
dies or refuses, the payload never runs.

The runtime's own output goes to a file of its own, so that it can never be
mixed up with the payload's.  Command and variables are in no argument list
and on no disk, and every byte but NUL arrives as it is: bytes that are not
UTF-8 do not survive the runtime's own ways (Apptainer 1.4.5).
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Optional

from wlcg_isolate.host import procfs
from wlcg_isolate.images.digests import is_same
from wlcg_isolate.launch import process
from wlcg_isolate.launch.inherited import Environ
from wlcg_isolate.plan import Plan

#: execve(2): each word costs its NUL byte and a pointer.
_PER_WORD = 9

#: For the program's path, and what a shell or an interpreter adds.
_SPARE = 8192

#: fs/exec.c of Linux 4.13 and newer: ARG_MAX, and three quarters of the
#: default stack.
_LEAST_EXEC, _MOST_EXEC = 131_072, 6 * 1024 * 1024


class Payload(NamedTuple):
    """
    The process that becomes the payload, as seen from the host.

    Attributes:
        pid: Process id on the host.

        inner_pid: Process id in the container.

        init: Process id on the host of the container's process 1, or None.

        start_ticks: When it started, in clock ticks since boot.

        namespaces: Inode numbers by name.

        starter: What it is before the release: ``"loader"`` or ``"shell"``.

        starter_reason: Why it is not the loader, or "".

        differences: What was seen that is not as it was asked for, and that
            policy lets pass.

        limits: The limits that were really given, by name.

        cgroup: Directory of its own cgroup, or None.

        helpers: The runtime's own processes beside the container, such as
            what mounts an image file: process id to `start_ticks`.
    """

    pid: int
    inner_pid: int
    init: Optional[int]
    start_ticks: Optional[int]
    namespaces: Mapping[str, int]
    starter: str = "shell"
    starter_reason: str = ""
    differences: tuple[str, ...] = ()
    limits: Mapping[str, Any] = MappingProxyType({})
    cgroup: Optional[str] = None
    helpers: Mapping[int, Optional[int]] = {}


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
                helpers={p: procfs.start_ticks(p) for p in _beside(family, pid)},
            )

    return None


def _beside(family: Mapping[int, tuple[int, ...]], payload: int) -> list[int]:
    """
    List the launcher's descendants that are not in the payload's container.

    Where the container has no PID namespace, its own ancestors are among
    them; they end with it.
    """
    depth = len(family[payload])
    if depth > len(procfs.namespace_pids(os.getpid())):
        return [pid for pid, numbers in family.items() if len(numbers) < depth]
    own = procfs.namespaces(payload).get("mnt")

    return [pid for pid in family if procfs.namespaces(pid).get("mnt") != own]


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


def oversize(command: Sequence[str], environ: Environ) -> int:
    """
    Tell how many bytes the payload's arguments and environment, the image's
    own included, are above what the kernel lets a program start with.

    Left to the kernel, what waits would end with 126, as if the payload had.
    """
    size = sum(len(os.fsencode(word)) + _PER_WORD for word in command)
    size += sum(len(name) + 1 + len(value) + _PER_WORD for name, value in environ.items())

    return max(0, size + _SPARE - _exec_limit())


def await_taken(ready: int, seconds: float) -> None:
    """
    Wait until the starter says that it has read all.

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

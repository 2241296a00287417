"""
What in an image does not fit a node.

Labels lie, so nothing here knows one: what counts was read from the image's
own shell, loader and release file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional

import attrs

from wlcg_isolate.errors import Problem
from wlcg_isolate.images.catalogue import RUNS_ALSO
from wlcg_isolate.images.contents import Contents, is_enterprise_linux_6


@attrs.frozen(kw_only=True)
class Node:
    """
    What of a node matters for an image.

    Attributes:
        machine: Architecture (`os.uname` spelling).

        kernel: Release of the kernel.

        level: Level of x86-64 that its processor has, or None when unknown.

        vsyscall: Whether the kernel has the old way of system calls that
            glibc before 2.14 uses, or None when unknown.

        cores: Processors that may be used, or None when unknown.
    """

    machine: str
    kernel: str
    level: Optional[int] = None
    vsyscall: Optional[bool] = None
    cores: Optional[int] = None


def misfits(path: str, contents: Contents, node: Node) -> Iterator[Problem]:
    """
    Find why the image at *path* cannot run on *node*.
    """
    if contents.machine is not None and not runs_on(contents.machine, node.machine):
        yield Problem(
            kind="image-wrong-architecture",
            message=f"{path} is built for {contents.machine}; this node is {node.machine}",
            origin=path,
            advice="name the image for this architecture",
        )
        return
    if contents.level is not None and node.level is not None and contents.level > node.level:
        yield Problem(
            kind="image-processor-too-old",
            message=f"{path} needs a processor of level x86-64-v{contents.level}; this one has v{node.level}",
            origin=path,
            advice="name an image of an older system, or use a newer node",
        )
    kernel = kernel_numbers(node.kernel)
    if contents.kernel is not None and kernel and kernel < contents.kernel:
        needed = ".".join(map(str, contents.kernel))
        yield Problem(
            kind="image-kernel-too-old",
            message=f"the C library of {path} needs Linux {needed}; this is {node.kernel}",
            origin=path,
            advice="name an image of an older system, or use a newer node",
        )
    if node.vsyscall is False and contents.machine == "x86_64" and is_enterprise_linux_6(contents.system):
        yield Problem(
            kind="image-needs-vsyscall",
            message=f"{path} is an Enterprise Linux 6, whose programs crash on a kernel with vsyscall=none",
            origin=path,
            advice="start the node's kernel with vsyscall=emulate, or name a newer image",
        )


def runs_on(machine: str, node: str) -> bool:
    """
    Tell whether programs for *machine* run on a node.
    """
    return machine == node or machine in RUNS_ALSO.get(node, ())


def kernel_numbers(release: str) -> tuple[int, ...]:
    """
    Read the three numbers of a kernel's release; () when there are none.
    """
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)

    return tuple(int(number or 0) for number in match.groups()) if match else ()

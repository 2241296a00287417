"""
How the runtime makes a container's root of an image file.

Without a set-uid starter there are two ways (Apptainer 1.4): FUSE, which
needs ``/dev/fuse``, and unpacking the file for each payload.  Apptainer falls
back from the first to the second only where its FUSE program is missing, and
fails where the device cannot be opened; so it is decided before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

import attrs

from wlcg_isolate.errors import Problem
from wlcg_isolate.fitness import Image
from wlcg_isolate.host.facts import HostFacts, ImageFact
from wlcg_isolate.policy import Policy

_MIB = 1 << 20

#: What unpacking a system takes: bytes per byte of the file, seconds per MiB
#: of it and per thousand of its files.  Measured with Debian images (gzip) on
#: one core at a time; see docs/explanation/image-files.md.
_GROWTH = 3.0
_SECONDS_PER_MIB = 0.05
_SECONDS_PER_THOUSAND = 0.3


def decide_mount(
    image: Image, policy: Policy, facts: HostFacts, *, mode: str, place: str
) -> tuple[Image, list[Problem]]:
    """
    Decide how an image becomes the container's root.

    Args:
        image: The image.

        policy: What holds here.

        facts: What was read of the node.

        mode: The runtime's mode, ``"userns"`` or ``"setuid"``.

        place: Directory in which the runtime would unpack.

    Returns:
        The image with its way and warnings, and what stands against it.
    """
    found = facts.image
    if image.form == "tree" or found is None:
        return image, []
    fuse = facts.paths.get("/dev/fuse")
    if mode == "setuid":
        mount = "setuid"
    elif fuse is not None and fuse.readable and fuse.writable:
        mount = "fuse"
    else:
        mount = "unpack"
    if image.form == "uri":
        return attrs.evolve(image, mount=f"pull-{mount}"), []
    problem = _cannot_unpack(image, found, place) if mount == "unpack" else None
    warnings = (*image.warnings, *_warnings(image, found, policy, facts, (mount, place)))

    return attrs.evolve(image, mount=mount, warnings=warnings), [problem] if problem else []


def _cannot_unpack(image: Image, found: ImageFact, place: str) -> Optional[Problem]:
    if found.unsquashfs is None:
        return Problem(
            kind="image-cannot-be-mounted",
            message=f"{image.path} must be mounted or unpacked: /dev/fuse cannot be opened and there is no unsquashfs",
            origin="this node",
            advice="chmod 666 /dev/fuse, install squashfs-tools, or name an unpacked tree",
        )
    if found.room is not None and found.size is not None and found.room < found.size:
        return Problem(
            kind="image-cannot-be-mounted",
            message=f"{image.path} must be unpacked: {place} has {found.room // _MIB} MiB free, and the file alone "
            f"has {found.size // _MIB}",
            origin="this node",
            advice="free space, chmod 666 /dev/fuse, or name an unpacked tree",
        )

    return None


def _warnings(image: Image, found: ImageFact, policy: Policy, facts: HostFacts, way: tuple[str, str]) -> Iterator[str]:
    mount, place = way
    size = (found.size or 0) / _MIB
    if mount == "unpack":
        seconds = size * _SECONDS_PER_MIB + (found.inodes or 0) / 1000 * _SECONDS_PER_THOUSAND
        yield (
            f"{image.path} is unpacked for this payload, since /dev/fuse cannot be opened: about "
            f"{size * _GROWTH:.0f} MiB in {place}, and {max(seconds, 1):.0f} s"
        )
    cores = None if facts.node is None else facts.node.cores
    if mount == "fuse" and cores is not None and cores >= policy.image_fuse_cores:
        yield (
            f"{image.path} is mounted by one FUSE process for {cores} processors, which can slow a payload down "
            "several times; an unpacked tree has no such limit"
        )

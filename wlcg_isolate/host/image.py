"""
The look at an image: where its reference leads, and what is there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Optional

from wlcg_isolate._values import normal_path
from wlcg_isolate.host import rootfs
from wlcg_isolate.host.facts import ImageFact, PathFact
from wlcg_isolate.host.touch import within
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Request
from wlcg_isolate.variables import paths_of_interest

#: Magic numbers of image files: offset and bytes (SIF specification;
#: squashfs and ext superblocks).
_MAGIC = (("sif", 32, b"SIF_MAGIC\0"), ("squashfs", 0, b"hsqs"), ("ext3", 1080, b"\x53\xef"))


def image_path_of(request: Request, policy: Policy, machine: str) -> Optional[str]:
    """
    Return the path that the image reference leads to, or None.

    A name is looked up in policy as it is, then as a platform that policy
    knows, then as any spelling of an operating system.
    """
    reference = request.image or request.platform
    if reference is None:
        return None
    if reference.startswith("/"):
        return normal_path(reference)
    from wlcg_isolate.platforms import spell_architecture

    os_name, architecture = platform_of(reference, policy)
    for name in (reference, os_name):
        known = policy.image_names.get(name) if name else None
        path = known.get(architecture or machine) if isinstance(known, Mapping) else known
        if path is not None:
            wanted = architecture or machine
            return normal_path(
                path.replace("{arch}", wanted).replace("{goarch}", spell_architecture(wanted, "go") or wanted)
            )

    return None


def platform_of(reference: str, policy: Policy) -> tuple[Optional[str], Optional[str]]:
    """
    Read a reference as a platform.

    Returns:
        Operating system and architecture, each None where it is not said.
    """
    meaning = policy.image_platforms.get(reference)
    if meaning is not None:
        os_name, _, architecture = meaning.partition("/")
        return os_name, architecture or None
    from wlcg_isolate.platforms import parse_platform

    platform = parse_platform(reference)

    return (None, None) if platform is None else (platform.os, platform.architecture)


def look_at_image(request: Request, policy: Policy, paths: Mapping[str, PathFact], machine: str) -> Optional[ImageFact]:
    """
    Look at the image that *request* names, and into it.
    """
    path = image_path_of(request, policy, machine)
    if path is None:
        return None
    root = paths[path]
    requested = request.image or request.platform or ""
    fact = within(policy.touch_seconds(path), lambda: _look_into(requested, root, request, policy))
    if fact is None:
        silent = PathFact(path=path, state="no-answer", reason="the image stopped answering")
        return ImageFact(requested=requested, root=silent)

    return fact


def _look_into(requested: str, root: PathFact, request: Request, policy: Policy) -> ImageFact:
    if not root.present or not root.readable or root.resolved is None:
        return ImageFact(requested=requested, root=root)
    if root.kind != "directory":
        return ImageFact(requested=requested, root=root, form=_form_of_file(root.resolved))
    wanted = [
        "/bin/sh",
        policy.container_workdir,
        "/tmp",
        "/var/tmp",
        *(bind.target for bind in (*policy.bind_default, *request.binds)),
        *paths_of_interest(os.environ, request, policy),
    ]

    return ImageFact(
        requested=requested,
        root=root,
        form="tree",
        machine=rootfs.machine_of(root.resolved),
        targets={path: rootfs.look_inside(root.resolved, path) for path in wanted},
    )


def _form_of_file(path: str) -> str:
    try:
        with open(path, "rb") as f:
            head = f.read(2048)
    except OSError:
        return "unknown"
    for form, offset, magic in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return form

    return "unknown"

"""
Everything there is to know of one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from wlcg_isolate.host.rootfs import look_inside
from wlcg_isolate.host.touch import within
from wlcg_isolate.images.contents import Contents, describe, read_contents
from wlcg_isolate.images.digests import digest_of_path
from wlcg_isolate.images.fault import ImageFault
from wlcg_isolate.images.identify import Opened, open_image
from wlcg_isolate.images.rootfs import Root, look_up
from wlcg_isolate.platforms import canonical_os


def inspect_image(path: str, paths: Sequence[str], seconds: float) -> dict[str, Any]:
    """
    Read what an image is and what is inside.

    Args:
        path: The image, links resolved.

        paths: Paths to look up inside.

        seconds: Deadline for all of it.

    Returns:
        Plain types, ready for JSON.

    Raises:
        ImageFault: It cannot be opened, or gives no answer.
    """
    try:
        found = within(seconds, lambda: _inspect(path, paths))
    except OSError as e:
        kind = "image-missing" if isinstance(e, FileNotFoundError) else "image-unreadable"
        raise ImageFault(kind, e.strerror or str(e)) from e
    if found is None:
        raise ImageFault("image-no-answer", f"no answer within {seconds:g} s")

    return found


def _inspect(path: str, paths: Sequence[str]) -> dict[str, Any]:
    with open_image(path) as opened:
        result = _of_form(path, opened)
        if opened.root is None:
            return result
        try:
            contents = read_contents(opened.root)
            result.update(_of_contents(contents), **describe(opened.root))
            result["paths"] = [_of_path(opened.root, wanted) for wanted in paths]
        except (ImageFault, OSError) as fault:
            result["fault"] = str(fault)

    return result


def _of_form(path: str, opened: Opened) -> dict[str, Any]:
    digest = digest_of_path(path)

    return {
        "path": path,
        "form": opened.form,
        "architecture": None,
        "os": {},
        "note": opened.note,
        "fault": None if opened.fault is None else opened.fault.reason,
        "size": opened.size,
        "inodes": opened.inodes,
        "label_architecture": opened.label,
        "uuid": opened.uuid,
        "signatures": opened.signatures,
        "digest": {"kind": digest.kind, "value": digest.value},
        "paths": [],
    }


def _of_contents(contents: Contents) -> dict[str, Any]:
    system = {name.lower(): value for name, value in contents.system.items()}
    name = f"{system.get('id', '')}{system.get('version_id', '').split('.')[0]}"

    return {
        "architecture": contents.machine,
        "os": {"canonical": canonical_os(name), **system} if system else {},
        "shell": contents.shell,
        "oldest_kernel": None if contents.kernel is None else ".".join(map(str, contents.kernel)),
        "x86_64_level": contents.level,
        "singularity_d": contents.own_files,
    }


def _of_path(root: Root, path: str) -> dict[str, Any]:
    fact = look_inside(root, path)
    link = False if fact.reason else look_up(root, path).link
    kind: Optional[str] = "link" if link else fact.kind

    return {
        "path": path,
        "exists": fact.kind is not None,
        "kind": kind,
        "resolves_to": fact.resolves_to if fact.kind is not None else None,
        "target_kind": fact.kind,
        "reason": fact.reason,
    }

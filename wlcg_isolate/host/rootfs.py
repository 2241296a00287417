"""
Look up paths inside an image, as facts.
"""

from __future__ import annotations

from typing import Union

from wlcg_isolate.host.facts import TargetFact
from wlcg_isolate.images.fault import ImageFault
from wlcg_isolate.images.rootfs import Root, look_up
from wlcg_isolate.images.tree import Tree


def look_inside(root: Union[str, Root], path: str) -> TargetFact:
    """
    Look up *path* inside an image.

    Args:
        root: The image's root, or the path of a tree.

        path: The path as seen from inside.
    """
    trail: list[tuple[str, str]] = []
    try:
        found = look_up(Tree(root) if isinstance(root, str) else root, path, trail)
    except ImageFault as fault:
        return TargetFact(path=path, reason=fault.reason, trail=trail)
    except OSError as e:
        return TargetFact(path=path, reason=e.strerror or str(e), trail=trail)

    return TargetFact(path=path, kind=found.kind, resolves_to=found.path, trail=trail)

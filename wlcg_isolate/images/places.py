"""
Where images may really lie, and what they must not show.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable

from wlcg_isolate._values import is_below
from wlcg_isolate.errors import Problem
from wlcg_isolate.policy import Policy

#: Returns a path with all links followed, as far as that is known.
Resolved = Callable[[str], str]


def misplaced(place: str, requested: str, policy: Policy, resolved: Resolved) -> Iterator[Problem]:
    """
    Find why no image may lie at *place*.

    Args:
        place: The image's path, all links followed.

        requested: The reference as the pilot gave it.

        policy: What holds here.

        resolved: Follows the links of other paths.
    """
    for roots in policy.roots_of_all():
        if not any(is_below(place, spelling) for root in roots for spelling in (root, resolved(root))):
            yield _not_allowed(
                f"{place} lies below no allowed directory: {', '.join(roots) or 'there is none'}", "image.allowed_roots"
            )
            break
    if place == "/":
        yield _not_allowed("/ as an image shows the payload the whole node", requested)
    for forbidden in policy.bind_forbidden_sources:
        if any(is_below(place, root) or is_below(root, place) for root in (forbidden, resolved(forbidden))):
            yield _not_allowed(f"{place} as an image shows {forbidden}, which policy forbids", "bind.forbidden_sources")


def _not_allowed(message: str, origin: str) -> Problem:
    return Problem(
        kind="image-not-allowed",
        message=message,
        origin=origin,
        advice="use an image that site and experiment both allow",
    )

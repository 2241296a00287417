"""
Where a target really is, and whether something can be mounted there.

Rules:

1. A target is followed inside the image's own root.  Where the way passes
   another bind it goes on in that bind's source, and no link is followed
   there: the runtime would follow it to somewhere else than the host does.
2. A mount point is made by the runtime's layer in the image, and by the
   library in the payload's own directories; in any other source never.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import NamedTuple, Optional, Union

from wlcg_isolate._values import SYSTEM_DIRECTORIES, is_below, normal_path
from wlcg_isolate.binds.decision import BindDecision, Wish
from wlcg_isolate.errors import Problem
from wlcg_isolate.host.facts import HostFacts, TargetFact, straight_way
from wlcg_isolate.policy import Policy

#: Mounted by every plan, on the working directory's disk.
PRIVATE_TMP = ("/tmp", "/var/tmp")

_BELOW_TMP = tuple(f"{path}/" for path in PRIVATE_TMP)

#: File systems of the kernel: nothing may be mounted below them either.
_KERNEL = ("/proc/", "/sys/", "/.singularity.d/")

#: The container's own, made by the runtime.
_DEV = "/dev"
_SHM = "/dev/shm"

_NOT_A_DIRECTORY = os.strerror(errno.ENOTDIR)

#: Who makes a mount point that is missing.
IN_IMAGE = "the target is not in the image; the runtime's layer creates it"
IN_WORKDIR = "the mount point is made in the working directory and removed again"
IN_TMP = "the mount point is made in the private directory"


class Spot(NamedTuple):
    """
    Where a target really is.

    Attributes:
        place: Its path in the container without links.

        parent: The bind on whose source it lies, or None for the image.

        fault: Why nothing can be mounted there, or "".
    """

    place: str
    parent: Optional[BindDecision] = None
    fault: str = ""


def find_spot(target: str, mounted: Mapping[str, BindDecision], facts: HostFacts, *, but: str = "") -> Spot:
    """
    Find where a target is when *mounted* is mounted.

    Args:
        target: Normal path in the container.

        mounted: What is mounted before, by place.

        facts: What was read of image and host.

        but: The one of them that does not count.
    """
    fact = target_fact(target, facts)
    for place, rest in fact.way:
        if place == but or place not in mounted:
            continue
        full = f"{place}/{rest}" if rest else place
        if ".." in rest.split("/"):
            return Spot(normal_path(full), mounted[place], f"its way leads up again from the bind at {place}")
        return Spot(full, _deepest(full, mounted))
    place = fact.resolves_to or target
    if fact.reason:
        return Spot(place, None, f"cannot be in the image: {fact.reason}")
    if ".." in place.split("/"):
        return Spot(normal_path(place), None, "leads through a link up from what is not there")

    return Spot(place, _deepest(place, mounted))


def _deepest(place: str, mounted: Mapping[str, BindDecision]) -> Optional[BindDecision]:
    for above, _ in reversed(straight_way(place)):
        if above in mounted:
            return mounted[above]

    return None


def target_fact(target: str, facts: HostFacts) -> TargetFact:
    """
    Return what is known of a path in the image.
    """
    found = facts.image.targets.get(target) if facts.image is not None else None

    return found or TargetFact(path=target)


def hides_system(wish: Wish, spot: Spot, policy: Policy) -> Optional[Problem]:
    """
    Tell why a target must not be hidden.
    """
    target = wish.bind.target
    # A link inside the image may lead to a system directory as well.
    for path in {target, spot.place}:
        if path in SYSTEM_DIRECTORIES or f"{path}/".startswith(_KERNEL):
            why = f"a bind at {target} would hide a part of the image's system"
            return wish.problem("bind-target-forbidden", why, "choose another target")
        for forbidden in policy.bind_forbidden_targets:
            if is_below(path, forbidden):
                why = f"policy forbids binds at {forbidden} and below"
                return wish.problem("bind-target-forbidden", why, "leave it out, or ask the site")

    return None


def judge(wish: Wish, spot: Spot, kind: str, facts: HostFacts, *, home: str, layer: bool) -> Union[str, Problem]:
    """
    Tell whether a source can be mounted at a spot.

    Args:
        wish: The bind.

        spot: Where its target really is.

        kind: What the source is.

        facts: What was read of image and host.

        home: Where the working directory is mounted.

        layer: Whether the runtime can create what the image lacks.

    Returns:
        Why it can, or the problem.
    """
    if spot.parent is None and not spot.fault and f"{spot.place}/".startswith(_BELOW_TMP):
        return IN_TMP
    if spot.parent is None and not spot.fault and is_below(spot.place, _DEV):
        return _judge_device(wish, spot, kind)
    there, fault = _what_is_there(wish.bind.target, spot, facts)
    if fault:
        return _impossible(wish, fault)
    if there is None:
        return _judge_missing(wish, spot.parent, home=home, layer=layer)
    where = f"the bind at {spot.parent.target}" if spot.parent is not None else "the image"
    if (there == "directory") != (kind == "directory"):
        why = f"{wish.source} is a {kind} and {wish.bind.target} is a {there} in {where}"
        return _impossible(wish, why, "choose a target of the same kind")

    return f"the target exists in {where}"


def _judge_missing(wish: Wish, parent: Optional[BindDecision], *, home: str, layer: bool) -> Union[str, Problem]:
    target = wish.bind.target
    if parent is None:
        return IN_IMAGE if layer else no_layer(wish, f"{target} is not in the image")
    if parent.place == home:
        return IN_WORKDIR
    # It would be made on the host, in somebody else's directory.
    why = f"{target} does not exist below {parent.source}, which is bound at {parent.target}"

    return _impossible(wish, why, "create it there, or choose a target outside that bind")


def can_create(policy: Policy, facts: HostFacts, layer: Optional[str]) -> bool:
    """
    Tell whether the runtime can create what the image lacks.

    Args:
        policy: What holds here.

        facts: What was read; of an image that nobody could look into there
            is nothing to be said.

        layer: What the runtime showed, or None.
    """
    unseen = facts.image is None or not facts.image.targets

    return unseen or (layer != "none" and bool(policy.runtime_layers))


def no_layer(wish: Wish, why: str) -> Problem:
    """
    Say that nothing can create a target.
    """
    return wish.problem(
        "bind-target-no-layer",
        f"{why}, and the runtime has no layer here that could create it",
        "use a target that the image has, or set 'enable overlay = yes' or 'enable underlay = yes' in the "
        "runtime's configuration file",
    )


def _judge_device(wish: Wish, spot: Spot, kind: str) -> Union[str, Problem]:
    """
    Judge a target in the container's own /dev.

    The runtime puts devices there under their own names; of anything else it
    warns only, or fails (Apptainer 1.4.5).
    """
    if spot.place == _SHM and kind == "directory":
        return "it takes the place of the container's own shared memory"
    if spot.place == wish.source and kind != "directory":
        return "the runtime shows the device in the container's own /dev"

    return _impossible(
        wish, f"{wish.bind.target} is in the container's own /dev, which takes only a device of the same name"
    )


def _impossible(wish: Wish, why: str, advice: str = "remove it, or choose another target") -> Problem:
    return wish.problem("bind-target-impossible", why, advice)


def _what_is_there(target: str, spot: Spot, facts: HostFacts) -> tuple[Optional[str], str]:
    """
    Look where a target lies.

    Returns:
        The kind of what is there or None, and what makes it unusable or "".
    """
    if spot.fault:
        return None, f"{target} {spot.fault}"
    if spot.parent is None:
        return target_fact(target, facts).kind, ""
    under = below_source(spot.parent, spot.place)
    fact = facts.paths.get(under)
    if fact is None or fact.state == "missing":
        if fact is not None and fact.reason == _NOT_A_DIRECTORY:
            return None, f"something above {under} is no directory"
    elif not fact.present:
        return None, f"{under} cannot be looked at: {fact.reason}"
    if _has_links(under, spot.parent, facts):
        return None, f"a link stands at {under} or above it"

    return None if fact is None else fact.kind, ""


def below_source(parent: BindDecision, place: str) -> str:
    """
    Return the path on the host that is shown at a place below a bind.
    """
    return normal_path(os.path.join(parent.source, os.path.relpath(place, parent.place)))


def _has_links(path: str, parent: BindDecision, facts: HostFacts) -> bool:
    """
    Tell whether links lie between a bind's source and a path below it.
    """
    fact, root = facts.paths.get(path), facts.paths.get(parent.source)
    if fact is None or root is None or root.resolved is None:
        return False
    straight = normal_path(os.path.join(root.resolved, os.path.relpath(path, parent.source)))

    return fact.is_link or (fact.resolved is not None and fact.resolved != straight)

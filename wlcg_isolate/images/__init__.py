"""
Which image is meant, and whether it can be run here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Optional

import attrs

from wlcg_isolate._values import is_below
from wlcg_isolate.errors import Problem
from wlcg_isolate.host.facts import HostFacts, ImageFact
from wlcg_isolate.host.image import platform_of
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Request


@attrs.frozen(kw_only=True)
class Image:
    """
    The image that a plan uses.

    Attributes:
        requested: The reference as the pilot gave it.

        path: Where the reference led.

        resolved_path: The same with all links followed: what is launched, so
            that a moved tag cannot change a running payload's image.

        form: ``"tree"`` for an unpacked directory.

        architecture: By the ELF header of ``/bin/sh``; None when that is no
            ELF file.
    """

    requested: str
    path: str
    resolved_path: str
    form: str
    architecture: Optional[str]


def choose_image(request: Request, policy: Policy, facts: HostFacts) -> tuple[Optional[Image], list[Problem]]:
    """
    Judge the image that *facts* found for *request*.

    Returns:
        The image, or None with everything that is wrong with it.
    """
    found = facts.image
    if found is None:
        return None, [_unknown(request, policy, facts.machine)]
    problems = [*_faults(found, facts.machine), *_place_faults(found, policy, facts)]
    if problems or found.form is None or found.root.resolved is None:
        return None, problems

    return Image(
        requested=found.requested,
        path=found.root.path,
        resolved_path=found.root.resolved,
        form=found.form,
        architecture=found.machine,
    ), []


def _unknown(request: Request, policy: Policy, machine: str) -> Problem:
    reference = request.image or request.platform
    if reference is None:
        return Problem(
            kind="image-not-named",
            message="no image is named",
            origin="request",
            advice="name one with --image or --platform",
        )
    if "://" in reference:
        # The field's own parser of image URIs, so that both agree on what one is.
        from spython.utils import split_uri

        return Problem(
            kind="image-pull-refused",
            message=f"{reference} would be pulled by {split_uri(reference)[0]} for this payload",
            origin="--image",
            advice="publish the image on CVMFS or as a file, and name its path",
        )

    origin = "--image" if request.image else "--platform"
    os_name, architecture = platform_of(reference, policy)
    others = policy.image_names.get(reference, policy.image_names.get(os_name or ""))
    if isinstance(others, Mapping):
        return Problem(
            kind="image-other-architecture",
            message=f"policy names {reference!r} for {', '.join(sorted(others))}, not for {architecture or machine}",
            origin=origin,
            advice="add the path for this architecture to image.names, or run on another node",
        )

    return Problem(
        kind="image-unknown",
        message=f"policy maps {reference!r} to no path{_as_os(reference, os_name)}",
        origin=origin,
        advice="name the absolute path of an image, or add the name to image.names",
    )


def _as_os(reference: str, os_name: Optional[str]) -> str:
    return f", nor {os_name}, which it means" if os_name and os_name != reference else ""


def _place_faults(found: ImageFact, policy: Policy, facts: HostFacts) -> Iterator[Problem]:
    """
    Check where the image really is, all links followed, and what it shows.
    """
    place = found.root.resolved
    if place is None:
        return
    for roots in policy.roots_of_all():
        if not any(is_below(place, spelling) for root in roots for spelling in (root, facts.resolved(root))):
            yield _not_allowed(
                f"{place} lies below no allowed directory: {', '.join(roots) or 'there is none'}", "image.allowed_roots"
            )
            break
    if place == "/":
        yield _not_allowed("/ as an image shows the payload the whole node", found.requested)
    for forbidden in policy.bind_forbidden_sources:
        if any(is_below(place, root) or is_below(root, place) for root in (forbidden, facts.resolved(forbidden))):
            yield _not_allowed(f"{place} as an image shows {forbidden}, which policy forbids", "bind.forbidden_sources")


def _not_allowed(message: str, origin: str) -> Problem:
    return Problem(
        kind="image-not-allowed",
        message=message,
        origin=origin,
        advice="use an image that site and experiment both allow",
    )


def _faults(found: ImageFact, machine: str) -> Iterator[Problem]:
    root = found.root
    origin = found.requested
    if root.state == "no-answer":
        yield Problem(
            kind="image-no-answer",
            message=f"{root.path} gives no answer: {root.reason}",
            origin=origin,
            advice="check the file system that it lies on",
        )
    elif root.state == "missing":
        yield Problem(
            kind="image-missing",
            message=f"{root.path} does not exist",
            origin=origin,
            advice="check the name, and that its file system is mounted",
        )
    elif not root.readable:
        yield Problem(
            kind="image-unreadable",
            message=f"{root.path} cannot be read{': ' + root.reason if root.reason else ''}",
            origin=origin,
            advice="check its permissions",
        )
    elif found.form != "tree":
        yield Problem(
            kind="image-form-unsupported",
            message=f"{root.path} is no unpacked tree (it looks like: {found.form})",
            origin=origin,
            advice="name an unpacked directory",
        )
    else:
        yield from _tree_faults(found, machine)


def _tree_faults(found: ImageFact, machine: str) -> Iterator[Problem]:
    shell = found.targets.get("/bin/sh")
    if shell is None or shell.kind != "file":
        yield Problem(
            kind="image-no-shell",
            message=f"{found.root.path} holds no /bin/sh{': ' + shell.reason if shell and shell.reason else ''}",
            origin=found.requested,
            advice="name an image with a shell, or check that this is the root of a system",
        )
    elif found.machine is not None and found.machine != machine:
        yield Problem(
            kind="image-wrong-architecture",
            message=f"{found.root.path} is built for {found.machine}; this node is {machine}",
            origin=found.requested,
            advice="name the image for this architecture",
        )

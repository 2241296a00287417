"""
Which image is meant, and whether it can be run here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

import attrs

from wlcg_isolate.errors import Problem
from wlcg_isolate.host.facts import HostFacts, ImageFact
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


def choose_image(request: Request, facts: HostFacts) -> tuple[Optional[Image], list[Problem]]:
    """
    Judge the image that *facts* found for *request*.

    Returns:
        The image, or None with everything that is wrong with it.
    """
    found = facts.image
    if found is None:
        return None, [_unknown(request)]
    problems = list(_faults(found, facts.machine))
    if problems or found.form is None or found.root.resolved is None:
        return None, problems

    return Image(
        requested=found.requested,
        path=found.root.path,
        resolved_path=found.root.resolved,
        form=found.form,
        architecture=found.machine,
    ), []


def _unknown(request: Request) -> Problem:
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

    return Problem(
        kind="image-unknown",
        message=f"policy maps {reference!r} to no path",
        origin="--image" if request.image else "--platform",
        advice="name the absolute path of a tree, or add the name to image.names",
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

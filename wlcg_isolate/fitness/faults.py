"""
What stands against an image, as problems and as verdicts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from wlcg_isolate.errors import Problem
from wlcg_isolate.host.facts import HostFacts, ImageFact
from wlcg_isolate.host.image import RUNNABLE
from wlcg_isolate.host.processor import of_facts
from wlcg_isolate.images.misfit import Node, misfits
from wlcg_isolate.images.places import Resolved, misplaced
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Request


class Against(NamedTuple):
    """
    What an image is judged against.

    Attributes:
        request: What the pilot asks.

        policy: What holds here.

        node: What the image must fit.

        resolved: Follows the links of a path, as far as that is known.

        loader: Whether the loader starts the payload, and not a shell.
    """

    request: Request
    policy: Policy
    node: Node
    resolved: Resolved
    loader: bool


def against(request: Request, policy: Policy, facts: HostFacts) -> Against:
    """
    Put together what images on a node are judged against.
    """
    node = of_facts(facts.node, facts.machine, facts.kernel)

    return Against(request, policy, node, facts.resolved, loader=facts.loader_fault is None)


def faults(found: ImageFact, on: Against) -> Iterator[Problem]:
    """
    Find everything that is wrong with an image.
    """
    root, origin = found.root, found.requested
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
    elif found.form != "uri":
        yield from _content_faults(found, on)


def _content_faults(found: ImageFact, on: Against) -> Iterator[Problem]:
    path = found.root.path
    if found.root.resolved is not None:
        yield from misplaced(found.root.resolved, found.requested, on.policy, on.resolved)
    if found.fault is not None:
        kind, reason = found.fault
        yield Problem(
            kind=kind,
            message=f"{path} cannot be used: {reason}",
            origin=found.requested,
            advice="name an unpacked tree, or a SIF or squashfs file that is whole",
        )
    elif found.form not in RUNNABLE:
        yield Problem(
            kind="image-form-unsupported",
            message=f"{path} is no image that runs here (it looks like: {found.form})",
            origin=found.requested,
            advice="name an unpacked tree, a SIF or a squashfs file",
        )
    else:
        yield from _system_faults(found, on)
        yield from _proof_faults(found, on)


def _system_faults(found: ImageFact, on: Against) -> Iterator[Problem]:
    shell = found.targets.get("/bin/sh")
    if not on.loader and (shell is None or shell.kind != "file"):
        yield Problem(
            kind="image-no-shell",
            message=f"{found.root.path} holds no /bin/sh{': ' + shell.reason if shell and shell.reason else ''}",
            origin=found.requested,
            advice="name an image with a shell, or check that this is the root of a system",
        )
    elif found.contents is not None:
        yield from misfits(found.root.path, found.contents, on.node)


def _proof_faults(found: ImageFact, on: Against) -> Iterator[Problem]:
    proof, path = found.proof, found.root.path
    if found.form == "tree" and on.request.image_digest is not None:
        yield Problem(
            kind="image-unverified",
            message=f"{path} is a tree, which has no checksum of a file to compare with that of the request",
            origin="image_digest",
            advice="name an image file, or leave the checksum out",
        )
    if proof is None:
        return
    if proof.verdict == "failed":
        yield Problem(
            kind=proof.kind,
            message=f"{path} cannot be verified: {proof.reason}",
            origin=found.requested,
            advice="check the lists and keys that policy names, and the file",
        )
    elif proof.verdict == "mismatch":
        yield Problem(
            kind="image-digest-mismatch",
            message=f"{path} is not the image that was published: {proof.reason}",
            origin=found.requested,
            advice="fetch the file again",
        )
    elif proof.verdict == "unlisted" and not on.policy.image_unlisted:
        yield Problem(
            kind="image-unlisted",
            message=f"no checksum of {path} is known",
            origin="image.unlisted",
            advice="list it in image.checksums, or in a file of image.checksum_files",
        )


def verdict(look: ImageFact, on: Against) -> str:
    """
    Say in words what became of one place.
    """
    if look.form == "descriptor" and look.fault is None:
        return f"a descriptor: {look.note}"
    candidate = look.candidate
    if candidate is not None and not candidate.usable:
        there = "published" if look.root.present else "not even published"
        return f"{there} for {candidate.architecture}; this node is {on.node.machine}"
    problem = next(faults(look, on), None)
    if problem is None:
        return "taken"

    # The path stands beside it.
    return (
        problem.message[len(look.root.path) :].lstrip()
        if problem.message.startswith(look.root.path)
        else problem.message
    )

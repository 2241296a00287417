"""
Which image is taken, and whether it fits this node.

Rules:

1. Of all places that were looked at, the first with nothing against it is
   taken.  Every other one gets a verdict.
2. What is launched is the path with all links followed: a tag that is moved
   later cannot change the image of a running payload.
3. Nothing here touches the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

import attrs

from wlcg_isolate.errors import Problem
from wlcg_isolate.fitness.faults import Against, against, faults, verdict
from wlcg_isolate.host.facts import HostFacts, ImageFact
from wlcg_isolate.images.catalogue import candidates
from wlcg_isolate.images.digests import Digest, Identity, digest_of_path
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Request


class LookedAt(NamedTuple):
    """
    One place that was looked at.

    Attributes:
        path: The place; the reference itself when it led to none.

        verdict: ``"taken"``, or why it was not.
    """

    path: str
    verdict: str


@attrs.frozen(kw_only=True)
class Image:
    """
    The image that a plan uses.

    Attributes:
        requested: The reference as the pilot gave it.

        path: Where the reference led.

        resolved_path: The same with all links followed: what is launched, so
            that a moved tag cannot change a running payload's image.

        form: ``"tree"`` for an unpacked directory, ``"sif"`` or
            ``"squashfs"`` for a file, ``"uri"`` for what the runtime pulls.

        architecture: By the ELF header of ``/bin/sh``; None when that is no
            ELF file.

        digest: What is known of its content, and what that is the digest of.

        identity: The file that was examined; None for what is no file.

        verified_by: Who knew the file's checksum; empty when nobody did.

        mount: How the runtime makes a root of it: ``"directory"``,
            ``"fuse"``, ``"setuid"``, ``"unpack"`` or ``"pull"``.

        looked_at: Every place that was looked at, in order.

        warnings: What should be known though it refuses nothing.
    """

    requested: str
    path: str
    resolved_path: str
    form: str
    architecture: Optional[str]
    digest: Digest = attrs.field(factory=Digest)
    identity: Optional[Identity] = None
    verified_by: tuple[str, ...] = ()
    mount: str = "directory"
    looked_at: tuple[LookedAt, ...] = ()
    warnings: tuple[str, ...] = ()


def choose_image(request: Request, policy: Policy, facts: HostFacts) -> tuple[Optional[Image], list[Problem]]:
    """
    Judge the places that *facts* found for *request*.

    Returns:
        The image, or None with everything that is wrong with it.
    """
    found, on = facts.image, against(request, policy, facts)
    _, misnamed = candidates(request.image, request.platform, policy, on.node.machine)
    if found is None:
        return None, list(misnamed) or [_not_named()]
    problems = list(faults(found, on))
    usable = found.candidate is None or found.candidate.usable
    if problems or not usable or found.form is None or found.root.resolved is None:
        return None, _refusal(found, problems, list(misnamed), on)

    image = Image(
        requested=found.requested,
        path=found.root.path,
        resolved_path=found.root.resolved,
        form=found.form,
        architecture=found.machine,
        digest=_digest(found),
        identity=None if found.proof is None else found.proof.identity,
        verified_by=() if found.proof is None else found.proof.sources,
        looked_at=looked_at(request, policy, facts),
    )

    return attrs.evolve(image, warnings=tuple(_warnings(found))), []


def looked_at(request: Request, policy: Policy, facts: HostFacts) -> tuple[LookedAt, ...]:
    """
    Give every place that was looked at its verdict, in order; the names that
    led to no place come first, and a pull that is refused last.
    """
    on = against(request, policy, facts)
    _, misnamed = candidates(request.image, request.platform, policy, on.node.machine)
    looks = [] if facts.image is None else sorted((*facts.image.others, facts.image), key=lambda look: look.number)

    places = [LookedAt(look.root.path, verdict(look, on)) for look in looks]
    names = {
        last: [
            LookedAt(request.image or request.platform or "", problem.message)
            for problem in misnamed
            if (problem.kind == "image-pull-refused") == last
        ]
        for last in (False, True)
    }
    taken = any(place.verdict == "taken" for place in places)

    return (*names[False], *places, *([] if taken else names[True]))


def _digest(found: ImageFact) -> Digest:
    if found.proof is not None and found.proof.digest.value is not None:
        return found.proof.digest

    return Digest() if found.form != "tree" else digest_of_path(found.root.resolved or "")


def _not_named() -> Problem:
    return Problem(
        kind="image-not-named",
        message="no image is named",
        origin="request",
        advice="name one with --image or --platform",
    )


def _refusal(found: ImageFact, problems: list[Problem], misnamed: list[Problem], on: Against) -> list[Problem]:
    """
    Tell of all places in one problem when there are several.
    """
    if any(problem.kind == "image-pull-refused" for problem in misnamed):
        # That CVMFS has not got it is why it would be pulled.
        return misnamed
    if not found.others:
        return [*misnamed, *problems]
    looks = sorted((*found.others, found), key=lambda look: look.number)
    elsewhere = sorted(
        str(look.candidate.architecture)
        for look in looks
        if look.candidate is not None and not look.candidate.usable and look.root.present
    )
    kind = problems[0].kind if problems else "image-missing"
    if elsewhere and kind == "image-missing":
        kind = "image-wrong-architecture"
    only = f", only for {', '.join(dict.fromkeys(elsewhere))}" if elsewhere else ""
    told = [look for look in looks if look.root.present or look.candidate is None or look.candidate.usable]
    words = "; ".join(f"{look.root.path} {verdict(look, on)}" for look in told)

    return [
        *misnamed,
        Problem(
            kind=kind,
            message=f"there is no image {found.requested!r} for this node{only}: {words}",
            origin=found.requested,
            advice="wlcg-isolate image resolve shows every place with its verdict",
        ),
    ]


def _warnings(found: ImageFact) -> Iterator[str]:
    candidate = found.candidate
    if candidate is not None and candidate.fallback:
        yield f"image {found.requested!r} is not there; {found.root.path} is taken, which image.fallback names"
    if found.contents is not None and not found.contents.own_files:
        yield f"{found.root.path} has no /.singularity.d: variables that the image itself sets are missing"
    if found.label is not None and found.machine is not None and found.label != found.machine:
        yield f"{found.root.path} is labelled {found.label}, and its programs are for {found.machine}"
    if found.proof is not None and found.proof.verdict == "unlisted":
        yield f"no checksum of {found.root.path} is known: it was not verified"

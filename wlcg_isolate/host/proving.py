"""
Verify image files: gather what is known, and look at the clock meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Optional

import attrs

from wlcg_isolate.host import signature
from wlcg_isolate.host.facts import ImageFact, RuntimeFact
from wlcg_isolate.host.touch import within
from wlcg_isolate.images import proof
from wlcg_isolate.images.digests import Progress, Proof
from wlcg_isolate.images.fault import ImageFault
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Payload, Request

#: A place that cannot be made: nothing is remembered there.
_NOWHERE = "/dev/null/nowhere"


def prove_file(path: str, policy: Policy, *, again: bool = False, progress: Optional[Progress] = None) -> Proof:
    """
    Compare one file with all checksums that policy and its neighbours know.

    Args:
        path: The file, links resolved.

        policy: What holds here.

        again: Whether to make the checksum though it is remembered.

        progress: Called with numbers of bytes while it is made.
    """
    # A deliberate question: also on CVMFS, what lies beside the file is asked.
    asking = attrs.evolve(policy, image_unlisted=False)
    if again:
        asking = attrs.evolve(asking, image_verified_directory=_NOWHERE)
    request = Request(payload=Payload(command=("true",)))

    found = within(policy.image_verify_seconds, lambda: _prove_now(path, (), None, request, asking, (), progress))

    return _silent(policy) if found is None else found


def prove_image(fact: ImageFact, request: Request, policy: Policy, runtimes: Sequence[RuntimeFact]) -> Proof:
    """
    Verify the image file that a plan would use.

    Args:
        fact: The look at it.

        request: What the pilot asks.

        policy: What holds here.

        runtimes: The runtimes of this node; one checks signatures in a SIF.
    """
    path = fact.root.resolved or fact.root.path
    names = tuple(_other_names(fact))
    found = within(policy.image_verify_seconds, lambda: _prove_now(path, names, fact.form, request, policy, runtimes))

    return _silent(policy) if found is None else found


def _silent(policy: Policy) -> Proof:
    reason = f"it gives no answer within {policy.image_verify_seconds:g} s"

    return Proof(verdict="failed", kind="image-unverified", reason=reason)


def _other_names(fact: ImageFact) -> Iterator[str]:
    yield fact.root.path
    if fact.candidate is not None and fact.candidate.reference != fact.root.path:
        yield fact.candidate.reference


def _prove_now(
    path: str,
    names: tuple[str, ...],
    form: Optional[str],
    request: Request,
    policy: Policy,
    runtimes: Sequence[RuntimeFact],
    progress: Optional[Progress] = None,
) -> Proof:
    def check(place: str, data: bytes) -> None:
        signature.check_list(place, data, policy.image_signature_keys, policy.image_verify_seconds)

    try:
        known = proof.known_checksums(path, names, policy, check, request.image_digest)
        if policy.image_sif_keys and form == "sif":
            runtime = next((fact.path for fact in runtimes if fact.verdict == "works"), None)
            place = policy.image_verified_directory.replace("{uid}", str(os.geteuid()))
            signature.check_sif(path, policy.image_sif_keys, runtime, place, policy.image_verify_seconds)
    except ImageFault as fault:
        return Proof(verdict="failed", reason=fault.reason, kind=fault.kind)
    except OSError as e:
        return Proof(verdict="failed", reason=e.strerror or str(e), kind="image-unverified")

    return proof.prove(path, known, policy, os.geteuid(), progress)

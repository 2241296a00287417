"""
What the subcommands for images share: policy, and the way to a path.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

import attrs

from wlcg_isolate._values import normal_path
from wlcg_isolate.errors import PlanError, Problem
from wlcg_isolate.fitness import choose_image
from wlcg_isolate.host import HostFacts
from wlcg_isolate.host.image import look_at_image, look_at_place
from wlcg_isolate.host.processor import as_facts, read_processor
from wlcg_isolate.host.touch import look_at_all, within
from wlcg_isolate.images.fault import ImageFault
from wlcg_isolate.images.misfit import Node
from wlcg_isolate.policy import Policy, load_policy
from wlcg_isolate.request import Payload, Request


def policy_of(options: argparse.Namespace) -> Policy:
    """
    Load the policy that the options name.

    Raises:
        PolicyError: It is not valid.
    """
    policy = load_policy(options.site, options.experiment)

    return policy if options.cvmfs_root is None else attrs.evolve(policy, cvmfs_root=_absolute(options.cvmfs_root))


def request_of(reference: str) -> Request:
    """
    Make a request for an image and nothing else.

    Raises:
        RequestError: The reference is no text.
    """
    image = _absolute(reference) if reference in (".", "..") or reference.startswith(("./", "../")) else reference

    return Request(payload=Payload(command=("true",)), image=image)


def facts_of(request: Request, policy: Policy, node: Node) -> HostFacts:
    """
    Look at the image of *request*, for a node that may be another one.
    """
    paths = look_at_all(_places(policy), policy.touch_seconds)

    return HostFacts(
        hostname="",
        machine=node.machine,
        kernel=node.kernel,
        uid=os.geteuid(),
        gid=os.getegid(),
        cwd=None,
        environ={},
        runtimes=(),
        image=look_at_image(request, policy, node, paths=paths, prove=False),
        paths=paths,
        node=as_facts(node),
    )


def _places(policy: Policy) -> Iterator[str]:
    yield from (root for roots in policy.roots_of_all() for root in roots)
    yield from policy.bind_forbidden_sources


def path_of(reference: str, policy: Policy) -> str:
    """
    Return the path of the image that a reference means here.

    A path stands for itself, whatever is there.

    Raises:
        RequestError: The reference is no text.

        PlanError: It leads to nothing.
    """
    request = request_of(reference)
    if (request.image or "").startswith("/"):
        path = policy.on_node(normal_path(request.image or ""))
        found = within(policy.touch_seconds(path), lambda: look_at_place(path, policy.cvmfs_root))
        if found is None:
            raise PlanError([problem_of(ImageFault("image-no-answer", "it gives no answer"), path)])
        return found.resolved or path
    facts = facts_of(request, policy, read_processor())
    image, problems = choose_image(request, policy, facts)
    if image is None:
        raise PlanError(problems)

    return image.resolved_path


def problem_of(fault: ImageFault, path: str) -> Problem:
    """
    Tell of an image that cannot be read.
    """
    advice = "check the path, its permissions, and that the file is whole"

    return Problem(kind=fault.kind, message=f"{path}: {fault.reason}", origin=path, advice=advice)


def _absolute(path: str) -> str:
    return os.path.abspath(path)

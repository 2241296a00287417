"""
An experiment tests its own profile.

Usage: ``pytest examples/testing``, or under the node's own Apptainer::

    pytest examples/testing --real-runtime --isolate-image /cvmfs/.../el9
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from wlcg_isolate import Payload, Policy, Request
from wlcg_isolate.testing import (
    Harness,
    Node,
    assert_absent,
    assert_arrives,
    assert_bound,
    assert_not_bound,
    node_names,
    policy_of,
    refused,
)

#: Of a pilot on a worker node.
PILOT = {"EXPERIMENT_RELEASE": "27.3", "EXPERIMENT_PILOT_TOKEN": "secret", "BEARER_TOKEN": "secret"}

REQUEST = Request(payload=Payload(command=("reconstruct", "run.in")), image="el9", workdir="/scratch/job")


@pytest.fixture
def policy() -> Policy:
    """
    The profile, without any site.
    """
    return policy_of(Path(__file__).parent / "profile.toml")


@pytest.mark.parametrize("name", [name for name in node_names() if name.startswith("el9")])
def test_nodes(isolate_node: Callable[..., Node], policy: Policy, name: str) -> None:
    """
    On nodes of EL9 payloads get our image, and the conditions where the node has them.
    """
    node = isolate_node(name, environ=PILOT, directories="/data/conditions")
    plan = node.plan(REQUEST, policy)

    assert plan.image.path == "/cvmfs/images.example.org/x86_64/el9"
    assert_bound(plan, "/conditions", source="/data/conditions", writable=False)
    assert_arrives(plan, "EXPERIMENT_SOFTWARE", "/cvmfs/sw.example.org")
    assert_absent(plan, "EXPERIMENT_PILOT_TOKEN", "BEARER_TOKEN")


def test_no_conditions(isolate_node: Callable[..., Node], policy: Policy) -> None:
    """
    A node without the conditions runs payloads all the same.
    """
    assert_not_bound(isolate_node().plan(REQUEST, policy), "/conditions")


def test_no_image(isolate_node: Callable[..., Node], policy: Policy) -> None:
    """
    A node that does not see our images refuses, and tells the pilot why.
    """
    with refused("image-missing"):
        isolate_node(missing="/cvmfs/images.example.org/*").plan(REQUEST, policy)


def test_payload(isolate: Harness, policy: Policy) -> None:
    """
    A payload has what we promise it, and nothing of the pilot's.
    """
    ran = isolate.run(policy, "sh", "-c", "echo $EXPERIMENT_RELEASE >result; exit 3", environ=PILOT)

    assert (ran.outcome.failed_by, ran.outcome.exit_code) == ("payload", 3)
    assert (ran.workdir / "result").read_text() == "27.3\n"
    assert_arrives(ran, "EXPERIMENT_SOFTWARE", "/cvmfs/sw.example.org")
    assert_absent(ran, "EXPERIMENT_PILOT_TOKEN", "BEARER_TOKEN")
    assert_bound(ran, "/srv", writable=True)

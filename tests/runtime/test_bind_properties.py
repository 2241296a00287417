"""
Random lists of binds never yield a plan that the runtime rejects, and never one that shows a forbidden path.
"""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from wlcg_isolate import Bind, Payload, PlanError, Policy, Request, launch_plan, make_plan

SECRET = "what no payload may see"

#: Below the test's directory; all but the first line show what is forbidden, or nothing at all.
SOURCES = (
    "a", "a/in", "b", "file", "link-to-b", "a/in/deep", "b/file",
    "secret", "secret/in", "link-to-secret", ".", "..", "work/../secret", "loop", "missing",
    "link-to-root", "link-to-proc",
)  # fmt: skip
TARGETS = (
    "/data", "/data/in", "/data/in/deep", "/data/new", "/data/file", "/other", "/other/in", "/to-data", "/to-data/in",
    "/to-data/new", "/to-other/x", "/up", "/loop", "/dangling", "/dangling/x", "/srv/in", "/srv/a/b", "/tmp/x/y",
    "/tmp/x", "/etc", "/etc/hosts", "/etc/new/file", "/usr/share", "/dev/shm", "/dev/null", "/proc/1", "/new/a/b",
    "/new/a", "/new",
)  # fmt: skip

BINDS = st.lists(
    st.tuples(st.sampled_from(SOURCES), st.sampled_from(TARGETS), st.booleans(), st.booleans()), min_size=1, max_size=12
)


@pytest.fixture(scope="module")
def world(tmp_path_factory, image):
    """Make an image with links in it, and sources with a secret beside them."""
    place = tmp_path_factory.mktemp("world")
    place.chmod(0o755)
    tree = place / "image"
    shutil.copytree(image("tiny"), tree, symlinks=True)
    tree.chmod(0o755)
    for name in ("data/in/deep", "other/in"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name, goal in (
        ("to-data", "/data"), ("to-other", "other/in"), ("up", "../../../../other"), ("loop", "loop"),
        ("dangling", "/not/yet"),
    ):  # fmt: skip
        (tree / name).symlink_to(goal)
    for name in ("a/in/deep", "b/in", "secret/in", "work"):
        (place / name).mkdir(parents=True)
    for name in ("file", "b/file"):
        (place / name).write_text("x")
    for name in ("secret/mark", "secret/in/mark"):
        (place / name).write_text(SECRET)
    for name, goal in (("b", "b"), ("secret", "secret"), ("root", "/"), ("proc", "/proc")):
        (place / f"link-to-{name}").symlink_to(goal)
    (place / "loop").symlink_to("loop")

    return place


def listing(place):
    """List all that is in a directory."""
    return sorted(os.path.join(here, name) for here, *names in os.walk(place) for part in names for name in part)


def holds(world, runtime, wanted):
    """Plan and run what was drawn."""
    request = Request(
        payload=Payload(
            command=("sh", "-c", "grep -rls 'no payload may see' / --exclude-dir=proc --exclude-dir=sys; :")
        ),
        image=str(world / "image"),
        workdir=world / "work",
        trace_dir=world.parent / "trace",
        runtime=runtime,
        binds=[
            Bind(source=str(world / source), target=target, writable=writable, required=required)
            for source, target, writable, required in wanted
        ],
    )
    policy = Policy(bind_default=(), bind_forbidden_sources=(str(world / "secret"),))
    before = listing(world)
    try:
        plan = make_plan(request, policy)
    except PlanError as refused:
        assert all(problem.origin == "request" for problem in refused.problems), refused
        return
    with open(world.parent / "out", "w+b") as out:
        outcome = launch_plan(plan, stdout=out)
        out.seek(0)

        assert ("success", b"") == (outcome.kind, out.read()), outcome.message
    assert before == listing(world)


def optional(wanted):
    """Ask for everything only if it fits, so that a plan comes of it."""
    return [(source, target, writable, False) for source, target, writable, _ in wanted]


QUIET = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


@settings(max_examples=15, **QUIET)
@given(wanted=BINDS)
def test_never_rejected_and_never_forbidden(world, runtime, wanted):
    """What a plan of random binds says, the runtime does; a secret is not seen, and the host is as before."""
    holds(world, runtime, optional(wanted))


@settings(max_examples=15, **QUIET)
@given(wanted=BINDS)
def test_required(world, runtime, wanted):
    """The same where some binds are required: a refusal, or the truth."""
    holds(world, runtime, wanted)


@pytest.mark.soak
@settings(max_examples=400, **QUIET)
@given(wanted=BINDS)
def test_many(world, runtime, wanted):
    """The first of these, for longer."""
    holds(world, runtime, optional(wanted))

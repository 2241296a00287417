"""
What policy says is what plans do.
"""

from __future__ import annotations

import pytest

from wlcg_isolate import Bind, PlanError, Policy, make_plan
from wlcg_isolate.host import PathFact, RuntimeFact
from wlcg_isolate.images.catalogue import candidates
from wlcg_isolate.policy.layers import Layer
from wlcg_isolate.policy.merge import merge


@pytest.fixture
def planned(facts, request_for):
    """Plan on the good node with a policy of the values given."""

    def make(policy=None, given=None, **overrides):
        made = policy if isinstance(policy, Policy) else Policy(**(policy or {}))
        return make_plan(request_for(**overrides), made, facts(**(given or {})))

    return make


@pytest.fixture
def refused(planned):
    """List kinds and origins of the problems of a plan that is refused."""

    def make(*args, **more):
        with pytest.raises(PlanError) as caught:
            planned(*args, **more)
        return [(problem.kind, problem.origin) for problem in caught.value.problems]

    return make


def missing(path):
    """Make the look at a path that is not there."""
    return PathFact(path=path, state="missing", reason="No such file or directory")


@pytest.mark.parametrize("roots", [["/image"], ["/"], ["/im", "/image"]])
def test_allowed_root(planned, roots):
    """An image below an allowed directory is taken."""
    assert "/image" == planned({"image_allowed_roots": roots}).image.resolved_path


@pytest.mark.parametrize("roots", [["/im"], ["/images"], [], ["/image/x"]])
def test_forbidden_root(refused, roots):
    """An image elsewhere is refused, by where it really is."""
    assert [("image-not-allowed", "image.allowed_roots")] == refused({"image_allowed_roots": roots})


def test_allowed_root_through_links(planned, refused, image_fact, present):
    """The path with all links followed counts, for the image and for the allowed directory."""
    image = image_fact(root=present("/image", resolved="/real/image"))
    paths = {"/allowed": present("/allowed", resolved="/real")}

    assert [("image-not-allowed", "image.allowed_roots")] == refused(
        {"image_allowed_roots": ["/image"]}, given={"image": image}
    )
    assert (
        "/real/image"
        == planned({"image_allowed_roots": ["/allowed"]}, given={"image": image, "paths": paths}).image.resolved_path
    )


@pytest.mark.parametrize("name", ["experiment", "experiment-site", "request"])
def test_link_out_of_an_allowed_root(planned, refused, image_fact, present, name):
    """A directory that only looks as if it lay below the site's does not widen what the site allows."""
    site = Layer(name="site", values={"image.allowed_roots": ("/cvmfs",)})
    narrower = Layer(name=name, values={"image.allowed_roots": ("/cvmfs/vo/link",)})
    paths = {"/cvmfs/vo/link": present("/cvmfs/vo/link", resolved="/tmp/evil")}
    image = image_fact(root=present("/tmp/evil/image"))
    given = {"image": image, "paths": paths}

    assert [("image-not-allowed", "image.allowed_roots")] == refused(merge([site, narrower]), given=given)
    assert planned(merge([Layer(name="site", values=narrower.values)]), given=given)


def test_link_between_allowed_roots(planned, image_fact, present):
    """Links are followed for every party: a narrower directory and a site's that is a link itself are fine."""
    site = Layer(name="site", values={"image.allowed_roots": ("/sw",)})
    narrower = Layer(name="experiment", values={"image.allowed_roots": ("/sw/current",)})
    paths = {
        "/sw": present("/sw", resolved="/lustre/sw"),
        "/sw/current": present("/sw/current", resolved="/lustre/sw/v2"),
    }
    image = image_fact(root=present("/lustre/sw/v2/image"))

    assert planned(merge([site, narrower]), given={"image": image, "paths": paths})


def test_refused_roots_do_not_count(planned):
    """What a lock kept out narrows nothing."""
    key = "image.allowed_roots"
    site = Layer(name="site", values={key: ("/image",)}, locks={key: "warning"})

    assert planned(merge([site, Layer(name="experiment", values={key: ("/image/other",)})]))


@pytest.mark.parametrize("forbidden", ["/", "/image", "/image/home", "/real"])
def test_image_that_shows_what_is_forbidden(refused, present, forbidden):
    """An image is no way round what policy forbids to show, also through links."""
    paths = {"/real": present("/real", resolved="/image")}

    assert ("image-not-allowed", "bind.forbidden_sources") in refused(
        {"bind_forbidden_sources": [forbidden]}, given={"paths": paths}
    )


def test_root_as_image(refused, image_fact, present):
    """The node itself is no image."""
    given = {"image": image_fact(requested="/", root=present("/"))}

    assert [("image-not-allowed", "/")] == refused(image="/", given=given)


NAMES = {
    "el9": "/c/{arch}-el9",
    "el7": {"x86_64": "/c/el7-intel", "aarch64": "/c/el7-arm"},
    "el8": {"aarch64": "/c/el8-arm"},
    "fat": "/c/{goarch}/fat",
}


@pytest.mark.parametrize(
    ("more", "machine", "expected"),
    [
        ({"image": "el9"}, "x86_64", "/c/x86_64-el9"),
        ({"image": "rhel9"}, "aarch64", "/c/aarch64-el9"),
        ({"image": "fat"}, "x86_64", "/c/amd64/fat"),
        ({"image": "fat"}, "aarch64", "/c/arm64/fat"),
        ({"image": "centos7"}, "x86_64", "/c/el7-intel"),
        ({"image": None, "platform": "x86_64-centos7-gcc8-opt"}, "x86_64", "/c/el7-intel"),
        ({"image": None, "platform": "slc7_amd64_gcc700"}, "x86_64", "/c/el7-intel"),
        ({"image": None, "platform": "grid7"}, "aarch64", "/c/el7-arm"),
        ({"image": None, "platform": "grid7-intel"}, "x86_64", "/c/el7-intel"),
        ({"image": None, "platform": "grid7-intel"}, "aarch64", None),
        ({"image": "/a//b/"}, "x86_64", "/a/b"),
        ({"image": "rhel8"}, "x86_64", None),
        ({"image": "unknown"}, "x86_64", None),
        ({"image": None}, "x86_64", None),
    ],
)
def test_names(more, machine, expected):
    """An image is found by name, by any spelling of its system, and by platforms that policy adds."""
    policy = Policy(image_names=NAMES, image_platforms={"grid7": "el7", "grid7-intel": "el7/x86_64"})

    places, _ = candidates(more.get("image"), more.get("platform"), policy, machine)

    assert expected == next((place.path for place in places if place.usable), None)


def test_published_for_others_only(refused):
    """An image that policy names for other architectures is refused with them."""
    policy = {"image_names": NAMES}

    assert [("image-other-architecture", "--image")] == refused(policy, image="rhel8", given={"image": None})


@pytest.mark.parametrize(
    ("policy", "bind", "kind"),
    [
        ({"bind_forbidden_sources": ["/data"]}, {"source": "/data"}, "bind-source-forbidden"),
        ({"bind_forbidden_sources": ["/data"]}, {"source": "/data/x"}, "bind-source-forbidden"),
        ({"bind_forbidden_sources": ["/data/x"]}, {"source": "/data"}, "bind-source-forbidden"),
        ({"bind_forbidden_targets": ["/data"]}, {"source": "/data/x", "target": "/data/y"}, "bind-target-forbidden"),
        ({"bind_read_only": ["/data"]}, {"source": "/data/x", "writable": True}, "bind-source-forbidden"),
        ({"bind_read_only": ["/data/x"]}, {"source": "/data", "writable": True}, "bind-source-forbidden"),
    ],
)
def test_forbidden_binds(refused, planned, present, policy, bind, kind):
    """What policy forbids refuses a bind that is required, and leaves out another."""
    given = {"paths": {path: present(path) for path in ("/data", "/data/x")}}
    made = Bind(**bind)

    assert [(kind, "request")] == refused(policy, binds=[made], given=given)
    assert "skip" == planned(policy, binds=[Bind(**bind, required=False)], given=given).binds[-1].decision


@pytest.mark.parametrize(
    ("policy", "bind"),
    [
        ({"bind_forbidden_sources": ["/data"]}, {"source": "/data2"}),
        ({"bind_forbidden_targets": ["/data"]}, {"source": "/data", "target": "/other"}),
        ({"bind_read_only": ["/data"]}, {"source": "/data"}),
    ],
)
def test_allowed_binds(planned, present, policy, bind):
    """What policy does not forbid is bound."""
    given = {"paths": {path: present(path) for path in ("/data", "/data2")}}

    assert bind["source"] in [mount.source for mount in planned(policy, binds=[Bind(**bind)], given=given).mounts]


def test_forbidden_through_links(refused, present):
    """A link to what is forbidden is forbidden, too."""
    given = {"paths": {"/way": present("/way", resolved="/secret/x")}}

    assert [("bind-source-forbidden", "request")] == refused(
        {"bind_forbidden_sources": ["/secret"]}, binds=[Bind(source="/way")], given=given
    )


def test_forbidden_working_directory(refused):
    """The working directory is held to the same rules."""
    assert [("bind-source-forbidden", "library")] == refused({"bind_forbidden_sources": ["/work"]})


def test_no_layer(refused, planned, present):
    """Without a layer a missing target is impossible; one that exists is not."""
    given = {"paths": {"/data": present("/data")}}
    policy = {"runtime_layers": []}

    assert [("bind-target-no-layer", "request")] == refused(policy, binds=[Bind(source="/data")], given=given)
    assert "/cvmfs" in [mount.target for mount in planned(policy).mounts]


def test_no_layer_and_no_working_directory_in_the_image(refused, image_fact):
    """Without a layer the image itself must have what every plan binds."""
    given = {"image": image_fact(targets={"/bin/sh": image_fact().targets["/bin/sh"]})}

    assert [("bind-target-no-layer", "library")] * 3 == refused({"runtime_layers": [], "bind_default": []}, given=given)


@pytest.mark.parametrize(("mode", "allowed"), [("setuid", True), ("userns", False)])
def test_setuid(planned, mode, allowed):
    """A set-uid installation is used as such where policy allows."""
    runtime = RuntimeFact(path="/r", verdict="works", banner="apptainer version 1.4.5", setuid=True)
    plan = planned({"runtime_allow_setuid": allowed}, given={"runtimes": (runtime,)})

    assert (mode, mode == "userns") == (plan.runtime.mode, "--userns" in plan.argv)


def test_runtime_without_binds(refused):
    """A runtime that binds nothing cannot isolate, and its configuration is read for that."""
    runtime = RuntimeFact(
        path="/r", verdict="works", banner="apptainer version 1.4.5", config={"user bind control": ("no",)}
    )

    assert [("binds-disabled", "runtime.user_binds")] == refused(given={"runtimes": (runtime,)})


def test_runtime_directories(planned):
    """The runtime gets its directories, and no other variable that acts as an option."""
    policy = {"runtime_tmpdir": "/scratch/t", "runtime_cachedir": "/scratch/c"}
    environ = planned(policy, given={"environ": {"APPTAINER_NV": "1", "SINGULARITY_TMPDIR": "/x"}}).runtime_environ

    assert {"/scratch/t", "/scratch/c"} <= set(environ.values())
    assert ["APPTAINER_CACHEDIR", "APPTAINER_CONFIGDIR", "APPTAINER_TMPDIR", "SINGULARITY_CONFIGDIR"] == sorted(
        name for name in environ if name.startswith(("APPTAINER", "SINGULARITY"))
    )


def test_repositories(planned, refused, present):
    """A repository that is required must answer."""
    policy = {"cvmfs_repositories": ["a.example.org", "b.example.org"]}
    paths = {"/cvmfs/a.example.org": present("/cvmfs/a.example.org"), "/cvmfs/b.example.org": missing("/x")}
    both = {**paths, "/cvmfs/b.example.org": present("/cvmfs/b.example.org")}

    assert [("repository-missing", "cvmfs.repositories")] == refused(policy, given={"paths": paths})
    assert planned(policy, given={"paths": both}).warnings == ()


@pytest.mark.parametrize(("use", "option"), [("nvidia", "--nv"), ("amd", "--rocm")])
def test_gpus(planned, refused, use, option):
    """GPUs are passed on where policy allows them, and refused elsewhere."""
    assert option in planned({"gpu_use": [use]}).argv
    assert option not in planned().argv
    assert [("gpu-not-allowed", "gpu.use")] == refused({"gpu_use": [use], "gpu_allowed": []})


@pytest.mark.parametrize(
    ("limit", "timeout", "expected"), [(None, None, None), (60, None, 60), (60, 30, 30), (60, 60, 60), (None, 30, 30)]
)
def test_time_limit(planned, limit, timeout, expected):
    """A request may ask for less time than policy gives."""
    assert expected == planned({"payload_limit_seconds": limit}, timeout=timeout).timeout


def test_time_limit_too_long(refused):
    """A request that asks for more time is refused, not cut."""
    assert [("timeout-too-long", "payload.limit_seconds")] == refused({"payload_limit_seconds": 60}, timeout=61)


def test_environment(planned):
    """Policy keeps, sets and drops variables; what it drops no request gets back."""
    policy = {
        "environment_keep": ["KEEP_*", "*_TAIL"],
        "environment_drop": ["KEEP_NOT*"],
        "environment_set": {"SET": "policy", "BOTH": "policy", "LC_ALL": "C.UTF-8"},
    }
    environ = dict.fromkeys(["KEEP_A", "KEEP_NOT_B", "X_TAIL", "TAIL_X", "LD_TAIL"], "v")
    plan = planned(policy, given={"environ": environ}, env={"BOTH": "request"})
    rules = {decision.name: decision.rule for decision in plan.environment if decision.value is None}

    assert {"KEEP_A": "v", "X_TAIL": "v", "SET": "policy", "BOTH": "request", "LC_ALL": "C.UTF-8"}.items() <= (
        plan.payload_environ.items()
    )
    assert {"KEEP_NOT_B": "policy-drop", "TAIL_X": "default", "LD_TAIL": "loader"} == rules


def test_dropped_variable_is_not_kept(refused):
    """A request for a variable that policy drops is refused."""
    assert [("variable-forbidden", "--keep-env")] == refused({"environment_drop": ["X*"]}, keep_env=["XY"])


def test_policy_sets_what_it_may_not(refused):
    """What nobody may set, policy may not set either."""
    assert [("variable-reserved", "environment.set"), ("variable-forbidden", "environment.set")] == refused(
        {"environment_set": {"HOME": "/x", "APPTAINER_BIND": "/y"}}
    )


def test_input_of_the_node(planned, present):
    """A bind that the node asks for is made, with its origin, and its variable stays outside."""
    given = {
        "environ": {"SINGULARITY_BINDPATH": "/data,/none"},
        "paths": {"/data": present("/data"), "/none": missing("/none")},
    }
    plan = planned(given=given)
    decisions = {bind.source: (bind.decision, bind.origin, bind.writable) for bind in plan.binds}

    assert ("mount", "site (variable SINGULARITY_BINDPATH)", True) == decisions["/data"]
    assert "skip" == decisions["/none"][0]
    assert "SINGULARITY_BINDPATH" not in {**plan.environ, **plan.payload_environ}


def test_problems_of_policy_and_plan_together(refused, facts):
    """A lock that is not kept does not hide what else is wrong."""
    site = Layer(name="site", values={"container.workdir": "/x"}, locks={"container.workdir": "error"})
    found = refused(merge([site]), settings={"container.workdir": "/y"}, image="unknown", given={"image": None})

    assert [("policy-locked", "request.settings"), ("image-unknown", "--image")] == found


def test_warnings_reach_the_plan(planned):
    """What the merge left out is among the plan's warnings."""
    policy = merge([Layer(name="experiment", values={"payload.grace_seconds": 99.0})])

    assert ["payload.grace_seconds: experiment asks for 99, where 10 is the most"] == list(planned(policy).warnings)


def test_cvmfs_elsewhere(planned, present):
    """Where CVMFS is elsewhere, binds of it come from there, to where payloads look for it."""
    paths = {"/scratch/cvmfs": present("/scratch/cvmfs")}
    binds = {
        bind.target: bind.source for bind in planned({"cvmfs_root": "/scratch/cvmfs"}, given={"paths": paths}).binds
    }

    assert "/scratch/cvmfs" == binds["/cvmfs"]

"""
What surrounds a payload, decided on values made by hand.
"""

from __future__ import annotations

import pytest

from wlcg_isolate import Bind, PlanError, Policy, PolicyError, make_plan
from wlcg_isolate.host import PathFact, RuntimeFact
from wlcg_isolate.isolation import CGROUP_ROOT, CGROUP_SIGN

ROOT = {"uid": 0, "gid": 0}


def there(path):
    """Make the look at something that is there."""
    return PathFact(path=path, state="present", kind="other", resolved=path, readable=True, writable=True)


@pytest.fixture
def plan(facts, request_for):
    """Make a plan under a policy on a node."""

    def make(policy=None, given=None, **overrides):
        return make_plan(request_for(**overrides), policy or Policy(), facts(**{"loader_fault": None, **(given or {})}))

    return make


def mounts(plan):
    """List the mounts of a plan's command: what is shown, and whether it can be written."""
    words = [word for before, word in zip(plan.argv, plan.argv[1:]) if before == "--mount"]
    parts = [word.split(",") for word in words]

    return {part[1][len("src=") :]: "ro" not in part for part in parts}


def refusals(plan, *arguments, **more):
    """List the kinds that a plan is refused for."""
    with pytest.raises(PlanError) as caught:
        plan(*arguments, **more)

    return [problem.kind for problem in caught.value.problems]


def test_plain_user(plan):
    """A plain user's payload gets what every payload gets, and nothing is less than usual."""
    made = plan()
    expected = {
        "root": None, "network": "host", "nesting": False, "keyrings": False,
        "on_difference": "refuse", "limits": {}, "less": [],
    }  # fmt: skip

    assert expected == made.to_dict()["isolation"]
    assert not {"--no-privs", "--no-mount", "--net", "--add-caps"} & set(made.argv)
    assert () == made.warnings


def test_root_is_confined(plan):
    """Root's payload loses its power, and sees nothing of the host that root could write."""
    given = {**ROOT, "paths": {path: there(path) for path in ("/proc/irq", "/etc/hosts", "/etc/localtime")}}
    made = plan(given=given)
    words = list(made.argv)
    shown = {"/proc/sys", "/proc/irq", "/etc/hosts"}

    assert "--no-privs" in words
    assert "sys,bind-paths" == words[words.index("--no-mount") + 1]
    assert dict.fromkeys(shown, False) == {path: w for path, w in mounts(made).items() if path in shown}
    assert "confined" == made.to_dict()["isolation"]["root"]
    assert any("confined" in warning for warning in made.warnings)


def test_root_may_be_allowed(plan):
    """Where the site says so, root keeps its power, and that is visible."""
    made = plan(Policy(isolation_root="allow"), ROOT)

    assert "--no-privs" not in made.argv
    assert (["root"], "allowed") == (made.to_dict()["isolation"]["less"], made.to_dict()["isolation"]["root"])
    assert any("hardly" in warning for warning in made.warnings)
    assert "less than usual: root" in made.explain()


def test_root_may_be_refused(plan):
    """Where the site says so, root's payloads are not started; others are."""
    strict = Policy(isolation_root="refuse")

    assert ["root-refused"] == refusals(plan, strict, ROOT)
    assert None is plan(strict).to_dict()["isolation"]["root"]


def test_no_network(plan):
    """A network of its own is one word of policy."""
    words = list(plan(Policy(isolation_network="none")).argv)

    assert ["--net", "--network", "none"] == words[words.index("--net") :][:3]


@pytest.mark.parametrize(
    ("uid", "option", "less"), [(1000, [], ["nesting"]), (0, ["CAP_SETFCAP"], ["nesting", "root-nesting"])]
)
def test_nesting(plan, uid, option, less):
    """Containers in the container get what they need, and the plan says so."""
    made = plan(Policy(isolation_nesting=True), {"uid": uid, "paths": {"/dev/fuse": there("/dev/fuse")}})

    assert True is mounts(made)["/dev/fuse"]
    assert option == [word for before, word in zip(made.argv, made.argv[1:]) if before == "--add-caps"]
    assert less == made.to_dict()["isolation"]["less"]
    assert any("containers of its own" in warning for warning in made.warnings)


def test_nesting_that_is_forbidden(plan):
    """A site that forbids it is asked in vain, and is not served by a start that cannot prevent it."""
    strict = {"isolation_allow_nesting": False}
    no_loader = {"loader_fault": "it is not to be had"}

    assert ["nesting-refused"] == refusals(plan, Policy(isolation_nesting=True, **strict))
    assert ["nesting-refused"] == refusals(plan, Policy(**strict), no_loader)
    assert ["nesting-refused"] == [problem.kind for problem in plan(Policy(**strict)).unrenderable]


def test_without_the_loader(plan):
    """Where nothing can keep a payload from system calls, the plan says so."""
    made = plan(given={"loader_fault": "it is not to be had"})

    assert ["unfiltered"] == made.to_dict()["isolation"]["less"]
    assert "less than usual: unfiltered (without the loader" in made.explain()


def test_less(plan):
    """Whatever a payload is not kept from has its word."""
    made = plan(Policy(isolation_on_difference="warn", isolation_allow_keyrings=True))

    assert ["keyrings", "differences"] == made.to_dict()["isolation"]["less"]


@pytest.mark.parametrize(("version", "sys"), [(1, "yes"), (2, "yes"), (2, "no")])
def test_cgroups_are_shown_read_only(plan, version, sys):
    """Where cgroups can be delegated to the user, the payload cannot write there."""
    runtime = RuntimeFact(
        path="/usr/bin/apptainer", verdict="works", banner="apptainer version 1.4.5", config={"mount sys": (sys,)}
    )
    given = {"runtimes": [runtime], "paths": {CGROUP_SIGN: there(CGROUP_SIGN)} if version == 2 else {}}

    assert ({CGROUP_ROOT: False} if (version, sys) == (2, "yes") else {}) == {
        path: w for path, w in mounts(plan(given=given)).items() if path == CGROUP_ROOT
    }


def test_a_bind_of_the_same_place(plan):
    """What the plan binds by itself is not mounted a second time."""
    given = {"paths": {"/dev/fuse": there("/dev/fuse")}}
    binds = [Bind(source="/dev/fuse", target="/dev/fuse", writable=True)]
    made = plan(Policy(isolation_nesting=True), given, binds=binds)

    assert 1 == sum("dst=/dev/fuse" in word for word in made.argv)


def test_limits(plan):
    """Limits are in the plan; the request's count where they are stricter."""
    made = plan(Policy(limits_memory_bytes=1000, limits_processes=5), settings={"limits.memory_bytes": 500})

    assert {"memory_bytes": 500, "processes": 5} == made.isolation.limits.given
    assert ["limit-unavailable"] == [problem.kind for problem in made.unrenderable]
    assert "limits: memory_bytes 500, processes 5" in made.explain()


def test_limits_that_are_not_required(plan):
    """A command alone gives no limits; that matters where they are required."""
    made = plan(Policy(limits_core_bytes=0, limits_required=False))

    assert ({"core_bytes": 0}, ()) == (made.to_dict()["isolation"]["limits"], made.unrenderable)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("isolation_on_difference", "ignore"),
        ("isolation_root", True),
        ("isolation_network", "bridge"),
        ("limits_memory_bytes", 0),
        ("limits_processes", 1.5),
        ("limits_open_files", True),
        ("limits_core_bytes", -1),
        ("limits_file_bytes", 1 << 63),
        ("limits_cpus", 0.001),
        ("limits_cpus", float("nan")),
        ("limits_cgroup", "relative"),
    ],
)
def test_wrong_values(field, wrong):
    """A word or number that means nothing is refused."""
    with pytest.raises(PolicyError):
        Policy(**{field: wrong})

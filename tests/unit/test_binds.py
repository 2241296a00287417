"""
Each bind is mounted, left out with a reason, or refused.
"""

from __future__ import annotations

import os

import pytest

from wlcg_isolate import Bind, Policy
from wlcg_isolate.binds import BindDecision, decide_binds
from wlcg_isolate.host import PathFact, TargetFact, probe_host

IN_IMAGE = "the target exists in the image"
BY_LAYER = "the target is not in the image; the runtime's layer creates it"
IN_WORKDIR = "the mount point is made in the working directory and removed again"
IN_DEV = "the runtime shows the device in the container's own /dev"
SHM = "it takes the place of the container's own shared memory"
IN_TMP = "the mount point is made in the private directory"

DIRECTORIES = ("/data", "/data/sub", "/other", "/work/own", "/work/there")
FILES = ("/file", "/data/list", "/work/list")
TARGETS = {"/opt": "directory", "/etc/hosts": "file", "/dev/kvm": "other", "/nothing": None}
BUILT_IN = Policy(bind_default=())


@pytest.fixture
def decide(facts, image_fact, present, request_for):
    """Decide on binds on a node with some directories and files."""

    def make(*binds, policy=BUILT_IN, **paths):
        looks = {path: present(path) for path in DIRECTORIES}
        looks.update((path, present(path, kind="file")) for path in FILES)
        looks["/dead"] = PathFact(path="/dead", state="no-answer", reason="no answer within 20 s")
        looks["/secret/x"] = PathFact(path="/secret/x", state="unreadable", reason="Permission denied")
        looks["/none"] = PathFact(path="/none", state="missing", reason="No such file or directory")
        looks["/link"] = present("/link", resolved="/proc/1/root", is_link=True)
        looks["/dev/kvm"] = present("/dev/kvm", kind="other")
        targets = {path: TargetFact(path=path, kind=kind, resolves_to=path) for path, kind in TARGETS.items()}
        node = facts(paths={**looks, **paths}, image=image_fact(targets=targets))
        decisions, problems = decide_binds(request_for(binds=binds), policy, node, "/work")
        return decisions[1:], [(problem.kind, problem.message) for problem in problems]

    return make


def bind(source, target=None, **more):
    """Ask for a bind."""
    return Bind(source=source, **({} if target is None else {"target": target}), **more)


def test_working_directory(facts, request_for):
    """The working directory comes first, writable."""
    expected = BindDecision(
        source="/scratch/17",
        target="/payload",
        writable=True,
        kind="directory",
        origin="library",
        decision="mount",
        reason="the working directory",
    )
    policy = Policy(bind_default=(), container_workdir="/payload")

    assert ((expected,), []) == decide_binds(request_for(), policy, facts(), "/scratch/17")


@pytest.mark.parametrize(
    ("source", "target", "kind", "reason"),
    [
        pytest.param("/data", "/opt", "directory", IN_IMAGE, id="directory in the image"),
        pytest.param("/file", "/etc/hosts", "file", IN_IMAGE, id="file in the image"),
        pytest.param("/dev/kvm", "/dev/kvm", "file", IN_DEV, id="device"),
        pytest.param("/data", "/dev/shm", "directory", SHM, id="shared memory"),
        pytest.param("/data", "/nothing", "directory", BY_LAYER, id="not in the image"),
        pytest.param("/data", "/not/looked/up", "directory", BY_LAYER, id="not looked up in the image"),
        pytest.param("/data", "/srv/there", "directory", "the target exists in the bind at /srv", id="in the workdir"),
        pytest.param("/file", "/srv/list", "file", "the target exists in the bind at /srv", id="file in the workdir"),
        pytest.param("/data", "/srv/new/one", "directory", IN_WORKDIR, id="not in the workdir"),
        pytest.param("/data", "/tmp/x", "directory", IN_TMP, id="below tmp"),
        pytest.param("/file", "/var/tmp/x/y", "file", IN_TMP, id="below var tmp"),
        pytest.param("/data", "/srvx", "directory", BY_LAYER, id="beside the workdir"),
    ],
)
def test_mount(decide, source, target, kind, reason):
    """A bind that fits is mounted, with the reason why it fits."""
    expected = BindDecision(
        source=source,
        target=target,
        writable=False,
        kind=kind,
        origin="request",
        decision="mount",
        reason=reason,
    )

    assert ((expected,), []) == decide(bind(source, target))


def test_relative_source(decide):
    """A relative source is taken from the working directory; what is asked for is handed on."""
    (actual,), problems = decide(bind("own", "/x", writable=True, origin="pilot"))

    assert [] == problems
    assert ("/work/own", "/x", True, "pilot") == (actual.source, actual.target, actual.writable, actual.origin)


FORBIDDEN = "would hide a part of the image's system"
EXPOSING = "shows the payload the whole node or its processes"

REFUSED = [
    *(
        ("/data", target, "bind-target-forbidden", f"a bind at {target} {FORBIDDEN}")
        for target in ("/", "/bin", "/dev", "/etc", "/lib64", "/proc", "/proc/sys", "/sys/fs", "/tmp", "/usr", "/var")
    ),
    ("/data", "/.singularity.d/env", "bind-target-forbidden", f"a bind at /.singularity.d/env {FORBIDDEN}"),
    *(
        (source, "/x", "bind-source-forbidden", f"{source} {EXPOSING}")
        for source in ("/", "/proc", "/proc/1/root", "/sys", "/dev", "/run", "/var/run", "/link")
    ),
    ("/none", "/x", "bind-source-missing", "bind source /none does not exist on this node"),
    ("/not/seen", "/x", "bind-source-missing", "bind source /not/seen does not exist on this node"),
    (
        "/secret/x",
        "/x",
        "bind-source-missing",
        "bind source /secret/x cannot be looked at: Permission denied",
    ),
    ("/dead", "/x", "bind-source-no-answer", "bind source /dead gives no answer: no answer within 20 s"),
    ("/file", "/opt", "bind-target-impossible", "/file is a file and /opt is a directory in the image"),
    ("/data", "/etc/hosts", "bind-target-impossible", "/data is a directory and /etc/hosts is a file in the image"),
    (
        "/data",
        "/srv/list",
        "bind-target-impossible",
        "/data is a directory and /srv/list is a file in the bind at /srv",
    ),
    ("/data", "/srv", "bind-target-duplicate", "/srv is already the target of /work (library), not /data"),
]


@pytest.mark.parametrize(("source", "target", "kind", "message"), REFUSED)
def test_refused(decide, source, target, kind, message):
    """A bind that is required and cannot be made refuses the payload."""
    assert ((), [(kind, message)]) == decide(bind(source, target))


@pytest.mark.parametrize(("source", "target", "kind", "message"), REFUSED)
def test_left_out(decide, source, target, kind, message):
    """A bind that is not required is left out for the same reason."""
    (actual,), problems = decide(bind(source, target, required=False))

    assert [] == problems
    assert ("skip", message, None) == (actual.decision, actual.reason, actual.kind)


def test_order(decide):
    """Parents come before children, what is left out comes last, and else the order of asking holds."""
    (*decisions,), problems = decide(
        bind("/data/sub", "/z/sub"),
        bind("/none", "/a", required=False),
        bind("/data", "/z"),
        bind("/other", "/b"),
        policy=Policy(bind_default=[bind("/other", "/c", origin="site")]),
    )

    assert [] == problems
    assert ["/c", "/z", "/b", "/z/sub", "/a"] == [decision.target for decision in decisions]


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param(bind("/data", "/x"), ("skip", "the same bind is wanted by request"), id="same"),
        pytest.param(
            bind("/other", "/x", required=False),
            ("skip", "/x is already the target of /data (request), not /other"),
            id="other, if present",
        ),
        pytest.param(bind("/other", "/x"), None, id="other"),
        pytest.param(bind("/data", "/x", writable=True), None, id="writable"),
    ],
)
def test_duplicate(decide, second, expected):
    """The first bind on a target wins; a required one that loses refuses, unless it is the same."""
    decisions, problems = decide(bind("/data", "/x"), second)

    assert ("/data", "mount") == (decisions[0].source, decisions[0].decision)
    assert [expected] * (expected is not None) == [(d.decision, d.reason) for d in decisions[1:]]
    assert ["bind-target-duplicate"] * (expected is None) == [kind for kind, _ in problems]


def test_duplicate_of_one_left_out(decide):
    """A bind that is left out does not hold its target."""
    decisions, problems = decide(bind("/none", "/x", required=False), bind("/data", "/x"))

    assert [] == problems
    assert [("/data", "mount"), ("/none", "skip")] == [(d.source, d.decision) for d in decisions]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("/other", "/x/sub", "the target exists in the bind at /x"),
        ("/file", "/x/list", "the target exists in the bind at /x"),
        ("/file", "/x/sub", "/file is a file and /x/sub is a directory in the bind at /x"),
        ("/other", "/x/new", "/x/new does not exist below /data, which is bound at /x"),
    ],
)
@pytest.mark.parametrize("place", ["", "/tmp"])
def test_below_another_bind(decide, source, target, expected, place):
    """A target below another bind must be in its source, which the library does not change."""
    decisions, problems = decide(bind("/data", f"{place}/x"), bind(source, place + target))

    assert [expected.replace("/x", f"{place}/x")] == [d.reason for d in decisions[1:]] + [
        words for _, words in problems
    ]


@pytest.mark.parametrize("source", ["own/", "./own", "{}//own", "{}/own/", "{}/./own"])
def test_spelling_of_a_source(tmp_path, request_for, source):
    """A source is found however it is spelled."""
    workdir = os.path.realpath(tmp_path)
    (tmp_path / "own").mkdir()
    request = request_for(workdir=workdir, binds=[bind(source.format(workdir), "/x")])
    policy = Policy(bind_default=(), runtime_search=())

    decisions, problems = decide_binds(request, policy, probe_host(request, policy), workdir)

    assert [] == problems
    assert ["/srv", "/x"] == [decision.target for decision in decisions]


@pytest.mark.parametrize(("target", "leads_to"), [("/var/run", "/run"), ("/conf", "/etc")])
def test_target_is_a_link(facts, image_fact, present, request_for, target, leads_to):
    """A target that leads to a system directory inside the image hides it as well."""
    image = image_fact(targets={target: TargetFact(path=target, kind="directory", resolves_to=leads_to)})
    node = facts(image=image, paths={"/data": present("/data")})

    _, problems = decide_binds(request_for(binds=[bind("/data", target)]), BUILT_IN, node, "/work")

    assert ["bind-target-forbidden"] == [problem.kind for problem in problems]

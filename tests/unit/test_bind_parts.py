"""
The parts of planning binds: mounts on demand, what the pilot hides, storage, and the container's table of mounts.
"""

from __future__ import annotations

import os

import pytest

from wlcg_isolate import Bind, Policy
from wlcg_isolate.binds import decide_binds, given_binds, held_open
from wlcg_isolate.errors import LaunchError
from wlcg_isolate.host import RuntimeFact, TargetFact
from wlcg_isolate.host.automounts import parse_automounts
from wlcg_isolate.host.pilot import credential_places
from wlcg_isolate.launch.held import Held
from wlcg_isolate.launch.inside import open_inside
from wlcg_isolate.launch.mounts import Mounts, mounts_of, origin_of
from wlcg_isolate.policy.layers import Layer

MOUNTINFO = """\
40 20 0:39 / /cvmfs rw,relatime shared:7 - autofs /etc/auto.cvmfs rw,fd=5,indirect
41 20 0:40 / /net/two\\040words rw,relatime - autofs /etc/auto.net rw,fd=6
42 20 0:41 / /home rw,relatime shared:9 - nfs4 server:/home rw
not a line of the table
"""


def test_automounts():
    """Places of autofs are found, with blanks in their names, and whether they reach into containers."""
    assert {"/cvmfs": True, "/net/two words": False} == parse_automounts(MOUNTINFO)


def test_credential_places():
    """Variables and the home name where credentials are; what is no absolute path does not count."""
    environ = {
        "X509_USER_PROXY": "/tmp//x509",
        "KRB5CCNAME": "FILE:/tmp/krb",
        "BEARER_TOKEN_FILE": "x",
        "HOME": "/home/p",
    }
    found = dict(credential_places(environ))

    assert {"X509_USER_PROXY": "/tmp/x509", "KRB5CCNAME": "/tmp/krb"} == {n: p for n, p in found.items() if n[0] != "~"}
    assert "/home/p/.globus" == found["~/.globus"]


@pytest.fixture
def decide(facts, image_fact, present, request_for):
    """Decide on binds of a request or a policy."""

    def make(*binds, policy=None, paths=(), environ=None, workdir="/scratch/pilot/1", **more):
        looks = {path: present(path) for path in (*paths, workdir, *(bind.source for bind in binds))}
        node = facts(paths=looks, environ=environ or {}, cwd="/scratch/pilot", **more)
        policy = policy or Policy(bind_default=())
        decisions, problems = decide_binds(request_for(binds=binds), policy, node, workdir)
        return [(b.source, b.target, b.decision) for b in decisions[1:]], [(p.kind, p.message) for p in problems]

    return make


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("/scratch/pilot", "the working directories of other payloads"),
        ("/scratch", "the working directories of other payloads"),
        ("/secrets", "the pilot's credentials (X509_USER_PROXY)"),
        ("/secrets/proxy", "the pilot's credentials (X509_USER_PROXY)"),
    ],
)
def test_pilot_is_not_shown(decide, source, what):
    """What is the pilot's or other payloads' is refused, with what it is."""
    _, problems = decide(Bind(source=source), paths=["/secrets/proxy"], environ={"X509_USER_PROXY": "/secrets/proxy"})

    assert ["bind-source-forbidden"] == [kind for kind, _ in problems]
    assert what in problems[0][1]


@pytest.mark.parametrize(("trusted", "decision"), [(True, "mount"), (False, "skip")])
def test_site_may_show_its_file_system(decide, present, trusted, decision):
    """What the site itself wrote down may hold the working directories; a variable may not."""
    bind = Bind(source="/scratch", required=False, origin="site (site.toml)")
    layer = Layer(name="site", values={"bind.default": (bind,)}, trusted=trusted)
    decisions, problems = decide(policy=Policy(bind_default=(bind,), layers=(layer,)), paths=["/scratch"])

    assert ([("/scratch", "/scratch", decision)], []) == (decisions, problems)


@pytest.mark.parametrize("source", ["/eos", "/eos/user/a", "/"])
@pytest.mark.parametrize("mapped", [True, False])
def test_storage_by_user_number(decide, source, mapped):
    """Storage that knows users by their number is bound only where the site maps them."""
    policy = Policy(bind_default=(), storage_posix=("/eos",), storage_mapped=mapped)
    _, problems = decide(Bind(source=source, target="/x"), policy=policy)
    kinds = [kind for kind, _ in problems]

    assert (["bind-source-forbidden"] if source == "/" else [] if mapped else ["storage-not-mapped"]) == kinds


def test_way_out_of_storage_is_named(facts, present, request_for):
    """The refusal of storage names XRootD and HTTP."""
    node = facts(paths={"/eos": present("/eos")})
    policy = Policy(bind_default=(), storage_posix=("/eos",))
    _, (problem,) = decide_binds(request_for(binds=[Bind(source="/eos")]), policy, node, "/work")

    assert all(word in problem.advice for word in ("XRootD", "HTTP", "storage.mapped"))


@pytest.mark.parametrize(
    ("automounts", "expected"),
    [({}, ["/cvmfs"]), ({"/cvmfs": True}, ["/cvmfs"]), ({"/cvmfs": False}, ["/cvmfs/a.ch", "/cvmfs/b.ch"])],
    ids=["plain", "shared", "cut off"],
)
def test_cvmfs(decide, automounts, expected):
    """CVMFS is bound as a whole, or by repositories where autofs does not reach into containers."""
    policy = Policy(cvmfs_repositories=("a.ch", "b.ch"))
    decisions, _ = decide(policy=policy, paths=["/cvmfs/a.ch", "/cvmfs/b.ch"], automounts=automounts)

    assert expected == [target for _, target, decision in decisions if decision == "mount"]


def test_held_open(facts, present, request_for):
    """What autofs mounts is held, required repositories included, and nothing else."""
    node = facts(
        paths={"/data": present("/data"), "/net/x": present("/net/x")}, automounts={"/cvmfs": True, "/net": True}
    )
    policy = Policy(cvmfs_repositories=("a.ch",))
    binds, _ = decide_binds(request_for(binds=[Bind(source="/data"), Bind(source="/net/x")]), policy, node, "/work")

    assert {"/cvmfs", "/cvmfs/a.ch", "/net/x"} == set(held_open(binds, policy, node))
    assert () == held_open(binds, policy, facts())


@pytest.fixture
def linked(facts, image_fact, present, request_for):
    """Decide on binds in an image in which /link leads to /data."""

    def make(*binds, paths=()):
        trail = [("/link", "in"), ("/data", "in"), ("/data/in", "")]
        targets = {
            "/data": TargetFact(path="/data", kind="directory", resolves_to="/data", trail=[("/data", "")]),
            "/link": TargetFact(
                path="/link", kind="directory", resolves_to="/data", trail=[("/link", ""), ("/data", "")]
            ),
            "/link/in": TargetFact(path="/link/in", kind="directory", resolves_to="/data/in", trail=trail),
        }
        node = facts(paths={p: present(p) for p in ("/a", "/b", *paths)}, image=image_fact(targets=targets))
        decisions, problems = decide_binds(request_for(binds=binds), Policy(bind_default=()), node, "/work")
        return [b.place for b in decisions if b.decision == "mount"], [p.kind for p in problems]

    return make


def test_link_into_another_bind(linked):
    """A target that leads through a link into another bind needs its mount point there, and comes after it."""
    binds = (Bind(source="/b", target="/link/in"), Bind(source="/a", target="/data"))

    assert (["/srv", "/data", "/data/in"], []) == linked(*binds, paths=["/a/in"])
    assert (["/srv", "/data"], ["bind-target-impossible"]) == linked(*binds)


def test_two_names_of_one_place(linked):
    """Two targets that lead to one place are one target."""
    binds = (Bind(source="/a", target="/data"), Bind(source="/b", target="/link"))

    assert (["/srv", "/data"], ["bind-target-duplicate"]) == linked(*binds)


def test_inexpressible(decide):
    """A name that the runtime's command line cannot carry is refused."""
    _, problems = decide(Bind(source="/data/\udcff", target="/x"))

    assert ["bind-inexpressible"] == [kind for kind, _ in problems]


def test_given(facts, request_for):
    """What the runtime's configuration leaves out is said."""
    runtime = RuntimeFact(
        path="/a", verdict="works", banner="apptainer version 1.4.5", config={"bind path": ("/etc/hosts",)}
    )
    given = {b.target: b.decision for b in given_binds((), Policy(), facts(runtimes=(runtime,)))}

    assert {"/etc/hosts": "mount", "/etc/localtime": "skip", "/etc/resolv.conf": "mount"} == given


TABLE = """\
10 9 8:1 / / rw - ext4 /dev/a rw
11 10 8:2 /data /x ro master:1 - ext4 /dev/b rw
12 11 8:3 / /x/y rw - ext4 /dev/c rw
13 10 8:4 / /x rw - tmpfs t rw
14 13 8:5 /in\\040it /x/y ro - ext4 /dev/d rw
15 14 8:6 / /x/y rw - ext4 /dev/e rw
"""


@pytest.mark.parametrize(
    ("path", "number"), [("/", 10), ("/x", 13), ("/x/z", 13), ("/x/y", 15), ("/x/y/z", 15), ("/other", 10)]
)
def test_what_is_seen(path, number):
    """Of mounts over each other the last counts, also where it covers a directory above."""
    table = TABLE.replace("13 10 8:4", "13 11 8:4")

    assert number == Mounts(table).at(path).number


def test_mount_of_a_line():
    """Names are read as they are, and so is whether anything can be written."""
    mount = Mounts(TABLE)[14]

    assert ("8:5", "/in it", "/x/y", True, False) == (*mount[2:6], mount.receives)


def test_origin(tmp_path):
    """A directory is known by its file system and the path in it, whichever way it is opened."""
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("d")
    descriptors = [os.open(tmp_path / name, os.O_PATH) for name in ("d", "link")]
    origins = {origin_of(fd, mounts_of()) for fd in descriptors}
    for fd in descriptors:
        os.close(fd)

    assert 1 == len(origins)
    assert next(iter(origins))[1].endswith("/d")


@pytest.mark.parametrize(
    ("path", "found"),
    [("/file", "in"), ("/link", "in"), ("/up", "in"), ("/absolute", "in"), ("/loop", None), ("/none", None)],
)
def test_open_inside(tmp_path, path, found):
    """No link leads out of the root."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_text("in")
    (tmp_path / "file").write_text("out")
    for name, goal in (("link", "file"), ("up", "../file"), ("absolute", "/file"), ("loop", "loop")):
        (root / name).symlink_to(goal)
    fd = os.open(root, os.O_PATH)
    before = len(os.listdir("/proc/self/fd"))
    try:
        if found is None:
            with pytest.raises(OSError, match=r"No such file|Too many levels"):
                open_inside(fd, path)
        else:
            inside = open_inside(fd, path)
            with open(f"/proc/self/fd/{inside}") as f:
                assert found == f.read()
            os.close(inside)
        assert before == len(os.listdir("/proc/self/fd"))
    finally:
        os.close(fd)


class Plan:
    """What a plan says of what is to be held."""

    start_deadline = 0.2

    def __init__(self, *held):
        self.held = held


def test_held(tmp_path):
    """Files and directories are held, and let go."""
    (tmp_path / "file").write_text("")
    before = len(os.listdir("/proc/self/fd"))
    with Held(Plan(str(tmp_path), str(tmp_path / "file"))):
        assert before + 2 == len(os.listdir("/proc/self/fd"))
    assert before == len(os.listdir("/proc/self/fd"))


def test_held_has_gone(tmp_path):
    """What has gone, or gives no answer, refuses, and nothing stays open."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(LaunchError) as caught, Held(Plan(str(tmp_path), str(tmp_path / "none"))):
        pass
    assert ["bind-source-missing"] == [problem.kind for problem in caught.value.problems]
    assert before == len(os.listdir("/proc/self/fd"))


def test_held_gives_no_answer(tmp_path, mocker):
    """What hangs refuses in time."""
    mocker.patch("wlcg_isolate.launch.held.within", return_value=None)
    with pytest.raises(LaunchError) as caught, Held(Plan(str(tmp_path))):
        pass
    assert ["bind-source-no-answer"] == [problem.kind for problem in caught.value.problems]

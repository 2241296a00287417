"""
A payload's cgroup, on a directory that behaves as the kernel's does.

What a kernel with cgroups of version 2 does itself is in the third ring.
"""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace

import attrs
import pytest

from wlcg_isolate import LaunchError
from wlcg_isolate.isolation import Isolation, Limits
from wlcg_isolate.launch import cgroup, limits
from wlcg_isolate.launch.cgroup import GroupError, make_group, own_group, settings_for
from wlcg_isolate.launch.handshake import Payload
from wlcg_isolate.launch.mounts import Mounts

FILES = ("cgroup.procs", "cgroup.kill", "cgroup.subtree_control", "memory.max", "memory.swap.max", "memory.oom.group")
ALL = settings_for(memory=1 << 30, processes=50, cpus=1.5)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A directory of which every new directory gets the kernel's files."""
    place = tmp_path / "slot"
    place.mkdir()
    made = os.mkdir

    def fill(path, files=(*FILES, "pids.max", "cpu.max")):
        for name in files:
            with open(os.path.join(path, name), "w"):
                pass

    def mkdir(path, *mode):
        made(path, *mode)
        fill(path)

    def rmdir(path):
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        gone(path)

    gone = os.rmdir
    monkeypatch.setattr(cgroup.os, "mkdir", mkdir)
    monkeypatch.setattr(cgroup.os, "rmdir", rmdir)
    (place / "cgroup.subtree_control").write_text("cpu memory pids\n")

    return place


def test_settings():
    """Limits are written as the kernel reads them; it counts memory in pages."""
    assert {"memory.max": "1073741824", "pids.max": "50", "cpu.max": "150000 100000"} == ALL
    assert {"memory.max": "4096"} == settings_for(memory=1, processes=None, cpus=None)
    assert {} == settings_for(memory=None, processes=None, cpus=None)


def test_group(kernel):
    """A cgroup has its limits, no swap, ends as a whole, and takes the process."""
    group = make_group("mine", ALL, str(kernel))
    group.take(4711)

    assert {**ALL, "memory.swap.max": "0", "memory.oom.group": "1", "cgroup.procs": "4711"} == {
        name: (kernel / "mine" / name).read_text()
        for name in (*ALL, "memory.swap.max", "memory.oom.group", "cgroup.procs")
    }
    assert group.remove(1)
    assert not (kernel / "mine").exists()


def test_controllers_are_enabled(kernel):
    """What is not enabled yet is enabled, where that is allowed."""
    (kernel / "cgroup.subtree_control").write_text("cpu\n")
    make_group("mine", ALL, str(kernel))

    assert "+memory +pids" == (kernel / "cgroup.subtree_control").read_text()[:13]


def test_limit_that_does_not_hold(kernel, monkeypatch):
    """A limit that reads back otherwise leaves no cgroup behind."""
    read = cgroup._read
    monkeypatch.setattr(cgroup, "_read", lambda place, name: "max\n" if name == "pids.max" else read(place, name))
    with pytest.raises(GroupError, match=r"pids\.max does not become 50"):
        make_group("mine", ALL, str(kernel))

    assert ["cgroup.subtree_control"] == os.listdir(kernel)


def test_reached(kernel):
    """A limit that something has run into is known by its name."""
    group = make_group("mine", ALL, str(kernel))
    nothing = group.reached()
    (kernel / "mine" / "memory.events").write_text("low 0\noom 1\noom_kill 3\n")
    (kernel / "mine" / "pids.events").write_text("max 0\n")

    assert ((), ("memory_bytes",)) == (nothing, group.reached())


def test_no_cgroup(tmp_path):
    """Where nothing is delegated, all that was tried is named."""
    with pytest.raises(GroupError, match=f"{tmp_path}: No such file"):
        make_group("mine", ALL, str(tmp_path))


def test_its_own_and_the_one_above(kernel, monkeypatch):
    """A pilot that was put aside in its slot finds the slot."""
    # The kernel of the tests answers os.mkdir, which Path.mkdir of Python 3.9 does not ask by that name.
    os.mkdir(kernel / "pilot")
    monkeypatch.setattr(cgroup, "own_group", lambda _: (str(kernel), str(kernel / "pilot")))
    (kernel / "pilot" / "cgroup.subtree_control").unlink()

    assert str(kernel / "mine") == make_group("mine", ALL).path


def test_process_that_does_not_go(kernel, monkeypatch):
    """A process that is not in it, though the kernel said nothing, is none of its."""
    group = make_group("mine", {}, str(kernel))
    monkeypatch.setattr(cgroup, "_write", lambda *_: None)
    with pytest.raises(GroupError, match="did not take"):
        group.take(4711)


def test_processes_are_killed_one_by_one(kernel):
    """Before Linux 5.14 there is no file that kills all."""
    group = make_group("mine", {}, str(kernel))
    (kernel / "mine" / "cgroup.kill").unlink()
    child = subprocess.Popen(["sleep", "60"])
    group.take(child.pid)

    assert group.remove(1)
    assert -9 == child.wait(10)


MOUNTED = "30 1 0:26 {root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("table", "root", "expected"),
    [
        ("1 0 8:1 / / rw - ext4 disk rw\n" + MOUNTED, "/", True),
        ("1 0 8:1 / / rw - ext4 disk rw\n", "/", False),
        ("1 0 8:1 / / rw - ext4 disk rw\n" + MOUNTED, "/elsewhere", False),
    ],
    ids=["there", "none", "not shown"],
)
def test_own_group(table, root, expected):
    """Its own cgroup is found where the kernel says, if it can be seen at all."""
    with open("/proc/self/cgroup") as f:
        inside = next((line[3:].strip() for line in f if line.startswith("0::")), None)
    found = own_group(Mounts(table.format(root=root)))
    wanted = ("/sys/fs/cgroup", os.path.normpath(f"/sys/fs/cgroup{inside}")) if expected and inside else None

    assert wanted == found


# --- limits of a payload


def plan_with(**values):
    """Make as much of a plan as limits need."""
    return SimpleNamespace(
        trace_id="id", grace=1.0, runtime=SimpleNamespace(mode="userns"), isolation=Isolation(limits=Limits(**values))
    )


@pytest.fixture
def waiting():
    """A process that waits in the payload's place."""
    child = subprocess.Popen(["sleep", "60"])
    yield Payload(pid=child.pid, inner_pid=2, init=None, start_ticks=None, namespaces={})
    child.kill()
    child.wait()


def test_limits_of_each_process(waiting):
    """They are set on what waits, and are not above what the pilot itself has."""
    wanted = {"open_files": 64, "core_bytes": 0, "file_bytes": 1 << 20, "address_space_bytes": 1 << 40}
    with limits.Limiter(plan_with(**wanted)) as limiter:
        got = limiter.apply(waiting)
    with open(f"/proc/{waiting.pid}/limits") as f:
        text = f.read()

    assert (wanted, None) == (dict(got.limits), got.cgroup)
    for name, value in (("open files", 64), ("core file size", 0), ("file size", 1 << 20), ("address space", 1 << 40)):
        row = next(line for line in text.splitlines() if line.startswith(f"Max {name}"))
        assert [str(value)] * 2 == row.split()[-3:-1]


def test_limits_of_all(kernel, waiting):
    """Those of all processes come from the cgroup."""
    wanted = {"memory_bytes": 1 << 30, "processes": 50, "cpus": 1.5}
    with limits.Limiter(plan_with(**wanted, cgroup=str(kernel))) as limiter:
        got = limiter.apply(waiting)
        path = got.cgroup

        assert (wanted, True) == (dict(got.limits), os.path.isdir(path))
        with open(f"{path}/cgroup.procs") as f:
            assert str(waiting.pid) == f.read()
        # A file of the kernel's would be empty by then.
        os.truncate(f"{path}/cgroup.procs", 0)

    assert not os.path.exists(path)


def test_limits_that_cannot_be_given(tmp_path, waiting):
    """They refuse, before anything is started, or are left out in the open."""
    wanted = {"memory_bytes": 1 << 30, "cgroup": str(tmp_path)}
    with pytest.raises(LaunchError) as caught:
        limits.Limiter(plan_with(**wanted)).__enter__()
    with pytest.raises(LaunchError, match="no cgroup for the payload"):
        limits.Limiter(plan_with(cgroup=str(tmp_path))).__enter__()
    with limits.Limiter(plan_with(**wanted, required=False)) as limiter:
        got = limiter.apply(waiting)

    assert ["limit-unavailable"] == [problem.kind for problem in caught.value.problems]
    assert {} == got.limits


@pytest.mark.parametrize(
    ("release", "uid", "mode", "given"),
    [
        ("5.14.0-427.el9", 1000, "userns", True),
        ("5.13.0", 1000, "userns", False),
        ("5.14.0-427.el9", 0, "userns", False),
        ("5.14.0-427.el9", 1000, "setuid", False),
        ("odd", 1000, "userns", False),
    ],
)
def test_processes_without_a_cgroup(monkeypatch, tmp_path, waiting, release, uid, mode, given):
    """The number of processes can be limited where the kernel counts those of the container alone."""
    monkeypatch.setattr(limits.os, "uname", lambda: SimpleNamespace(release=release))
    monkeypatch.setattr(limits.os, "geteuid", lambda: uid)
    plan = plan_with(processes=50, required=False, cgroup=str(tmp_path))
    plan.runtime.mode = mode
    with limits.Limiter(plan) as limiter:
        got = limiter.apply(waiting)

    assert ({"processes": 50} if given else {}) == got.limits


def test_nothing_to_limit(waiting):
    """Without limits there is no cgroup, and nothing is touched."""
    with limits.Limiter(plan_with()) as limiter:
        got = limiter.apply(waiting)

    assert (waiting, attrs.asdict(Limits())) == (got, attrs.asdict(plan_with().isolation.limits))

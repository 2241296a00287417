"""
What the runtime does by itself, and what it leaves out, on the real Apptainer.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from wlcg_isolate import Bind, Policy, launch_plan, make_plan, probe_host, run_isolated

ROOT = os.geteuid() == 0


@pytest.fixture
def said(tmp_path):
    """Launch a plan and return its outcome and what the payload wrote."""

    def launch(plan, **more):
        with open(tmp_path / "said", "w+b") as out:
            outcome = launch_plan(plan, stdout=out, **more)
            out.seek(0)
            return outcome, out.read().decode()

    return launch


@pytest.fixture
def data(tmp_path):
    """Make a directory with a file."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("content")

    return str(tmp_path / "data")


def wrapper(place, runtime, change):
    """Write a runtime that changes its arguments before it starts the real one."""
    program = place / "apptainer-odd"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = exec ] || exec {runtime} "$@"\nn=$#\n'
        f'while [ $n -gt 0 ]; do word=$1; shift; n=$((n - 1)); {change}; set -- "$@" "$word"; done\n'
        f'exec {runtime} "$@"\n'
    )
    program.chmod(0o755)

    return str(program)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ('case $word in type=bind,*dst=/data*) word="type=bind,src=/etc,dst=/data,ro" ;; esac', "is there"),
        (
            'case $word in type=bind,*dst=/data*) word="type=bind,src=/etc,dst=/elsewhere,ro" ;; esac',
            "nothing is mounted",
        ),
        ("case $word in type=bind,*dst=/data*) word=${word%,ro} ;; esac", "it can be written"),
    ],
    ids=["another source", "left out", "writable"],
)
def test_untrue_container(request_for, runtime, tmp_path, data, change, fault):
    """A container that does not show what was promised never runs the payload, and the bind is named."""
    odd = wrapper(tmp_path, runtime, change)
    request = request_for("touch", "/srv/ran", runtime=odd, binds=(Bind(source=data, target="/data"),))
    outcome = run_isolated(request, Policy(bind_default=(), runtime_probe_starts=False))

    assert (False, "runtime", "bind-not-seen") == (outcome.started, outcome.failed_by, outcome.kind), outcome.message
    assert f"{data} at /data" in outcome.message
    assert fault in outcome.message
    assert not (tmp_path / "work" / "ran").exists()


def test_given_by_the_runtime(request_for, policy, said):
    """Host names, time zone and name servers are as the plan says, and shared memory is private."""
    command = "cat /etc/hosts; echo; cat /etc/resolv.conf; cmp /etc/localtime /etc/localtime && echo; ls -A /dev/shm"
    plan = make_plan(request_for("sh", "-c", command), policy)
    outcome, text = said(plan)
    given = {bind.target: bind.decision for bind in plan.given}

    assert "success" == outcome.kind, outcome.message
    for path in ("/etc/hosts", "/etc/resolv.conf"):
        assert (given[path] == "mount") == (Path(path).is_file() and Path(path).read_text().strip() in text)
    assert "tmpfs" in plan.explain()


def test_device_of_the_host(request_for, said):
    """A device comes into the container's own /dev under its own name, and under no other."""
    binds = (Bind(source="/dev/full"), Bind(source="/dev/full", target="/dev/other", required=False))
    plan = make_plan(request_for("sh", "-c", "ls /dev", binds=binds), Policy(bind_default=()))
    outcome, text = said(plan)

    assert ["mount", "mount", "skip"] == [bind.decision for bind in plan.binds]
    assert "success" == outcome.kind, outcome.message
    assert ("full" in text.split(), "other" in text.split()) == (True, False)


def test_opencl(request_for, tmp_path):
    """With GPUs, the list of OpenCL's drivers is bound where the node has it."""
    plan = make_plan(request_for("true"), Policy(bind_default=(), gpu_use=("nvidia",)))
    (vendors,) = [bind for bind in plan.binds if bind.target == "/etc/OpenCL/vendors"]

    assert ("gpu.use", "mount" if os.path.isdir(vendors.source) else "skip") == (vendors.origin, vendors.decision)


def test_work_area_below_tmp(request_for, policy, said, tmp_path, data):
    """Sources, targets and a working directory below /tmp, which broke two systems, are fine."""
    binds = (Bind(source=data, target="/tmp/in/data"), Bind(source=f"{data}/file", target="/var/tmp/file"))
    outcome, text = said(make_plan(request_for("cat", "/tmp/in/data/file", "/var/tmp/file", binds=binds), policy))

    assert ("success", "contentcontent") == (outcome.kind, text), outcome.message
    assert [] == os.listdir(tmp_path / "work")
    assert not os.path.exists("/tmp/in/data")


@pytest.fixture
def automounter(tmp_path):
    """Run a real automounter (as root; a plain user cannot mount)."""
    place = tmp_path / "auto"
    (place / "real" / "repository").mkdir(parents=True)
    (place / "real" / "repository" / "file").write_text("content")
    (place / "master").write_text(f"{place}/mount file:{place}/map --timeout=1\n")
    (place / "map").write_text(f"repository -fstype=bind :{place}/real/repository\n")
    if not ROOT:
        (place / "mount").symlink_to("real")
        yield place / "mount"
        return
    if not shutil.which("automount", path="/usr/sbin:/sbin"):
        install = ["apt-get", "-q", "-y", "--no-install-recommends", "install", "autofs"]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    daemon = subprocess.Popen(
        ["automount", "-f", "-p", place / "pid", place / "master"],
        start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )  # fmt: skip
    deadline = time.monotonic() + 20
    # The daemon answers a moment after it has mounted; then what this mounts has to go again.
    while not (place / "mount" / "repository" / "file").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    while mounted(place / "mount" / "repository") and time.monotonic() < deadline:
        time.sleep(0.1)
    yield place / "mount"
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(20)


def mounted(place):
    """Tell whether something is mounted at a place."""
    return re.search(rf" {re.escape(str(place))} ", Path("/proc/self/mountinfo").read_text()) is not None


def test_automounted_source_is_held(request_for, automounter, said):
    """What is mounted on demand is mounted for the plan, stays as long as the payload runs, and then goes."""
    source = automounter / "repository"
    request = request_for("sh", "-c", "sleep 4; cat /data/file", binds=(Bind(source=str(source), target="/data"),))
    plan = make_plan(request, Policy(bind_default=()))
    seen = []
    outcome, text = (
        said(plan, on_start=lambda _: time.sleep(3.5) or seen.append(mounted(source))) if ROOT else said(plan)
    )

    assert ("success", "content") == (outcome.kind, text), outcome.message
    assert ((str(source),) if ROOT else ()) == plan.held
    assert seen == ([True] if ROOT else [])
    deadline = time.monotonic() + 20
    while mounted(source) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not mounted(source)


def test_cvmfs_cut_off(request_for, automounter, said):
    """Where autofs does not reach into containers, CVMFS is bound by repositories, which are mounted for it."""
    policy = Policy(cvmfs_root=str(automounter), cvmfs_repositories=("repository.example.org",))
    facts = probe_host(request_for("true"), policy)
    shared = facts.automounts.get(str(automounter))
    plan = make_plan(request_for("true"), Policy(cvmfs_root=str(automounter)), facts)
    whole = [bind.target for bind in plan.binds if bind.decision == "mount"]

    assert (ROOT, False) == (shared is not None, bool(shared))
    assert ["/srv", "/cvmfs"] == whole
    binds = [bind.target for bind in _decided(request_for, policy, facts)]
    assert ("/cvmfs/repository.example.org" in binds, "/cvmfs" in binds) == (ROOT, not ROOT)


def _decided(request_for, policy, facts):
    from wlcg_isolate.binds import decide_binds

    request = request_for("true")

    return decide_binds(request, policy, facts, str(request.workdir))[0]

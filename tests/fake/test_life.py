"""How a payload's processes end where the real runtime is too well-behaved to show it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from wlcg_isolate import Policy, launch_plan, make_plan, start_plan
from wlcg_isolate.host import procfs

POLICY = Policy(payload_grace_seconds=2)


@pytest.fixture
def shared(fake, isolate):
    """A runtime that cannot give PID namespaces here."""
    return fake(
        isolate.replace(" --pid --fork --mount-proc --kill-child", "").replace("exec unshare", "unshare"),
        probe="""case $* in *--pid*) echo odd >&2; exit 255 ;; esac
        exec unshare --user --map-current-user --mount --ipc "$image/wlcg-probe\"""",
    )


def _is_there(pid):
    return os.path.exists(f"/proc/{pid}") and not procfs.is_zombie(pid)


def _numbers(file):
    return [int(word) for word in file.read_text().split()]


def test_without_pid_namespace_nothing_escapes(shared, request_for, tmp_path):
    """What flees into other sessions and namespaces, or breeds, is ended with a payload that shares its pids."""
    file = tmp_path / "work" / "left"
    breeder = "while :; do (trap '' TERM; sleep 0.02; echo x >/dev/null) & sleep 0.01; done"
    script = (
        f"setsid sh -c 'trap \"\" TERM HUP; {breeder}' & echo $! >>/srv/left;"
        "unshare --user --mount sh -c 'sleep 4711 & echo $! >>/srv/left; wait' & echo $! >>/srv/left;"
        "while [ $(wc -l </srv/left) -lt 3 ]; do sleep 0.05; done; exit 3"
    )
    policy = Policy(payload_grace_seconds=2, isolation_nesting=True)
    outcome = launch_plan(make_plan(request_for(shared, "sh", "-c", script, timeout=30), policy))

    assert ("exit-nonzero", 3) == (outcome.kind, outcome.exit_code)
    assert 3 == len(_numbers(file))
    assert [] == [pid for pid in _numbers(file) if _is_there(pid)]


def test_without_pid_namespace_stop_reaches_every_process(shared, request_for, tmp_path):
    """Without a PID namespace, too, a stop asks all processes of the payload, and nobody else."""
    said = tmp_path / "work" / "said"
    script = (
        "setsid sh -c 'trap \"echo bye >/srv/said; exit\" TERM; echo up >/srv/up; while :; do sleep 0.05; done' &"
        "trap 'sleep 0.5; exit 4' TERM; while :; do sleep 0.05; done"
    )
    running = start_plan(make_plan(request_for(shared, "sh", "-c", script), POLICY))
    while not (tmp_path / "work" / "up").exists():
        time.sleep(0.02)
    running.stop(30)
    outcome = running.wait(60)

    assert ("stopped", 4, "bye\n") == (outcome.kind, outcome.exit_code, said.read_text())


@pytest.mark.parametrize("end", ["by itself", "killed"])
def test_helper_of_the_runtime(fake, isolate, request_for, tmp_path, end):
    """A process that the runtime started beside the container does not outlive it."""
    runtime = fake(f"setsid sleep 4713 & echo $! >{tmp_path}/helper\n{isolate}")
    running = start_plan(make_plan(request_for(runtime, "sh", "-c", "sleep 0.3; exit 5"), POLICY))
    (helper,) = _numbers(tmp_path / "helper")
    before = _is_there(helper)
    if end == "killed":
        parent = int(Path(f"/proc/{helper}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
    outcome = running.wait(60)

    assert before
    assert ("runtime-lost" if end == "killed" else "exit-nonzero") == outcome.kind
    assert not _is_there(helper)


def test_helper_of_a_start_that_fails(fake, request_for, tmp_path):
    """A runtime that gives up leaves none of its helpers either."""
    runtime = fake(f"sleep 4714 & echo $! >{tmp_path}/helper; echo FATAL: no >&2; exit 255")
    outcome = launch_plan(make_plan(request_for(runtime, "true"), POLICY))

    assert not outcome.started
    assert not _is_there(_numbers(tmp_path / "helper")[0])

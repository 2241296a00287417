"""
Payloads that a pilot starts itself, under runtimes that fail.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time

import attrs
import pytest

from wlcg_isolate import Policy, Start, make_plan, outcome_of

POLICY = Policy(runtime_probe_seconds=2, runtime_start_seconds=1, payload_grace_seconds=0.5)

SEPARATE = "exec unshare --user --map-root-user --mount --ipc --pid --fork --mount-proc --kill-child "


@pytest.fixture
def started(fake, request_for, tmp_path):
    """Start a payload under a fake runtime in both ways, and tell the outcomes."""

    def start(behaviour, *command, **more):
        plan = make_plan(request_for(fake(behaviour), *command, **more), POLICY)
        line = subprocess.run(["sh", "-c", plan.shell()], check=False, timeout=20, stderr=subprocess.PIPE)
        outcomes = [outcome_of(plan)]
        again = make_plan(plan.request, POLICY)
        process = subprocess.Popen(again.supervised.argv, env=again.supervised.environ, stderr=subprocess.PIPE)
        _, words = process.communicate(timeout=20)
        outcomes.append(outcome_of(again, process.returncode))

        assert outcomes[0].kind == outcomes[1].kind
        assert [] == os.listdir(tmp_path / "work")
        assert b"" == line.stderr == words
        return outcomes

    return start


FAILURES = [
    ("echo 'FATAL:   image driver mount failure: fuse: device /dev/fuse not found' >&2; exit 255", "fuse-unavailable"),
    ("echo 'ERROR  : Failed to create user namespace: not allowed' >&2; exit 1", "user-namespaces-disabled"),
    ("exit 0", "runtime-failed"),
    ("kill -KILL $$", "runtime-killed"),
    ("sleep 30", "runtime-hung"),
    ('exec "$@"', "isolation-incomplete"),
    (SEPARATE.replace("--ipc", "") + '"$@"', "isolation-incomplete"),
    (SEPARATE + '"$@"', "bind-not-seen"),
    (SEPARATE + """sh -c 'mount --bind "$work" /srv; mount -o remount,bind,ro /srv; exec "$@"' sh "$@" """, "success"),
    ("echo no number >&4; exit 3", "runtime-failed"),
    ("echo 1 >&4; exit 3", "isolation-incomplete"),
]


@pytest.mark.parametrize(("behaviour", "kind"), FAILURES, ids=[f"{i}-{kind}" for i, (_, kind) in enumerate(FAILURES)])
def test_failure(started, behaviour, kind):
    """A runtime that does not make the container failed itself, and says why."""
    for outcome in started(behaviour):
        assert (kind == "success", kind) == (outcome.started, outcome.kind)


def test_runtime_vanished(fake, request_for, isolate):
    """A runtime that goes between plan and start is named."""
    plan = make_plan(request_for(fake(isolate)), POLICY)
    os.unlink(plan.runtime.path)
    done = subprocess.run(["sh", "-c", plan.shell()], check=False)

    assert (127, "runtime-vanished") == (done.returncode, outcome_of(plan).kind)


def test_read_only_promise(fake, request_for, tmp_path):
    """A bind that was promised read-only and can be written refuses."""
    from wlcg_isolate import Bind

    (tmp_path / "data").mkdir()
    (tmp_path / "image" / "mnt").mkdir()
    binds = f"""sh -c 'mount --bind "$work" /srv; mount --bind "{tmp_path}/data" /mnt; exec "$@"' sh "$@" """
    request = request_for(fake(SEPARATE + binds), binds=(Bind(source=str(tmp_path / "data"), target="/mnt"),))
    plan = make_plan(request, POLICY)
    subprocess.run(["sh", "-c", plan.shell()], check=False)
    outcome = outcome_of(plan)

    assert (False, "bind-not-seen") == (outcome.started, outcome.kind)
    assert "/mnt: it can be written" in outcome.message


def test_time_limit(started, isolate):
    """The time limit of a plan holds, also for what ignores TERM."""
    begin = time.monotonic()
    outcomes = started(isolate, "sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60", timeout=0.5)

    assert [(True, "time-limit", "timeout")] * 2 == [(o.started, o.kind, o.failed_by) for o in outcomes]
    assert 10 > time.monotonic() - begin


def napping():
    """List the processes that are timers of this limit."""
    return subprocess.run(["pgrep", "-f", "sleep 8639[9]"], stdout=subprocess.PIPE, check=False).stdout


def test_end_within_the_limit(started, isolate):
    """A payload that ends in time leaves no timer behind."""
    outcomes = started(isolate, "sh", "-c", "exit 3", timeout=86399)
    deadline = time.monotonic() + 5
    # What watches ends its timer after it has said that all is over.
    while (naps := napping()) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert [3, 3] == [outcome.exit_code for outcome in outcomes]
    assert b"" == naps


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_line_ended(fake, request_for, isolate, tmp_path, number):
    """When the shell that waits is ended, the payload is, too, and nothing stays."""
    plan = make_plan(request_for(fake(isolate), "sh", "-c", "echo > /srv/runs; exec sleep 60"), POLICY)
    line = subprocess.Popen(["sh", "-c", f"exec {plan.shell()}"])
    deadline = time.monotonic() + 10
    while not (tmp_path / "work" / "runs").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    line.send_signal(number)
    line.wait()
    while os.listdir(tmp_path / "work") != ["runs"] and time.monotonic() < deadline:
        time.sleep(0.01)
    outcome = outcome_of(plan, line.returncode)

    assert ["runs"] == os.listdir(tmp_path / "work")
    assert (True, "stopped") == (outcome.started, outcome.kind)


def test_nothing_to_write_to(fake, request_for, isolate, tmp_path):
    """Where nothing can be left the payload is not started."""
    plan = make_plan(request_for(fake(isolate), "touch", "/srv/ran"), POLICY)
    (tmp_path / "trace").write_text("")
    done = subprocess.run(["sh", "-c", plan.shell()], check=False, stderr=subprocess.PIPE)
    outcome = outcome_of(plan, done.returncode)

    assert (125, b"wlcg-isolate: no directory for trace records can be written\n") == (done.returncode, done.stderr)
    assert (False, "trace-unwritable") == (outcome.started, outcome.kind)
    assert [] == os.listdir(tmp_path / "work")


def test_working_directory_gone(fake, request_for, isolate, tmp_path):
    """A working directory that went after the plan is named."""
    plan = make_plan(request_for(fake(isolate)), POLICY)
    (tmp_path / "work").rmdir()
    done = subprocess.run(["sh", "-c", plan.shell()], check=False, stderr=subprocess.PIPE)

    assert (125, "workdir-not-writable") == (done.returncode, outcome_of(plan).kind)


def test_second_start_while_the_first_runs(fake, request_for, isolate, tmp_path):
    """Two starts of one plan at once: the second is refused, the first goes on unharmed."""
    plan = make_plan(request_for(fake(isolate), "sh", "-c", "echo > /srv/runs; read -r line"), POLICY)
    first = subprocess.Popen(["sh", "-c", plan.shell()], stdin=subprocess.PIPE)
    deadline = time.monotonic() + 10
    while not (tmp_path / "work" / "runs").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    second = subprocess.run(["sh", "-c", plan.shell()], check=False, stderr=subprocess.PIPE)
    first.communicate(b"x\n", timeout=10)

    assert (125, 0) == (second.returncode, first.returncode)
    assert b"was started already" in second.stderr
    assert "success" == outcome_of(plan).kind


def test_missing_status(fake, request_for, isolate):
    """Who became the runtime leaves no exit status: without the caller's there is no outcome."""
    plan = make_plan(request_for(fake(isolate)), POLICY)
    process = subprocess.Popen(plan.supervised.argv, env=plan.supervised.environ)
    process.wait()
    with pytest.raises(Exception, match="exit status of the process that was started is needed"):
        outcome_of(plan)

    assert "success" == outcome_of(plan, process.returncode).kind


def test_others_directory(fake, request_for, isolate, tmp_path):
    """What lies where others may write counts for nothing."""
    plan = make_plan(request_for(fake(isolate)), POLICY)
    subprocess.run(["sh", "-c", plan.shell()], check=True)
    (tmp_path / "trace" / f".starts-{os.geteuid()}").chmod(0o777)
    first = outcome_of(plan)
    (tmp_path / "trace" / f".starts-{os.geteuid()}").chmod(0o700)

    assert (False, True) == (first.started, outcome_of(attrs.evolve(Start.of(plan))).started)

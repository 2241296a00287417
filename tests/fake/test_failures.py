"""
Runtimes that fail in all the ways they are known to fail.
"""

from __future__ import annotations

import os
import platform
import re
import signal
import time

import attrs
import pytest
import structlog

from wlcg_isolate import Policy, launch_plan, make_plan, run_isolated

KERNEL = tuple(int(n) for n in platform.release().split("-")[0].split(".")[:2])
POLICY = Policy(runtime_probe_seconds=2, runtime_start_seconds=2, payload_grace_seconds=0.5)

#: What real runtimes print, and what it means (Apptainer 1.4.5 unless said).
MESSAGES = [
    ("ERROR  : Failed to create user namespace: not allowed to create user namespace", 1, "user-namespaces-disabled"),
    (
        (
            "ERROR  : Failed to create user namespace: maximum number of user namespaces exceeded, "
            "check /proc/sys/user/max_user_namespaces"
        ),
        1,
        "user-namespaces-disabled",
    ),
    # apptainer#2455
    ("ERROR  : Failed to create container process: No space left on device", 1, "user-namespaces-disabled"),
    ("ERROR  : Failed to create mount namespace: mount namespace requires privileges", 1, "runtime-privileges"),
    ("ERROR  : Requesting capability set 0x1 while permitted capability set is 0x0", 1, "runtime-privileges"),
    ("FATAL:   Couldn't determine user account information: user: unknown userid 551", 255, "user-unknown"),
    (
        (
            "FATAL:   container creation failed: mount hook function failure: mount /a->/a error: while mounting /a: "
            "mount source /a doesn't exist"
        ),
        255,
        "bind-failed",
    ),
    ("FATAL:   container creation failed: destination /x doesn't exist in container", 255, "bind-failed"),
    (
        "\x1b[31mFATAL:  \x1b[0m While checking encryption: could not open image /x: image format not recognized",
        255,
        "image-unusable",
    ),
    (
        "FATAL:   container creation failed: image driver mount failure: fuse: device /dev/fuse not found",
        255,
        "fuse-unavailable",
    ),
    ("FATAL:   while extracting /x.sif: root filesystem extraction failed: no space left on device", 255, "no-space"),
    ('Error for command "exec": unknown flag: --no-eval', 1, "runtime-option"),
    ("FATAL:   something that nobody has seen before", 255, "runtime-failed"),
    ("", 0, "runtime-failed"),
]


@pytest.mark.parametrize(("text", "status", "kind"), MESSAGES, ids=[kind for _, _, kind in MESSAGES])
def test_message(fake, request_for, tmp_path, text, status, kind):
    """A runtime that ends before the payload started failed itself, and says why."""
    (tmp_path / "text").write_text(text + "\n")
    outcome = run_isolated(request_for(fake(f"cat '{tmp_path}/text' >&2; exit {status}")), POLICY)

    assert (False, "runtime", kind, None) == (outcome.started, outcome.failed_by, outcome.kind, outcome.exit_code)
    assert [] == os.listdir(tmp_path / "work")


def test_killed_before_start(fake, request_for):
    """A runtime that a signal ends before the payload started was killed."""
    outcome = run_isolated(request_for(fake("kill -KILL $$")), POLICY)

    assert (False, "runtime", "runtime-killed", "same-node") == (
        outcome.started,
        outcome.failed_by,
        outcome.kind,
        outcome.retry,
    )


def test_hangs(fake, request_for):
    """A runtime that never starts the payload is ended in time."""
    begin = time.monotonic()
    outcome = run_isolated(request_for(fake("exec sleep 60")), POLICY)

    assert (False, "runtime", "runtime-hung") == (outcome.started, outcome.failed_by, outcome.kind)
    assert time.monotonic() - begin < 10


def test_vanishes(fake, request_for):
    """A runtime that disappears between plan and launch is missed."""
    runtime = fake()
    plan = make_plan(request_for(runtime), POLICY)
    os.unlink(runtime)
    outcome = launch_plan(plan)

    assert (False, "runtime", "runtime-vanished") == (outcome.started, outcome.failed_by, outcome.kind)


@pytest.mark.parametrize(
    ("behaviour", "shared"),
    [
        ('exec "$@"', "not found"),
        ('sh -c \'"$@"; exit\' sh "$@"', "pid"),
        ('exec unshare --user --map-current-user --mount --ipc "$@"', "not found"),
        ('exec unshare --user --map-current-user --mount --pid --fork --mount-proc --kill-child "$@"', "no ipc"),
        ('exec unshare --user --map-current-user --ipc --pid --fork --kill-child "$@"', "no mnt"),
    ],
    ids=["nothing", "a child only", "no pid namespace", "no ipc namespace", "no mount namespace"],
)
def test_does_not_isolate(fake, request_for, tmp_path, behaviour, shared):
    """A payload whose container shares a namespace never runs."""
    started = tmp_path / "started"
    outcome = run_isolated(request_for(fake(behaviour), "touch", str(started)), POLICY)

    assert (False, "runtime", "isolation-incomplete") == (outcome.started, outcome.failed_by, outcome.kind)
    assert shared in outcome.message
    assert not started.exists()


def test_marker_of_somebody_else(fake, request_for, tmp_path):
    """A marker that no process of the container wrote starts nothing."""
    started = tmp_path / "started"
    outcome = run_isolated(request_for(fake("echo 999999 >&4; exec sleep 60"), "touch", str(started)), POLICY)

    assert (False, "isolation-incomplete") == (outcome.started, outcome.kind)
    assert not started.exists()


@pytest.mark.parametrize("garbage", ["x", "", "1 2", "\\377"])
def test_marker_that_is_none(fake, request_for, garbage):
    """A marker that is no process id starts nothing."""
    outcome = run_isolated(request_for(fake(f"printf '{garbage}\\n' >&4; exec sleep 60")), POLICY)

    assert (False, "isolation-incomplete") == (outcome.started, outcome.kind)


@pytest.mark.parametrize("more", ["", "; sleep 0.5", "; sleep 0.5; kill -9 $$"], ids=["at-once", "later", "killed"])
def test_dies_after_the_marker(fake, request_for, tmp_path, more):
    """A container that ends before it has read what to run has not run the payload."""
    isolated = "unshare --user --map-current-user --mount --ipc --pid --fork --mount-proc"
    behaviour = f"exec {isolated} sh -c 'echo \"$$\" >&4{more}'"
    outcome = run_isolated(request_for(fake(behaviour), "touch", str(tmp_path / "started")), POLICY)

    assert (False, "runtime") == (outcome.started, outcome.failed_by)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"version_status": 1}, "runtime-broken"),
        ({"banner": "hello"}, "runtime-broken"),
        ({"banner": ""}, "runtime-broken"),
        ({"banner": "2.6.1-dist"}, "runtime-too-old"),
        ({"banner": "singularity version 3.8.7-1.el7"}, "runtime-too-old"),
        ({"banner": "apptainer version 1.0.3"}, "runtime-too-old"),
        ({"banner": "singularity-ce version 3.9.9"}, "runtime-too-old"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else value,
)
def test_not_usable(fake, request_for, tmp_path, more, kind):
    """A runtime that cannot isolate is not tried."""
    outcome = run_isolated(request_for(fake(**more)), POLICY)

    assert (False, "policy", kind) == (outcome.started, outcome.failed_by, outcome.kind)
    assert not (tmp_path / "calls").exists()


def test_version_that_hangs(tmp_path, request_for):
    """A runtime that does not even tell its version costs only its deadline."""
    program = tmp_path / "apptainer"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    begin = time.monotonic()
    outcome = run_isolated(request_for(str(program)), POLICY)

    assert "runtime-no-answer" == outcome.kind
    assert "no answer to --version within 2 s" in outcome.message
    assert time.monotonic() - begin < 10


def test_setuid_mode(fake, request_for, monkeypatch):
    """A plain user's runtime with a set-uid starter is used as it is meant."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    plan = make_plan(request_for(fake(config="APPTAINER_SUID_INSTALL=1")), POLICY)

    assert "setuid" == plan.runtime.mode
    assert "--userns" not in plan.argv


def test_told_to_stop_before_the_start(fake, request_for, tmp_path):
    """A pilot that is told to stop while the container is made starts nothing."""
    request = request_for(fake("exec sleep 60"), "touch", str(tmp_path / "started"))
    outcome = run_isolated(request, Policy(), cancelled=lambda: True)

    assert (False, "signal", "stopped-before-start") == (outcome.started, outcome.failed_by, outcome.kind)
    assert [] == os.listdir(tmp_path / "work")


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("on_difference", ["refuse", "warn"])
def test_container_by_name_only(fake, request_for, tmp_path, on_difference):
    """Namespaces alone are no container: what else is missing is named, all of it, and is policy's to judge."""
    policy = attrs.evolve(POLICY, isolation_on_difference=on_difference, isolation_root="confine")
    started = tmp_path / "work" / "started"
    with structlog.testing.capture_logs() as events:
        structlog.configure()
        outcome = run_isolated(request_for(fake(), "touch", "started"), policy)
    structlog.reset_defaults()
    found = (
        outcome.message
        if on_difference == "refuse"
        else " ".join(x for event in events for x in event.get("differences", ()))
    )

    assert ("success" if on_difference == "warn" else "isolation-incomplete") == outcome.kind
    assert (on_difference == "warn") == started.exists()
    for words in (
        "no_new_privs",
        "CapEff",
        "the image can be written",
        "/tmp is not private",
        "/dev/shm is the host's",
    ):
        assert words in found


def test_record_that_cannot_be_written(fake, request_for, tmp_path, mocker):
    """Without a start record on disk the payload does not run."""
    mocker.patch("wlcg_isolate.trace.journal.os.fdatasync", side_effect=OSError(28, "No space left on device"))
    started = tmp_path / "started"
    outcome = run_isolated(request_for(fake(), "touch", str(started)), POLICY)

    assert (False, "policy", "trace-unwritable") == (outcome.started, outcome.failed_by, outcome.kind)
    assert not started.exists()


def test_end_record_that_cannot_be_written(fake, request_for, mocker):
    """A payload's result is not lost with its end record, and tells of it."""
    full = OSError(28, "No space left")
    sync = mocker.patch("wlcg_isolate.trace.file.os.fdatasync", side_effect=[*[None] * 3, full])
    outcome = run_isolated(request_for(fake(), "sh", "-c", "exit 3"), POLICY)

    assert (True, 3, "exit-nonzero") == (outcome.started, outcome.exit_code, outcome.kind)
    # The file's begin, the pilot's, the payload's start, with which goes that it may run, and its end.
    assert 4 == sync.call_count
    assert "warning: the record payload.end is lost: " in outcome.message
    assert "No space left" in outcome.message


def test_site_that_goes_on_without_records(fake, request_for, tmp_path, mocker):
    """Where policy says so the payload runs without records, and its outcome tells of each."""
    mocker.patch("wlcg_isolate.trace.file.os.fdatasync", side_effect=OSError(28, "No space left on device"))
    policy = attrs.evolve(POLICY, trace_on_write_error="continue")
    outcome = run_isolated(request_for(fake(), "sh", "-c", "exit 3"), policy)

    assert (True, 3, "exit-nonzero") == (outcome.started, outcome.exit_code, outcome.kind)
    assert ["payload.authorised", "payload.start", "payload.end"] == re.findall(
        r"warning: the record (\S+) is lost", outcome.message
    )
    assert [] == os.listdir(tmp_path / "trace")


def test_no_room_for_scratch(fake, request_for, tmp_path, mocker):
    """A full disk refuses the payload and leaves nothing."""
    plan = make_plan(request_for(fake()), POLICY)
    (tmp_path / "trace").mkdir()
    mocker.patch("wlcg_isolate.launch.scratch.os.mkdir", side_effect=OSError(28, "No space left on device"))
    outcome = launch_plan(plan)

    assert (False, "no-space") == (outcome.started, outcome.kind)
    assert [] == os.listdir(tmp_path / "work")


def test_working_directory_gone(fake, request_for, tmp_path):
    """A working directory that disappears between plan and launch is missed."""
    plan = make_plan(request_for(fake()), POLICY)
    outcome = launch_plan(attrs.evolve(plan, workdir=str(tmp_path / "gone")))

    assert (False, "workdir-missing") == (outcome.started, outcome.kind)


def test_caller_that_ignores_its_children(fake, request_for):
    """A caller with SIGCHLD ignored still learns the end, where the kernel tells."""
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        outcome = run_isolated(request_for(fake(), "sh", "-c", "exit 5"), POLICY)
    finally:
        signal.signal(signal.SIGCHLD, previous)

    assert ((5, "exit-nonzero") if KERNEL >= (6, 15) else (None, "end-unseen")) == (outcome.exit_code, outcome.kind)


def test_end_that_nobody_saw(fake, request_for, mocker):
    """An exit status that is not known is no success."""
    mocker.patch("wlcg_isolate.launch.process.exit_of", return_value=None)
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        outcome = run_isolated(request_for(fake()), POLICY)
    finally:
        signal.signal(signal.SIGCHLD, previous)

    assert (True, "runtime", "end-unseen") == (outcome.started, outcome.failed_by, outcome.kind)


def test_callback_that_fails(fake, request_for, tmp_path):
    """A caller's own error ends the payload and is not swallowed."""

    def fail(_container):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        run_isolated(request_for(fake(), "sleep", "60"), POLICY, on_start=fail)

    assert [] == os.listdir(tmp_path / "work")


@pytest.mark.parametrize("without", ["pidfd_open", "memfd_create"])
def test_old_kernel(fake, request_for, monkeypatch, without):
    """Where the kernel is older, the outcome is the same."""
    monkeypatch.delattr(os, without)
    outcome = run_isolated(request_for(fake(), "sh", "-c", "exit 3"), POLICY)
    limited = run_isolated(request_for(fake(), "sleep", "60", timeout=0.3), POLICY)

    assert (True, 3, None) == (outcome.started, outcome.exit_code, outcome.signal)
    assert (True, "time-limit") == (limited.started, limited.kind)

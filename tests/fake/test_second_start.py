"""
A start that fails for no known reason is tried once more, with the image's shell; nothing else is, and no payload.
"""

from __future__ import annotations

import pytest

from wlcg_isolate import Policy, run_isolated

POLICY = Policy(runtime_probe_seconds=2, runtime_start_seconds=1, payload_grace_seconds=0.5)

#: What the runtime does, how often it is started, and the kind.
STARTS = {
    "unknown failure": ("echo 'FATAL:   strange' >&2; exit 255", 2, "runtime-failed"),
    "silent failure": ("exit 1", 2, "runtime-failed"),
    "silent success": ("exit 0", 2, "runtime-failed"),
    "known failure": ("echo 'FATAL:   could not open image /x' >&2; exit 255", 1, "image-unusable"),
    "killed": ("kill -9 $$", 1, "runtime-killed"),
    "hangs": ("exec sleep 60", 1, "runtime-hung"),
    # Both ends of the marker's pipe are closed, but it lives on.
    "closes and hangs": ("exec 3<&- 4>&- 5<&- 6>&- 7>&-; exec sleep 60", 1, "runtime-killed"),
    "false marker": ("echo 999999 >&4; exec sleep 60", 1, "isolation-incomplete"),
}


def starts(tmp_path):
    """Count how often the runtime was to start a payload."""
    return (tmp_path / "calls").read_text().split().count("run")


@pytest.mark.parametrize(("behaviour", "expected", "kind"), STARTS.values(), ids=STARTS)
def test_starts(fake, request_for, tmp_path, behaviour, expected, kind):
    """A runtime is started twice only where neither it nor the wait tells what is wrong, and no payload runs."""
    outcome = run_isolated(request_for(fake(behaviour), "sh", "-c", "echo ran >>/srv/ran"), POLICY)

    assert (expected, kind) == (starts(tmp_path), outcome.kind), outcome.message
    assert not (tmp_path / "work" / "ran").exists()


@pytest.mark.parametrize("script", ["exit 255", "echo 'FATAL:   strange' >&2; exit 255", "kill -9 $$", "exit 0"])
def test_payload_runs_once(fake, request_for, tmp_path, script):
    """However a payload ends, it is not started again."""
    run_isolated(request_for(fake(), "sh", "-c", f"echo ran >>/srv/ran; {script}"), POLICY)

    assert ("ran\n", 1) == ((tmp_path / "work" / "ran").read_text(), starts(tmp_path))


def test_second_start_runs_the_payload_once(fake, request_for, tmp_path, isolate):
    """Where only the shell can be executed, the payload runs once, and the record says why it was the shell."""
    behaviour = f"case $* in *fd/8*) exit 1 ;; esac; {isolate}"
    outcome = run_isolated(request_for(fake(behaviour), "sh", "-c", "echo ran >>/srv/ran; exit 9"), POLICY)

    assert (9, 2, "ran\n") == (outcome.exit_code, starts(tmp_path), (tmp_path / "work" / "ran").read_text())


def test_shell_tells_of_its_own_command(fake, request_for, isolate):
    """The shell says nothing on the marker's pipe when a command is not found: its exit status is all there is."""
    behaviour = f"case $* in *fd/8*) exit 1 ;; esac; {isolate}"
    outcome = run_isolated(request_for(fake(behaviour), "nosuch-command"), POLICY)

    assert (127, "exit-nonzero", "payload") == (outcome.exit_code, outcome.kind, outcome.failed_by)

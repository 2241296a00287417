"""
The command that starts a payload without the library, and what is read of what it leaves.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess

import attrs
import pytest

from wlcg_isolate import Bind, Outcome, Policy, RequestError, Start, make_plan, outcome_of
from wlcg_isolate._supervisor import PROGRAM, WAITING_SHELL, release_text, supervised

SECRET = "hunter2-secret"


@pytest.fixture
def plan(facts, request_for):
    """Make a plan of a command on the good node."""

    def make(*command, policy=None, **overrides):
        return make_plan(request_for(*command, **overrides), policy or Policy(), facts())

    return make


def test_program():
    """The program is one line, the same for every plan, and every shell here can read it."""
    assert "\n" not in PROGRAM
    for shell in ("sh", "bash"):
        assert 0 == subprocess.run([shell, "-n", "-c", PROGRAM], check=False).returncode


def test_process_that_vanishes():
    """The search for the payload ends also when a process goes while it is looked at."""
    text = PROGRAM[PROGRAM.index("look_at_family() {") : PROGRAM.index("namespaces_of() {")]
    for shell in ("sh", "bash"):
        done = subprocess.run(
            [shell, "-c", f'kids=999999999 run=999999999 inner=5; {text} look_at_family; echo "<$payload$init>"'],
            check=True, timeout=10, capture_output=True,
        )  # fmt: skip

        assert b"<>\n" == done.stdout


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_timer_leaves_no_sleep(shell):
    """A timer that is ended at any moment of its start takes its sleep with it."""
    text = PROGRAM[PROGRAM.index("timer() {") : PROGRAM.index("hung() {")]
    # Each is ended a little later than the one before.
    ended = "timer 8643 : & j=0; while [ $j -lt $((i % 40 * 8)) ]; do j=$((j+1)); done; kill -ALRM $!; i=$((i+1))"
    script = f"{text} i=0; while [ $i -lt 200 ]; do {ended}; done; wait; pgrep -P 1 -f 'sleep 864[3]'"
    done = subprocess.run([shell, "-c", script], check=False, timeout=60, capture_output=True)

    assert b"" == done.stdout


def test_command(plan, present):
    """What a plan decides is in arguments and variables; the runtime's call is at the end."""
    made = plan("tool", "a b", timeout=1.5, binds=[Bind(source="/cvmfs", target="/tmp/a b\n")])
    argv = made.supervised.argv
    first, rest = argv[4:17], argv[17:]

    assert ("/bin/sh", "-c", PROGRAM, "wlcg-isolate") == argv[:4]
    assert (made.trace_id, made.scratch, "", "1.5", "10", "300", "mnt ipc pid user", "/image", "") == first[:9]
    assert {"rw:/srv", "ro:/cvmfs", "ro:/tmp/a\\040b\\012"} == set(first[9].split())
    assert ("", "", "") == first[10:]
    assert (*made.trace_dirs, "--", "directory", f"{made.scratch}/tmp/a b\n", "--") == rest[:5]
    assert made.runtime.path == rest[9]
    assert ("/image", *WAITING_SHELL) == rest[-4:]


def test_line_is_the_command(plan):
    """The shell line is one simple command that waits."""
    made = plan("tool", env={"A": "x 'y'"})
    words = shlex.split(made.shell())
    command = supervised(made, stay=True)

    assert ["/usr/bin/env", "-i"] == words[:2]
    assert list(command.argv) == words[2 + len(command.environ) :]
    assert command.environ == dict(word.split("=", 1) for word in words[2 : 2 + len(command.environ)])
    assert "\n" not in made.shell()


def test_long_release(plan):
    """What no single variable can hold travels in several."""
    made = plan("tool", "\u00e4" * 60_000, "x" * 100_000)
    chunks = [value for name, value in made.supervised.environ.items() if name.startswith("WLCG_ISOLATE_RELEASE_")]

    assert release_text(made) == "".join(chunks)
    assert 131_072 > max(len(chunk.encode()) for chunk in chunks)


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_release_that_is_cut_short(plan, shell):
    """A part of a release starts nothing; the whole of it is one line, whatever the values hold."""
    made = plan("echo", "a\n'b", env={"A": "x\n\ny\n"})
    text = release_text(made).replace("cd /srv", "cd /")
    for end, status in ((text[: len(text) // 2], 125), (text, 125), (text + "\n", 0)):
        script = f"exec 4>/dev/null 5</dev/null 6>&1 7>&1; {WAITING_SHELL[2].replace('<&3', '')}"
        done = subprocess.run([shell, "-c", script], input=end.encode(), capture_output=True, check=False)
        assert (status, b"" if status else b"a\n'b\n") == (done.returncode, done.stdout)

    assert "\n" not in text


def test_no_secret_in_arguments(plan):
    """Neither a value nor an argument of the payload is in an argument list or a representation."""
    command = plan("tool", SECRET, env={"A": SECRET}).supervised

    assert SECRET in "".join(command.environ.values())
    assert SECRET not in "".join(command.argv) + repr(command)


def test_start_in_plain_types(plan):
    """What the outcome needs survives JSON, and holds no value of a variable."""
    start = Start.of(plan("tool", env={"A": SECRET}))
    text = json.dumps(start.to_dict())

    assert start == Start.from_dict(json.loads(text))
    assert SECRET not in text


BROKEN = [
    None,
    {},
    {"version": 2},
    {"trace_id": "../../etc"},
    {"trace_id": 5},
    {"trace_dirs": "/a"},
    {"trace_dirs": [""]},
    {"timeout": "1"},
    {"record": []},
    {"more": 1},
]


@pytest.mark.parametrize("change", BROKEN, ids=str)
def test_broken_start(plan, change):
    """What is no description of a start is refused."""
    data = {**Start.of(plan()).to_dict(), **change} if change else change
    with pytest.raises(RequestError, match="request-invalid"):
        Start.from_dict(data)


#: Files that were left, the exit status that the caller knows, and what became of it.
STARTED = {"started": "trace_id {id}\npid 77\ninner_pid 5\ninit 70\nstart_ticks 9\nnamespaces mnt 3 ipc 4\n"}
LEFT = [
    ({**STARTED, "end": "0\n0m0.0s 0m0.0s\n1m0.25s 0m0.5s\n"}, None, (True, "success", 0, None)),
    ({**STARTED, "end": "7\n"}, 9, (True, "exit-nonzero", 7, None)),
    ({**STARTED, "end": ""}, 255, (True, "exit-nonzero", 255, None)),
    ({**STARTED, "end": ""}, 139, (True, "ended-by-signal", None, 11)),
    ({**STARTED, "end": ""}, 128, (True, "exit-nonzero", 128, None)),
    ({**STARTED, "end": ""}, -9, (True, "runtime-lost", None, 9)),
    ({**STARTED, "end": "143\n", "limit": ""}, None, (True, "time-limit", None, 15)),
    ({**STARTED, "end": "", "lost": ""}, -15, (True, "stopped", None, None)),
    ({**STARTED, "end": "125\n", "refused": "image-changed it was\n"}, None, (False, "image-changed", None, None)),
    ({"end": "125\n", "refused": "nonsense it was\n"}, None, (False, "runtime-killed", None, None)),
    ({"end": "137\n", "hung": ""}, None, (False, "runtime-hung", None, None)),
    ({"end": "137\n"}, None, (False, "runtime-killed", None, None)),
    ({"end": ""}, -9, (False, "runtime-killed", None, None)),
    ({"end": "127\n", "words": "env: 'x': No such file or directory"}, None, (False, "runtime-vanished", None, None)),
    (
        {"end": "255\n", "words": "FATAL:   fuse: device /dev/fuse not found"},
        None,
        (False, "fuse-unavailable", None, None),
    ),
    ({"end": "0\n"}, None, (False, "runtime-failed", None, None)),
    ({"started": "trace_id another\n", "end": "0\n"}, None, (False, "runtime-failed", None, None)),
    (None, 125, (False, "trace-unwritable", None, None)),
]


@pytest.mark.parametrize(("files", "exit_code", "expected"), LEFT, ids=[f"{i}-{x[2][1]}" for i, x in enumerate(LEFT)])
def test_outcome(plan, tmp_path, files, exit_code, expected):
    """The files tell whether it started, the exit status how it ended; the answer stays the same."""
    made = attrs.evolve(plan(timeout=5), trace_dirs=(str(tmp_path / "none"), str(tmp_path / "trace")))
    place = tmp_path / "trace" / f".starts-{os.geteuid()}" / made.trace_id
    if files is not None:
        place.mkdir(parents=True, mode=0o700)
        for name, text in files.items():
            (place / name).write_text(text.replace("{id}", made.trace_id))
    outcome = outcome_of(made, exit_code)

    assert isinstance(outcome, Outcome)
    assert expected == (outcome.started, outcome.kind, outcome.exit_code, outcome.signal)
    assert made.trace_id == outcome.trace_id
    assert files is None or outcome == outcome_of(Start.of(made))
    assert files is None or "1m0.25s" not in files["end"] or 60.75 == outcome.usage.cpu_seconds


def test_planted_links(plan, tmp_path):
    """Nothing is read through a link."""
    made = attrs.evolve(plan(), trace_dirs=(str(tmp_path),))
    place = tmp_path / f".starts-{os.geteuid()}" / made.trace_id
    place.mkdir(parents=True, mode=0o700)
    (tmp_path / "evil").write_text(f"trace_id {made.trace_id}\n")
    (place / "started").symlink_to(tmp_path / "evil")
    (place / "end").write_text("0\n")

    assert not outcome_of(made).started


def test_old_answers_are_forgotten(plan, tmp_path):
    """An answer is kept for a week; what has none stays, as evidence."""
    made = attrs.evolve(plan(), trace_dirs=(str(tmp_path),))
    above = tmp_path / f".starts-{os.geteuid()}"
    for name, old in (("old", True), ("new", False), ("open", None), (made.trace_id, None)):
        (above / name).mkdir(parents=True, mode=0o700)
        (above / name / "end").write_text("0\n")
        if old is not None:
            (above / name / "outcome").write_text("{}")
        if old:
            os.utime(above / name / "outcome", (1, 1))
    outcome_of(made)

    assert sorted(["new", "open", made.trace_id]) == sorted(os.listdir(above))

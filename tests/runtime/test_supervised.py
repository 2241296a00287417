"""
Payloads that a pilot starts itself, by shell line or supervised command, in
real containers.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import attrs
import pytest

from wlcg_isolate import Bind, Policy, RequestError, _supervisor, classify, make_plan, outcome_of, run_isolated

ODD = "x $(id) `q` \"'\\ *\n~ ;"
SHOW = 'pwd; env | grep -v -e SHLVL -e ^_= | sort; cat; for word; do echo "<$word>"; done; echo e >&2; exit 9'
SECRET = "hunter2-secret"


@pytest.fixture
def busybox(image, tmp_path):
    """The shell of busybox, as some hosts have it."""
    shell = tmp_path / "busybox"
    shutil.copy(Path(image("tiny")) / "bin" / "busybox", shell)

    return str(shell)


def supervised(plan, **more):
    """Start a plan's command and wait for it."""
    command = plan.supervised
    done = subprocess.run(command.argv, env=command.environ, check=False, capture_output=True, timeout=60, **more)

    return done, outcome_of(plan, done.returncode)


def _hostile():
    """An environment that would change what a shell does."""
    functions = {
        f"BASH_FUNC_{name}%%": "() { echo hijacked; }" for name in ("env", "exit", "mkdir", "rm", "printf", "[")
    }

    return {
        "PATH": "/nosuch", "BASH_ENV": "/nosuch/evil", "ENV": "/nosuch/evil", "IFS": "/", "SHELLOPTS": "nounset",
        "APPTAINER_BIND": "/etc:/evil", "LD_LIBRARY_PATH": "/evil", "TERM": "evil", **functions,
    }  # fmt: skip


WAYS = [
    ("plain", "{}", "9\n", 9),
    ("strict", "set -eu; {}", "9\n", 9),
    ("status", "{}; echo $?", "9\n9\n", 0),
    ("piped", "{} | /bin/cat", "9\n", 0),
    ("grouped", "( {{ {}; }} 2>&1 ) && echo never || echo last", "9\nlast\n", 0),
    ("other-directory", "cd / && {}", "9\n", 9),
    ("substituted", 'out=$({}) || echo "$out"', "9\n", 0),
    ("exec", "exec {}", "9\n", 9),
    ("descriptors", "exec 3</dev/null 4>/dev/null 9</dev/null; {}", "9\n", 9),
]


@pytest.mark.parametrize(("text", "status"), [(way[1], way[3]) for way in WAYS], ids=[way[0] for way in WAYS])
def test_line_in_every_shell(request_for, policy, busybox, text, status):
    """Whatever shell runs the line, in whatever text and environment, the payload is the same."""
    plan = make_plan(request_for("sh", "-c", SHOW, "sh", ODD, "", env={"A": ODD}), policy)
    line = text.format(plan.shell())
    seen = {}
    for name, shell in (("dash", ["dash", "-c"]), ("bash", ["bash", "-c"]), ("ash", [busybox, "sh", "-c"])):
        # Bash takes most from its environment; the line is run twice there, since pilots try again.
        for environ in (dict(os.environ), _hostile()) if name == "bash" else (_hostile(),):
            done = subprocess.run(
                [shutil.which(shell[0]), *shell[1:], line], input=b"in\n", capture_output=True, check=False, env=environ
            )
            seen[name, len(environ)] = (done.returncode, done.stdout)
            assert (b"" if "2>&1" in text else b"e\n") == done.stderr
            assert "exit-nonzero" == outcome_of(plan).kind

    assert 1 == len(set(seen.values()))
    assert status == next(iter(seen.values()))[0]
    out = next(iter(seen.values()))[1]
    assert f"A={ODD.splitlines()[0]}".encode() in out
    assert f"in\n<{ODD}>\n<>\n".encode() in out
    assert b"hijacked" not in out


@pytest.mark.parametrize("name", ["tiny", "debian11", "tiny.sif"])
def test_same_as_a_launch(request_for, policy, tmp_path, name):
    """Environment, output and status are those of a launch, from both."""
    request = request_for("sh", "-c", SHOW.replace("SHLVL", "SHLVL -e ISOLATE_ID"), name=name, env={"A": ODD})
    line = subprocess.run(["sh", "-c", make_plan(request, policy).shell()], capture_output=True, check=False, input=b"")
    command, outcome = supervised(make_plan(request, policy), stdin=subprocess.DEVNULL)
    with open(tmp_path / "out", "wb") as out, open(os.devnull, "rb") as null:
        launched = run_isolated(request, policy, stdin=null, stdout=out)

    expected = (launched.status, (tmp_path / "out").read_bytes())
    assert expected == (line.returncode, line.stdout) == (command.returncode, command.stdout)
    assert (launched.kind, launched.exit_code) == (outcome.kind, outcome.exit_code)
    assert [] == os.listdir(tmp_path / "work")


def _records(place):
    texts = [file.read_text() for file in (place / "trace").glob("*.jsonl")]

    records = [json.loads(line) for text in texts for line in text.splitlines()]

    return [record for record in records if record["event.action"].startswith("payload.")]


@pytest.mark.parametrize("shell", ["dash", "bash", "ash"])
@pytest.mark.parametrize("stay", [False, True], ids=["command", "line"])
def test_every_shell_as_the_nodes(request_for, policy, busybox, tmp_path, shell, stay):
    """Whatever the node has as its /bin/sh, the program is understood, also at its ends."""
    words = {"dash": ["dash"], "bash": ["bash", "--posix"], "ash": [busybox, "sh"]}[shell]
    seen = []
    for text, more in (("cat; exit 9", {}), ("trap '' TERM; sleep 60 & wait", {"timeout": 0.3}), ("kill -9 $$", {})):
        plan = make_plan(request_for("sh", "-c", text, **more), Policy(payload_grace_seconds=0.2))
        command = _supervisor.supervised(plan, stay=stay)
        done = subprocess.run(
            [*words, *command.argv[1:]], env=command.environ, input=b"in", capture_output=True, check=False
        )
        outcome = outcome_of(plan, done.returncode)
        seen.append((outcome.kind, outcome.status, done.stdout, done.stderr))
        assert [] == os.listdir(tmp_path / "work")

    assert [("exit-nonzero", 9, b"in", b""), ("ended-by-signal", 137, b"", b"")] == seen[::2]
    assert ("time-limit", b"", b"") == (seen[1][0], *seen[1][2:])


def test_records(request_for, policy, tmp_path):
    """Start and end are recorded, with the process as it was seen from outside and what was checked."""
    plan = make_plan(request_for("sh", "-c", "echo $$; readlink /proc/self/ns/mnt"), policy)
    done, outcome = supervised(plan)
    lines = _records(tmp_path)
    start, end = (next(r for r in lines if r["event.action"] == f"payload.{what}") for what in ("start", "end"))
    number, namespace = done.stdout.split()

    assert (int(number), f"mnt:[{start['wlcg.ns.mnt']}]") == (start["process.vpid"], namespace.decode())
    assert (plan.trace_id, plan.trace_id, outcome.trace_id) == (
        start["container.id"],
        end["container.id"],
        plan.trace_id,
    )
    assert start["process.pid"] == end["process.pid"]
    assert ["namespaces", "mount points", "image file"] == start["wlcg.isolation.verified"]
    assert start["@timestamp"] < end["@timestamp"]
    assert ("success", True) == (end["wlcg.outcome.kind"], end["wlcg.outcome.started"])
    assert outcome_of(plan) == outcome
    assert lines == _records(tmp_path)


ENDS = [
    ("exit 0", 0, "success", 0, None),
    ("echo 'FATAL:   container creation failed' >&2; exit 255", 255, "exit-nonzero", 255, None),
    ("exit 125", 125, "exit-nonzero", 125, None),
    ("exit 127", 127, "exit-nonzero", 127, None),
    ("kill -SEGV $$", 139, "ended-by-signal", None, 11),
    ("exec >&- 2>&- <&-; (sleep 0.2; echo > late) & exit 3", 3, "exit-nonzero", 3, None),
    ("nosuch-command", 127, "exit-nonzero", 127, None),
]


@pytest.mark.parametrize(("text", "status", "kind", "code", "number"), ENDS, ids=[end[0][:20] for end in ENDS])
def test_end(request_for, policy, text, status, kind, code, number):
    """With the marker every status is the payload's, whatever it prints."""
    done, outcome = supervised(make_plan(request_for("sh", "-c", text), policy))

    assert (status, True, kind, code, number) == (
        done.returncode, outcome.started, outcome.kind, outcome.exit_code, outcome.signal,
    )  # fmt: skip


#: What a payload can try: reach the pipes and the file that the container's process 1 keeps, and the marker's place.
FORGE = """
for fd in /proc/1/fd/* /proc/[0-9]*/fd/*; do
    case $(readlink "$fd") in *pipe*|*ready*|*release*|*words*|*starts*) ;; *) continue ;; esac
    (echo 999 >"$fd") & (timeout 0.2 cat "$fd" >/dev/null) & (: >"$fd") &
done 2>/dev/null
wait
find / -xdev -name '.starts-*' 2>/dev/null
rm -rf /srv/.wlcg-isolate-* 2>/dev/null
ln -s /etc /srv/.wlcg-isolate-x
echo 'FATAL:   While making image from oci registry' >&2
exit 255
"""


@pytest.mark.parametrize("way", ["line", "command"])
def test_forging(request_for, policy, tmp_path, way):
    """A payload cannot make its own failure the runtime's, nor see where the marker is."""
    plan = make_plan(request_for("sh", "-c", FORGE), policy)
    if way == "line":
        done = subprocess.run(["sh", "-c", plan.shell()], capture_output=True, check=False, timeout=60)
        outcome = outcome_of(plan)
    else:
        done, outcome = supervised(plan)

    assert b"starts" not in done.stdout
    assert (True, "payload", 255) == (outcome.started, outcome.failed_by, outcome.exit_code)
    assert [".wlcg-isolate-x"] == os.listdir(tmp_path / "work")


def test_image_gone(request_for, policy):
    """Without the marker the runtime failed, and its own words say why."""
    plan = make_plan(request_for("true"), policy)
    gone = attrs.evolve(plan, image=attrs.evolve(plan.image, resolved_path="/nosuch/image"))
    _, outcome = supervised(gone)

    assert (False, "runtime", "image-unusable") == (outcome.started, outcome.failed_by, outcome.kind)


def test_image_replaced(request_for, policy, image, tmp_path):
    """An image file that was replaced after it was examined runs nothing."""
    file = tmp_path / "tiny.sif"
    shutil.copy(image("tiny.sif"), file)
    plan = make_plan(attrs.evolve(request_for("touch", "/srv/ran"), image=str(file)), policy)
    seen = os.stat(file)
    times = (seen.st_mtime_ns, seen.st_ctime_ns)
    plan = attrs.evolve(plan, image=attrs.evolve(plan.image, identity=(seen.st_dev, seen.st_ino, seen.st_size, *times)))
    good, _ = supervised(plan)
    other = tmp_path / "other.sif"
    shutil.copy(file, other)
    os.replace(other, file)
    done, outcome = supervised(plan)

    assert 0 == good.returncode
    assert (125, False, "image-changed") == (done.returncode, outcome.started, outcome.kind)
    assert ["ran"] == os.listdir(tmp_path / "work")


@pytest.fixture
def wrapped(tmp_path, runtime):
    """Put a script in the runtime's place that changes its arguments."""

    def wrap(plan, text):
        script = tmp_path / "wrapper"
        script.write_text(f'#!/bin/bash\nargs=("$@")\n{text}\nexec {runtime} "${{args[@]}}"\n')
        script.chmod(0o755)
        return attrs.evolve(plan, runtime=attrs.evolve(plan.runtime, path=str(script)))

    return wrap


DROPS = [
    ('args=("${args[@]/--pid}")', "isolation-incomplete", "no pid namespace"),
    ('args=("${args[@]/,ro}")', "bind-not-seen", "it can be written"),
    ('args=("${args[@]/dst=\\/mnt/dst=/media}")', "bind-not-seen", "nothing is mounted there"),
]


@pytest.mark.parametrize(("text", "kind", "words"), DROPS, ids=[drop[1] + str(i) for i, drop in enumerate(DROPS)])
def test_runtime_that_drops(request_for, policy, wrapped, tmp_path, text, kind, words):
    """What a runtime leaves out without a word is found before the payload's first instruction."""
    (tmp_path / "data").mkdir()
    request = request_for("touch", "/srv/ran", binds=(Bind(source=str(tmp_path / "data"), target="/mnt"),))
    text = f'{text}; for i in "${{!args[@]}}"; do [ -n "${{args[i]}}" ] || unset "args[i]"; done'
    _, outcome = supervised(wrapped(make_plan(request, policy), text))

    assert (False, kind) == (outcome.started, outcome.kind), outcome.message
    assert words in outcome.message
    assert [] == os.listdir(tmp_path / "work")


def _until(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "kind", "status"),
    [
        (signal.SIGTERM, "exit-nonzero", 42),
        (signal.SIGINT, "exit-nonzero", 43),
        (signal.SIGKILL, "runtime-lost", -9),
    ],
    ids=["TERM", "INT", "KILL"],
)
def test_signals(request_for, policy, tmp_path, number, kind, status):
    """The command becomes the runtime: its process takes the signals, and nothing survives it."""
    text = "trap 'exit 42' TERM; trap 'exit 43' INT; echo > /srv/runs; while :; do sleep 0.1; done"
    plan = make_plan(request_for("sh", "-c", text), policy)
    command = plan.supervised
    process = subprocess.Popen(command.argv, env=command.environ, start_new_session=True)
    _until((tmp_path / "work" / "runs").exists)
    inside = int(Path(tmp_path, "trace", f".starts-{os.geteuid()}", plan.trace_id, "started").read_text().split()[3])
    process.send_signal(number)
    process.wait(timeout=20)
    outcome = outcome_of(plan, process.returncode)
    _until(lambda: not os.path.exists(f"/proc/{inside}"))

    assert (status, kind, True) == (process.returncode, outcome.kind, outcome.started)
    assert not os.path.exists(f"/proc/{inside}")
    assert ["runs"] == os.listdir(tmp_path / "work")


def test_no_value_in_any_command_line(request_for, policy, tmp_path):
    """While the payload runs, no list of processes shows a value or an argument of its."""
    plan = make_plan(request_for("sh", "-c", f"echo > /srv/runs; read -r x; : {SECRET}", env={"T": SECRET}), policy)
    command = plan.supervised
    process = subprocess.Popen(command.argv, env=command.environ, stdin=subprocess.PIPE)
    _until((tmp_path / "work" / "runs").exists)
    inside = outside = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words, numbers = (entry / "cmdline").read_bytes(), (entry / "status").read_text()
        except OSError:
            continue
        own = next(line for line in numbers.splitlines() if line.startswith("NSpid:"))
        if SECRET.encode() in words:
            inside, outside = inside + (len(own.split()) > 2), outside + (len(own.split()) == 2)
    process.communicate(b"x\n", timeout=20)

    assert (1, 0) == (inside, outside), "the payload's own command is seen, and no other"
    assert SECRET not in "".join(command.argv)
    assert SECRET not in repr(command)


def test_from_another_language(cli, image, tmp_path):
    """A program that only knows JSON plans, starts and gets the outcome."""
    plan = [*cli.program, "plan", "--image", image("tiny"), "--workdir", str(cli.workdir), "--trace-dir"]
    plan += [str(cli.trace_dir), "--vo", "alice", "--json", "--", "sh", "-c", "exit 5"]
    text = subprocess.run(plan, env=cli.environ, check=True, capture_output=True).stdout
    (tmp_path / "plan.json").write_bytes(text)
    shown = json.loads(text)["supervised"]
    done = subprocess.run(shown["argv"], env=shown["environ"], check=False)
    tell = [*cli.program, "outcome", "--plan", str(tmp_path / "plan.json"), "--outcome", str(cli.outcome)]
    told = subprocess.run([*tell, "--exit-code", "5"], env=cli.environ, check=True, capture_output=True)

    assert 5 == done.returncode
    assert json.loads(told.stdout) == json.loads(cli.outcome.read_text())
    assert ("exit-nonzero", 5) == (json.loads(told.stdout)["kind"], json.loads(told.stdout)["exit_code"])
    assert ["alice", "alice"] == [record["wlcg.vo"] for record in cli.records()]


def test_asked_too_early(request_for, policy, tmp_path):
    """Of a payload that runs there is no outcome, its directories stay, and the right one is told later."""
    text = "trap 'cat /tmp/a; exit 6' TERM; echo kept >/tmp/a; echo >/srv/runs; while :; do sleep 0.1; done"
    plan = make_plan(request_for("sh", "-c", text), policy)
    process = subprocess.Popen(plan.supervised.argv, env=plan.supervised.environ, stdout=subprocess.PIPE)
    _until((tmp_path / "work" / "runs").exists)
    with pytest.raises(
        RequestError, match=r"request-invalid: the payload still runs, as process \d+ .*; ask once it has ended"
    ):
        outcome_of(plan, 0)
    process.terminate()

    assert b"kept\n" == process.communicate()[0]
    assert ("exit-nonzero", 6) == (outcome_of(plan, process.returncode).kind, outcome_of(plan, 0).exit_code)


@pytest.mark.parametrize("code", [256, 999, -65])
def test_no_exit_status(request_for, policy, code):
    """What no process can end with is refused, before anything is written."""
    with pytest.raises(RequestError, match=f"no process ends with the exit status {code}"):
        outcome_of(make_plan(request_for("true"), policy), code)


def test_clean_up_by_whoever_asks(request_for, policy, tmp_path):
    """When all of a start was killed at once, who asks for its outcome tidies up."""
    text = "mkdir /tmp/a; touch /tmp/a/b; chmod 0 /tmp/a; echo > /srv/runs; sleep 60"
    plan = make_plan(request_for("sh", "-c", text), policy)
    process = subprocess.Popen(["sh", "-c", plan.shell()], start_new_session=True)
    _until((tmp_path / "work" / "runs").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    outcome = outcome_of(plan, process.returncode)

    assert (True, "runtime-lost") == (outcome.started, outcome.kind)
    assert ["runs"] == os.listdir(tmp_path / "work")


def test_guess_without_marker(request_for, policy):
    """The bare command has no marker: what is said of it is a guess, which a payload can steer."""
    plan = make_plan(
        request_for(
            "sh", "-c", "echo 'FATAL:   image driver mount failure: fuse: device /dev/fuse not found' >&2; exit 255"
        ),
        policy,
    )
    bare = subprocess.run(plan.argv, env=plan.environ, check=False, stderr=subprocess.PIPE)
    _, outcome = supervised(plan)

    assert (False, True) == (classify(bare.returncode, bare.stderr).started, outcome.started)


SIGNS = [*map(chr, range(1, 128)), "\u00e4", "\u20ac", "\U0001f600"]


def _check_any_text(make, policy, busybox, seed, count):
    """Hand random texts over through each shell, and compare what arrives."""
    chance = random.Random(seed)
    shells = (["sh", "-c"], ["bash", "-c"], [busybox, "sh", "-c"])
    for i in range(count):
        texts = ["".join(chance.choices(SIGNS, k=chance.randrange(40))) for _ in range(8)]
        request = make(
            "sh", "-c", 'printf "%s\\0" "$@" "$A" "$B"', "sh", *texts[:6], env={"A": texts[6], "B": texts[7]}
        )
        plan = make_plan(request, policy)
        done = subprocess.run([*shells[i % 3], plan.shell()], stdout=subprocess.PIPE, check=False)

        assert texts == done.stdout.decode().split("\0")[:-1], (seed, i)
        assert "success" == outcome_of(plan).kind


def test_any_text(request_for, policy, busybox):
    """Whatever signs arguments and values hold, they arrive."""
    _check_any_text(request_for, policy, busybox, 1, 6)


@pytest.mark.soak
def test_any_text_at_length(request_for, policy, busybox):
    """Whatever signs arguments and values hold, they arrive, many times over."""
    _check_any_text(request_for, policy, busybox, 2, 400)


def _check_many(request_for, policy, tmp_path, count):
    """Start many at once, end some with KILL, and look at all that they leave."""
    plans, processes = [], []
    for i in range(count):
        place = tmp_path / f"work-{i}"
        place.mkdir()
        text = f"echo > runs; exit {i % 120}" if i % 4 else "echo > runs; sleep 60"
        plans.append(make_plan(request_for("sh", "-c", text, workdir=place), policy))
    for plan in plans:
        command = plan.supervised
        processes.append(subprocess.Popen(command.argv, env=command.environ, start_new_session=True))
    for i in range(0, count, 4):
        _until((tmp_path / f"work-{i}" / "runs").exists)
        processes[i].kill()
    outcomes = [outcome_of(plan, process.wait()) for plan, process in zip(plans, processes)]
    left = {i: os.listdir(tmp_path / f"work-{i}") for i in range(count)}
    marks = [plan.trace_id.encode() for plan in plans]
    _until(lambda: not any(mark in text for text in _command_lines() for mark in marks))

    expected = [("exit-nonzero" if i % 120 else "success") if i % 4 else "runtime-lost" for i in range(count)]
    assert expected == [outcome.kind for outcome in outcomes]
    assert [i % 120 if i % 4 else None for i in range(count)] == [outcome.exit_code for outcome in outcomes]
    assert {i: ["runs"] for i in range(count)} == left
    assert not any(mark in text for text in _command_lines() for mark in marks)
    assert 2 * count == len(_records(tmp_path))


def _command_lines():
    texts = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            texts.append((entry / "cmdline").read_bytes())

    return texts


def test_many_at_once(request_for, policy, tmp_path):
    """Many at once: every outcome right, every record there, no process and no directory left."""
    _check_many(request_for, policy, tmp_path, 12)


@pytest.mark.soak
def test_very_many_at_once(request_for, policy, tmp_path):
    """Two hundred and fifty-six at once: every outcome right, nothing left."""
    _check_many(request_for, policy, tmp_path, 256)

"""
The life of a payload: its handle, its processes, its end, and what a dead pilot leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import attrs
import pytest

from wlcg_isolate import launch_plan, make_plan, start_plan
from wlcg_isolate.host import procfs

SECONDS = 60


@pytest.fixture
def plan_for(request_for, quick):
    """Make the plan of a payload in a tree image."""
    return lambda *command, **more: make_plan(request_for(*command, **more), quick)


@pytest.fixture
def records(tmp_path):
    """Read the records' events, by payload."""

    def read():
        found = {}
        for file in sorted((tmp_path / "trace").glob("*.jsonl")):
            for line in file.read_text().splitlines():
                record = json.loads(line)
                if record["event.action"] in ("payload.start", "payload.end", "payload.refused"):
                    found.setdefault(record["container.id"], []).append(record["event.action"])
        return found

    return read


@pytest.fixture
def output():
    """Make a pipe for a payload's output."""
    with contextlib.ExitStack() as stack:
        read, write = os.pipe()
        yield stack.enter_context(open(read, "rb")), stack.enter_context(open(write, "wb"))


def wait_for(condition):
    """Wait until something is so."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("it did not happen in time")
        time.sleep(0.02)


def test_handle(plan_for, records, output):
    """A handle tells what runs, passes signals on, waits in time, and gives the same outcome to everybody."""
    plan = plan_for("sh", "-c", "trap 'echo usr1' USR1; trap 'exit 5' USR2; echo up; while :; do sleep 0.05; done")
    running = start_plan(plan, stdout=output[1])
    assert b"up\n" == output[0].readline()
    assert (plan.trace_id, None) == (running.trace_id, running.poll())
    assert running.namespaces == procfs.namespaces(running.pid)
    assert procfs.namespaces()["pid"] != running.namespaces["pid"]
    with pytest.raises(TimeoutError):
        running.wait(0.05)
    assert running.send_signal(signal.SIGUSR1)
    assert b"usr1\n" == output[0].readline()
    waiting = []
    threads = [threading.Thread(target=lambda: waiting.append(running.wait(SECONDS))) for _ in range(4)]
    called = threading.Event()
    running.add_done_callback(lambda one: called.set() if one is running else None)
    for thread in threads:
        thread.start()
    running.send_signal(signal.SIGUSR2)
    for thread in threads:
        thread.join(SECONDS)

    assert (4, 1) == (len(waiting), len(set(map(id, waiting))))
    assert ("exit-nonzero", 5) == (waiting[0].kind, waiting[0].exit_code)
    assert called.wait(SECONDS)
    assert not running.send_signal(signal.SIGTERM)
    running.stop()
    assert waiting[0] == running.poll()
    assert ["payload.start", "payload.end"] == records()[plan.trace_id]


def test_handle_of_a_payload_that_cannot_start(plan_for, records):
    """What cannot be started has its outcome at once, recorded like any other."""
    plan = attrs.evolve(plan_for("true"), workdir="/nonexistent")
    with start_plan(plan) as running:
        running.stop()

    assert (None, {}, False) == (running.pid, running.namespaces, running.poll().started)
    assert ["payload.refused"] == records()[plan.trace_id]


def test_stop_reaches_every_process(plan_for, output):
    """A stop asks all processes, so that none waits for its child; and a stubborn tree dies after the grace."""
    script = "for i in 1 2; do sh -c 'trap \"echo bye; exit\" TERM; echo up; while :; do sleep 0.05; done' & done; wait"
    running = start_plan(plan_for("sh", "-c", f"trap 'wait; exit 3' TERM; {script}"), stdout=output[1])
    assert [b"up\n", b"up\n"] == [output[0].readline() for _ in range(2)]
    running.stop(30)
    assert [b"bye\n", b"bye\n"] == [output[0].readline() for _ in range(2)]
    asked = running.wait(SECONDS)
    stubborn = start_plan(plan_for("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"), stdout=output[1])
    assert b"up\n" == output[0].readline()
    stubborn.stop(600)
    # Who is in a hurry need not wait for who is not.
    stubborn.stop(0.1)
    killed = stubborn.wait(SECONDS)

    assert ("stopped", "signal", 3, None) == (asked.kind, asked.failed_by, asked.exit_code, asked.signal)
    assert ("stopped", None, 9) == (killed.kind, killed.exit_code, killed.signal)
    assert killed.usage.wall_seconds < 30


def test_killed_at_once_counts_what_was_used(plan_for, output):
    """A payload that is killed with all of its processes has its usage all the same."""
    script = "(while :; do :; done) & echo up; while :; do :; done"
    with start_plan(plan_for("sh", "-c", script, timeout=600), stdout=output[1]) as running:
        assert b"up\n" == output[0].readline()
        wait_for(lambda: _ticks(running.pid) > 0.3 * os.sysconf("SC_CLK_TCK"))
        running.stop(0)
        usage = running.wait(SECONDS).usage

    assert 0.3 < usage.cpu_seconds
    assert usage.cpu_seconds == pytest.approx(usage.user_seconds + usage.system_seconds, abs=1e-5)


@pytest.mark.parametrize("command", ["kill -9 0", "kill -9 -1; kill -9 $$"])
def test_payload_that_kills_its_group(plan_for, command):
    """What a payload sends to its whole group, or to everybody, ends itself and not the runtime."""
    outcome = launch_plan(plan_for("sh", "-c", command))

    assert ("ended-by-signal", "payload", 9) == (outcome.kind, outcome.failed_by, outcome.signal)


def _ticks(pid):
    """Read how much time a process itself has used."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def test_usage(plan_for, tmp_path):
    """Every figure that is told is measured, and all are recorded."""
    script = "dd if=/dev/zero of=/srv/file bs=1M count=20 conv=fsync 2>/dev/null; for i in 1 2 3; do sleep 0.01; done"
    outcome = launch_plan(plan_for("sh", "-c", script))
    usage = attrs.asdict(outcome.usage)
    lines = [line for file in (tmp_path / "trace").glob("*.jsonl") for line in file.read_text().splitlines()]
    end = next(r for r in map(json.loads, lines) if r["event.action"] == "payload.end")
    told = {name: value for name, value in usage.items() if value is not None and name != "wall_seconds"}
    expected = {f"wlcg.usage.{name}": value for name, value in told.items()}

    assert "success" == outcome.kind
    assert {"tree_peak_bytes"} >= {name for name, value in usage.items() if value is None}
    assert expected.items() <= end.items()
    assert 20 * 2**20 <= usage["written_bytes"] < 40 * 2**20
    assert 0 < usage["minor_faults"]
    assert 3 <= usage["voluntary_switches"]


def test_asyncio(plan_for):
    """Coroutines wait for many payloads without a thread of theirs; a cancelled one leaves its payload alone."""
    assert ([0, 1, 2, 3], None) == asyncio.run(_in_coroutines(plan_for))


async def _in_coroutines(plan_for):
    many = [start_plan(plan_for("sh", "-c", f"exit {i}")) for i in range(4)]
    codes = [outcome.exit_code for outcome in await asyncio.gather(*(one.wait_async() for one in many))]
    with start_plan(plan_for("sleep", "60")) as slow:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(slow.wait_async(), 0.1)

        return codes, slow.poll()


#: What a pilot's process may be like, by what it does before it starts payloads.
PILOTS = {
    "handler": "signal.signal(signal.SIGCHLD, lambda *_: None)",
    "reaping-handler": "signal.signal(signal.SIGCHLD, lambda *_: reap())",
    "ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "reaping-thread": "always(lambda: (reap(), time.sleep(0.0005)))",
    "subreaper": "ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)",
    "subprocesses": "always(lambda: subprocess.call(['true']))",
    "forks": "always(fork)",
}

PILOT = """
import contextlib, ctypes, json, os, pickle, signal, subprocess, sys, threading, time
from wlcg_isolate import start_plan

def reap():
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass

def fork():
    pid = os.fork()
    if not pid:
        time.sleep(0.3)
        # Not os._exit: coverage, which hooks it, may wait there for a lock that another thread had.
        os.kill(os.getpid(), 9)
    time.sleep(0.05)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)

def left():
    names = []
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            for child in open(f"/proc/self/task/{task}/children").read().split():
                names.append(open(f"/proc/{child}/comm").read())
    return names

def always(function):
    threading.Thread(target=lambda: [function() for _ in iter(int, 1)], daemon=True).start()

plans = pickle.load(open(sys.argv[1], "rb"))
BEFORE
running = [start_plan(plan) for plan in plans]
outcomes = [one.wait(60) for one in running]
print(json.dumps([[o.kind, o.exit_code, o.signal, o.usage.cpu_seconds is not None] for o in outcomes]))
print(json.dumps(left()))
"""


@pytest.mark.parametrize("kind", PILOTS)
def test_pilot_of_any_kind(plan_for, tmp_path, kind):
    """Whatever else a pilot's process does with its children, each outcome is right."""
    commands = ("exit 0", "exit 3", "exit 143", "kill -9 $$", "kill -TERM $$")
    plans = [plan_for("sh", "-c", command) for command in commands]
    (tmp_path / "plans").write_bytes(pickle.dumps(plans))
    (tmp_path / "pilot.py").write_text(PILOT.replace("BEFORE", PILOTS[kind]))
    argv = [sys.executable, "-W", "ignore", str(tmp_path / "pilot.py"), str(tmp_path / "plans")]
    done = subprocess.run(argv, stdout=subprocess.PIPE, timeout=SECONDS, check=True, text=True)
    outcomes, left = map(json.loads, done.stdout.splitlines())
    expected = [("success", 0, None), ("exit-nonzero", 3, None), ("exit-nonzero", 143, None)]
    expected += [("ended-by-signal", None, 9), ("ended-by-signal", None, 15)]
    seen = [tuple(one[:3]) for one in outcomes]

    assert [] == [name for name in left if "python" not in name and "true" not in name]
    if _tells_exits():
        assert expected == seen
    else:
        assert {"end-unseen"} >= {one[0] for one, right in zip(seen, expected) if one != right}


def _tells_exits():
    return tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2]) >= (6, 15)


def test_forked_child_owns_nothing(plan_for, records, output):
    """A child that the pilot forks in the midst of a launch ends neither the payload nor its records."""
    plan = plan_for("sh", "-c", "echo up; read line; exit 6")
    give, take = os.pipe()[::-1]
    children = []

    def fork(_container):
        with warnings.catch_warnings():
            # Other tests may have left a thread, which this child does not need.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if not pid:
            os._exit(_as_child(_container))
        children.append(pid)
        os.write(give, b"go\n")

    outcome = launch_plan(plan, on_start=fork, stdin=take, stdout=output[1])
    _, status = os.waitpid(children[0], 0)
    os.close(give)
    os.close(take)

    assert (6, "exit-nonzero", 0) == (outcome.exit_code, outcome.kind, os.waitstatus_to_exitcode(status))
    assert ["payload.start", "payload.end"] == records()[plan.trace_id]


def _as_child(container):
    """Try to end the payload; 0 when it is not possible."""
    with contextlib.suppress(RuntimeError):
        container.wait()
        return 1
    container.kill()
    container.stop(0)

    return container.send_signal(signal.SIGKILL)


def test_pilot_without_descriptors(plan_for, records):
    """A pilot that has no descriptors left is told so, each time, and nothing of the start stays."""
    plans = [plan_for("true") for _ in range(3)]
    launch_plan(plan_for("true"))
    before = len(os.listdir("/proc/self/fd"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    kinds = []
    for plan, spare in zip(plans, (2, 5, 9)):
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + spare, limits[1]))
        try:
            kinds.append(launch_plan(plan).failed_by)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert before == len(os.listdir("/proc/self/fd"))

    assert {"runtime", "policy"} >= set(kinds)
    assert {("payload.refused",)} == {tuple(records()[plan.trace_id]) for plan in plans}


INTERRUPTED = """
import contextlib, os, pickle, random, signal, sys, threading, time
from wlcg_isolate import launch_plan, start_plan

signal.signal(signal.SIGINT, signal.default_int_handler)
chance = random.Random(int(sys.argv[2]))
main, over = os.getpid(), threading.Event()

def press():
    for _ in range(chance.choice((1, 4))):
        if not over.wait(chance.random() * 0.3):
            os.kill(main, signal.SIGINT)

for i, plan in enumerate(pickle.load(open(sys.argv[1], "rb"))):
    over.clear()
    thread = threading.Thread(target=press)
    thread.start()
    with contextlib.suppress(KeyboardInterrupt):
        start_plan(plan).wait() if i % 3 == 0 else launch_plan(plan)
    while thread.is_alive():
        with contextlib.suppress(KeyboardInterrupt):
            over.set()
            thread.join()
print(*open(f"/proc/self/task/{main}/children").read().split(), len(os.listdir("/proc/self/fd")))
"""


@pytest.mark.parametrize("count", [12, pytest.param(400, marks=pytest.mark.soak)])
def test_interrupted_pilot(plan_for, tmp_path, records, count):
    """However often somebody presses Ctrl-C in the midst of it, nothing stays and each payload has its last record."""
    plans = [plan_for("sleep", "0.05") for _ in range(count)]
    (tmp_path / "plans").write_bytes(pickle.dumps(plans))
    seed = random.randrange(10**6)
    argv = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "plans"), str(seed)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, timeout=SECONDS + 2 * count, check=True, text=True)
    found = {tuple(records().get(plan.trace_id, ())) for plan in plans}

    assert {("payload.refused",), ("payload.start", "payload.end")} >= found, seed
    assert [] == os.listdir(tmp_path / "work"), seed
    # No child, and standard streams, the journal and the directory that is read.
    assert 1 == len(done.stdout.split()), (seed, done.stdout)
    assert int(done.stdout) <= 6, seed


def test_child_that_forgets_to_end(plan_for, records):
    """A child that the pilot forks while a payload starts, and that goes on as the pilot would, is refused."""
    plan = plan_for("sleep", "0.2")
    children = []

    def fork(_container):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            children.append(os.fork())

    try:
        outcome = launch_plan(plan, on_start=fork)
    except BaseException as error:  # noqa: BLE001 - the child must not go on with the tests
        os._exit(0 if children == [0] and isinstance(error, RuntimeError) else 1)
    if children == [0]:
        os._exit(2)

    assert ("success", 0) == (outcome.kind, os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
    assert ["payload.start", "payload.end"] == records()[plan.trace_id]


END = """
import pickle, sys
from wlcg_isolate import start_plan
running = [start_plan(plan) for plan in pickle.load(open(sys.argv[1], "rb"))]
print(*(one.pid for one in running), flush=True)
"""


def test_pilot_that_ends_without_waiting(plan_for, tmp_path, records):
    """A pilot that just ends stops its payloads, and each has its record."""
    plans = [plan_for("sleep", "300") for _ in range(3)]
    (tmp_path / "plans").write_bytes(pickle.dumps(plans))
    done = subprocess.run(
        [sys.executable, "-c", END, str(tmp_path / "plans")], stdout=subprocess.PIPE, timeout=SECONDS, check=True
    )

    assert {plan.trace_id: ["payload.start", "payload.end"] for plan in plans} == records()
    assert [] == [pid for pid in done.stdout.split() if os.path.exists(f"/proc/{pid.decode()}")]
    assert [] == os.listdir(tmp_path / "work")


def test_dropped_handle(plan_for, records):
    """A payload whose handle nobody keeps runs to its end, and is recorded."""
    plan = plan_for("sleep", "0.3")
    start_plan(plan)

    wait_for(lambda: ["payload.start", "payload.end"] == records().get(plan.trace_id))


def test_bytes_through_full_pipes(plan_for):
    """Tens of megabytes pass through pipes that nobody empties for a while, in both directions."""
    size = 32 * 2**20
    source, sink = subprocess.Popen(["head", "-c", str(size), "/dev/urandom"], stdout=subprocess.PIPE), []
    read, write = os.pipe()
    with open(read, "rb") as out:
        running = start_plan(plan_for("cat"), stdin=source.stdout, stdout=write)
        os.close(write)
        source.stdout.close()
        time.sleep(0.3)
        sink = sum(len(chunk) for chunk in iter(lambda: out.read(1 << 20), b""))
    source.wait()

    assert (size, "success") == (sink, running.wait(SECONDS).kind)


def test_sockets(plan_for):
    """A socket is a stream like any other."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        running = start_plan(plan_for("sh", "-c", "read line; echo got $line"), stdin=theirs, stdout=theirs)
        theirs.close()
        ours.sendall(b"1\n")
        assert b"got 1\n" == ours.makefile("rb").readline()
        assert "success" == running.wait(SECONDS).kind


@pytest.mark.soak
def test_gigabytes(plan_for):
    """Two gigabytes pass in each direction without being kept."""
    size = 2 * 2**30
    with subprocess.Popen(["head", "-c", str(size), "/dev/zero"], stdout=subprocess.PIPE) as source:
        read, write = os.pipe()
        before = int(Path("/proc/self/statm").read_text().split()[1])
        running = start_plan(plan_for("cat"), stdin=source.stdout, stdout=write)
        os.close(write)
        with open(read, "rb", buffering=0) as out:
            got = sum(len(chunk) for chunk in iter(lambda: out.read(1 << 20), b""))
        after = int(Path("/proc/self/statm").read_text().split()[1])

    assert (size, "success") == (got, running.wait(SECONDS).kind)
    assert (after - before) * os.sysconf("SC_PAGE_SIZE") < 64 * 2**20


def _helpers():
    """List the programs that mount image files, of this user."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() in ("squashfuse_ll", "squashfuse", "fuse2fs"):
                found.add(int(pid))

    return found


@pytest.mark.parametrize("who", ["runtime", "pilot", "payload"])
def test_no_helper_is_left(cli, image, who):
    """What mounts an image file ends with the payload, whoever is killed."""
    process = cli.start("--image", image("tiny.sif"), command=("sh", "-c", "echo up; exec sleep 300"))
    assert b"up\n" == process.stdout.readline()
    start = next(record for record in cli.records() if record["event.action"] == "payload.start")
    family = procfs.family(process.pid)
    helpers = _helpers() & set(family)
    launcher = next(pid for pid in procfs._children(process.pid) if b"lifeline" not in _command(pid))
    # Where FUSE cannot be used the image was unpacked, and there is none.
    assert (1 if start["wlcg.image.mount"] == "fuse" else 0) == len(helpers)
    os.kill({"runtime": launcher, "pilot": process.pid, "payload": start["process.pid"]}[who], signal.SIGKILL)
    process.wait(SECONDS)
    process.stdout.close()

    wait_for(lambda: not helpers & _helpers())


def _command(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_dirt_of_a_dead_pilot(cli, image):
    """What a pilot that was killed has left goes at the next start; what belongs to a living one stays."""
    (cli.workdir / "data").mkdir()
    (cli.workdir / "data" / "kept").write_text("x")
    source = cli.workdir.parent / "source"
    source.mkdir()
    bind = ("--bind", f"{source}:/srv/made/point")
    script = "mkdir -p /tmp/a/b; echo x >/tmp/a/b/c; ln -s /srv/data /tmp/link; chmod 0 /tmp/a; echo up; exec sleep 300"
    started = []
    for _ in range(2):
        started.append(cli.start("--image", image("tiny"), *bind, command=("sh", "-c", script)))
        assert b"up\n" == started[-1].stdout.readline()
    dead, living = started
    names = {record["container.id"] for record in cli.records()}
    dead.kill()
    dead.wait(SECONDS)
    dead.stdout.close()
    assert {f".wlcg-isolate-{name}" for name in names} | {"data", "made"} == set(os.listdir(cli.workdir))
    ran = cli.run("--image", image("tiny"))
    between = os.listdir(cli.workdir)
    living.terminate()
    living.wait(SECONDS)
    living.stdout.close()

    assert (0, 3) == (ran.status, len(between))
    assert {"data", "made"} < set(between)
    assert ["point"] == os.listdir(cli.workdir / "made")
    assert 0 == cli.run("--image", image("tiny")).status
    assert ["data"] == os.listdir(cli.workdir)
    assert "x" == (cli.workdir / "data" / "kept").read_text()
    assert not (cli.trace_dir / ".trees").exists()


@pytest.mark.parametrize("times", [6, pytest.param(200, marks=pytest.mark.soak)])
def test_killed_at_random_moments(cli, image, times):
    """Whenever the pilot is killed, the next start leaves nothing: no directory, no note, no process."""
    dice = random.Random(times)
    before = _helpers()
    for _ in range(times):
        process = cli.start("--image", image("tiny.sif"), command=("sleep", "300"), stdout=subprocess.DEVNULL)
        time.sleep(dice.uniform(0.02, 0.6))
        process.kill()
        process.wait(SECONDS)
    ids = {record["container.id"] for record in cli.records()}
    wait_for(lambda: _helpers() <= before)
    ran = cli.run("--image", image("tiny"))

    assert (0, []) == (ran.status, os.listdir(cli.workdir))
    assert not (cli.trace_dir / ".trees").exists()
    assert [] == [pid for pid in filter(str.isdigit, os.listdir("/proc")) if _mark(pid) & ids]


def _mark(pid):
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return set()

    return {word.partition(b"=")[2].decode() for word in environ if word.startswith(b"WLCG_ISOLATE_ID=")}

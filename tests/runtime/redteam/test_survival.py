"""
A payload tries to outlive its own end, and its pilot's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.conftest import CommandLine

PROGRAM = Path(__file__).parent / "programs" / "survivors.py"

WAYS = ("child", "double_fork", "without_anything", "stopped", "traced", "family")

BOMB = """
import mmap, os, resource, signal, time
resource.setrlimit(resource.RLIMIT_NPROC, (400, 400))
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
count = mmap.mmap(-1, 4)
while int.from_bytes(count[:], "little") < 300:
    try:
        count[:] = (int.from_bytes(count[:], "little") + 1).to_bytes(4, "little")
        os.fork()
    except OSError:
        time.sleep(0.01)
time.sleep(300)
"""


def alive(mark):
    """List the processes with a mark in their arguments, by the way they were made."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            if mark in words and "-c" in words:
                found.setdefault(words[words.index(mark) + 1], []).append(int(pid))

    return found


def gone(mark, seconds=10):
    """Wait until nothing with a mark is alive; return what is."""
    deadline = time.monotonic() + seconds
    while alive(mark) and time.monotonic() < deadline:
        time.sleep(0.02)

    return alive(mark)


@pytest.fixture(scope="module")
def left_outside():
    """What survives the end of the program on the node."""
    mark = uuid.uuid4().hex
    subprocess.run([sys.executable, str(PROGRAM), mark], check=True, stdout=subprocess.DEVNULL)
    found = alive(mark)
    for pids in found.values():
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    return found


@pytest.fixture(scope="module")
def left_inside(runtime, image, environ, tmp_path_factory):
    """What survives the end of the payload."""
    line = CommandLine(tmp_path_factory.mktemp("survival"), runtime)
    line.environ.update(environ, PATH=line.environ["PATH"])
    shutil.copy(PROGRAM, line.workdir)
    mark = uuid.uuid4().hex
    ran = line.run("--image", image("debian13"), command=("python3", "survivors.py", mark))
    assert (0, b"left\n") == (ran.status, ran.stdout)

    return alive(mark)


@pytest.mark.parametrize("way", WAYS)
def test_leave_a_process_behind(left_outside, left_inside, way):
    """Leave a process that ignores signals: a child, a daemon, a stopped one, one with a debugger, a big family."""
    assert (True, []) == (bool(left_outside.get(way)), left_inside.get(way, []))


def test_leave_a_process_in_namespaces_of_its_own(left_inside):
    """Leave a process in user and PID namespaces of its own, where those may be made."""
    assert [] == left_inside.get("own_namespaces", [])


def test_outlive_the_pilot(cli, image):
    """Have the pilot killed with KILL, and leave processes of every kind: they end with it."""
    shutil.copy(PROGRAM, cli.workdir)
    mark = uuid.uuid4().hex
    command = ("sh", "-c", f"python3 survivors.py {mark}; sleep 300")
    process = cli.start("--image", image("debian13"), command=command)
    assert b"left\n" == process.stdout.readline()
    before = set(alive(mark))
    process.kill()
    process.wait(60)
    process.stdout.close()

    assert set(WAYS) <= before
    assert {} == gone(mark)


def test_multiply(cli, image):
    """Fork without end, within a limit, and ignore TERM: the time limit ends them all."""
    mark = uuid.uuid4().hex
    command = ("python3", "-c", BOMB, mark, "bomb")
    process = cli.start(
        "--image", image("debian13"), "--timeout", "1", "--set", "payload.grace_seconds=0.2", command=command
    )
    most = 0
    while process.poll() is None:
        most = max(most, len(alive(mark).get("bomb", [])))
        time.sleep(0.05)
    ran = cli.read(process.wait(60))
    process.stdout.close()

    assert 30 < most
    assert {} == alive(mark)
    assert ("time-limit", True) == (ran.outcome["kind"], ran.outcome["started"])


def test_hold_the_pilot_by_its_pipes(cli, image):
    """Leave a process that keeps the pilot's pipe open: who reads it comes to its end all the same."""
    command = ("sh", "-c", "trap '' TERM HUP; setsid sleep 300 & echo mine")
    process = cli.start("--image", image("tiny"), command=command)

    assert b"mine\n" == process.stdout.read()
    assert 0 == process.wait(10)
    process.stdout.close()


def test_fill_the_pipes_of_the_pilot(cli, image):
    """Write more than the pilot's pipes hold, while nobody reads: the time limit still counts."""
    process = cli.start(
        "--image", image("tiny"), "--timeout", "0.5", "--set", "payload.grace_seconds=0.2",
        command=("sh", "-c", "trap '' TERM; yes; yes >&2; sleep 300"), stderr=subprocess.PIPE,
    )  # fmt: skip
    ran = cli.read(process.wait(20))
    process.stdout.close()
    process.stderr.close()

    assert "time-limit" == ran.outcome["kind"]

"""Processes: started, watched, named, released and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from wlcg_isolate.environment import SHELL_OWNED
from wlcg_isolate.errors import LaunchError
from wlcg_isolate.host import procfs
from wlcg_isolate.launch import inherited, lifeline, process
from wlcg_isolate.launch.child import Child
from wlcg_isolate.launch.lifeline import Lifeline
from wlcg_isolate.launch.process import Ended
from wlcg_isolate.launch.starters import Shell

KERNEL = tuple(int(word) for word in re.findall(r"\d+", os.uname().release)[:2])

#: Each shell that is here; busybox also from the project's own image.  "sh" is on every system.
IMAGES = Path(os.environ.get("WLCG_ISOLATE_TEST_IMAGES", "/nonexistent"))
FOUND = {
    "sh": shutil.which("sh"),
    "bash": shutil.which("bash"),
    "dash": shutil.which("dash"),
    "busybox": shutil.which("busybox", path=f"{os.environ['PATH']}:{IMAGES / 'tiny/usr/bin'}"),
}
SHELLS = [pytest.param([path, "sh"] if name == "busybox" else [path], id=name) for name, path in FOUND.items() if path]

#: Says what arrived: arguments, variables and open descriptors.
SAY = """
import json, os, sys
fds = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)]
environ = {os.fsdecode(k): list(v) for k, v in os.environb.items()}
print(json.dumps([[list(os.fsencode(w)) for w in sys.argv[1:]], environ, sorted(map(int, fds))]))
"""


@pytest.fixture
def start():
    """Start processes that end with the test."""
    with contextlib.ExitStack() as stack:

        def make(*argv, environ=None, descriptors=None):
            with open(os.devnull, "r+b") as null:
                fixed = {0: null.fileno(), 1: null.fileno(), 2: null.fileno(), **(descriptors or {})}
                child = Child(process.spawn(argv, {"PATH": "/usr/bin:/bin", **(environ or {})}, fixed))
            stack.callback(child.close)
            stack.callback(child.kill)
            return child

        yield make


@pytest.fixture
def shell(start):
    """Start a shell with its output in a pipe; give both."""
    with contextlib.ExitStack() as stack:

        def make(script, *words):
            read, write = os.pipe()
            child = start("/bin/sh", "-c", script, "sh", *words, descriptors={1: write})
            os.close(write)
            return child, stack.enter_context(open(read, "rb"))

        yield make


@pytest.fixture(params=["pidfd", "old-kernel"])
def kernel(request, mocker):
    """Run the test with pidfds and, as before Linux 5.3, without."""
    if request.param == "old-kernel":
        mocker.patch.object(process, "open_pidfd", return_value=None)


def test_child_has_its_descriptors_and_no_others(start):
    """What somebody left inheritable does not arrive, and numbers may be exchanged."""
    read, write = os.pipe()
    leaks = [os.dup(read) for _ in range(3)]
    for fd in leaks:
        os.set_inheritable(fd, True)
    start(sys.executable, "-c", SAY, descriptors={1: write, leaks[0]: read, 9: write})
    for fd in (write, *leaks):
        os.close(fd)
    with open(read) as f:
        _, environ, fds = json.loads(f.read())

    assert ({0, 1, 2, 9, leaks[0]}, {"PATH"}) == (set(fds), set(environ) - {"LC_CTYPE"})


def test_child_is_as_if_started_by_a_shell(shell):
    """The child leads a session, blocks nothing, and does not ignore what Python ignores."""
    child, output = shell("exec cat /proc/self/status")
    status = dict(line.split(":\t", 1) for line in output.read().decode().splitlines() if ":\t" in line)
    python_ignores = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)

    assert child.pid == int(status["NSsid"].split()[-1])
    assert (0, 0) == (int(status["SigBlk"], 16), int(status["SigIgn"], 16) & python_ignores)


@pytest.mark.parametrize(
    ("script", "ended"),
    [("exit 0", (0, None)), ("exit 255", (255, None)), ("kill -9 $$", (None, 9))],
    ids=["success", "255", "kill"],
)
def test_end_of_a_child(start, kernel, script, ended):
    """A child's end is its own status or signal, with its usage."""
    child = start("/bin/sh", "-c", script)

    assert (True, ended) == (child.wait(30), child.ended)
    assert child.usage.ru_maxrss > 0


def test_wait_has_an_end(start, kernel):
    """Waiting gives up in time, and killing reaps."""
    child = start("/bin/sleep", "60")

    assert (False, None) == (child.wait(0.01), child.ended)
    for _ in range(2):
        child.kill()
        assert (None, signal.SIGKILL) == child.ended


@pytest.mark.parametrize(("number", "ended"), [(10, (3, None)), (6, (None, 6))], ids=["code", "signal"])
def test_end_of_a_grandchild(shell, number, ended):
    """The kernel tells how a process that is no child ended, once it is reaped; before Linux 6.15 it does not."""
    _, output = shell("sh -c 'trap \"exit 3\" USR1; echo $$; while :; do sleep 0.01; done' & wait; echo")
    pid = int(output.readline())
    pidfd = os.pidfd_open(pid)
    early = process.exit_of(pidfd)
    os.kill(pid, number)
    output.read()

    assert (None, ended if KERNEL >= (6, 15) else None) == (early, process.exit_of(pidfd))
    os.close(pidfd)


@pytest.mark.parametrize("by", ["pidfd", "number"])
def test_signal_to_a_process(start, by):
    """A signal reaches a living process, and a gone one is told."""
    child = start("/bin/sleep", "60")
    pidfd = child.pidfd if by == "pidfd" else None

    assert process.send(pidfd, child.pid, signal.SIGTERM)
    assert (True, (None, signal.SIGTERM)) == (child.wait(30), child.ended)
    assert not process.send(pidfd, child.pid, signal.SIGTERM)


def test_family(shell):
    """Descendants are found, whatever their depth, and nobody else."""
    child, output = shell("sh -c 'sleep 60 & echo $$ $!; wait' & echo; wait")
    inner = {int(word) for word in (output.readline() + output.readline()).split()}

    assert inner == set(procfs.family(child.pid))
    assert {child.pid} | inner <= set(procfs.family(os.getpid()))


def test_last_descriptor(start, mocker):
    """The highest descriptor of a process is found, and a usual limit where it is hidden."""
    child = start("/bin/sleep", "60", descriptors={77: 2})
    # The kernel lets the parent go on a moment before it has closed what the new program does not get.
    deadline = time.monotonic() + 10
    while inherited.last_descriptor(child.pid) != 77 and time.monotonic() < deadline:
        time.sleep(0.01)

    assert 77 == inherited.last_descriptor(child.pid)
    mocker.patch("os.listdir", side_effect=PermissionError)
    assert 1024 == inherited.last_descriptor(child.pid)


def test_start_ticks_whatever_the_name(shell):
    """A process has its start for ever; its name cannot forge it."""
    child, output = shell('echo ") 1 2 (3) 4" > /proc/$$/comm; echo; sleep 60')
    before = procfs.start_ticks(os.getpid()), output.readline()

    assert before[0] <= procfs.start_ticks(child.pid) < before[0] + 3600 * os.sysconf("SC_CLK_TCK")
    child.kill()
    assert (None, {}, {}) == tuple(read(child.pid) for read in (procfs.start_ticks, procfs.namespaces, procfs.family))


def test_namespaces():
    """Namespaces are the kernel's inode numbers."""
    expected = {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in ("pid", "mnt", "user", "net", "ipc", "uts")}

    assert expected.items() <= procfs.namespaces().items()


@pytest.fixture
def release(start):
    """Start the waiting shell, release it with a plan, and give what the payload says."""

    def make(words, command, environ, image_environ):
        pipes = [os.pipe() for _ in range(3)]
        (text_out, text_in), (ready_out, ready_in), (said_out, said_in) = pipes
        fixed = {3: text_out, 4: ready_in, 5: text_out, 6: said_in, 7: 2}
        child = start(*words, *Shell.command[1:], environ=image_environ, descriptors=fixed)
        for fd in (text_out, ready_in, said_in):
            os.close(fd)
        with open(ready_out, "rb") as ready, open(said_out, "rb") as said:
            pid = int(ready.readline())
            request = types.SimpleNamespace(payload=types.SimpleNamespace(command=command))
            plan = types.SimpleNamespace(
                payload_environ=environ, runtime_environ={}, request=request, home="/usr", image_environ=True
            )
            found = inherited.environ_of(pid)
            arriving = inherited.payload_environ(plan, found)
            with open(text_in, "wb") as text:
                text.write(Shell().release(pid, plan, found, arriving) if command else b"")
            child.wait(30)
            return child, said.read()

    return make


@pytest.mark.parametrize("words", SHELLS)
def test_release_is_exact(release, words):
    """Every byte but NUL arrives in arguments and variables, and no descriptor but three."""
    every = os.fsdecode(bytes(range(1, 256)))
    odd = ("", "'", "a'\\''b", "$(x)", "\n", "-n", every, "*")
    child, said = release(words, (sys.executable, "-c", SAY, *odd), {"EVERY": every, "NL": "\n\n", "E": ""}, {})
    argv, environ, fds = json.loads(said)

    assert (0, None) == child.ended
    assert [list(os.fsencode(word)) for word in odd] == argv
    assert [list(range(1, 256)), [10, 10], []] == [environ[name] for name in ("EVERY", "NL", "E")]
    assert [0, 1, 2] == fds


@pytest.mark.parametrize("words", SHELLS)
def test_release_tidies_the_environment(release, words):
    """What the runtime added goes, what the image set stays, but for what the shell itself adds."""
    image = {**dict.fromkeys(("APPTAINER_NAME", "SINGULARITY_FOO", "PS1", "USER_PATH"), "x"), "IMAGE": "stays"}
    image["LD_LIBRARY_PATH"] = "/opt/lib:/.singularity.d/libs"
    image["OLDPWD"] = "/"
    _, said = release(words, (sys.executable, "-c", SAY), {"PATH": "/usr/bin"}, image)
    environ = json.loads(said)[1]

    assert {"PATH", "IMAGE", "LD_LIBRARY_PATH"} == set(environ) - {"LC_CTYPE", "PWD", "SHLVL", "_"}
    assert b"/usr" == bytes(environ.get("PWD", b"/usr"))
    assert b"/opt/lib" == bytes(environ["LD_LIBRARY_PATH"])


#: Variables that some shell reads, sets or owns (bash(1), dash(1), busybox).
USED_BY_SHELLS = (
    "BASH BASHPID BASH_ALIASES BASH_CMDS BASH_COMMAND BASH_ENV BASH_EXECUTION_STRING BASH_LOADABLES_PATH "
    "BASH_REMATCH BASH_VERSION CDPATH CHILD_MAX COLUMNS COMP_WORDS COPROC ENV EXECIGNORE FCEDIT FUNCNEST "
    "GLOBIGNORE HISTCMD HISTFILE HISTSIZE HOSTNAME HOSTTYPE IFS IGNOREEOF INPUTRC KSH_VERSION LINES LINENO "
    "MACHTYPE MAIL MAILCHECK MAILPATH MAPFILE OPTARG OPTERR OPTIND OSTYPE PIPESTATUS POSIXLY_CORRECT PPID PS1 PS2 "
    "PS4 RANDOM READLINE_LINE REPLY SECONDS SHELL TIMEFORMAT TMOUT UID auto_resume histchars"
).split()


@pytest.mark.parametrize("words", SHELLS)
def test_release_of_names_that_shells_use(release, words):
    """What a shell does not own arrives, whatever it means to the shell that sets it."""
    wanted = {name: f"its {name}" for name in USED_BY_SHELLS if name not in SHELL_OWNED}
    _, said = release(words, (sys.executable, "-c", SAY), wanted, {})
    environ = json.loads(said)[1]

    assert wanted == {name: bytes(environ.get(name, b"")).decode() for name in wanted}


@pytest.mark.parametrize("words", SHELLS)
def test_no_release_means_no_payload(release, words):
    """When the host goes away the waiting shell ends."""
    child, said = release(words, None, {}, {})

    assert ((125, None), b"") == (child.ended, said)


#: A pilot of its own, since its watcher serves a whole process.
PILOT = """
import os, signal, subprocess, sys, time
from wlcg_isolate.launch import lifeline
from wlcg_isolate.launch.lifeline import Lifeline
targets = [subprocess.Popen(["/bin/sleep", "60"], start_new_session=True) for _ in range(3)]
lines = [Lifeline(target.pid) for target in targets]
"""
FULL = """
os.kill(lifeline._all._watcher.pid, signal.SIGSTOP)
lifeline.signal.SIGCONT = 0
for _ in range(4000):
    Lifeline(os.getpid()).release()
"""
SAY_PIDS = """
print(*(target.pid for target in targets), lifeline._all._watcher.pid, flush=True)
sys.stdin.read()
"""


def _killed_pilot(script, inside):
    """Run a pilot and kill it; tell which of its targets ended, and what *inside* says meanwhile."""
    with subprocess.Popen(
        [sys.executable, "-c", PILOT + script + SAY_PIDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as pilot:
        *targets, watcher = (int(word) for word in pilot.stdout.readline().split())
        pidfds = {os.pidfd_open(pid): pid for pid in (*targets, watcher)}
        inside(watcher)
        pilot.kill()
    try:
        # It ends after all that it kills.
        assert process.wait_readable([next(fd for fd, pid in pidfds.items() if pid == watcher)], 30)
        ended = {pidfds[fd] for fd in process.wait_readable(list(pidfds), 0)}
        return [pid in ended for pid in targets]
    finally:
        for fd in pidfds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            os.close(fd)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("", [True, True, True]),
        ("lines[1].release()", [True, False, True]),
        ("lines[0].release(); lines[0] = Lifeline(targets[0].pid)", [True, True, True]),
        ("lines[1].text = f'{targets[1].pid}:1'; lifeline._all._start()", [True, False, True]),
        ("lifeline._all._watcher.kill(); lines[1].release()", [True, False, True]),
        ("os.kill(lifeline._all._watcher.pid, signal.SIGSTOP); lines[1].release()", [True, False, True]),
        (FULL, [True, True, True]),
    ],
    ids=["all", "one ended", "one again", "number of another", "watcher killed", "watcher stopped", "pipe full"],
)
def test_lifeline_kills_what_runs(script, expected):
    """When the pilot dies without a word, what it had running dies, and nothing else, whatever befell the watcher."""
    assert expected == _killed_pilot(script, lambda _: None)


def test_lifeline_outlives_a_request_to_end():
    """The TERM that a batch system sends to everybody does not blind the watcher."""

    def ask_to_end(watcher):
        for _ in range(600):
            ignored = int(re.search(r"SigIgn:\t(\w+)", Path(f"/proc/{watcher}/status").read_text())[1], 16)
            if ignored & 1 << (signal.SIGTERM - 1):
                break
            time.sleep(0.05)
        os.kill(watcher, signal.SIGTERM)

    assert [True, True, True] == _killed_pilot("", ask_to_end)


FORKED = """
import os, subprocess, time
from wlcg_isolate.launch.lifeline import Lifeline
target = subprocess.Popen(["/bin/sleep", "60"])
line = Lifeline(target.pid)
if os.fork() == 0:
    line.release()
    print(target.pid, os.getpid(), flush=True)
    time.sleep(60)
else:
    time.sleep(60)
"""


def test_lifeline_is_not_held_by_a_forked_child():
    """A child that the pilot forked does not keep the payload alive after the pilot, nor end it before."""
    with subprocess.Popen([sys.executable, "-c", FORKED], stdout=subprocess.PIPE) as pilot:
        target, child = (int(word) for word in pilot.stdout.readline().split())
        pidfd = os.pidfd_open(target)
        early = process.wait_readable([pidfd], 0.2)
        pilot.kill()
        ended = process.wait_readable([pidfd], 30)
        os.kill(child, signal.SIGKILL)
    os.close(pidfd)

    assert ([], [pidfd]) == (early, ended)


def test_lifeline_of_a_forked_child(start):
    """A child that the pilot forked has a watcher of its own, and leaves its parent's alone."""
    target = start("/bin/sleep", "60")
    line = Lifeline(target.pid)
    pid = os.fork()
    if pid == 0:
        own = Lifeline(target.pid)
        watcher = lifeline._all._watcher
        own.release()
        os._exit(0 if (watcher.ended, lifeline._all._watcher) == (Ended(None, signal.SIGKILL), None) else 1)
    _, status = os.waitpid(pid, 0)
    runs = lifeline._all._watcher.poll()
    line.release()

    assert (0, False, False) == (status, runs, target.wait(0.05))


def test_lifeline_leaves_nothing(start):
    """The last of all that ran takes the watcher with it, also one that was stopped, and kills nobody else."""
    before = len(os.listdir("/proc/self/fd"))
    target = start("/bin/sleep", "60")
    lines = [Lifeline(target.pid) for _ in range(3)]
    watcher = lifeline._all._watcher
    os.kill(watcher.pid, signal.SIGSTOP)
    begun = time.monotonic()
    for line in (*lines, lines[0]):
        line.release()
    took = time.monotonic() - begun

    assert (Ended(None, signal.SIGKILL), None) == (watcher.ended, lifeline._all._watcher)
    assert not target.wait(0.05)
    # The target has one.
    assert (before + 1, True) == (len(os.listdir("/proc/self/fd")), took < 5)


def test_lifeline_that_cannot_be_started(start, mocker):
    """Without a watcher there is no payload, and nothing is left of it; those that run keep theirs."""
    target = start("/bin/sleep", "60")
    before = len(os.listdir("/proc/self/fd"))
    spawn = mocker.patch("wlcg_isolate.launch.process.spawn", side_effect=BlockingIOError(11, "no more processes"))
    with pytest.raises(LaunchError, match="no process can watch the pilot: no more processes"):
        lifeline.watch(target.pid)

    assert (1, before) == (spawn.call_count, len(os.listdir("/proc/self/fd")))
    assert (None, []) == (lifeline._all._watcher, lifeline._all._lines)

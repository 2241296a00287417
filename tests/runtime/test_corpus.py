"""
Failures made for real, each with what is true of it: whether the payload started, who failed, and how.

A case is a payload, or a node that is broken.  None of them is decided by an exit status or by what was printed.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import attrs
import pytest

from wlcg_isolate import Bind, Payload, Policy, launch_plan, make_plan, run_isolated
from wlcg_isolate.host import procfs

QUICK = Policy(payload_grace_seconds=0.5, runtime_start_seconds=20)

#: Signals that end a process which does nothing about them (signal(7)), with some real-time ones.
ENDING = (
    "HUP INT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT XCPU XFSZ VTALRM PROF IO PWR SYS".split()
)
REAL_TIME = (34, 50, 64)

STATUSES = (0, 1, 2, 64, 77, 124, 125, 126, 127, 128, 129, 137, 139, 143, 192, 193, 254, 255)


def ended(exit_code):
    """Say what is true of a payload that exits by itself."""
    return (True, "payload", "exit-nonzero", exit_code, None) if exit_code else (True, None, "success", 0, None)


def killed(number):
    """Say what is true of a payload that a signal ends."""
    return (True, "payload", "ended-by-signal", None, int(number))


def unstarted(failed_by, kind):
    """Say what is true of a payload that never ran."""
    return (False, failed_by, kind, None, None)


NOT_FOUND = (True, "payload", "command-not-found", 127, None)
NOT_EXECUTABLE = (True, "payload", "command-not-executable", 126, None)

#: Words of runtimes, printed by payloads.
FATAL = "FATAL:   container creation failed: mount hook function failure: mount source /x doesn't exist"
ERROR = "ERROR  : Failed to create user namespace: not allowed to create user namespace"
EPERM = "mount: Operation not permitted"

ELF = Path("/bin/true").read_bytes()
AARCH64 = ELF[:18] + (183).to_bytes(2, "little") + ELF[20:]

#: Files of the working directory, by name: contents and mode.
FILES = {
    "no-interpreter": (b"#!/nosuch/interpreter\n", 0o755),
    "empty": (b"", 0o755),
    "plain": (b"exit 5\n", 0o644),
    "loop": (b"#!/srv/loop\n", 0o755),
    "a": (b"#!/srv/b\n", 0o755),
    "b": (b"#!/srv/a\n", 0o755),
    "far": (b"#!/" + b"x" * 5000 + b"\nexit 6\n", 0o755),
    "other-machine": (AARCH64, 0o755),
    "no-loader": (ELF, 0o755),
    "script": (b"#!/bin/sh\nexit 7\n", 0o755),
    "no-first-line": (b"exit 8\n", 0o755),
}


def number_of(name):
    """Return a signal's number; Python has a name for STKFLT since 3.11."""
    return 16 if name == "STKFLT" else signal.Signals[f"SIG{name}"]


SHELL = {
    **{f"exit {status}": (f"exit {status}", ended(status)) for status in STATUSES},
    **{f"signal {name}": (f"kill -{name} $$", killed(number_of(name))) for name in ENDING},
    **{f"signal {number}": (f"kill -{number} $$", killed(number)) for number in REAL_TIME},
    **{
        f"says {text.split()[0]} {text[-9:]} and exits {status}": (f'echo "{text}" >&2; exit {status}', ended(status))
        for text in (FATAL, ERROR, EPERM)
        for status in (0, 1, 255)
    },
    "says FATAL in colour": (rf"printf '\033[31mFATAL:  \033[0m {FATAL[9:40]}\n' >&2; exit 255", ended(255)),
    # This shell itself takes no notice of it.
    "signal QUIT": ("(sleep 0.05; kill -QUIT $$) & exec sleep 5", killed(signal.SIGQUIT)),
    "core dump": ("ulimit -c unlimited; kill -SEGV $$", killed(signal.SIGSEGV)),
    "closes all descriptors": ("exec 0<&- 1>&- 2>&-; exit 3", ended(3)),
    "closes all and is killed": ("exec 0<&- 1>&- 2>&-; kill -9 $$", killed(9)),
    "writes to all descriptors": (
        "for i in 3 4 5 6 7 8 9; do (echo 1 >&$i) 2>/dev/null; done; exit 4", ended(4)
    ),
    "forks and exits": ("sleep 300 & exit 5", ended(5)),
    "double fork": ("(trap '' TERM HUP; setsid sleep 300 & ) & exit 0", ended(0)),
    "child is killed": ("sh -c 'kill -9 $$'; exit $?", ended(137)),
    "child kills it": ("(sleep 0.1; kill -9 $$) & wait; sleep 5", killed(9)),
    "too little memory": ("ulimit -v 100000; head -c 1000000000 /dev/zero | tail -c 1000000000; exit $?", ended(1)),
    "file too large": ("ulimit -f 1; head -c 100000 /dev/zero >/srv/f", killed(signal.SIGXFSZ)),
    "processor time": ("ulimit -S -t 1; while :; do :; done", killed(signal.SIGXCPU)),
    "removes its directory": ("rm -rf /srv/* /srv/.[!.]* /tmp/*; exit 6", ended(6)),
    "unwinds on a signal": ("trap 'exit 9' USR1; kill -USR1 $$; exit 1", ended(9)),
    "ignores a signal": ("trap '' TERM; kill -TERM $$; exit 10", ended(10)),
    "shell builtin missing": ("nosuch-command", ended(127)),
    "syntax error": ("if", ended(2)),
}  # fmt: skip

COMMAND = {
    "not found": (("nosuch",), NOT_FOUND),
    "no such path": (("/nosuch/program",), NOT_FOUND),
    "below a file": (("/etc/os-release/x",), NOT_FOUND),
    "name too long": (("x" * 5000,), NOT_FOUND),
    "component too long": (("/srv/" + "x" * 300,), NOT_FOUND),
    "not executable": (("/srv/plain",), NOT_EXECUTABLE),
    "directory": (("/etc",), NOT_EXECUTABLE),
    "device": (("/dev/null",), NOT_EXECUTABLE),
    "missing interpreter": (("/srv/no-interpreter",), NOT_EXECUTABLE),
    "own interpreter": (("/srv/loop",), NOT_EXECUTABLE),
    "interpreters in a circle": (("/srv/a",), NOT_EXECUTABLE),
    "missing dynamic loader": (("/srv/no-loader",), NOT_EXECUTABLE),
    # As execvp(3) has it: what the kernel does not know is a script.
    "other architecture": (("/srv/other-machine",), (True, "payload", "exit-nonzero", 2, None)),
    "empty file": (("/srv/empty",), ended(0)),
    "first line too long": (("/srv/far",), ended(6)),
    "script": (("/srv/script",), ended(7)),
    "script without first line": (("/srv/no-first-line",), ended(8)),
}  # fmt: skip


def shown(outcome):
    """Reduce an outcome to what is true or not."""
    return (outcome.started, outcome.failed_by, outcome.kind, outcome.exit_code, outcome.signal)


@pytest.mark.parametrize(("script", "expected"), SHELL.values(), ids=SHELL)
def test_payload(request_for, script, expected):
    """What a payload does is the payload's, whatever its exit status is and whatever it prints."""
    outcome = run_isolated(request_for("sh", "-c", script), QUICK)

    assert expected == shown(outcome), outcome.message


@pytest.mark.soak
def test_every_exit_status(request_for):
    """All 256, each by a launch of its own."""
    request = request_for("sh", "-c", "exit 0")
    for status in range(256):
        outcome = run_isolated(attrs.evolve(request, payload=Payload(command=("sh", "-c", f"exit {status}"))), QUICK)
        assert ended(status) == shown(outcome), outcome.message


@pytest.mark.soak
def test_every_real_time_signal(request_for):
    """All that the C library leaves to programs."""
    request = request_for("sh", "-c", "exit 0")
    for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1):
        outcome = run_isolated(
            attrs.evolve(request, payload=Payload(command=("sh", "-c", f"kill -{number} $$"))), QUICK
        )
        assert killed(number) == shown(outcome), outcome.message


@pytest.mark.parametrize(("command", "expected"), COMMAND.values(), ids=COMMAND)
def test_command(request_for, tmp_path, command, expected):
    """A command that the image does not have, or that cannot be executed, is the payload's failure."""
    request = request_for(*command)
    for name, (content, mode) in FILES.items():
        (tmp_path / "work" / name).write_bytes(content)
        (tmp_path / "work" / name).chmod(mode)
    outcome = run_isolated(request, QUICK)

    assert expected == shown(outcome), outcome.message


# --- somebody else acts ------------------------------------------------------------------------------------------


def later(action, seconds=0.2):
    """Act on a running payload after a moment."""

    def act(container):
        thread = threading.Timer(seconds, action, [container])
        thread.daemon = True
        thread.start()

    return act


def launcher_of(container):
    """Find the runtime's process."""
    return container._launcher.pid


POLITE = "trap 'exit 0' TERM; while :; do sleep 0.02; done"
STUBBORN = "trap '' TERM; while :; do sleep 0.02; done"
SLEEP = "exec sleep 60"
STOPPED = "kill -STOP $$"

#: What the payload does, its time limit, what is done to it, and what is true then.
ACTED_ON = {
    "killed by another process": (SLEEP, None, lambda c: os.kill(c.pid, 9), killed(9)),
    "ended by another process": (SLEEP, None, lambda c: os.kill(c.pid, 15), killed(15)),
    "stopped, then killed": (STOPPED, None, lambda c: os.kill(c.pid, 9), killed(9)),
    "stopped, then continued": (
        f"{STOPPED}; exit 11", None, lambda c: os.kill(c.pid, signal.SIGCONT), ended(11)
    ),
    "time limit": (SLEEP, 0.3, None, (True, "timeout", "time-limit", None, 15)),
    "time limit, exits 0": (POLITE, 0.3, None, (True, "timeout", "time-limit", 0, None)),
    "time limit, exits 3": (POLITE.replace("exit 0", "exit 3"), 0.3, None, (True, "timeout", "time-limit", 3, None)),
    "time limit, ignores TERM": (STUBBORN, 0.3, None, (True, "timeout", "time-limit", None, 9)),
    "time limit, stopped": (STOPPED, 0.3, None, (True, "timeout", "time-limit", None, 15)),
    "stopped by the pilot": (SLEEP, None, lambda c: c.send_signal(15), (True, "signal", "stopped", None, 15)),
    "interrupted by the pilot": (SLEEP, None, lambda c: c.send_signal(2), (True, "signal", "stopped", None, 2)),
    "killed by the pilot": (SLEEP, None, lambda c: c.send_signal(9), (True, "signal", "stopped", None, 9)),
    "told to stop, exits 0": (POLITE, None, lambda c: c.send_signal(15), ended(0)),
    "told to stop, exits 143": (
        POLITE.replace("exit 0", "exit 143"), None, lambda c: c.send_signal(15), ended(143)
    ),
    "runtime is killed": (
        SLEEP, None, lambda c: os.kill(launcher_of(c), 9), (True, "runtime", "runtime-lost", None, 9)
    ),
}  # fmt: skip


@pytest.mark.parametrize(("script", "limit", "action", "expected"), ACTED_ON.values(), ids=ACTED_ON)
def test_acted_on(request_for, script, limit, action, expected):
    """Who ended a payload is told apart: itself, somebody, its pilot, its time limit, the node."""
    outcome = run_isolated(
        request_for("sh", "-c", script, timeout=limit), QUICK, on_start=later(action) if action else None
    )

    assert expected == shown(outcome), outcome.message
    # Whoever reads nothing but the status sees no success where there was none.
    assert (outcome.failed_by is None) == (outcome.status == 0)


def test_out_of_memory(request_for):
    """What the kernel kills for want of memory ended by a signal that nobody sent."""
    group = Path("/sys/fs/cgroup/memory/wlcg-isolate-test") if os.geteuid() == 0 else None
    script = "read go; head -c 300000000 /dev/zero | tail -c 300000000 >/dev/null"
    read, write = os.pipe()

    def limit(container):
        if group is None:
            resource.prlimit(container.pid, resource.RLIMIT_CPU, (1, 1))
        else:
            (group / "cgroup.procs").write_text(str(container.pid))
        os.write(write, b"go\n")

    try:
        if group is not None:
            group.mkdir(exist_ok=True)
            (group / "memory.limit_in_bytes").write_text(str(30 << 20))
        else:
            # Only root has a memory control group here: the kernel kills for want of processor time instead.
            script = "read go; while :; do :; done"
        outcome = run_isolated(request_for("sh", "-c", f"{script}; kill -9 $$"), QUICK, on_start=limit, stdin=read)
    finally:
        os.close(read)
        os.close(write)
        if group is not None:
            group.rmdir()

    assert killed(9) == shown(outcome), outcome.message


# --- the runtime fails -------------------------------------------------------------------------------------------


def children():
    """List the runtimes that this process has started, whichever thread did."""
    own = [pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]

    return [int(pid) for pid in own if b"lifeline" not in words_of(pid)]


def words_of(pid):
    """Read a process's arguments, which are none for a moment while it becomes another program."""
    while not (words := Path(f"/proc/{pid}/cmdline").read_bytes()) and not procfs.is_zombie(int(pid)):
        time.sleep(0.001)

    return words


def signal_runtime(number):
    """Signal the runtime, and not what watches it, while it makes the container."""

    def cancelled():
        for pid in children():
            os.kill(pid, number)
        return False

    return cancelled


@pytest.fixture
def linked(tmp_path, runtime):
    """A way to the runtime that can be led elsewhere."""
    link = tmp_path / "apptainer"
    link.symlink_to(runtime)

    return link


def relink(link, target):
    """Lead a link elsewhere."""
    link.unlink()
    link.symlink_to(target)


#: What happens between the plan and the launch.
MEANWHILE = {
    "runtime is gone": (lambda place: (place / "apptainer").unlink(), unstarted("runtime", "runtime-vanished")),
    "runtime became another program": (
        lambda place: relink(place / "apptainer", "/bin/true"), unstarted("runtime", "runtime-failed")
    ),
    "runtime became a directory": (
        lambda place: relink(place / "apptainer", "/"), unstarted("runtime", "runtime-vanished")
    ),
    "runtime became a text": (
        lambda place: relink(place / "apptainer", "/etc/passwd"), unstarted("runtime", "runtime-vanished")
    ),
    "bind source is gone": (lambda place: (place / "data").rmdir(), unstarted("runtime", "bind-failed")),
    "bind source became a file": (
        lambda place: ((place / "data").rmdir(), (place / "data").write_text("")), unstarted("runtime", "bind-failed")
    ),
    "working directory is gone": (lambda place: shutil.rmtree(place / "work"), unstarted("policy", "workdir-missing")),
    "image is gone": (lambda place: shutil.rmtree(place / "image"), unstarted("runtime", "image-unusable")),
    "image became a file": (
        lambda place: (shutil.rmtree(place / "image"), (place / "image").write_bytes(b"x" * 5000)),
        unstarted("runtime", "image-unusable"),
    ),
    "image became empty": (
        lambda place: (shutil.rmtree(place / "image"), (place / "image").mkdir()),
        unstarted("runtime", "image-unusable"),
    ),
    "trace directory became a file": (
        lambda place: (place / "trace").write_text(""), unstarted("policy", "trace-unwritable")
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), MEANWHILE.values(), ids=MEANWHILE)
def test_meanwhile(request_for, image, linked, tmp_path, change, expected):
    """What a node loses between the plan and the start is not the payload's failure."""
    (tmp_path / "data").mkdir()
    shutil.copytree(image("tiny"), tmp_path / "image", symlinks=True)
    request = request_for(
        "true",
        runtime=str(linked),
        image=str(tmp_path / "image"),
        binds=(Bind(source=str(tmp_path / "data"), target="/data"),),
    )
    plan = make_plan(request, QUICK)
    change(tmp_path)
    outcome = launch_plan(plan)

    assert expected == shown(outcome), outcome.message


@pytest.mark.parametrize(
    ("number", "kind", "retry"),
    [(9, "runtime-killed", "same-node"), (15, "runtime-killed", "same-node"), (19, "runtime-hung", "other-node")],
    ids=["killed", "terminated", "stopped"],
)
def test_runtime_is_signalled(request_for, number, kind, retry):
    """A runtime that is ended, or stopped for good, before the payload starts."""
    policy = attrs.evolve(QUICK, runtime_start_seconds=1)
    outcome = run_isolated(request_for("true"), policy, cancelled=signal_runtime(number))

    assert unstarted("runtime", kind) == shown(outcome), outcome.message
    assert (retry, 125) == (outcome.retry, outcome.status)


def test_stop_before_the_start(request_for):
    """A pilot that is told to stop while the container is made has not seen a failure of the node."""
    outcome = run_isolated(request_for("true"), QUICK, cancelled=lambda: True)

    assert unstarted("signal", "stopped-before-start") == shown(outcome), outcome.message


# --- the node or the image is broken -----------------------------------------------------------------------------

#: Devices without FUSE, as an outer container has them.
NO_FUSE = (
    "mkdir {place}/dev; mount -t tmpfs dev {place}/dev; mkdir {place}/dev/pts {place}/dev/shm; "
    "for name in null zero full random urandom tty; do "
    ": >{place}/dev/$name; mount --bind /dev/$name {place}/dev/$name; done; "
    "ln -s /proc/self/fd {place}/dev/fd; ln -s fd/0 {place}/dev/stdin; ln -s fd/1 {place}/dev/stdout; "
    "ln -s fd/2 {place}/dev/stderr; mount --rbind /dev/pts {place}/dev/pts; mount --rbind {place}/dev /dev; "
)
NO_UNSQUASHFS = (
    'for f in $(which -a unsquashfs) "$(dirname {runtime})/unsquashfs"; do '
    '[ ! -e "$f" ] || mount --bind /dev/null "$f"; done; '
)
FORBID = (
    "sed 's/^allow container dir.*/allow container dir = no/' {conf} >{place}/conf; mount --bind {place}/conf {conf}; "
)
NO_PIDS = "sed 's/^allow pid ns.*/allow pid ns = no/' {conf} >{place}/conf; mount --bind {place}/conf {conf}; "
SMALL = "mkdir {place}/small; mount -t tmpfs -o size={size} small {place}/small; "
FULL = "mount -t tmpfs -o size=64k full {place}/work; dd if=/dev/zero of={place}/work/f bs=4k 2>/dev/null || :; "

#: What root of a new user namespace does to the node, the image, the payload, and what is true of a run then.
NODES = {
    "no user namespaces": (
        "echo 0 >/proc/sys/user/max_user_namespaces; ", "tiny", "exit 0",
        unstarted("runtime", "user-namespaces-disabled"),
    ),
    "no FUSE, no unsquashfs": (
        NO_FUSE + NO_UNSQUASHFS, "tiny.sif", "exit 0", unstarted("runtime", "image-unusable")
    ),
    "no room for the image file": (
        NO_FUSE + SMALL.replace("{size}", "500k"), "tiny.sif", "exit 0", unstarted("policy", "image-cannot-be-mounted")
    ),
    "disk full while unpacking": (
        NO_FUSE + SMALL.replace("{size}", "1500k"), "tiny.sif", "exit 0", unstarted("runtime", "no-space")
    ),
    "no FUSE, unpacked": (NO_FUSE, "tiny.sif", "exit 255", ended(255)),
    "working directory full": (FULL, "tiny", "exit 3", ended(3)),
    "payload fills the disk": (
        "mount -t tmpfs -o size=1m small {place}/work; ", "tiny", "head -c 2000000 /dev/zero >/srv/f", ended(1)
    ),
    "payload fills its /tmp": (
        "mount -t tmpfs -o size=1m small {place}/work; ", "tiny", "head -c 2000000 /dev/zero >/tmp/f", ended(1)
    ),
    "no inode left": (
        "mount -t tmpfs -o nr_inodes=2 small {place}/work; ", "tiny", "exit 0", unstarted("runtime", "no-space")
    ),
    "working directory read-only": (
        "mount -t tmpfs -o ro small {place}/work; ", "tiny", "exit 0", unstarted("policy", "workdir-not-writable")
    ),
    # The runtime then ends by its payload's signal.
    "no PID namespaces, killed": (NO_PIDS, "tiny", "kill -SEGV $$", killed(11)),
    "no PID namespaces, exits 255": (NO_PIDS, "tiny", "exit 255", ended(255)),
    "configuration forbids trees": (
        FORBID, "tiny", "exit 0", unstarted("runtime", "runtime-forbids")
    ),
}  # fmt: skip


@pytest.fixture
def configuration(runtime):
    """The runtime's configuration file."""
    built = subprocess.run([runtime, "buildcfg"], stdout=subprocess.PIPE, check=True, text=True).stdout

    return next(line.partition("=")[2] for line in built.splitlines() if "_CONF_FILE=" in line)


@pytest.mark.parametrize(("setup", "name", "script", "expected"), NODES.values(), ids=NODES)
def test_node(cli, image, tmp_path, runtime, configuration, setup, name, script, expected):
    """What is wrong with the node is not the payload's failure, and is found before the start where it can be."""
    setup = setup.format(place=tmp_path, conf=configuration, runtime=runtime)
    # Root of a user namespace owns no directory above the test's own; trace records want one.
    setup = f'set -e; mount -t tmpfs trace /mnt; {setup} exec "$@"'
    words = ["--set", "runtime.allow_shared_pids=true"] if "pid ns" in setup else []
    words += ["--set", f'runtime.tmpdir="{tmp_path}/small"'] if (f"small {tmp_path}/small") in setup else []
    argv = cli.argv("--image", image(name), "--trace-dir", "/mnt", *words, command=("sh", "-c", script))
    unshared = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", setup, "sh", *argv]
    done = subprocess.run(unshared, env=cli.environ, cwd="/", capture_output=True, text=True, check=False, timeout=120)
    outcome = cli.read(done.returncode).outcome

    assert expected == tuple(outcome[k] for k in ("started", "failed_by", "kind", "exit_code", "signal")), done.stderr


def damage(source, target, how):
    """Make an image file that is not what it should be."""
    content = Path(source).read_bytes()
    target.write_bytes(how(content))

    return str(target)


#: An image, how it is spoilt, and what is true then.
IMAGES = {
    "missing": (None, None, unstarted("policy", "image-missing")),
    "SIF cut short": ("tiny.sif", lambda c: c[: len(c) // 2], unstarted("policy", "image-corrupt")),
    "SIF header only": ("tiny.sif", lambda c: c[:128], unstarted("policy", "image-corrupt")),
    "SIF with zeros": ("tiny.sif", lambda c: c[:40_000] + bytes(len(c) - 40_000), unstarted("policy", "image-corrupt")),
    "squashfs cut short": ("tiny.sqfs", lambda c: c[: len(c) // 2], unstarted("policy", "image-corrupt")),
    "squashfs superblock only": ("tiny.sqfs", lambda c: c[:96], unstarted("policy", "image-corrupt")),
    "empty file": ("tiny.sqfs", lambda _: b"", unstarted("policy", "image-corrupt")),
    "a text": ("tiny.sqfs", lambda _: b"no image\n" * 500, unstarted("policy", "image-form-unsupported")),
}  # fmt: skip


@pytest.mark.parametrize(("name", "how", "expected"), IMAGES.values(), ids=IMAGES)
def test_image(request_for, image, tmp_path, name, how, expected):
    """An image that is not there or not whole is not the payload's failure."""
    path = str(tmp_path / "nosuch.sif") if name is None else damage(image(name), tmp_path / name, how)
    outcome = run_isolated(request_for("true", image=path), QUICK)

    assert expected == shown(outcome), outcome.message


def test_image_for_another_machine(request_for, image, tmp_path):
    """A tree whose programs are made for another processor."""
    shutil.copytree(image("tiny"), tmp_path / "image", symlinks=True)
    shell = (tmp_path / "image" / "bin" / "sh").resolve()
    busybox = shell.read_bytes()
    shell.write_bytes(busybox[:18] + AARCH64[18:20] + busybox[20:])
    outcome = run_isolated(request_for("true", image=str(tmp_path / "image")), QUICK)

    assert unstarted("policy", "image-wrong-architecture") == shown(outcome), outcome.message


def test_user_without_an_entry(cli, image):
    """A user that the node's database does not know."""
    argv = cli.argv("--image", image("tiny"), command=("true",))
    unshared = ["unshare", "--user", "--map-user=54321", *argv]
    done = subprocess.run(unshared, env=cli.environ, cwd="/", capture_output=True, text=True, check=False, timeout=120)
    outcome = cli.read(done.returncode).outcome

    assert ("runtime", "user-unknown") == (outcome["failed_by"], outcome["kind"]), done.stderr


def test_image_that_may_not_be_read(cli, image, tmp_path):
    """An image whose owner is somebody else and that is closed to others."""
    path = tmp_path / "closed.sif"
    shutil.copy(image("tiny.sif"), path)
    if os.geteuid() == 0:
        os.chown(path, 54321, 54321)
    path.chmod(0)
    # Root of a user namespace has no right to what its namespace does not know.
    argv = ["unshare", "--user", "--map-root-user"] if os.geteuid() == 0 else []
    argv += cli.argv("--image", path, command=("true",))
    done = subprocess.run(argv, env=cli.environ, cwd="/", capture_output=True, text=True, check=False, timeout=120)
    outcome = cli.read(done.returncode).outcome

    assert ("policy", "image-unreadable") == (outcome["failed_by"], outcome["kind"]), done.stderr


def test_size():
    """The corpus is as large as it says."""
    tables = (SHELL, COMMAND, ACTED_ON, MEANWHILE, NODES, IMAGES)

    assert 60 <= sum(map(len, tables))

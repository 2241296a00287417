"""
A payload runs, and its end is told truthfully.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import time
from pathlib import Path

import pytest

from wlcg_isolate import run_isolated

KERNEL = tuple(int(n) for n in platform.release().split("-")[0].split(".")[:2])


@pytest.mark.parametrize("name", ["tiny", "tiny-bare", "debian11", "debian13"])
def test_prints(cli, image, name):
    """A payload's output arrives, in every image."""
    ran = cli.run("--image", image(name), command=("sh", "-c", "echo 1"))

    assert (0, b"1\n", "") == (ran.status, ran.stdout, ran.stderr)
    assert ["payload.start", "payload.end"] == ran.actions()


def test_host_of_another_age(cli, image):
    """The host's loader and Python settings do not break an older image."""
    environ = {"LD_LIBRARY_PATH": "/usr/lib/x86_64-linux-gnu", "PYTHONHOME": "/usr", "LC_ALL": "en_US.UTF-8"}
    ran = cli.run("--image", image("debian11"), command=("python3", "-c", "print(1)"), environ=environ)

    assert (0, b"1\n", "") == (ran.status, ran.stdout, ran.stderr)


@pytest.mark.parametrize("home", ["/usr/local", "/nonexistent"])
def test_foreign_pythonhome(cli, image, home):
    """A PYTHONHOME that no Python survives neither stops us nor arrives."""
    ran = cli.run("--image", image("debian11"), command=("python3", "-c", "print(1)"), environ={"PYTHONHOME": home})

    assert (0, b"1\n", "") == (ran.status, ran.stdout, ran.stderr)


@pytest.mark.parametrize("status", [0, 1, 2, 3, 125, 126, 127, 128, 254, 255])
def test_exit_status(cli, image, status):
    """Every exit status comes back as itself and is the payload's."""
    ran = cli.run("--image", image("tiny"), command=("sh", "-c", f"exit {status}"))

    assert status == ran.status
    assert (True, status, None) == tuple(ran.outcome[k] for k in ("started", "exit_code", "signal"))
    assert ("payload" if status else None) == ran.outcome["failed_by"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1])
def test_signal(cli, image, number):
    """A payload that a signal ended is told from one that exits with 128+N."""
    ran = cli.run("--image", image("tiny"), command=("sh", "-c", f"kill -{int(number)} $$"))

    assert 128 + number == ran.status
    assert (True, None, int(number)) == tuple(ran.outcome[k] for k in ("started", "exit_code", "signal"))
    assert ("payload", "ended-by-signal") == (ran.outcome["failed_by"], ran.outcome["kind"])


def test_status_like_signal(cli, image):
    """Exit status 143 is no signal, where the kernel tells (Linux 6.15)."""
    ran = cli.run("--image", image("tiny"), command=("sh", "-c", "exit 143"))

    assert 143 == ran.status
    assert ((143, None) if KERNEL >= (6, 15) else (None, 15)) == (ran.outcome["exit_code"], ran.outcome["signal"])


@pytest.mark.parametrize(
    ("command", "status"),
    [(("nosuchprogram",), 127), (("/etc/os-release",), 126), (("/nosuch/program",), 127)],
    ids=["unknown", "not-executable", "no-such-path"],
)
def test_no_such_command(cli, image, command, status):
    """A command that the image does not have is the payload's failure."""
    ran = cli.run("--image", image("tiny"), command=command)

    assert (status, True, "payload") == (ran.status, ran.outcome["started"], ran.outcome["failed_by"])


@pytest.mark.parametrize("text", ["FATAL:   container creation failed", "ERROR  : Failed to create user namespace"])
@pytest.mark.parametrize("status", [0, 1, 255])
def test_payload_that_talks_like_a_runtime(cli, image, text, status):
    """What a payload prints does not put the blame on the runtime."""
    ran = cli.run("--image", image("tiny"), command=("sh", "-c", f"echo '{text}' >&2; exit {status}"))

    assert (status, text + "\n") == (ran.status, ran.stderr)
    assert (True, "payload" if status else None) == (ran.outcome["started"], ran.outcome["failed_by"])


def test_streams(cli, image):
    """Bytes pass untouched, each stream its own way."""
    data = os.urandom(3_000_000)
    ran = cli.run("--image", image("tiny"), command=("sh", "-c", "cat; echo problem >&2"), input=data, stdin=None)

    assert data == ran.stdout
    assert "problem\n" == ran.stderr


def test_closed_streams(cli, image):
    """A caller without standard streams gets no descriptor mixed up."""
    argv = cli.argv("--image", image("tiny"), command=("sh", "-c", "echo out; echo err >&2; cat"))
    words = " ".join("'" + word.replace("'", "'\\''") + "'" for word in argv)
    done = subprocess.run(["sh", "-c", f"{words} <&- >&- 2>&-"], env=cli.environ, check=False, timeout=60)
    ran = cli.read(done.returncode)

    assert (0, True) == (ran.status, ran.outcome["started"])
    assert ["payload.start", "payload.end"] == ran.actions()


def test_current_directory_is_gone(cli, image):
    """A pilot whose own directory was removed has its payload start in its working directory all the same."""
    script = 'mkdir gone; cd gone; rmdir ../gone; exec "$@"'
    argv = cli.argv("--image", image("tiny"), command=("sh", "-c", "pwd; readlink /proc/self/cwd; env | grep PWD"))
    done = subprocess.run(
        ["sh", "-c", script, "sh", *argv], env=cli.environ, cwd=cli.workdir, check=False, capture_output=True
    )

    assert (0, b"/srv\n/srv\nPWD=/srv\n") == (done.returncode, done.stdout)


@pytest.mark.parametrize(
    "options", ["--workdir sub", "--outcome o.json", "--trace-dir tr", "--bind data", "--runtime ./a", "--image ./i"]
)
def test_relative_paths_where_the_current_directory_is_gone(cli, image, options):
    """A path that leads nowhere is refused, and not a crash."""
    script = f'mkdir gone; cd gone; rmdir ../gone; exec "$@" --image {image("tiny")} {options} -- true'
    argv = ["sh", "-c", script, "sh", *cli.program, "run"]
    done = subprocess.run(argv, env=cli.environ, cwd=cli.workdir, check=False, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("shell-init: ")]

    assert 125 == done.returncode
    assert [] == [line for line in lines if not line.startswith("wlcg-isolate: ")]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- 2>&-"])
def test_one_closed_stream(cli, image, closed):
    """What is closed is the null device for the payload, and no file of the host."""
    script = "for i in 0 1 2; do readlink /proc/self/fd/$i; done > /srv/fds; echo out; echo err >&2"
    argv = cli.argv("--image", image("tiny"), command=("sh", "-c", script))
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *argv], env=cli.environ, check=False, timeout=60, capture_output=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    fds = (cli.workdir / "fds").read_text().split()

    assert (0, True) == (done.returncode, cli.read(0).outcome["started"])
    assert {"<&-": [], ">&-": ["out"], "2>&-": ["err"], "<&- 2>&-": ["err"]}[closed] == sorted(
        {"out", "err"} - set((done.stdout + done.stderr).decode().split())
    )
    assert 3 == len(fds)
    assert not any("wlcg-isolate" in name for name in fds)


def test_refusal_without_standard_error(cli):
    """A refusal keeps its exit status where nobody can read why."""
    argv = cli.argv("--image", "/nosuch", command=("true",))
    done = subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", *argv], env=cli.environ, check=False, timeout=60)

    assert (125, ["payload.refused"]) == (done.returncode, cli.read(125).actions())


def test_modules_of_an_earlier_payload(cli, image):
    """What a payload leaves in its directory is not run outside a container by the next one's start."""
    planted = f"open({str(cli.workdir / 'planted')!r}, 'w')"
    (cli.workdir / "wlcg_isolate").mkdir()
    for name in ("wlcg_isolate/__init__", "json", "attr", "sitecustomize", "usercustomize", "sh"):
        (cli.workdir / f"{name}.py").write_text(planted)
    ran = cli.run("--image", image("tiny"), environ={"PYTHONPATH": ""})

    assert (0, "") == (ran.status, ran.stderr)
    assert not (cli.workdir / "planted").exists()


def _wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen within 30 s")


@pytest.mark.parametrize("name", "TERM INT QUIT HUP USR1 USR2 XCPU".split())
def test_signals_are_passed_on(cli, image, name):
    """A payload that handles a signal of its pilot decides itself."""
    number = signal.Signals[f"SIG{name}"]
    script = f"trap 'echo got; exit 7' {int(number)}; echo ready; while :; do sleep 0.1; done"
    process = cli.start("--image", image("tiny"), command=("sh", "-c", script))
    assert b"ready\n" == process.stdout.readline()
    process.send_signal(number)
    ran = cli.read(process.wait(60), process.stdout.read())
    process.stdout.close()

    assert (7, b"got\n", "payload") == (ran.status, ran.stdout, ran.outcome["failed_by"])


def test_pilot_is_suspended(cli, image):
    """A pilot that is asked to stop stops its payload with all of its processes, and both go on together."""
    script = "(while :; do echo child; sleep 0.05; done) & while :; do echo parent; sleep 0.05; done"
    process = cli.start("--image", image("tiny"), command=("sh", "-c", script))
    assert {b"child\n", b"parent\n"} >= {process.stdout.readline() for _ in range(10)}
    process.send_signal(signal.SIGTSTP)
    os.waitpid(process.pid, os.WUNTRACED)
    os.set_blocking(process.stdout.fileno(), False)
    process.stdout.read()
    time.sleep(0.3)
    silence = process.stdout.read()
    process.send_signal(signal.SIGCONT)
    seen = b""
    while not (b"child" in seen and b"parent" in seen):
        seen += process.stdout.read() or b""
        time.sleep(0.02)
    process.terminate()
    ran = cli.read(process.wait(60))
    process.stdout.close()

    assert (None, "stopped") == (silence, ran.outcome["kind"])


def test_stopped_by_pilot(cli, image):
    """A payload that ends by a signal of its pilot did not fail by itself."""
    process = cli.start("--image", image("tiny"), command=("sh", "-c", "echo ready; exec sleep 60"))
    assert b"ready\n" == process.stdout.readline()
    process.terminate()
    ran = cli.read(process.wait(60))
    process.stdout.close()

    assert 143 == ran.status
    assert (True, "signal", "stopped", 15) == tuple(ran.outcome[k] for k in ("started", "failed_by", "kind", "signal"))


def test_time_limit(cli, image):
    """A payload is stopped when its time is over, and that is said."""
    ran = cli.run("--image", image("tiny"), "--timeout", "0.5", command=("sleep", "60"))

    assert (True, "timeout", "time-limit", 15) == tuple(
        ran.outcome[k] for k in ("started", "failed_by", "kind", "signal")
    )
    assert 0.5 <= ran.outcome["usage"]["wall_seconds"] < 10


def test_time_limit_of_a_stubborn_payload(request_for, quick):
    """A payload and its children that ignore TERM are killed after the grace."""
    script = "trap '' TERM; (trap '' TERM; setsid sleep 60) & while :; do sleep 0.1; done"
    outcome = run_isolated(request_for("sh", "-c", script, timeout=0.5), quick)

    assert ("timeout", signal.SIGKILL) == (outcome.failed_by, outcome.signal)
    assert 1.0 <= outcome.usage.wall_seconds < 10


def _marked(trace_id):
    """List the processes that carry a payload's mark."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if f"WLCG_ISOLATE_ID={trace_id}".encode() in f.read():
                    found.append(int(pid))
        except OSError:
            continue

    return found


def test_nothing_survives(cli, image):
    """Children that leave their session and ignore signals end with the payload."""
    script = "for i in 1 2 3; do (trap '' TERM HUP; setsid sleep 300 &) & done; sleep 0.2; exit 4"
    ran = cli.run("--image", image("tiny"), command=("sh", "-c", script))

    assert 4 == ran.status
    assert [] == _marked(ran.outcome["trace_id"])
    assert [] == os.listdir(cli.workdir)


def test_pilot_killed(cli, image):
    """A pilot that is killed with KILL takes its payload along."""
    process = cli.start("--image", image("tiny"), command=("sh", "-c", "echo ready; exec sleep 300"))
    assert b"ready\n" == process.stdout.readline()
    trace_id = cli.records()[0]["container.id"]
    assert 1 <= len(_marked(trace_id))
    process.kill()
    process.wait(60)
    process.stdout.close()

    _wait_for(lambda: not _marked(trace_id))


def test_runtime_killed(cli, image):
    """A runtime that is killed while the payload runs is not the payload's failure."""
    process = cli.start("--image", image("tiny"), command=("sh", "-c", "echo ready; exec sleep 300"))
    assert b"ready\n" == process.stdout.readline()
    lists = Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [int(pid) for found in lists for pid in found.read_text().split()]
    launcher = next(pid for pid in children if b"lifeline" not in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(launcher, signal.SIGKILL)
    ran = cli.read(process.wait(60))
    process.stdout.close()

    assert (True, "runtime", "runtime-lost") == tuple(ran.outcome[k] for k in ("started", "failed_by", "kind"))


def test_usage(cli, image):
    """What the payload used is measured."""
    program = "x = bytearray(200_000_000); import time; t = time.process_time()\nwhile time.process_time() < t + 0.5: 1"
    ran = cli.run("--image", image("debian11"), command=("python3", "-c", program))
    usage = ran.outcome["usage"]

    assert 200_000_000 <= usage["max_rss_bytes"] < 400_000_000
    assert 0.5 <= usage["cpu_seconds"] < 5
    assert 0.5 <= usage["wall_seconds"] < 10

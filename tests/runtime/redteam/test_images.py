"""
A hostile image: what runs, or is read, before the payload does.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import ROOT
from .test_survival import alive

APPLETS = ("sh", "cat", "ls", "id", "sleep", "head", "env", "setsid", "touch", "true", "printf", "yes")

SECRET = "the-secret-of-the-pilot"

#: Of the command line's own process, in bytes: what a flood would be in its memory is more.
MOST_MEMORY = 120_000_000


@pytest.fixture
def tree(image, tmp_path):
    """An image of one's own making, with nothing but busybox."""
    root = tmp_path / "image"
    for name in ("usr/bin", "etc", "dev", "proc", "sys", "tmp", "var/tmp", "srv"):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    shutil.copy(Path(image("tiny")) / "usr/bin/busybox", root / "usr/bin/busybox")
    for name in APPLETS:
        (root / "usr/bin" / name).symlink_to("busybox")

    return root


@pytest.fixture
def pilot(tmp_path):
    """A directory of the pilot."""
    directory = tmp_path / "pilot"
    directory.mkdir()
    for name in ("proxy", "passwd", "group"):
        (directory / name).write_text(f"{SECRET}:x:0:0:{SECRET}:/:/bin/sh\n")

    return directory


def script(tree, text):
    """Have the image run a script for its environment."""
    directory = tree / ".singularity.d" / "env"
    directory.mkdir(parents=True)
    (directory / "90-environment.sh").write_text("/bin/sh /.singularity.d/hostile || exit 1\n")
    (directory / "90-environment.sh").chmod(0o755)
    (tree / ".singularity.d" / "hostile").write_text(text)


def run(cli, tree, *command, seconds="5", **more):
    """Run a payload in the image, with a short deadline for its start."""
    return cli.run("--image", tree, "--set", f"runtime.start_seconds={seconds}", command=command or ("true",), **more)


#: A process begins with the peak of the one that started it (getrusage(2) says nothing of it), and that of all tests is
#: large: so a small one stands between.
WEIGH = """
import os, sys
null = os.open(os.devnull, os.O_RDWR)
files = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 2)]
_, status, usage = os.wait4(os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=files), 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)
"""


def weighed(argv, environ):
    """Run a command; return its exit status and the largest resident set of any of its processes."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", WEIGH, *argv], env=environ, capture_output=True, text=True, check=True
    )
    status, peak = done.stdout.split()[-2:]

    return int(status), int(peak)


def test_the_image_works(cli, tree):
    """Run a payload in the image as it is, so that what follows fails for its own reason."""
    ran = run(cli, tree, "id", "-u")

    assert (0, b"%d\n" % os.geteuid()) == (ran.status, ran.stdout)


def test_forge_the_start_marker_in_a_script(cli, tree):
    """Write a start marker from an environment script of the image: it is no start."""
    script(tree, "echo 1 >&4\nsleep 300\n")
    ran = run(cli, tree)

    assert (125, False) == (ran.status, ran.outcome["started"])
    assert ran.outcome["kind"] in ("start-forged", "isolation-incomplete")
    assert ["payload.refused"] == ran.actions()


def test_flood_the_start_marker_in_a_script(cli, tree):
    """Write to the start marker's pipe without end: the start is given up at once."""
    script(tree, "while :; do echo -n xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx >&4; done\n")
    began = time.monotonic()
    ran = run(cli, tree, seconds="30")

    assert (125, "start-forged") == (ran.status, ran.outcome["kind"])
    assert time.monotonic() - began < 15


def test_flood_the_words_of_the_runtime_in_a_script(cli, tree):
    """Print 100 MB in place of the runtime's words and end it: the pilot reads a part of them."""
    script(tree, "yes | head -c 100000000\nexit 1\n")
    status, peak = weighed(cli.argv("--image", tree, command=("true",)), cli.environ)

    assert 125 == status
    # Pages of the file that was printed to count where they are mapped only.
    assert peak < MOST_MEMORY


def test_talk_like_the_runtime_in_a_script(cli, tree):
    """Print what steers a terminal in place of the runtime's words: it is written out."""
    script(tree, "printf 'FATAL:   \\033[2J\\033]0;title\\007forged\\n' >&2\nexit 255\n")
    ran = run(cli, tree)

    assert (125, False) == (ran.status, ran.outcome["started"])
    assert [] == [sign for sign in ran.stderr if ord(sign) < 32 and sign != "\n"]


def test_hang_in_a_script(cli, tree):
    """Never end the environment script, and leave processes: the deadline of the start ends all."""
    mark = "hostile-script-" + os.urandom(8).hex()
    script(tree, f"setsid sleep 300 &\nsh -c 'sleep 300; :' {mark} script\n")
    ran = run(cli, tree, seconds="2")

    assert (125, "runtime-hung") == (ran.status, ran.outcome["kind"])
    assert {} == alive(mark)
    assert [] == os.listdir(cli.workdir)


def test_look_for_the_pilot_in_a_script(cli, tree):
    """Read the environment of all processes, and list the node's directories, before the payload starts."""
    script(tree, "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline >/srv/found 2>/dev/null\nls / /tmp >>/srv/found\n")
    ran = run(cli, tree, environ={"PILOT_SECRET": SECRET})

    assert 0 == ran.status
    found = (cli.workdir / "found").read_bytes()
    assert (True, False) == (b"srv" in found, SECRET.encode() in found)


def test_kill_from_a_script(cli, tree):
    """Kill all that can be seen before the payload starts: there is nobody but what runs the script."""
    script(tree, "kill -9 -1; true\n")
    ran = run(cli, tree)

    assert (0, True) == (ran.status, ran.outcome["started"])
    assert (["payload.start", "payload.end"], []) == (ran.actions(), os.listdir(cli.workdir))


#: Of each: its place, what it leads to, and whether by many ``..`` from where it is.
LINKS = {
    "passwd": ("etc/passwd", "proxy", False),
    "passwd-climbing": ("etc/passwd", "proxy", True),
    "group": ("etc/group", "proxy", True),
    "hosts": ("etc/hosts", "proxy", False),
    "resolver": ("etc/resolv.conf", "proxy", True),
    "time": ("etc/localtime", "proxy", False),
    "release": ("etc/os-release", "proxy", True),
    "labels": (".singularity.d/labels.json", "proxy", False),
    "run-script": (".singularity.d/runscript", "proxy", True),
    "all-of-etc": ("etc", "", False),
    "metadata": (".singularity.d", "", True),
}


@pytest.mark.parametrize("name", LINKS)
def test_read_the_pilot_through_links(cli, tree, pilot, name):
    """Be an image whose files that runtime and library read are links to the pilot's: nothing of them is shown."""
    place, goal, climbing = LINKS[name]
    path = tree / place
    if path.is_dir():
        path.rmdir()
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(("../" * 20 if climbing else "/") + str(pilot / goal).lstrip("/"))
    ran = run(cli, tree, "sh", "-c", "cat /etc/* /.singularity.d/* /.singularity.d/*/*; env")

    assert SECRET.encode() not in ran.stdout
    assert SECRET not in ran.stderr + str(ran.outcome) + str(ran.records)
    # The links lead there, for whoever is not in the container.
    assert SECRET in (path / "proxy" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("name", ["srv", "tmp", "var/tmp", "dev", "proc", "sys"])
def test_mount_on_the_node_through_links(cli, tree, pilot, name):
    """Be an image whose mount points are links to the pilot's directory: nothing is made or written there."""
    before = sorted(os.listdir(pilot))
    (tree / name).rmdir()
    (tree / name).symlink_to(pilot)
    ran = run(cli, tree, "sh", "-c", f"touch /srv/x /tmp/x /var/tmp/x; cat {pilot}/proxy /{name}/proxy")

    assert SECRET.encode() not in ran.stdout
    assert before == sorted(os.listdir(pilot))
    assert os.stat(pilot).st_dev == os.stat(pilot.parent).st_dev


PIPES = (
    "etc/os-release", "etc/passwd", "etc/group", "bin/sh",
    ".singularity.d/labels.json", ".singularity.d/env/90-x.sh",
)  # fmt: skip


@pytest.mark.parametrize("place", PIPES)
def test_wait_for_ever_at_a_pipe(cli, tree, place):
    """Be an image with pipes in place of files: neither library nor runtime waits at one for ever."""
    path = tree / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    began = time.monotonic()
    ran = run(cli, tree, "ls", "/srv", seconds="3")

    assert time.monotonic() - began < 20
    assert ran.outcome["kind"] in ("success", "runtime-hung", "image-corrupt", "image-no-shell", "image-unreadable")


@pytest.mark.parametrize("place", ["etc/os-release", ".singularity.d/labels.json", "etc/passwd"])
def test_fill_the_memory_by_a_large_file(cli, tree, place):
    """Be an image with files of a terabyte: no more of them is read than is sensible."""
    path = tree / place
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as f:
        f.truncate(1 << 40 if place != "etc/passwd" else 1 << 30)
    argv = cli.argv("--image", tree, "--set", "runtime.start_seconds=5", command=("true",))
    status, peak = weighed(argv, cli.environ)
    path.unlink()

    assert status in (0, 125)
    # The runtime reads the list of users itself.
    assert place == "etc/passwd" or peak < MOST_MEMORY


@pytest.mark.parametrize("goal", ["a", "../../../../../../../../../../bin/sh", "/proc/self/root/bin/sh"])
def test_lead_in_a_circle(cli, tree, goal):
    """Be an image whose shell is a link in a circle, or climbs above the root: it is not followed out of it."""
    (tree / "usr/bin/sh").unlink()
    (tree / "usr/bin/a").symlink_to("sh")
    (tree / "usr/bin/sh").symlink_to(goal)
    ran = run(cli, tree, "ls", "/srv")

    assert ran.outcome["kind"] in ("success", "image-no-shell")


def test_start_with_a_hostile_shell(cli, tree):
    """Be an image whose shell does what it likes: it is not run for a payload that does not ask for it."""
    (tree / "usr/bin/sh").unlink()
    (tree / "usr/bin/sh").write_text('#!/bin/busybox sh\ntouch /srv/ran\nexec /bin/busybox sh "$@"\n')
    (tree / "usr/bin/sh").chmod(0o755)
    ran = run(cli, tree, "ls", "/srv")

    assert (0, "loader") == (ran.status, ran.records[0]["wlcg.isolation.starter"])
    assert not (cli.workdir / "ran").exists()
    asked = run(cli, tree, "sh", "-c", "true")
    assert (0, True) == (asked.status, (cli.workdir / "ran").exists())


def test_start_with_a_hostile_loader_of_libraries(cli, tree):
    """Be an image whose ld.so and ld.so.preload are hostile: what waits for the release needs neither."""
    (tree / "etc/ld.so.preload").write_text("/hostile.so\n")
    (tree / "lib64").mkdir()
    for name in ("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"):
        (tree / "lib64" / name).write_text("#!/bin/busybox sh\ntouch /srv/ran\n")
        (tree / "lib64" / name).chmod(0o755)
    ran = run(cli, tree, "ls", "/srv")

    assert (0, "loader") == (ran.status, ran.records[0]["wlcg.isolation.starter"])
    assert not (cli.workdir / "ran").exists()


def test_bring_devices_and_rights(cli, tree):
    """Bring device files and set-uid programs: the image's files give neither."""
    if ROOT:
        os.mknod(tree / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        (tree / "zero").chmod(0o666)
        with (tree / "zero").open("rb") as f:
            assert b"\0" == f.read(1)
    ran = run(cli, tree, "sh", "-c", "head -c 1 /zero; cat /proc/self/uid_map /proc/self/mountinfo")
    uids, *mounts = ran.stdout.decode().splitlines()
    (options,) = [mount.split()[5].split(",") for mount in mounts if mount.split()[4] == "/"]

    assert "nodev" in options
    # There is no other user whose rights a program could give.
    assert [str(os.geteuid())] * 2 + ["1"] == uids.split()


@pytest.mark.parametrize("name", ["new\nline\x1b[2J", "\x9b31m\x1b]0;x\x07"])
def test_steer_the_terminal_by_the_name_of_an_image(cli, tree, name):
    """Have a name that steers a terminal: in messages it is written out."""
    ran = run(cli, tree.with_name(name))

    assert (125, False) == (ran.status, ran.outcome["started"])
    assert [] == [sign for sign in ran.stderr if (ord(sign) < 32 and sign != "\n") or 0x7F <= ord(sign) < 0xA0]
    assert all(line.startswith("wlcg-isolate: ") for line in ran.stderr.splitlines())


def test_steer_the_terminal_by_labels(cli, tree):
    """Have labels and a release that steer a terminal: ``image inspect`` writes them out."""
    (tree / ".singularity.d").mkdir()
    (tree / ".singularity.d" / "labels.json").write_text('{"a\x1b[2J": "\\u001b]0;title\\u0007"}')
    (tree / "etc/os-release").write_text('NAME="x\x1b[2J"\nID="\x1b]0;title\x07"\nPRETTY_NAME="\x9b31m"\n')
    done = subprocess.run(
        [*cli.program, "image", "inspect", str(tree)], env=cli.environ, capture_output=True, check=False, text=True
    )

    assert "" != done.stdout
    assert [] == [sign for sign in done.stdout + done.stderr if (ord(sign) < 32 and sign != "\n") or sign == "\x9b"]


def test_end_before_the_start_is_recorded(cli, tree):
    """Kill the pilot while an environment script runs: nothing of the container is left."""
    mark = "hostile-script-" + os.urandom(8).hex()
    script(tree, f"sh -c 'sleep 300; :' {mark} script\n")
    child = cli.start("--image", tree, command=("true",))
    deadline = time.monotonic() + 20
    while not alive(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive(mark)
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    child.stdout.close()
    while alive(mark) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert {} == alive(mark)

"""
A person runs a payload from a terminal.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import shlex
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

SECONDS = 30


class Person:
    """One who sits at a terminal and runs the command line on it."""

    def __init__(self, cli, *options, command, **streams):
        self.ours, theirs = os.openpty()
        self.name = os.ttyname(theirs)
        self.resize(25, 90)
        self.before = termios.tcgetattr(self.ours)
        argv = ["setsid", "--ctty", *self.argv(cli, *options, command=command)]
        places = {"stdin": theirs, "stdout": theirs, "stderr": theirs, **streams}
        self.process = subprocess.Popen(argv, env={**cli.environ, "TERM": "dumb"}, **places)
        os.close(theirs)
        self.seen = b""
        cli.started.append(self.process)

    @staticmethod
    def argv(cli, *options, command):
        """What is on the terminal."""
        return cli.argv(*options, command=command)

    def resize(self, rows, columns):
        """Change the window."""
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        """Press keys."""
        os.write(self.ours, text.encode())

    def see(self, pattern):
        """Wait until something is on the screen; what was there before is forgotten."""
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self.seen)):
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self.ours], [], [], left)[0]:
                pytest.fail(f"{pattern!r} did not appear in {self.seen!r}")
            try:
                self.seen += os.read(self.ours, 65536)
            except OSError:
                pytest.fail(f"{pattern!r} did not appear before the end, but {self.seen!r}")
        self.seen = self.seen[found.end() :]

        return found

    def ask(self, command, answer):
        """Have a shell execute a command, and wait for its answer on a line of its own."""
        self.type(f"{command}\n")

        return self.see(rb"\r\n" + answer)

    def leave(self):
        """Wait for the end and give the exit status."""
        try:
            return self.process.wait(SECONDS)
        finally:
            os.close(self.ours)


@pytest.fixture
def person(cli, image):
    """Sit somebody down at a payload."""

    def make(*command, name="debian11", **streams):
        return Person(cli, "--image", image(name), command=command, **streams)

    return make


@pytest.mark.parametrize("name", ["debian11", "tiny"])
def test_interactive_shell(person, cli, name):
    """A shell has job control, the window's size, and a terminal of its own; the person's is as before afterwards."""
    someone = person("sh" if name == "tiny" else "bash", "-i", name=name)
    someone.ask("PS1=; test -t 0 && test -t 1 && test -t 2 && echo terminal", b"terminal\r\n")
    assert b"no job control" not in someone.seen
    someone.ask("stty size", b"25 90\r\n")
    someone.resize(40, 120)
    someone.ask("stty size", b"40 120\r\n")
    # The interrupt ends the job and not the shell; so does a stop.
    someone.type("sleep 300; echo status $?\n")
    time.sleep(0.3)
    someone.type("\x03")
    someone.ask("echo still here", b"still here\r\n")
    someone.type("sleep 301\n")
    time.sleep(0.3)
    someone.type("\x1a")
    someone.see(rb"Stopped")
    someone.type("fg\n")
    time.sleep(0.3)
    someone.type("\x03")
    someone.ask("echo after", b"after\r\n")
    someone.type("exit 7\n")
    during = termios.tcgetattr(someone.ours)
    someone.process.wait(SECONDS)
    after = termios.tcgetattr(someone.ours)

    assert 7 == someone.leave()
    assert ("success", None, 7) == ("success", cli.read(7).outcome["signal"], cli.read(7).outcome["exit_code"])
    assert someone.before == after != during


def test_person_interrupts(person, cli):
    """An interrupt from the keyboard reaches a payload that is no shell."""
    # Many short naps: a signal between Python's look for it and its nap is noticed after the nap.
    nap = "print('up', flush=True)\n  while True: time.sleep(0.1)"
    program = f"import time\ntry:\n  {nap}\nexcept KeyboardInterrupt: print('bye')"
    someone = person("python3", "-c", program)
    someone.see(rb"up\r\n")
    someone.type("\x03")
    someone.see(rb"bye\r\n")

    # Once: a second one would end what is on its way out.
    assert 0 == someone.leave()


STUFF = """
import fcntl, os, termios
for fd in (0, 1, 2):
    for byte in b"id\\n":
        try: fcntl.ioctl(fd, termios.TIOCSTI, bytes([byte]))
        except OSError: pass
print("devices", *(os.fstat(fd).st_rdev for fd in (0, 1, 2)))
"""


def test_no_way_to_the_persons_shell(person):
    """A payload cannot type into the terminal that its pilot was started from: none of its descriptors is that one."""
    someone = person("python3", "-c", STUFF)
    devices = set(someone.see(rb"devices (\d+) (\d+) (\d+)\r\n").groups())
    status = someone.process.wait(SECONDS)
    persons = os.open(someone.name, os.O_RDWR | os.O_NOCTTY)
    waiting = struct.unpack("i", fcntl.ioctl(persons, termios.FIONREAD, b"\0" * 4))[0]
    device = str(os.fstat(persons).st_rdev).encode()
    os.close(persons)

    assert (0, 0, 1) == (status, waiting, len(devices))
    assert device not in devices
    someone.leave()


def test_output_to_a_file(person, tmp_path):
    """Only what is a terminal is one for the payload; a file gets every byte as it is."""
    with open(tmp_path / "out", "wb") as out:
        someone = person(
            "sh", "-c", "test -t 0 && test -t 2 || exit 1; test -t 1 && exit 2; printf 'a\\nb'", stdout=out
        )
        status = someone.leave()

    assert (0, b"a\nb") == (status, (tmp_path / "out").read_bytes())


def test_suspended_pilot(person):
    """A pilot that is asked to stop stops its payload, and gives the terminal back; both go on together."""
    someone = person("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done")
    someone.see(rb"3\r\n")
    someone.process.send_signal(signal.SIGTSTP)
    for _ in range(600):
        state = Path(f"/proc/{someone.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "T":
            break
        time.sleep(0.05)
    assert ("T", someone.before) == (state, termios.tcgetattr(someone.ours))
    someone.process.send_signal(signal.SIGCONT)
    someone.seen = b""
    someone.see(rb"\d\r\n")
    someone.type("\x03")

    assert 130 == someone.leave()


class AtShell(Person):
    """One who has a shell with job control, and runs payloads from it."""

    @staticmethod
    def argv(cli, *options, command):
        """What is on the terminal."""
        del cli, options

        return command


@pytest.fixture
def at_shell(cli, image):
    """Sit somebody down at a shell; give also the words that run a payload."""
    someone = AtShell(cli, command=("bash", "--norc", "-i"))
    someone.ask("PS1='now> '; echo ready", b"ready\r\nnow> ")

    def run(script):
        return shlex.join(cli.argv("--image", image("tiny"), command=("sh", "-c", script)))

    return someone, run


def test_payload_in_the_background(at_shell):
    """What is typed while a payload runs in the background is the shell's, whichever descriptor the payload reads."""
    someone, run = at_shell
    someone.type(f"{run('echo up; for i in 1 2; do read x <&$i & done; wait; read x; echo took $x')} &\n")
    someone.see(rb"up\r+\n")
    for word in ("one", "two", "three"):
        someone.ask(f"echo {word}", word.encode() + b"\r\n")
    # In the foreground it is the payload's, whose readers have a line each.
    someone.type("fg\n")
    time.sleep(0.5)
    someone.type("first\nsecond\nkey\n")
    someone.see(rb"took key\r+\n")
    someone.see(rb"now> ")
    someone.ask("echo status $?", b"status 0\r\n")
    someone.type("exit\n")

    assert 0 == someone.leave()


def test_key_that_stops(at_shell):
    """Ctrl-Z stops a payload and its pilot, the shell lets both go on, and a pipeline's lines begin at the margin."""
    someone, run = at_shell
    someone.type(run("i=0; while :; do i=$((i+1)); echo n$i; sleep 0.05; done") + "\n")
    someone.see(rb"\nn3\r\n")
    someone.type("\x1a")
    someone.see(rb"Stopped")
    someone.see(rb"now> ")
    someone.ask("echo at the shell", b"at the shell\r\n")
    assert not re.search(rb"n\d+\r\n", someone.seen)
    someone.type("fg\n")
    someone.see(rb"\nn\d+\r\n")
    someone.type("\x03")
    someone.see(rb"now> ")
    someone.ask("echo status $?", b"status 130\r\n")
    someone.type(f"{run('echo a; echo b; sleep 0.2')} | cat\n")
    someone.see(rb"\na\r\nb\r\n")
    someone.see(rb"now> ")
    someone.type("exit\n")

    assert 0 == someone.leave()


def test_key_that_stops_without_a_shell(person):
    """Where nobody could let it go on, the key stops nothing."""
    someone = person("sh", "-c", "i=0; while :; do i=$((i+1)); echo n$i; sleep 0.05; done", name="tiny")
    someone.see(rb"n3\r\n")
    someone.type("\x1a")
    time.sleep(0.5)
    someone.seen = b""
    for _ in range(20):
        someone.see(rb"n\d+\r\n")
    someone.type("\x03")

    assert 130 == someone.leave()

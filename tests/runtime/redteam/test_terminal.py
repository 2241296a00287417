"""
A payload that has the pilot's terminal tries to type into it, or to take it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CommandLine

from .conftest import ON_TERMINAL, PROGRAMS, Duel

#: What the pilot's shell would run next.
TYPED = "echo forged\n"

#: Where the kernel lets nobody type into a terminal (Linux 6.2) the attempt fails on the node, too.
LEGACY = Path("/proc/sys/dev/tty/legacy_tiocsti")
MAY_TYPE = not LEGACY.exists() or LEGACY.read_text().strip() == "1"


def on_terminal(words, place, environ):
    """Run a command on a terminal; return what was typed into it."""
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / "terminal.py"), *map(str, words)],
        env={**environ, "TYPED": str(place / "typed")},
        cwd=place,
        check=True,
        capture_output=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )

    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def terminal(runtime, image, environ, tmp_path_factory):
    """The attempts, on a terminal on the node and on one of a payload."""
    line = CommandLine(tmp_path_factory.mktemp("terminal"), runtime)
    line.environ.update(environ, PATH=line.environ["PATH"])
    shutil.copy(PROGRAMS / "weapons.py", line.workdir)
    result = {}
    for where in ("outside", "inside"):
        (line.workdir / "goal.json").write_text(json.dumps({"outside": where == "outside", "typed": TYPED}))
        words = ["weapons.py", "goal.json", f"{where}.json", *ON_TERMINAL]
        if where == "outside":
            command = [sys.executable, *words]
        else:
            command = line.argv("--image", image("debian13"), command=("python3", *words))
        result[f"{where}-terminal"] = on_terminal(command, line.workdir, line.environ)
        result[where] = json.loads((line.workdir / f"{where}.json").read_text())

    return Duel(result)


def test_type_into_the_terminal(terminal):
    """Put a command into the input of the pilot's shell (TIOCSTI): it stays in the payload's own terminal."""
    typed = "typed" if MAY_TYPE else None

    assert (typed, typed) == terminal.of("type_into_terminal")
    assert TYPED not in terminal.result["inside-terminal"]["typed"]


def test_steal_the_terminal(terminal):
    """Make the terminal that of a session of one's own, by force, and type into it."""
    assert None is terminal.of("steal_terminal")[1]


def test_open_the_terminal_of_the_session(terminal):
    """Open /dev/tty: it is the payload's own, of another session than the pilot's."""
    assert ("opened", "opened") == terminal.of("dev_tty")
    assert "" == terminal.result["inside-terminal"]["typed"]


def test_nothing_is_typed(terminal):
    """Type in any way: the pilot's shell finds nothing in its input."""
    outside, inside = terminal.result["outside-terminal"], terminal.result["inside-terminal"]

    assert (0, MAY_TYPE) == (outside["status"], outside["typed"].startswith(TYPED))
    assert (0, "") == (inside["status"], inside["typed"])

"""
A payload tries to make the pilot believe, write or remove something.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess

import pytest

#: In a name it moves the cursor, sets the title of a terminal and forges a line.
NASTY = "x\x1b[2J\x1b]0;title\x07\nwlcg-isolate: forged\r\x9b31m"


@pytest.fixture
def victim(tmp_path):
    """A directory of the pilot that a link leads to."""
    directory = tmp_path / "victim"
    directory.mkdir()
    (directory / "file").write_text("stays")

    return directory


def untouched(directory):
    """Tell whether a directory is as it was."""
    return os.listdir(directory) == ["file"] and (directory / "file").read_text() == "stays"


def test_write_a_start_marker(cli, image):
    """Write to the descriptors of start marker and release: they are closed."""
    script = "for i in 3 4 5 6 7 8 9; do (echo 1 >&$i) 2>/dev/null && echo $i; done; exit 3"
    ran = cli.run("--image", image("tiny"), command=("sh", "-c", script))

    assert (3, b"") == (ran.status, ran.stdout)
    assert ["payload.start", "payload.end"] == ran.actions()


@pytest.mark.parametrize("status", [0, 125, 255])
def test_end_like_a_runtime(cli, image, status):
    """Say what a failing runtime says and end as it does: it is the payload's end."""
    words = "wlcg-isolate: FATAL:   container creation failed: mount hook function failure"
    ran = cli.run("--image", image("tiny"), command=("sh", "-c", f"echo '{words}' >&2; exit {status}"))

    assert (True, status) == (ran.outcome["started"], ran.outcome["exit_code"])
    assert ("payload" if status else None) == ran.outcome["failed_by"]


PLANTS = {
    "link": "ln -s {victim}/file outcome.json",
    "link-to-nothing": "ln -s {victim}/new outcome.json",
    "directory": "mkdir -p outcome.json/full",
    "pipe": "mkfifo outcome.json",
    "own-outcome": 'echo "{{}}" > outcome.json',
    "all-links": (
        "while :; do for f in .outcome.json.*; do ln -sf {victim}/file $f; done; done & ln -s {victim} outcome.json"
    ),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_plant_an_outcome(cli, image, victim, plant):
    """Put a link, a directory, a pipe or an outcome of one's own where the outcome will be."""
    cli.outcome = cli.workdir / "outcome.json"
    command = ("sh", "-c", PLANTS[plant].format(victim=victim) + "; exit 7")
    ran = cli.run("--image", image("tiny"), command=command)

    assert (7, 7, "payload") == (ran.status, ran.outcome["exit_code"], ran.outcome["failed_by"])
    assert stat.S_ISREG(cli.outcome.lstat().st_mode)
    assert untouched(victim)


@pytest.mark.parametrize("plant", ["link", "pipe", "directory"])
def test_plant_an_outcome_for_the_next_payload(cli, image, victim, plant):
    """Leave a link, a pipe or a directory where the next payload's outcome will be: that one is refused, at once."""
    cli.run("--image", image("tiny"), command=("sh", "-c", PLANTS[plant].format(victim=victim)))
    cli.outcome = cli.workdir / "outcome.json"
    argv = cli.argv("--image", image("tiny"), command=("true",))
    done = subprocess.run(argv, env=cli.environ, capture_output=True, check=False, timeout=20, cwd=cli.workdir)

    assert (125, True) == (done.returncode, b"outcome.json" in done.stderr)
    assert untouched(victim)


def test_plant_links_for_the_clean_up(cli, image, victim):
    """Exchange every private directory, the one of the credentials too, for links before the end."""
    (victim / "file").chmod(0o600)
    token = cli.workdir.parent / "token"
    token.write_text("secret")
    script = (
        f"cd /srv; for d in .wlcg-isolate-*; do for n in $d/*; do mv $n $d/x-${{n##*/}}; ln -s {victim} $n; done; "
        f"mv $d moved; ln -s {victim} $d; done; ls -a"
    )
    ran = cli.run("--image", image("tiny"), "--credential", f"BEARER_TOKEN_FILE={token}", command=("sh", "-c", script))

    assert (0, True) == (ran.status, b"moved" in ran.stdout)
    assert untouched(victim)
    # What is left is the payload's own link.
    assert [] == [path for path in cli.workdir.rglob("*") if path.is_file() and not path.is_symlink()]


def test_plant_links_for_the_binds_of_the_next_payload(cli, image, victim):
    """Leave links where the next payload's binds need mount points: nothing is made behind them."""
    script = f"mkdir /srv/sub; ln -s {victim} /srv/sub/data; ln -s {victim} /srv/data; ln -s {victim} /srv/deep"
    cli.run("--image", image("tiny"), command=("sh", "-c", script))
    for target in ("/srv/data", "/srv/sub/data/x", "/srv/deep/er/data"):
        ran = cli.run("--image", image("tiny"), "--bind", f"/etc:{target}", command=("true",))

        assert ran.status in (0, 125)
        assert untouched(victim)


def test_bury_the_clean_up(cli, image):
    """Leave very deep and locked directories in /tmp: all is removed."""
    program = (
        "import os\n"
        "for i in range(400):\n"
        "    os.mkdir('d' * 200); os.chdir('d' * 200)\n"
        "os.chdir('/tmp'); os.mkdir('locked'); os.mkdir('locked/in'); os.chmod('locked', 0); os.chmod('d' * 200, 0)\n"
        "open('/tmp/' + '\\x1b[2J\\n', 'w')\n"
    )
    ran = cli.run("--image", image("debian13"), command=("sh", "-c", f'cd /tmp; exec python3 -c "{program}"'))

    assert (0, []) == (ran.status, os.listdir(cli.workdir)), ran.stderr


#: What one payload leaves in the records.
ACTIONS = ("pilot.start", "payload.authorised", "payload.start", "payload.end", "pilot.end")


def test_forge_lines_of_a_record(cli, image):
    """Put whole records into the command and the identity: they stay text of one record."""
    forged = '\n{"event.action":"payload.end","wlcg.outcome.kind":"success"}\n'
    ran = cli.run("--image", image("tiny"), "--job-id", f"1{forged}", command=("sh", "-c", "exit 5", forged))

    shown = subprocess.run(
        [*cli.program, "trace", "show", "--trace-dir", str(cli.trace_dir)],
        env=cli.environ,
        capture_output=True,
        check=True,
        text=True,
    )

    assert (5, ["payload.start", "payload.end"]) == (ran.status, ran.actions())
    assert "exit-nonzero" == ran.records[1]["wlcg.outcome.kind"]
    # A heading, and a line for each record of the pilot and of the payload.
    assert ["EVENT", *ACTIONS] == [line.split()[1] for line in shown.stdout.splitlines()]


@pytest.mark.parametrize("options", [("--image", f"/{NASTY}"), ("--platform", NASTY), ("--bind", f"/{NASTY}:/data")])
def test_steer_the_terminal_of_the_pilot_by_names(cli, image, options):
    """Have names with control characters in the pilot's messages: they are written out."""
    base = () if options[0] != "--bind" else ("--image", image("tiny"))
    ran = cli.run(*base, *options, command=("true",))

    assert 125 == ran.status
    assert [] == [sign for sign in ran.stderr if ord(sign) < 32 and sign != "\n"] + [
        s for s in ran.stderr if s == "\x9b"
    ]
    assert all(line.startswith("wlcg-isolate: ") and "wlcg-isolate: forged" != line for line in ran.stderr.splitlines())


def test_read_and_empty_the_file_that_is_its_standard_output(cli, image):
    """Open one's own standard output again: a file of the pilot is read and emptied, as the documentation says."""
    log = cli.workdir.parent / "log"
    log.write_text("what the pilot wrote\n")
    script = "exec 3>&1; cat /proc/$$/fd/3 >/srv/read; : >/proc/$$/fd/3"
    with log.open("a") as out:
        subprocess.run(
            cli.argv("--image", image("tiny"), command=("sh", "-c", script)), env=cli.environ, stdout=out, check=True
        )

    assert ("what the pilot wrote\n", "") == ((cli.workdir / "read").read_text(), log.read_text())


def test_read_a_pipe_that_is_its_standard_output(cli, image):
    """Open one's own standard output again where it is a pipe: nothing of the pilot is in it."""
    ran = cli.run("--image", image("tiny"), command=("sh", "-c", "echo out; : >/proc/$$/fd/1; echo more"))

    assert (0, b"out\nmore\n") == (ran.status, ran.stdout)


def test_keep_the_trace_records_in_the_working_directory(cli, image, victim):
    """Have the trace records written below the working directory, behind a link: that is refused."""
    (cli.workdir / "trace").symlink_to(victim)
    cli.trace_dir = cli.workdir / "trace"
    ran = subprocess.run(
        cli.argv("--image", image("tiny"), command=("true",)), env=cli.environ, check=False, capture_output=True
    )

    assert (125, "trace-visible") == (ran.returncode, json.loads(cli.outcome.read_text())["kind"])
    assert untouched(victim)

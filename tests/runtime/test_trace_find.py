"""
From what a responder has to the payload, with records of real payloads.
"""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest

from wlcg_isolate.host.procfs import family


@pytest.fixture
def ask(cli):
    """Ask the command line over the records of this test."""

    def find(*words):
        argv = [*cli.program, "trace", "find", "--trace-dir", str(cli.trace_dir), "--json", *map(str, words)]
        done = subprocess.run(argv, env=cli.environ, check=True, capture_output=True, text=True)
        return json.loads(done.stdout)

    return find


def test_find(cli, image, ask):
    """Real payloads are found by user, job, process and image, with start and end."""
    cli.run("--image", image("tiny"), "--job-id", "7", "--user-dn", "/DC=ch/CN=jane", command=("sh", "-c", "exit 3"))
    cli.run("--image", image("tiny"), "--job-id", "8", "--user-dn", "/DC=ch/CN=john")
    cli.run("--image", "/no/such/image", "--job-id", "9")
    (found,) = ask("--job-id", "7")

    assert ("ended", 3) == (found["state"], found["process.exit_code"])
    for words in (
        ("--user-dn", "/DC=ch/CN=jane"),
        ("--pid", found["process.pid"], "--host", os.uname().nodename, "--at", found["started"]),
        ("--image", image("tiny"), "--job-id", "7"),
        ("--path", cli.workdir / "a" / "file", "--job-id", "7"),
    ):
        assert [found["trace_id"]] == [one["trace_id"] for one in ask(*words)]
    assert [("9", ["image-missing"])] == [(one["wlcg.job.id"], one["refusal_kinds"]) for one in ask("--refused")]
    assert [] == ask("--job-id", "7", "--started-after", found["ended"])


def test_child_that_is_alive(cli, image, ask):
    """A process deep in a container leads to its payload; what a child says of itself does not mislead."""
    fifo = cli.workdir / "fifo"
    os.mkfifo(fifo)
    # The child claims to be another payload's.
    script = "WLCG_ISOLATE_ID=forged sh -c 'echo on >fifo; read -r line <fifo' & wait"
    process = cli.start("--image", image("tiny"), "--job-id", "42", command=("sh", "-c", script))
    assert "on\n" == fifo.read_text()
    (payload,) = ask("--job-id", "42")
    children = list(family(payload["process.pid"]))
    found = [ask("--alive", pid) for pid in (payload["process.pid"], children[-1])]
    stranger = ask("--alive", os.getpid())
    fifo.write_text("go on\n")
    process.communicate(timeout=60)

    assert ("running", "process", None) == (payload["state"], payload["state_by"], payload["ended"])
    assert [[("42", "process")], [("42", "ancestor")]] == [
        [(one["wlcg.job.id"], one["found_by"]) for one in some] for some in found
    ]
    assert [] == stranger


def test_pilot_that_was_killed(cli, image, ask):
    """What a pilot could not end is lost: its process is gone, and the next pilot says so in its records."""
    process = cli.start("--image", image("tiny"), "--job-id", "43", command=("sh", "-c", "echo on; exec sleep 100"))
    assert b"on\n" == process.stdout.readline()
    (before,) = ask("--job-id", "43")
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while (after := ask("--job-id", "43")[0])["state"] == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    cli.run("--image", image("tiny"), "--job-id", "44")
    (told,) = ask("--job-id", "43")

    assert ("running", "process") == (before["state"], before["state_by"])
    assert ("lost", "process-gone", None) == (after["state"], after["state_by"], after.get("over_by"))
    assert ("lost", "log.recovered") == (told["state"], told["state_by"])
    assert before["started"] < told["over_by"]


def test_user_in_any_notation(cli, image, ask, tmp_path):
    """Real records that hold hashes lead to a user by name in either notation, with the site's key."""
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    (tmp_path / "site.toml").write_text(
        f'version = 1\n[trace]\nidentity_mode = "hashed"\nidentity_key_file = "{key}"\n'
    )
    site = ("--site", tmp_path / "site.toml")
    cli.run(*site, "--image", image("tiny"), "--job-id", "45", "--user-dn", "/DC=ch/DC=cern/CN=Jane Doe")
    found = [
        ask("--user-dn", name, *more)
        for name in ("/DC=ch/DC=cern/CN=Jane Doe", "CN=Jane Doe,DC=cern,DC=ch")
        for more in (("--user-key", key), ())
    ]

    assert [["45"], [], ["45"], []] == [[one["wlcg.job.id"] for one in some] for some in found]
    assert [None] == [one["user.name"] for one in found[0]]

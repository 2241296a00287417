"""
From what a responder has to the payload, with records of real payloads.
"""

from __future__ import annotations

import json
import os
import subprocess

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

    assert ("open", None) == (payload["state"], payload["ended"])
    assert [[("42", "process")], [("42", "ancestor")]] == [
        [(one["wlcg.job.id"], one["found_by"]) for one in some] for some in found
    ]
    assert [] == stranger

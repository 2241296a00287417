"""
Records leave the node while real payloads run.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess

import pytest


@pytest.fixture
def site(tmp_path):
    """Write a site's file that names receivers."""

    def make(*lines):
        path = tmp_path / "site.toml"
        path.write_text("\n".join(["version = 1", "[trace]", *lines]) + "\n")
        return path

    return make


def actions(kind):
    """List the events of the pilot and of payloads that a receiver has, in the order of their coming."""
    found = [json.loads(document)["event.action"] for document in kind.documents.values()]

    return [action for action in found if not action.startswith("log.")]


def test_everything_arrives(cli, image, bulk, site):
    """A receiver has all records of a payload when the command has ended."""
    kind, address = bulk()
    ran = cli.run("--site", site(f'receivers = {{ es = "{address}" }}'), "--image", image("tiny"))
    journal = [line for file in sorted(cli.trace_dir.glob("*.jsonl")) for line in file.read_bytes().splitlines()]

    assert (0, "") == (ran.status, ran.stderr)
    assert ["pilot.start", "payload.authorised", "payload.start", "payload.end", "pilot.end"] == actions(kind)
    assert journal == list(kind.documents.values())


def test_required_before_the_first_instruction(cli, image, bulk, site):
    """A required receiver has the start before the payload's first instruction."""
    kind, address = bulk()
    policy = site(f'receivers = {{ es = "{address}" }}', 'required = ["es"]')
    ran = cli.run("--site", policy, "--image", image("tiny"), command=("touch", "/srv/mark"))
    start = next(i for i, d in kind.documents.items() if json.loads(d)["event.action"] == "payload.start")

    assert (0, ["es"]) == (ran.status, ran.records[-1]["wlcg.assurance.channels"])
    assert kind.times[start] <= os.stat(cli.workdir / "mark").st_mtime + 0.01


@pytest.fixture
def nobody():
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_required_and_not_there(cli, image, site, nobody):
    """Without a required receiver nothing of a payload runs, and the record says why."""
    policy = site(
        f'receivers = {{ log = "syslog+tcp://127.0.0.1:{nobody}" }}',
        'required = ["log"]',
        "deliver_seconds = 0.3",
        "flush_seconds = 0.1",
    )
    ran = cli.run("--site", policy, "--image", image("tiny"), command=("touch", "/srv/mark"))

    assert (125, False, "policy", "trace-undelivered") == (
        ran.status, ran.outcome["started"], ran.outcome["failed_by"], ran.outcome["kind"]
    )  # fmt: skip
    assert not (cli.workdir / "mark").exists()
    assert "payload.refused" == ran.actions()[-1]


def test_wanted_and_not_there(cli, image, site, nobody):
    """A receiver that nobody requires holds up no payload."""
    policy = site(f'receivers = {{ log = "syslog+tcp://127.0.0.1:{nobody}" }}', "flush_seconds = 0.1")
    ran = cli.run("--site", policy, "--image", image("tiny"))

    assert (0, "success", "") == (ran.status, ran.outcome["kind"], ran.stderr)


def test_next_pilot_sends_what_was_left(cli, image, bulk, site, nobody):
    """What a pilot could not send, the next one does."""
    left = site(f'receivers = {{ es = "http://127.0.0.1:{nobody}/x/_bulk" }}', "flush_seconds = 0.1")
    cli.run("--site", left, "--image", image("tiny"))
    kind, address = bulk()
    cli.run("--site", site(f'receivers = {{ es = "{address}" }}', "flush_seconds = 10"), "--image", image("tiny"))

    assert 2 == actions(kind).count("payload.start") == actions(kind).count("payload.end")


def _ship(cli, *options):
    argv = [*cli.program, "trace", "ship", str(cli.trace_dir), *options]

    return subprocess.run(argv, capture_output=True, text=True, env=cli.environ, timeout=60, check=False)


def test_ship(cli, image, bulk):
    """A command sends what is there, once."""
    cli.run("--image", image("tiny"))
    kind, address = bulk()
    done = [_ship(cli, "--to", f"es={address}", "--json") for _ in range(2)]

    assert [0, 0] == [d.returncode for d in done]
    assert [{"receiver": "es", "pending": 0, "fault": ""}] == json.loads(done[0].stdout)["receivers"]
    assert ["pilot.start", "payload.authorised", "payload.start", "payload.end", "pilot.end"] == actions(kind)
    assert 1 == len(kind.seen)


def test_ship_to_nobody(cli, image, nobody):
    """What cannot be sent is told, with another exit status."""
    cli.run("--image", image("tiny"))
    done = _ship(cli, "--to", f"es=http://127.0.0.1:{nobody}/_bulk", "--seconds", "0.5")

    assert 1 == done.returncode
    assert "bytes are left: http 127.0.0.1: Connection refused" in done.stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "no receiver is known"),
        (("--to", "x"), "'x': is no NAME=ADDRESS"),
        (("--to", "a=ftp://h"), "has scheme 'ftp'"),
        (("--to", "a/b=journald:"), "is no name of a receiver"),
    ],
    ids=repr,
)
def test_ship_faults(cli, options, expected):
    """What is wrong with a receiver is said."""
    cli.trace_dir.mkdir()
    done = _ship(cli, *options)

    assert 2 == done.returncode
    assert expected in done.stderr

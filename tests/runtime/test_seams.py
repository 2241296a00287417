"""
Where records, policy, journal, receivers and starts meet.
"""

from __future__ import annotations

import json
import resource
import signal
import stat
import subprocess
import sys
import threading
import time

import attrs
import pytest

from wlcg_isolate import PlanError, Start, make_plan, outcome_of, run_isolated
from wlcg_isolate.trace import close_journals, read_records
from wlcg_isolate.trace.sending import flush
from wlcg_isolate.trace.verify import verify


def identities(place):
    """List the identities of all records of a directory."""
    return [
        json.loads(line)["event.id"]
        for file in sorted(place.glob("*.jsonl"))
        for line in file.read_bytes().splitlines()
    ]


@pytest.mark.parametrize("how", ["refuse", "continue"])
def test_receiver_that_cannot_be_used(request_for, policy, tmp_path, monkeypatch, how):
    """A receiver that cannot be used refuses or warns as policy says, and costs no record on the node."""
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    held = attrs.evolve(policy, trace_receivers={"k": "kafka://127.0.0.1:1/t"}, trace_on_write_error=how)
    outcomes = [run_isolated(request_for("true"), held) for _ in range(2)]
    close_journals()
    actions = [record["event.action"] for record in read_records(str(tmp_path / "trace"))[0]]

    assert [how == "continue"] * 2 == [outcome.started for outcome in outcomes]
    assert all("receiver k: " in outcome.message for outcome in outcomes)
    assert 2 == actions.count("payload.end" if how == "continue" else "payload.refused")


def test_required_receiver_cannot_have_what_is_not_written(request_for, policy, tmp_path, bulk):
    """Where a receiver must have the start, a full disk refuses, though policy would go on without records."""
    _, address = bulk()
    held = attrs.evolve(
        policy, trace_receivers={"es": address}, trace_required=("es",), trace_on_write_error="continue"
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    first = run_isolated(request_for("true"), held)
    file = next((tmp_path / "trace").glob("*.jsonl"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, hard))
    try:
        second = run_isolated(request_for("touch", "/srv/mark"), held)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    flush()

    assert (True, False, "trace-unwritable") == (first.started, second.started, second.kind)
    assert not (tmp_path / "work" / "mark").exists()


def test_own_start_cannot_be_delivered_before(request_for, policy):
    """A pilot cannot start a payload itself where a receiver must have its start; the plan can still be read."""
    held = attrs.evolve(policy, trace_receivers={"es": "http://127.0.0.1:1/_bulk"}, trace_required=("es",))
    plan = make_plan(request_for("true"), held)
    for render in (plan.shell, lambda: plan.supervised, plan.to_dict):
        with pytest.raises(PlanError) as caught:
            render()
        assert ["trace-undelivered"] == [problem.kind for problem in caught.value.problems]

    assert "tiny" in plan.explain()


def test_own_start_is_recorded_as_policy_says(request_for, policy, tmp_path, bulk):
    """What a pilot starts itself goes to the receivers and is sealed as policy says, through the plan's JSON."""
    kind, address = bulk()
    key = "aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd28="
    held = attrs.evolve(policy, trace_receivers={"es": address}, trace_seal_public_key=key)
    plan = make_plan(request_for("true"), held)
    start = Start.from_dict(json.loads(json.dumps(Start.of(plan).to_dict())))
    done = subprocess.run(plan.supervised.argv, env=plan.supervised.environ, check=False)
    outcome = outcome_of(start, done.returncode)
    close_journals()
    flush()
    documents = [json.loads(document) for document in kind.documents.values()]

    assert (0, "success") == (done.returncode, outcome.kind)
    assert ["payload.start", "payload.end"] == [
        d["event.action"] for d in documents if d["event.action"].startswith("payload.")
    ]
    assert ("sealed", key) == tuple(documents[0][f"wlcg.journal.key.{name}"] for name in ("kind", "to"))
    assert 0 == verify(str(tmp_path / "trace")).status


@pytest.fixture
def site(tmp_path):
    """Write a site's file that names receivers."""

    def make(*lines):
        path = tmp_path / "site.toml"
        path.write_text("\n".join(["version = 1", "[trace]", *lines]) + "\n")
        return path

    return make


def test_outcome_does_not_wait_for_receivers(cli, image, bulk, site):
    """A pilot that is killed while receivers are waited for has left its outcome."""
    stuck = threading.Event()
    _, address = bulk(lambda handler, body: stuck.wait(60))
    policy = site(f'receivers = {{ es = "{address}" }}', "flush_seconds = 60")
    out = cli.workdir.parent / "outcome.json"
    argv = [*cli.program, "run", "--site", policy, "--image", image("tiny"), "--outcome", out]
    argv += ["--workdir", cli.workdir, "--trace-dir", cli.trace_dir, "--", "sh", "-c", "exit 7"]
    with subprocess.Popen(list(map(str, argv)), env=cli.environ, stderr=subprocess.PIPE) as pilot:
        deadline = time.monotonic() + 30
        while not (out.exists() and out.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        found = json.loads(out.read_text())
        running = pilot.poll() is None
        pilot.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        patient = pilot.poll() is None
        pilot.kill()
        stuck.set()

    assert (True, True, 7) == (running, patient, found["exit_code"])


def test_umask_of_the_pilot(cli, image, bulk, site):
    """A pilot whose umask forbids itself to write notes nevertheless what was taken."""
    _, address = bulk()
    policy = site(f'receivers = {{ es = "{address}" }}', "flush_seconds = 10")
    argv = [*cli.program, "run", "--site", policy, "--image", image("tiny"), "--workdir", cli.workdir]
    argv += ["--trace-dir", cli.trace_dir, "--", "true"]
    script = 'umask 0277; exec "$@"'
    done = subprocess.run(["sh", "-c", script, "sh", *map(str, argv)], env=cli.environ, check=False, timeout=60)
    sent = cli.trace_dir / "sent"
    (file,) = cli.trace_dir.glob("*.jsonl")

    assert (0, 0o700) == (done.returncode, stat.S_IMODE(sent.stat().st_mode))
    assert [str(file.stat().st_size)] == [noted.read_text() for noted in sent.iterdir()]


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=pytest.mark.soak)])
def test_pilots_that_are_killed_while_they_send(cli, image, bulk, site, kills):
    """Whenever a pilot is killed, the next ones bring all that its journal has to the receiver, once."""
    kind, address = bulk()
    policy = site(f'receivers = {{ es = "{address}" }}', "rotate_bytes = 65536", "flush_seconds = 10")
    argv = [*cli.program, "run", "--site", policy, "--image", image("tiny"), "--workdir", cli.workdir]
    argv += ["--trace-dir", cli.trace_dir, "--", "sleep", "0.2"]
    for number in range(kills):
        with subprocess.Popen(list(map(str, argv)), env=cli.environ, stderr=subprocess.DEVNULL) as pilot:
            time.sleep(0.3 + 0.6 * number / kills)
            pilot.kill()
    last = subprocess.run(list(map(str, argv)), env=cli.environ, check=False, timeout=60)
    kept = identities(cli.trace_dir)

    assert 0 == last.returncode
    assert (len(kept), sorted(kept)) == (len(set(kept)), sorted(kind.documents))
    assert 0 == verify(str(cli.trace_dir)).status


@pytest.mark.parametrize("count", [8, pytest.param(32, marks=pytest.mark.soak)])
def test_many_threads_of_one_pilot(request_for, policy, tmp_path, bulk, count):
    """Many threads of a pilot write one chain, and a receiver has all of it in order."""
    kind, address = bulk()
    held = attrs.evolve(policy, trace_receivers={"es": address}, trace_required=("es",), trace_deliver_seconds=30)
    outcomes = []

    def run(number):
        (tmp_path / f"w{number}").mkdir()
        outcomes.append(run_isolated(request_for("true", workdir=tmp_path / f"w{number}"), held))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    close_journals()
    flush()

    assert ["success"] * count == [outcome.kind for outcome in outcomes]
    assert identities(tmp_path / "trace") == list(kind.documents)
    assert 0 == verify(str(tmp_path / "trace")).status


def test_from_keys_to_revealed_user(cli, image, site, tmp_path):
    """The keys and lines of one command seal users and files; its private key opens and verifies both."""
    user = "CN=Zebediah Quux,DC=canary,DC=example"

    def trace(*words):
        argv = [*cli.program, "trace", *map(str, words)]
        return subprocess.run(argv, env=cli.environ, capture_output=True, text=True, check=False, timeout=60)

    made, again = (trace("keygen", tmp_path / "keys") for _ in range(2))
    policy = site(*made.stdout.splitlines()[1:])
    ran = cli.run("--site", policy, "--image", image("tiny"), "--user-dn", user)
    key = tmp_path / "keys" / "private.pem"
    revealed = trace("reveal", cli.trace_dir, "--key", key, "--reason", "a test", "--audit-dir", tmp_path / "audit")
    verified = trace("verify", cli.trace_dir, "--key", key)
    words = ("find", "--trace-dir", cli.trace_dir, "--user-dn", user, "--user-key", tmp_path / "keys" / "hash.key")
    found = json.loads(trace(*words, "--json").stdout)

    assert [0, 1, 0, 0, 0] == [made.returncode, again.returncode, ran.status, revealed.returncode, verified.returncode]
    assert "private.pem, seal.pem, hash.key is there already" in again.stderr
    assert {"private.pem": 0o600, "seal.pem": 0o644, "hash.key": 0o600} == {
        file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "keys").iterdir()
    }
    assert user in revealed.stdout
    assert "keyed digests, checked" in verified.stdout
    assert [ran.records[0]["container.id"]] == [payload["trace_id"] for payload in found]
    left = [file for file in (*cli.trace_dir.iterdir(), policy) if b"Zebediah" in file.read_bytes()]
    assert [] == left

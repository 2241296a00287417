"""Records of real payloads: complete, in order, and without what must not be in them."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519

from wlcg_isolate import Identity, Payload, Policy, Request, make_plan, run_isolated
from wlcg_isolate.trace import current_trace_id, read_records
from wlcg_isolate.trace.protect import hash_of
from wlcg_isolate.trace.sealing import unseal

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJqYW5lIn0.c2lnbmF0dXJlc2lnbmF0dXJl"


@pytest.fixture
def site(tmp_path):
    """Write a site's file with settings of records."""

    def make(**settings):
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        (tmp_path / "site.toml").write_text("\n".join(["version = 1", "[trace]", *lines]))
        return ("--site", str(tmp_path / "site.toml"))

    return make


def events(cli):
    """List all events but the journal's own."""
    return [r for r in cli.all_records() if not r["event.action"].startswith("log.")]


@pytest.fixture(scope="module")
def told(tmp_path_factory, runtime, image):
    """Run one payload under HTCondor's variables, and keep its records and what it said."""
    place = tmp_path_factory.mktemp("told")
    ad = place / "ad"
    ad.write_text('ClusterId = 7\nProcId = 1\nGlobalJobId = "schedd#7.1#17"\n')
    from wlcg_isolate.trace import pilot

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_CONDOR_JOB_AD", str(ad))
        patch.setenv("WLCG_ISOLATE_SITE", "")
        pilot._of_process.cache_clear()
        (place / "work").mkdir()
        seen = []
        request = Request(
            payload=Payload(
                command=("sh", "-c", "cat /proc/self/cgroup >cgroup; read -r x </proc/self/stat; echo $x >stat")
            ),
            image=image("tiny"),
            runtime=runtime,
            workdir=place / "work",
            trace_dir=place / "trace",
            identity=Identity(vo="atlas", job_id="42", user_dn="/DC=ch/CN=Jane"),
        )
        outcome = run_isolated(request, Policy(), on_start=lambda _: seen.append(current_trace_id()))
        pilot._of_process.cache_clear()
    records, _ = read_records(str(place / "trace"))

    return place, outcome, {record["event.action"]: record for record in records}, seen


def test_order(told):
    """The pilot's beginning, the decision, the start and the end are recorded, in that order."""
    _, _, records, _ = told
    kept = [action for action in records if not action.startswith("log.")]

    assert ["pilot.start", "payload.authorised", "payload.start", "payload.end"] == kept


def test_start_is_what_the_payload_saw(told):
    """Process id inside, cgroup and working directory are those of the payload itself."""
    place, _, records, _ = told
    start = records["payload.start"]
    inside = int((place / "work" / "stat").read_text().split()[0])
    status = os.stat(place / "work")

    assert inside == start["process.vpid"]
    assert (status.st_dev, status.st_ino) == (start["wlcg.workdir.dev"], start["wlcg.workdir.ino"])
    assert start["wlcg.ns.cgroup"]
    # With a cgroup namespace that is shared, the payload sees the same path as the host.
    assert start["process.linux.cgroup"] in (place / "work" / "cgroup").read_text()


def test_batch_job(told):
    """The batch system's id of the pilot is in every record of the payload."""
    _, _, records, _ = told

    assert {"schedd#7.1#17"} == {
        record["wlcg.batch.global_job_id"] for action, record in records.items() if not action.startswith("log.")
    }


def test_chain_of_processes(told):
    """Pilot and payload are tied by identities that no other process ever has."""
    _, outcome, records, _ = told

    assert records["pilot.start"]["process.entity_id"] == records["payload.start"]["process.parent.entity_id"]
    assert records["payload.start"]["process.entity_id"] == records["payload.end"]["process.entity_id"]
    assert {outcome.trace_id} == {
        record["container.id"] for action, record in records.items() if action.startswith("payload.")
    }


def test_trace_id_is_bound(told):
    """Code of the pilot that is called meanwhile knows which payload it is about."""
    _, outcome, _, seen = told

    assert [outcome.trace_id] == seen
    assert current_trace_id() is None


def test_time_limit_is_recorded(cli, image):
    """That a time limit ends a payload is recorded before its end."""
    cli.run("--image", image("tiny"), "--timeout", "0.3", command=("sleep", "60"))
    start, killed, end = cli.records()

    assert ("time-limit", signal.SIGTERM) == (killed["wlcg.kill.reason"], killed["wlcg.kill.signal"])
    assert [start["@timestamp"], killed["@timestamp"], end["@timestamp"]] == sorted(
        r["@timestamp"] for r in (start, killed, end)
    )
    assert start["process.entity_id"] == killed["process.entity_id"]


def test_signal_is_recorded(cli, image):
    """A signal that the pilot passes on is recorded; one that ends nothing is not."""
    fifo = cli.workdir / "fifo"
    os.mkfifo(fifo)
    process = cli.start("--image", image("tiny"), command=("sh", "-c", "trap : CONT; echo >fifo; sleep 60"))
    fifo.read_text()
    process.send_signal(signal.SIGCONT)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    killed = [record for record in cli.records() if record["event.action"] == "payload.killed"]

    assert ("signal", signal.SIGTERM) == (killed[0]["wlcg.kill.reason"], killed[0]["wlcg.kill.signal"])
    assert {"signal"} == {record["wlcg.kill.reason"] for record in killed}


def test_running(cli, image, site):
    """Where policy wants it, a payload that runs is recorded now and then, with the program that it became."""
    cli.run(*site(running_seconds=0.1), "--image", image("tiny"), command=("sleep", "0.5"))
    running = [record for record in cli.records() if record["event.action"] == "payload.running"]

    assert 2 <= len(running) <= 6
    assert re.search(r"busybox|sleep|tiny", running[0]["process.executable"])
    assert ["payload.start", "payload.end"] == [cli.records()[i]["event.action"] for i in (0, -1)]


def test_users_are_hashed(cli, image, site, tmp_path):
    """Hashed, no file that is left names the user, not even the refusal that complains about it."""
    (tmp_path / "key").write_bytes(b"k" * 32)
    (tmp_path / "key").chmod(0o600)
    options = site(identity_mode="hashed", identity_key_file=str(tmp_path / "key"))
    who = ("--user-dn", "/DC=ch/CN=Jane Doe", "--image", image("tiny"))
    cli.run(*options, *who, command=("true",))
    cli.run(*options, *who, "--bind", "/nosuch/Jane Doe", command=("true",))
    text = "".join(file.read_text() for file in cli.trace_dir.iterdir())
    found = [record for record in cli.records() if record["event.action"] != "payload.running"]

    assert "Jane" not in text
    assert ["payload.start", "payload.end", "payload.refused"] == [record["event.action"] for record in found]
    assert {hash_of("CN=Jane Doe,DC=ch", b"k" * 32)} == {record["user.hash"] for record in found}


def test_users_are_sealed(cli, image, site, tmp_path):
    """Sealed, the security team alone can tell who it was."""
    key = x25519.X25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "public").write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    options = site(identity_mode="sealed", identity_seal_file=str(tmp_path / "public"))
    cli.run(*options, "--user-sub", "s-4711", "--user-iss", "https://i", "--image", image("tiny"))
    start, end = cli.records()
    sealed = base64.b64decode(start["wlcg.identity.sealed"])

    assert "s-4711" not in "".join(file.read_text() for file in cli.trace_dir.iterdir())
    assert "s-4711" == json.loads(unseal(sealed, private, start["container.id"]))["wlcg.token.sub"]
    assert start["wlcg.identity.sealed"] == end["wlcg.identity.sealed"]


@pytest.mark.parametrize(
    ("settings", "options", "kind"),
    [
        ({"identity_mode": "hashed"}, ("--user-dn", "/CN=Jane Doe"), "identity-unprotected"),
        ({}, ("--user-proxy", "/nosuch/proxy", "--user-dn", "/CN=Jane Doe"), "identity-unreadable"),
        ({"identity_mode": "no such mode"}, ("--user-dn", "/CN=Jane Doe"), "policy-invalid"),
    ],
    ids=["no key", "no proxy", "no policy"],
)
def test_refused_rather_than_unknown(cli, image, site, settings, options, kind):
    """Where it cannot be known or protected who it is, nothing runs, and the refusal names nobody."""
    ran = cli.run(*site(**settings), *options, "--image", image("tiny"), command=("touch", "ran"))

    assert (False, kind, "policy") == (ran.outcome["started"], ran.outcome["kind"], ran.outcome["failed_by"])
    assert not (cli.workdir / "ran").exists()
    assert ["withheld"] == [record["wlcg.identity.mode"] for record in ran.records]
    assert "Jane" not in str(ran.records)


def test_token_that_names_the_user(cli, image, tmp_path):
    """A token of the user tells who it is; no part of it is kept."""
    claims = {"iss": "https://iam.example/", "sub": "s-4711", "jti": "j-1"}
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    token = f"eyJhbGciOiJFUzI1NiJ9.{middle}.c2lnbmF0dXJlc2lnbmF0dXJl"
    (tmp_path / "token").write_text(token)
    ran = cli.run("--user-token", tmp_path / "token", "--image", image("tiny"))

    assert ("token", "s-4711", "j-1") == tuple(
        ran.records[0][name] for name in ("wlcg.identity.source", "wlcg.token.sub", "wlcg.token.jti")
    )
    assert not any(part in str(ran.records) for part in token.split("."))


@pytest.mark.parametrize(
    "options",
    [
        ("--image", f"/images/{TOKEN}"),
        ("--bind", f"/nosuch/{TOKEN}"),
        ("--image", f"docker://jane:{TOKEN}@registry.example/x"),
        ("--unknown", TOKEN),
        ("--timeout", TOKEN),
    ],
    ids=["image", "bind", "url", "option", "value"],
)
def test_token_in_the_wrong_place(cli, options):
    """A token that somebody put where it does not belong is in no record, outcome or message."""
    ran = cli.run(*options, command=("true",))
    told = f"{ran.outcome}{ran.stderr}{cli.all_records()}"

    assert not ran.outcome["started"]
    assert not any(part in told for part in TOKEN.split("."))


def test_arguments(cli, image, site):
    """Arguments are recorded where policy wants them, without their credentials."""
    ran = cli.run(*site(record_arguments=True), "--image", image("tiny"), command=("echo", "a b", TOKEN))

    assert ["echo", "a b", "<removed>"] == ran.records[0]["process.args"]


def test_plan_knows_no_user(request_for, policy, tmp_path):
    """To plan costs no look at an identity: a proxy that is missing refuses the start, not the plan."""
    plan = make_plan(request_for("true", identity=Identity(user_proxy=str(tmp_path / "none"))), policy)

    assert str(tmp_path / "none") == plan.request.identity.user_proxy

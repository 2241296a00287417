"""What records say of requests, plans and outcomes, and the model that lists it all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess

import attrs
import pytest

from wlcg_isolate import HostError, Identity, Payload, PlanError, Policy, Request, Start, make_plan
from wlcg_isolate.errors import Problem
from wlcg_isolate.host import evidence
from wlcg_isolate.launch import Ready
from wlcg_isolate.outcome import Usage, of_payload, of_refusal
from wlcg_isolate.trace import payload as records, pilot
from wlcg_isolate.trace.describe import decisions, plan_fields
from wlcg_isolate.trace.model import FIELDS, MEANINGS, OPEN
from wlcg_isolate.trace.model.row import row
from wlcg_isolate.trace.protect import Protected
from wlcg_isolate.trace.reading import protected_identity
from wlcg_isolate.trace.record import EVENTS

SECRET = "hunter2-secret"

NOBODY = Protected({"wlcg.identity.mode": "clear", "wlcg.identity.source": "none"})

READY = Ready(
    pid=os.getpid(), inner_pid=7, init=4710, start_ticks=99, namespaces={"pid": 1, "mnt": 2}, starter="loader"
)


def refusal(request=None, *, message="gone", who=NOBODY):
    """Make the record of a refusal."""
    error = PlanError([Problem(kind="image-missing", message=message, origin="--image", advice="find it")])

    return records.refused(error.problems, of_refusal(error, "t-1"), request, Policy(), who).to_dict()


@pytest.fixture
def plan(facts, request_for):
    """Make a plan."""

    def make(*command, policy=None, **more):
        return make_plan(request_for(*command, **more), policy or Policy(), facts())

    return make


def test_record_of_a_refusal(check_record):
    """A refusal records who asked for what, and every reason."""
    identity = Identity(vo="atlas", job_id="7", user_sub="me", user_iss="https://iss")
    request = Request(payload=Payload(command=("a",)), image="/i", workdir="/w", identity=identity)
    shown = refusal(request, who=protected_identity(identity, Policy(), "t-1"))
    check_record(shown)

    assert [{"kind": "image-missing", "message": "gone", "origin": "--image"}] == shown["event.reason"]
    assert {
        "wlcg.vo": "atlas",
        "wlcg.job.id": "7",
        "wlcg.token.sub": "me",
        "wlcg.token.iss": "https://iss",
        "wlcg.identity.source": "wms-asserted",
        "container.image.name": "/i",
        "process.working_directory": "/w",
        "event.outcome": "failure",
        "wlcg.outcome.started": False,
        "wlcg.outcome.failed_by": "policy",
        "wlcg.authz.decision": "denied",
    }.items() <= shown.items()


def test_arguments_and_values_are_not_shown(check_record):
    """Arguments are recorded as number and digest, variables not at all."""
    shown = refusal(Request(payload=Payload(command=("tool", SECRET, "\udcff")), env={"TOKEN": SECRET}))
    check_record(shown)

    assert "none" == shown["wlcg.identity.source"]
    assert SECRET not in json.dumps(shown)
    assert 3 == shown["process.args_count"]
    assert hashlib.sha256(b"tool\0" + SECRET.encode() + b"\0\xff\0").hexdigest() == shown["wlcg.process.args_sha256"]


def test_arguments_where_policy_wants_them(plan, check_record):
    """Policy can have arguments shown; what looks like a credential is taken out all the same."""
    command = ("tool", "--password", SECRET, "--url=https://u:pw@host/x", "a=1", "access_token=abcdef0123")
    planned = plan(*command, policy=Policy(trace_record_arguments=True))
    shown = records.started(planned, READY, NOBODY, planned=plan_fields(planned)).to_dict()
    check_record(shown)

    assert ["tool", "--password", "<removed>", "--url=https://<removed>@host/x", "a=1", "access_token=<removed>"] == (
        shown["process.args"]
    )


def test_record_of_a_start(plan, check_record):
    """The start ties process, payload, image, runtime and isolation together."""
    planned = plan("true", identity=Identity(job_id="7", pilot_id="P-1"))
    shown = records.started(planned, READY, NOBODY, planned=plan_fields(planned)).to_dict()
    check_record(shown)

    assert {
        "process.pid": os.getpid(),
        "process.vpid": 7,
        "wlcg.process.start_ticks": 99,
        "wlcg.process.init_pid": 4710,
        "wlcg.ns.pid": 1,
        "wlcg.pilot.name": "P-1",
        "process.parent.pid": os.getpid(),
        "container.runtime": "apptainer",
        "wlcg.isolation.mode": "userns",
        "wlcg.process.env_marker": planned.trace_id,
        "container.security_context.privileged": False,
    }.items() <= shown.items()
    assert "--userns" in shown["wlcg.isolation.flags"]
    assert all(word.startswith("--") and word != "--mount" for word in shown["wlcg.isolation.flags"])
    assert {"source": "/work", "target": "/srv", "writable": True, "origin": "library"} in shown["wlcg.isolation.binds"]


def test_record_of_an_end(plan, check_record):
    """The end is recorded with status and usage."""
    usage = Usage(wall_seconds=1.5, cpu_seconds=0.25, max_rss_bytes=4096)
    shown = records.ended(plan("true"), READY, of_payload(3, None, usage=usage), NOBODY).to_dict()
    check_record(shown)

    assert {
        "event.action": "payload.end",
        "process.pid": os.getpid(),
        "wlcg.process.start_ticks": 99,
        "process.exit_code": 3,
        "event.duration": 1_500_000_000,
        "wlcg.usage.cpu_seconds": 0.25,
        "wlcg.usage.max_rss_bytes": 4096,
    }.items() <= shown.items()
    assert "wlcg.process.term_signal" not in shown


def test_other_records_of_a_payload(plan, check_record):
    """Authorisation, life sign and end by force are records of the same payload."""
    planned = plan("true")
    alive = READY._replace(start_ticks=evidence.process(os.getpid()).start_ticks)
    made = [
        records.authorised(planned, NOBODY).to_dict(),
        records.running(planned, alive, NOBODY).to_dict(),
        records.killed(planned, READY, NOBODY, "time-limit", 15).to_dict(),
    ]
    for record in made:
        check_record(record)

    assert {planned.trace_id} == {record["container.id"] for record in made}
    assert os.readlink("/proc/self/exe") == made[1]["process.executable"]
    assert ("time-limit", 15) == (made[2]["wlcg.kill.reason"], made[2]["wlcg.kill.signal"])


@pytest.mark.parametrize(
    "image", ["https://jane:pa55w0rd@registry.example/x", "docker://jane:pa55w0rd@registry.example/x"]
)
def test_password_of_an_image_is_not_recorded(image):
    """A registry's password in the name of an image stays out, and out of the message."""
    shown = refusal(Request(payload=Payload(command=("a",)), image=image), message=f"{image} is not there")

    assert "pa55w0rd" not in json.dumps(shown)
    assert "registry.example/x is not there" in shown["event.reason"][0]["message"]


def test_what_has_ended_does_not_run(plan):
    """A process that is gone, only waits to be reaped, or is another one of the same number, is not said to run."""
    waits = subprocess.Popen(["true"])
    os.waitid(os.P_PID, waits.pid, os.WEXITED | os.WNOWAIT)
    seen = evidence.process(waits.pid)
    found = [records.running(plan("true"), READY, NOBODY)]
    found.append(records.running(plan("true"), READY._replace(pid=waits.pid, start_ticks=seen.start_ticks), NOBODY))
    waits.wait()
    found.append(records.running(plan("true"), READY._replace(pid=waits.pid, start_ticks=None), NOBODY))

    assert [None] * 3 == found


def test_process_has_one_identity_for_ever():
    """Boot, process id and start name a process; another start is another process."""
    names = {pilot.entity_id(7, 1), pilot.entity_id(7, 2), pilot.entity_id(8, 1)}

    assert 3 == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", name) for name in names)
    assert pilot.entity_id(7, 1) in names
    assert pilot.entity_id(7, None) is None


def test_start_as_a_time():
    """The start of a process as a time is between its boot and now."""
    seen = evidence.process(os.getpid())

    assert "1970" < pilot.start_of(seen.start_ticks) < "9999"
    assert pilot.start_of(None) is None


def test_model_names_each_field_once():
    """A name stands for one thing, with a meaning, in events that exist."""
    names = [field.name for field in FIELDS]

    assert sorted(set(names)) == sorted(names)
    assert set(EVENTS) <= set(MEANINGS)
    assert all(field.meaning.endswith(".") and field.events and set(field.always) <= set(EVENTS) for field in FIELDS)
    assert all(field.name.startswith("wlcg.") == (field.source == "wlcg") for field in FIELDS)


def test_model_knows_its_events():
    """A row for an event that does not exist is refused."""
    with pytest.raises(ValueError, match=r"payload\.began"):
        row("a", str, "wlcg", "payload.began", "x")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"host.nmae": "x"}, "host.nmae"),
        ({"process.vpid": 3}, "process.vpid"),
        ({"process.pid": "7"}, "'7' is not of type 'integer'"),
        ({"event.action": "payload.began"}, "is not one of"),
        ({"wlcg.outcome.kind": ...}, "'wlcg.outcome.kind' is a required property"),
    ],
    ids=["unknown", "other event", "type", "action", "missing"],
)
def test_schema_refuses(plan, check_record, change, fault):
    """The schema itself finds what is not in the model."""
    good = records.ended(plan("true"), READY, of_payload(0, None), NOBODY).to_dict()
    check_record(good)
    bad = {name: value for name, value in {**good, **change}.items() if value is not ...}

    with pytest.raises(AssertionError, match=re.escape(fault)):
        check_record(bad)


def test_open_events_are_the_journals(check_record):
    """Records of the journal itself may have fields that only it knows."""
    head = records.refused([], of_payload(0, None), None, Policy(), NOBODY).to_dict()
    check_record({**head, "event.action": OPEN[0], "log.whatever": 1})


def test_decisions_for_a_log(plan):
    """Each decision is an event with its reason, and no value of a variable."""
    planned = plan("true", env={"A": SECRET})
    told = list(decisions(planned))

    assert {"plan.runtime", "plan.image", "plan.bind", "plan.variable"} <= {event for event, _ in told}
    assert "A" in [values["name"] for event, values in told if event == "plan.variable"]
    assert SECRET not in str(told)
    assert len(planned.binds) == len([event for event, _ in told if event == "plan.bind"])


def test_names_are_hidden_in_messages():
    """Where users are not named, no message names one either."""
    identity = Identity(user_dn="/DC=ch/DC=cern/CN=Jane Doe", user_sub="s-4711", user_iss="https://i")
    who = records.withheld(Request(payload=Payload(command=("a",)), identity=identity))
    told = "/DC=ch/DC=cern/CN=Jane Doe, that is CN=Jane Doe,DC=cern,DC=ch or s-4711 or Jane Doe"
    shown = refusal(message=told, who=who)

    assert "<user>, that is <user> or <user> or <user>" == shown["event.reason"][0]["message"]
    assert "withheld" == shown["wlcg.identity.mode"]


def test_plan_keeps_its_policy(plan):
    """What held when a plan was made goes with it, and is not shown by its repr."""
    planned = plan("true", policy=Policy(trace_site="EXAMPLE"))

    assert "EXAMPLE" == records.authorised(planned, NOBODY).to_dict()["wlcg.site"]
    assert "EXAMPLE" not in repr(attrs.evolve(planned))


def test_bytes_that_are_no_text(plan, check_record):
    """What is no UTF-8 does not make a record that other readers refuse."""
    planned = plan("tool", "\udcff", "é", policy=Policy(trace_record_arguments=True))
    shown = records.started(planned, READY, NOBODY, planned=plan_fields(planned)).to_dict()
    check_record(shown)

    assert ["tool", "\\udcff", "é"] == shown["process.args"]
    json.dumps(shown, ensure_ascii=False).encode()


def test_start_of_a_plan(plan, tmp_path):
    """A plan whose user cannot be known is refused before its start, and its outcome is not lost afterwards."""
    planned = plan("true", identity=Identity(user_proxy=str(tmp_path / "none"), user_dn="/CN=Jane"))
    with pytest.raises(HostError, match="none"):
        Start.of(planned)
    kept = Start.of(planned, over=True).record

    assert "withheld" == kept["wlcg.identity.mode"]
    assert "Jane" not in str(kept)


def test_start_of_a_plan_keeps_the_mode(plan, tmp_path):
    """What a plan says of its start, in its JSON too, names no user where policy wants none."""
    (tmp_path / "key").write_bytes(b"k" * 32)
    (tmp_path / "key").chmod(0o600)
    policy = Policy(trace_identity_mode="hashed", trace_identity_key_file=str(tmp_path / "key"))
    kept = Start.of(plan("true", policy=policy, identity=Identity(user_dn="/CN=Jane"))).to_dict()

    assert kept["record"]["user.hash"].startswith("hmac-sha256:")
    assert "Jane" not in json.dumps(kept)

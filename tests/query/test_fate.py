"""What became of payloads of whose end there is no record."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess

import pytest

from wlcg_isolate.host import procfs
from wlcg_isolate.host.evidence import machine
from wlcg_isolate.trace.pilot import entity_id
from wlcg_isolate.trace.query import Question, find
from wlcg_isolate.trace.query.times import DAY, SECOND, given, shown

BEGIN = given("2026-03-01T00:00:00Z")


def record(action, moment, event_id, **fields):
    """Make a record; in the names of its fields a dot is written as two underscores."""
    head = {"@timestamp": shown(moment), "event.action": action, "event.id": event_id, "container.id": ""}

    return {**head, **{name.replace("__", "."): value for name, value in fields.items()}}


def start(**fields):
    """Make the record of a payload's start."""
    known = {"container__id": "c1", "host__name": "wn1", "host__boot__id": "b1", "wlcg__pilot__id": "p1"}

    return record("payload.start", BEGIN, "e1", **{**known, "wlcg__integrity": {"file_id": "f1"}, **fields})


def answers(place, *records):
    """Ask every engine over the same records, in files that are in no order."""
    for number, one in enumerate(reversed(records)):
        (place / f"{number}.jsonl").write_text(json.dumps(one) + "\n")
    from wlcg_isolate.trace.query.export import export_parquet

    export_parquet([str(place)], str(place / "parquet"))
    lines = str(place / "*.jsonl")

    return [
        [(p["state"], p.get("state_by"), p.get("over_by")) for p in find([where], Question(), engine=engine).payloads]
        for where, engine in ((lines, "plain"), (lines, "duckdb"), (str(place / "parquet"), "duckdb"))
    ]


LATER = BEGIN + 3600 * SECOND

#: Records beside the payload's start, and what they show.
SIGNS = {
    "nothing": ([], ("open", None, None)),
    "pilot-end": ([record("pilot.end", LATER, "x", wlcg__pilot__id="p1")], ("lost", "pilot.end", shown(LATER))),
    "other-pilot": ([record("pilot.end", LATER, "x", wlcg__pilot__id="p2")], ("open", None, None)),
    "pilot-end-before": ([record("pilot.end", BEGIN - 1, "x", wlcg__pilot__id="p1")], ("open", None, None)),
    "close": (
        [record("log.close", LATER, "x", wlcg__integrity={"file_id": "f1"}, wlcg__journal__close__reason="exit")],
        ("lost", "log.close", shown(LATER)),
    ),
    "rotated": (
        [record("log.close", LATER, "x", wlcg__integrity={"file_id": "f1"}, wlcg__journal__close__reason="rotated")],
        ("open", None, None),
    ),
    "rotated-then-found-dead": (
        [
            record(
                "log.close",
                LATER,
                "x",
                wlcg__integrity={"file_id": "f1"},
                wlcg__journal__close__reason="rotated",
                wlcg__journal__next={"file_id": "f2", "name": "n"},
            ),
            record("log.recovered", LATER + DAY, "y", wlcg__journal__recovered={"file_id": "f2"}),
        ],
        ("lost", "log.recovered", shown(LATER + DAY)),
    ),
    "circle-of-files": (
        [
            record(
                "log.close",
                LATER,
                "x",
                wlcg__integrity={"file_id": "f1"},
                wlcg__journal__close__reason="rotated",
                wlcg__journal__next={"file_id": "f1"},
            )
        ],
        ("open", None, None),
    ),
    "the-first-sign": (
        [
            record("log.recovered", LATER + DAY, "y", wlcg__journal__recovered={"file_id": "f1"}),
            record("pilot.end", LATER, "x", wlcg__pilot__id="p1"),
        ],
        ("lost", "pilot.end", shown(LATER)),
    ),
    "no-sign-but-an-end": (
        [
            record("payload.end", LATER, "z", container__id="c1", host__name="wn1"),
            record("pilot.end", LATER + 1, "x", wlcg__pilot__id="p1"),
        ],
        ("ended", None, None),
    ),
}


@pytest.mark.parametrize(("records", "expected"), SIGNS.values(), ids=list(SIGNS))
def test_signs_in_records(tmp_path, records, expected):
    """What pilots and journals say of their ends shows that a payload was lost, to every engine."""
    assert [[expected]] * 3 == answers(tmp_path, start(), *records)


@pytest.fixture(scope="module")
def here():
    """This node, this boot, this PID namespace."""
    return {
        "host__name": machine().name,
        "host__boot__id": machine().boot_id,
        "host__pid_ns_ino": machine().pid_namespace,
    }


@pytest.fixture
def child():
    """A process that is alive."""
    process = subprocess.Popen(["/bin/sleep", "60"])
    yield process
    process.kill()
    process.wait()


def state(place, *records):
    """Ask plain Python for one payload."""
    (place / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    (found,) = find([str(place)], Question(), engine="plain").payloads

    return found["state"], found.get("state_by")


def test_process_on_this_node(tmp_path, here, child):
    """A payload runs while its own process does, whatever its pilot said, and is lost when that is gone."""
    ticks = procfs.start_ticks(child.pid)
    mine = start(**here, process__pid=child.pid, wlcg__process__start_ticks=ticks)
    ended = record("pilot.end", LATER, "x", wlcg__pilot__id="p1")
    other = {**mine, "wlcg.process.start_ticks": ticks - 1}

    assert ("running", "process") == state(tmp_path, mine)
    assert ("running", "process") == state(tmp_path, mine, ended)
    assert ("lost", "process-gone") == state(tmp_path, other)
    assert ("open", None) == state(tmp_path, {**other, "host.pid_ns_ino": 1})
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    # Nobody has asked for its exit status yet: it is a zombie.
    assert ("lost", "process-gone") == state(tmp_path, mine)
    assert ("lost", "pilot.end") == state(tmp_path, mine, ended)


def test_pilot_on_this_node(tmp_path, here):
    """Where the payload's process is not known yet, its pilot tells."""
    pid, ticks = os.getpid(), procfs.start_ticks(os.getpid())
    pilot = {"process__parent__pid": pid, "process__parent__entity_id": entity_id(pid, ticks)}
    gone = {**pilot, "process__parent__entity_id": "x" * 22}

    assert ("running", "pilot") == state(tmp_path, start(**here, **pilot))
    assert ("lost", "pilot-gone") == state(tmp_path, start(**here, **gone))


def test_another_boot(tmp_path, here):
    """Nothing outlives a reboot; but a node of the same name that is up after this one booted is another one."""
    before = start(**{**here, "host__boot__id": "before"})
    now = {**before, "@timestamp": "2090-01-01T00:00:00.000000Z"}

    assert ("lost", "reboot") == state(tmp_path, {**before, "@timestamp": "2001-01-01T00:00:00.000000Z"})
    assert ("open", None) == state(tmp_path, now)
    assert ("open", None) == state(tmp_path, {**before, "host.name": "another"})


def test_entity_of_a_process():
    """The digest by which a pilot is known again is the one of the records."""
    digest = hashlib.sha256(f"{machine().boot_id}|7|8".encode()).digest()

    assert base64.urlsafe_b64encode(digest)[:22].decode() == entity_id(7, 8)

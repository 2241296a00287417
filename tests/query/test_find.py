"""Questions of responders, and the same answers of every engine."""

from __future__ import annotations

import contextlib
import json

import jsonschema
import pytest

from wlcg_isolate import TraceError
from wlcg_isolate.trace.query import Question, find
from wlcg_isolate.trace.query.answer import engine_for, neighbours, sightings
from wlcg_isolate.trace.query.bursts import bursts
from wlcg_isolate.trace.query.payloads import payloads_of, schema
from wlcg_isolate.trace.query.question import Process, User
from wlcg_isolate.trace.query.times import DAY, SECOND, given, recorded, shown

BEGIN = given("2026-03-01T00:00:00Z")
NOON = BEGIN + DAY + DAY // 2

#: Every kind of question.
QUESTIONS = {
    "all": Question(),
    "host at time": Question(hosts=["wn000.example.org"], since=NOON, until=NOON, skew=300 * SECOND),
    "address": Question(addresses=["192.0.2.2"]),
    "window": Question(since=NOON, until=NOON + 3600 * SECOND),
    "short lookback": Question(since=NOON, until=NOON, lookback=7200 * SECOND),
    "started after": Question(started_after=NOON, vos=["cms"]),
    "user": Question(users=[User(names=["/DC=ch/DC=cern/OU=Users/CN=user 3"])]),
    "token": Question(users=[User(issuer="https://iss.example.org", subject="sub-4")], until=NOON),
    "job": Question(jobs=["17"]),
    "batch": Question(batch_jobs=["ce01#3.0#1", "5.0"]),
    "pilot": Question(pilots=["pilot-3-20514"]),
    "image": Question(images=["/images/own.sif", "el8"], hosts=["wn001.example.org"]),
    "cvmfs": Question(cvmfs=["atlas.cern.ch@101", "h2"], vos=["cms"]),
    "path": Question(paths=["/data/7/x/y"]),
    "inode": Question(inodes=[(2049, 100_021)]),
    "cgroup": Question(cgroups=["/system.slice/condor/slot4/below"]),
    "namespace": Question(namespaces=[(None, 4_026_532_007), ("mnt", 4_026_533_008)]),
    "jti": Question(tokens=["jti-30"]),
    "refused": Question(refused=True),
    "site": Question(sites=["T2/Ä b"]),
    "injection": Question(jobs=["' OR 1=1 --", "{p0}", "$p1", ":p0"], hosts=["x'; DROP TABLE lines; --"]),
}


@pytest.fixture(scope="module")
def engines(lines, parquet):
    """Each engine over each form of the records."""
    with contextlib.ExitStack() as stack:
        asked = [([lines], "plain"), ([lines], "duckdb"), ([parquet], "duckdb"), ([parquet, lines], "duckdb")]
        yield [stack.enter_context(engine_for(*one)) for one in asked]


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=list(QUESTIONS))
def test_engines_agree(engines, question):
    """Plain Python, DuckDB over JSON lines, over Parquet and over both give the same payloads, in full."""
    plain, *others = [payloads_of(one.records(question, whole=True), whole=True) for one in engines]

    assert [plain] * 3 == others


@pytest.mark.parametrize("moment", [NOON, NOON + 7 * 3600 * SECOND], ids=["noon", "evening"])
def test_host_at_time(site, lines, moment):
    """Who was on a node at a moment is who started before and had not ended."""
    host = "wn002.example.org"
    expected = {i for i, (h, began, ended) in site.lives.items() if h == host and began <= moment <= (ended or moment)}
    found = find([lines], Question(hosts=[host], since=moment, until=moment)).payloads
    ran = {one["trace_id"] for one in found if one["state"] != "refused"}

    assert expected
    assert expected == ran


def test_user_over_a_window(site, lines):
    """All payloads of a user in a window are those of the records."""
    user = "/DC=ch/DC=cern/OU=Users/CN=user 5"
    since, until = BEGIN + DAY, BEGIN + 2 * DAY
    mine = {r["container.id"] for r in site.records if r.get("user.name") == user}
    ran = {i for i, (_, a, b) in site.lives.items() if i in mine and a <= until and (b is None or b >= since)}
    found = find([lines], Question(users=[User(names=[user])], since=since, until=until)).payloads

    assert ran == {one["trace_id"] for one in found if one["state"] != "refused"}
    assert {user} == {one["user.name"] for one in found}


def test_answers_keep_the_schema(lines):
    """What is documented is what comes, no more and no less."""
    found = find([lines], Question(), whole=True).payloads
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(found, schema())

    assert 300 == len(found)
    assert {"ended", "open", "refused"} == {one["state"] for one in found}


def test_whole_records(site, lines):
    """With --full a payload carries its records as they were written."""
    found = find([lines], Question(), engine="duckdb", whole=True).payloads
    records = [record for one in found for record in one["records"]]

    assert sorted(site.records, key=lambda r: r["event.id"]) == sorted(records, key=lambda r: r["event.id"])


def test_process_for_ever(site, lines):
    """Boot, process and start tell a process from a later one of that number."""
    start = next(r for r in site.records if r["event.action"] == "payload.start")
    one = Process(
        boot_id=start["host.boot.id"], pid=start["process.pid"], start_ticks=start["wlcg.process.start_ticks"]
    )
    other = Process(boot_id=one.boot_id, pid=one.pid, start_ticks=one.start_ticks + 1)

    assert [start["container.id"]] == [p["trace_id"] for p in find([lines], Question(processes=[one])).payloads]
    assert [] == find([lines], Question(processes=[other])).payloads


@pytest.mark.parametrize("engine", ["plain", "duckdb"])
def test_neighbours(site, lines, engine):
    """Who shared the node overlaps in time, or came later in the same pilot."""
    trace_id, (host, began, ended) = next((i, life) for i, life in site.lives.items() if life[2])
    pilots = {r["container.id"]: r.get("wlcg.pilot.id") for r in site.records if r["event.action"] == "payload.start"}
    beside = {
        i
        for i, (h, a, b) in site.lives.items()
        if i != trace_id
        and (
            (h == host and a <= ended and (b is None or b >= began))
            or (pilots[i] == pilots[trace_id] and (b or began) >= began)
        )
    }
    with engine_for([lines], engine) as asked:
        (payload,) = payloads_of(asked.records(Question(trace_ids=[trace_id])))
        found = neighbours(asked, payload, Question())

    assert beside == {one["trace_id"] for one in found if one["state"] != "refused"}


def test_first_and_last_seen(site, lines, parquet):
    """When each user was first and last seen is counted alike by every engine."""
    answers = []
    for place, engine in ((lines, "plain"), (lines, "duckdb"), (parquet, "duckdb")):
        with engine_for([place], engine) as asked:
            answers.append(sightings(asked, Question(vos=["atlas"]), "user.name"))

    assert answers[0] == answers[1] == answers[2]
    assert min(r["@timestamp"] for r in site.records if r.get("wlcg.vo") == "atlas") == answers[0][0]["first_seen"]
    with engine_for([lines], "plain") as asked, pytest.raises(TraceError, match="there is no key 'nothing'"):
        sightings(asked, Question(), "nothing")


def test_bursts():
    """Refusals that follow each other are one burst, single ones are none."""

    def refused(second, host="a"):
        time = shown(BEGIN + second * SECOND)
        names = {"user.name": "u", "user.hash": None, "wlcg.token.sub": None, "host.name": host}
        return {"state": "refused", "ended": time, "refusal_kinds": ["image-missing"], **names}

    found = bursts([refused(s) for s in (0, 5, 9, 12, 500, 1000)] + [refused(s, "b") for s in (3, 4)], 3, 10)

    assert [("a", 4, shown(BEGIN), shown(BEGIN + 12 * SECOND), ["image-missing"])] == [
        (b["host"], b["refused"], b["first"], b["last"], b["kinds"]) for b in found
    ]


def test_contradicting_records_are_told(tmp_path, site):
    """A second start with another user does not replace the first, and is seen."""
    start = next(r for r in site.records if r["event.action"] == "payload.start")
    late = {
        **start,
        "event.id": "forged",
        "@timestamp": shown(recorded(start["@timestamp"]) + 1),
        "user.name": "/CN=other",
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(start) + "\n")
    (tmp_path / "b.jsonl").write_text(json.dumps(late) + "\n" + json.dumps(start) + "\n")
    (found,) = find([str(tmp_path)], Question()).payloads

    assert (start["user.name"], ["user.name"], 2) == (found["user.name"], found["conflicts"], len(found["events"]))


#: Lines that are no records, or odd ones, and whether they count.
HOSTILE = {
    "torn": (b'{"@timestamp":"2026-03-01T00:00:00.000000Z","event.act', False),
    "list": (b"[1,2]", False),
    "number": (b"7", False),
    "not-utf8": (b'{"@timestamp":"2026-03-01T00:00:00.000000Z","event.action":"payload.start","x":"\xff"}', False),
    "bomb": (b'{"a":' * 100_000, False),
    "no-time": (b'{"event.action":"payload.start"}', False),
    "local-time": (b'{"@timestamp":"2026-03-01T00:00:00","event.action":"payload.start"}', False),
    "impossible-time": (b'{"@timestamp":"2026-02-30T00:00:00Z","event.action":"payload.start"}', False),
    "action-object": (b'{"@timestamp":"2026-03-01T00:00:00Z","event.action":{}}', False),
    "twice": (
        b'{"@timestamp":"2026-03-01T00:00:00Z","event.action":"payload.start","wlcg.vo":"a","wlcg.vo":"b"}',
        False,
    ),
    "nan": (b'{"@timestamp":"2026-03-01T00:00:00Z","event.action":"payload.start","x":NaN}', False),
    "huge": (
        b'{"@timestamp":"2026-03-01T00:00:00Z","event.action":"payload.start","x":"' + b"x" * (1 << 21) + b'"}',
        False,
    ),
    "wrong-types": (
        (
            b'{"@timestamp":"2026-03-01T00:00:00Z","event.action":"payload.start","event.id":"e","container.id":"c",'
            b'"process.pid":"7","host.name":["x"],"host.ip":"1","wlcg.cvmfs":{"a":1},"wlcg.isolation.binds":[1,{"source":3}],'
            b'"user.roles":["a",1],"wlcg.vo":1.5,"event.sequence":1e3,"wlcg.ns.pid":123456789012345678901234567890}'
        ),
        True,
    ),
    "surrogate": (
        (
            b'{"@timestamp":"2026-03-01T00:00:00Z","event.action":"payload.start","event.id":"e","container.id":"c",'
            b'"process.working_directory":"/w/\\udcff"}'
        ),
        True,
    ),
    "nul": (
        b'{"@timestamp":"2026-03-01T00:00:00Z","event.action":"payload.start","event.id":"e","wlcg.vo":"a\\u0000b"}',
        True,
    ),
    "no-ids": (b'{"@timestamp":"2026-03-01T00:00:00Z","event.action":"payload.start"}', True),
    "numbers": (
        b'{"@timestamp":"2026-03-01T00:00:00Z","event.action":"payload.start","event.id":"e","x":[1e999,-0,1E2,'
        + b"9" * 5000
        + b"]}",
        True,
    ),
}


@pytest.mark.parametrize(("line", "counts"), HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_lines(tmp_path, site, line, counts):
    """No line breaks a question; what is no record is remarked, by file, and the others are found."""
    (tmp_path / "bad.jsonl").write_bytes(line + b"\n" + json.dumps(site.records[0]).encode() + b"\n")
    (tmp_path / "good.jsonl").write_text("".join(json.dumps(r) + "\n" for r in site.records[1:9]))
    plain = find([str(tmp_path)], Question(), engine="plain")
    duck = find([str(tmp_path)], Question(), engine="duckdb")

    assert plain == duck
    assert len({r["container.id"] for r in site.records[:9]}) + counts == len(plain.payloads)
    assert ([] if counts else [f"{tmp_path}/bad.jsonl: line 1: not a record"]) == plain.remarks


def test_whole_hostile_records(tmp_path):
    """Values of wrong types are no facts, and stay to be seen."""
    (tmp_path / "a.jsonl").write_bytes(HOSTILE["wrong-types"][0] + b"\n")
    answers = [find([str(tmp_path)], Question(), engine=engine, whole=True) for engine in ("plain", "duckdb")]
    (payload,) = answers[0].payloads

    assert answers[0] == answers[1]
    assert (None, None, None) == (payload["process.pid"], payload["host.name"], payload["wlcg.vo"])
    assert ("7", ["x"]) == (payload["records"][0]["process.pid"], payload["records"][0]["host.name"])


@pytest.mark.parametrize("content", [b"", b"PAR1 no parquet PAR1", b"x" * 100], ids=["empty", "forged", "rubbish"])
def test_hostile_parquet(tmp_path, parquet, content):
    """A file that is no Parquet is remarked, and the others are read."""
    (tmp_path / "bad.parquet").write_bytes(content)
    found = find([str(tmp_path), parquet], Question(jobs=["17"]))

    assert find([parquet], Question(jobs=["17"])).payloads == found.payloads
    assert [f"{tmp_path}/bad.parquet"] == [remark.partition(":")[0] for remark in found.remarks]


def test_parquet_of_another_shape(tmp_path, parquet):
    """Columns that a file lacks are unknown, and one of another type leaves the file out."""
    import duckdb

    text = "SELECT 'payload.start' AS event_action, 'e' AS event_id, 'p' AS payload_id, {} AS time, '17' AS wlcg_job_id"
    for name, time in (("few", "5"), ("wrong", "'soon'")):
        duckdb.execute(f"COPY ({text.format(time)}) TO '{tmp_path}/{name}.parquet'")
    found = find([str(tmp_path), parquet], Question(jobs=["17"]))

    assert 2 == len(found.payloads)
    assert [f"{tmp_path}/wrong.parquet"] == [remark.partition(":")[0] for remark in found.remarks]


def test_no_records(tmp_path):
    """An empty directory has no payloads; a missing one is an error."""
    assert [] == find([str(tmp_path)], Question()).payloads
    with pytest.raises(TraceError, match="there is nothing of that name"):
        find([str(tmp_path / "none*")], Question())


def test_plain_python_and_parquet(parquet):
    """Plain Python says what is missing where there is Parquet."""
    with pytest.raises(TraceError, match=r"wlcg_isolate\[query\]"):
        find([parquet], Question(), engine="plain")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T00:00:00Z", 0),
        ("2026-03-01T01:00+01:00", 0),
        ("2026-03-01 00:00:00.5z", 500_000),
        ("2026-02-28T19:00:00.000001-05:00", 1),
    ],
)
def test_times(text, expected):
    """Times with a zone are read as RFC 3339 has them."""
    assert BEGIN + expected == given(text)


@pytest.mark.parametrize(
    "text", ["2026-03-01T00:00:00", "2026-03-01", "yesterday", "1700000000", "2026-13-01T00:00Z", ""]
)
def test_times_without_zone_are_refused(text):
    """A time that could be a local one is refused."""
    with pytest.raises(ValueError, match=r"zone|match|month"):
        given(text)

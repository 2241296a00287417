"""Each option of the command line, with a real call of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from wlcg_isolate.cli import main
from wlcg_isolate.cli.trace_options import ask_parser
from wlcg_isolate.trace.query import Question, find
from wlcg_isolate.trace.query.times import SECOND, given, recorded, shown


@pytest.fixture(scope="module")
def place(made, tmp_path_factory):
    """A few days of a small site."""
    place = tmp_path_factory.mktemp("few")
    made.Site(seed=3, payloads=60).write(place)

    return str(place)


@pytest.fixture(scope="module")
def payloads(place):
    """All payloads, in full."""
    return find([place], Question(), engine="plain", whole=True).payloads


@pytest.fixture(scope="module")
def one(payloads):
    """A payload of which everything is known."""
    return next(p for p in payloads if p["state"] == "ended" and p["started"] > "2026-03-02")


#: Option to its value for one payload, and to what tells the payloads that it must find.
OPTIONS = {
    "--at": (lambda p: p["started"], lambda p, q: _there(p, q["started"], q["started"])),
    "--since": (lambda p: p["started"], lambda p, q: _there(p, q["started"], "9")),
    "--until": (lambda p: p["started"], lambda p, q: _there(p, "0", q["started"])),
    "--started-after": (lambda p: p["started"], lambda p, q: _began(p) > q["started"]),
    "--host": (lambda p: p["host.name"], lambda p, q: p["host.name"] == q["host.name"]),
    "--address": (lambda p: p["host.ip"][0], lambda p, q: p["host.ip"] == q["host.ip"]),
    "--boot": (lambda p: p["host.boot.id"], lambda p, q: p["host.boot.id"] == q["host.boot.id"]),
    "--cgroup": (lambda p: p["process.linux.cgroup"] + "/below", lambda p, q: _same(p, q, "process.linux.cgroup")),
    "--trace-id": (lambda p: p["trace_id"], lambda p, q: p is q),
    "--job-id": (lambda p: p["wlcg.job.id"], lambda p, q: p is q),
    "--task-id": (lambda p: "none", lambda p, q: False),
    "--pilot-id": (lambda p: p["wlcg.pilot.id"], lambda p, q: _same(p, q, "wlcg.pilot.id")),
    "--batch-id": (lambda p: p["wlcg.batch.job_id"], lambda p, q: _same(p, q, "wlcg.batch.job_id")),
    "--image": (lambda p: p["container.image.name"], lambda p, q: _same(p, q, "container.image.name")),
    "--cvmfs": (lambda p: p["cvmfs_revisions"][0], lambda p, q: _same(p, q, "cvmfs_revisions")),
    "--path": (lambda p: p["process.working_directory"] + "/a/b", lambda p, q: p is q),
    "--token-id": (lambda p: p["wlcg.token.jti"], lambda p, q: p is q),
    "--executable": (lambda p: p["wlcg.process.args_sha256"], lambda p, q: p is q),
    "--vo": (lambda p: p["wlcg.vo"], lambda p, q: _same(p, q, "wlcg.vo")),
    "--at-site": (lambda p: p["site"], lambda p, q: _same(p, q, "site")),
    "--pid": (lambda p: p["process.pid"], lambda p, q: _same(p, q, "process.pid")),
    "--namespace": (lambda p: f"pid:[{p['wlcg.ns.pid']}]", lambda p, q: _same(p, q, "wlcg.ns.pid")),
    "--inode": (lambda p: f"{p['wlcg.workdir.dev']}:{p['wlcg.workdir.ino']}", lambda p, q: p is q),
    "--refused": (lambda p: None, lambda p, q: p["state"] == "refused"),
    "--user-dn": (lambda p: p["user.name"], lambda p, q: _same(p, q, "user.name")),
    "--user-sub": (lambda p: p["wlcg.token.sub"], lambda p, q: _same(p, q, "wlcg.token.sub")),
    "--user-iss": (lambda p: p["wlcg.token.iss"], lambda p, q: _same(p, q, "wlcg.token.iss")),
    "--user-hash": (lambda p: p["user.hash"], lambda p, q: _same(p, q, "user.hash")),
    "--engine": (lambda p: "plain", lambda p, q: True),
}

#: What has a test of its own below, or elsewhere in this directory.
ELSEWHERE = "help trace-dir skew lookback user-key".split()


def _same(p, q, key):
    return p[key] == q[key]


def _began(p):
    return p["started"] or p["ended"]


def _there(p, since, until):
    return _began(p) <= until and (p["ended"] is None or p["ended"] >= since)


def ask(capsys, place, *words):
    """Ask, as the command line does; return what it prints for programs."""
    assert 0 == main(["trace", "find", "--trace-dir", place, "--json", *map(str, words)])

    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("option", OPTIONS)
def test_option(capsys, place, payloads, one, option):
    """Each option finds exactly the payloads that it says."""
    value, means = OPTIONS[option]
    words = [option] if value(one) is None else [option, value(one)]

    assert [p["trace_id"] for p in payloads if means(p, one)] == [p["trace_id"] for p in ask(capsys, place, *words)]


def test_no_option_is_left_out():
    """What asks over records has a row in the table, or is known to be tested elsewhere."""
    parser = ask_parser("find", "", "")
    options = {word for action in parser._actions for word in action.option_strings if word.startswith("--")}

    assert options == {*OPTIONS, *(f"--{name}" for name in ELSEWHERE)}


def test_values_add_up_and_options_narrow(capsys, place, payloads, one):
    """Of an option that is given twice one value is enough; of two options both must hold."""
    other = next(p for p in payloads if p["host.name"] != one["host.name"])
    both = ask(capsys, place, "--job-id", one["wlcg.job.id"], "--job-id", other["wlcg.job.id"])
    none = ask(capsys, place, "--job-id", one["wlcg.job.id"], "--host", other["host.name"])

    assert ({one["trace_id"], other["trace_id"]}, []) == ({p["trace_id"] for p in both}, none)


@pytest.mark.parametrize(("seconds", "found"), [(0, False), (59, False), (60, True), (61, True)])
def test_skew_at_both_ends(capsys, place, one, seconds, found):
    """Clocks that differ by a minute matter at the start and at the end, to the second."""
    before = shown(recorded(one["started"]) - 60 * SECOND)
    after = shown(recorded(one["ended"]) + 60 * SECOND)
    words = ("--job-id", one["wlcg.job.id"], "--skew", seconds)

    assert [found] * 2 == [bool(ask(capsys, place, "--at", moment, *words)) for moment in (before, after)]


def test_payload_that_started_long_before(capsys, tmp_path, one):
    """A payload is found days after its start, up to the lookback, and in its end's file alone it is not."""
    records = one["records"]
    started = given("2026-03-01T00:00:00Z")
    for number, record in enumerate(records):
        moment = started + number * 9 * 86_400 * SECOND
        name = shown(moment).replace("-", "").replace(":", "")
        (tmp_path / f"{name}-n-{number}.jsonl").write_text(json.dumps({**record, "@timestamp": shown(moment)}) + "\n")
    asked = ("--host", one["host.name"], "--at", "2026-03-08T00:00:00Z")

    assert [[one["trace_id"]], []] == [
        [p["trace_id"] for p in ask(capsys, str(tmp_path), *asked, *more)] for more in ((), ("--lookback", 5))
    ]


def test_twice_delivered_and_both_forms(capsys, tmp_path, place, payloads):
    """Records that came twice, in other order, and in Parquet too, count once."""
    assert 0 == main(["trace", "export", "--trace-dir", place, "--parquet", str(tmp_path / "parquet")])
    lines = [line for file in Path(place).iterdir() for line in file.read_text().splitlines(keepends=True)]
    (tmp_path / "again.jsonl").write_text("".join(reversed(lines)))
    capsys.readouterr()

    for words in ((), ("--engine", "duckdb")):
        found = ask(capsys, place, "--trace-dir", tmp_path, "--full", *words)
        assert payloads == found


def test_records_of_later_versions(capsys, tmp_path, one):
    """A version that is not known yet is read as far as its fields are known, and stays whole."""
    record = {**one["records"][0], "wlcg.schema_version": 99, "wlcg.new": {"a": 1}}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    answers = [ask(capsys, str(tmp_path), "--full", "--engine", engine) for engine in ("plain", "duckdb")]

    assert answers[0] == answers[1]
    assert [record] == answers[0][0]["records"]


def test_process_number_that_is_given_again(capsys, tmp_path, one):
    """Two payloads with one process number on one node are told apart by time, and are both there without one."""
    other = [{**r, "container.id": "later", "event.id": r["event.id"] + "2"} for r in one["records"]]
    for number, record in enumerate(other):
        record["@timestamp"] = shown(recorded(one["ended"]) + (number + 1) * SECOND)
    records = [*one["records"], *other]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    words = ("--host", one["host.name"], "--pid", one["process.pid"])

    assert 2 == len(ask(capsys, str(tmp_path), *words))
    assert [one["trace_id"]] == [p["trace_id"] for p in ask(capsys, str(tmp_path), *words, "--at", one["ended"])]


@pytest.mark.parametrize("engine", ["plain", "duckdb"])
def test_second_end_is_told(capsys, tmp_path, one, engine):
    """An end that was put there earlier than the true one is seen as a conflict."""
    early = {**one["records"][-1], "event.id": "forged", "@timestamp": shown(recorded(one["started"]) + 1)}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in [early, *one["records"]]))
    (found,) = ask(capsys, str(tmp_path), "--engine", engine)

    assert (one["ended"], ["ended"]) == (found["ended"], found["conflicts"])


def documented(first):
    """Read the keys of a row of the reference's table of other answers."""
    page = Path(__file__).resolve().parents[2] / "docs" / "reference" / "queries.md"
    (row,) = [line for line in page.read_text().splitlines() if line.startswith(f"| {first} |")]

    return set(re.findall(r"`([a-z_]+)`", row.partition(" | ")[2]))


def test_other_answers_have_the_documented_keys(capsys, place, tmp_path):
    """What is not a list of payloads has the keys that the reference tells, and no others."""
    seen = ask(capsys, place, "--seen", "host.name")
    bursts = ask(capsys, place, "--bursts", "1/1")
    (tmp_path / "jobs.csv").write_text("job_id\n5.0\n")
    main(["trace", "audit", "--trace-dir", place, "--json", "--batch-jobs", str(tmp_path / "jobs.csv"), "--seed", "1"])
    audit = json.loads(capsys.readouterr().out)
    sample, parts = audit["samples"][0], ("owner", "activity", "node")
    inner = {key for part in parts for key in sample[part]}

    assert documented("`trace find --seen KEY`") == set(seen[0])
    assert documented("`trace find --bursts N/SECONDS`") == set(bursts[0])
    assert documented("`trace audit`") == set(audit)
    assert documented("in `samples`") == set(sample) | inner
    assert documented("in `coverage`") | documented("with `--batch-jobs` also") == set(audit["coverage"])


def test_table_fits_a_terminal(place, tmp_path):
    """A person with 80 columns sees whole lines, in a real terminal."""
    argv = [sys.executable, "-m", "wlcg_isolate", "trace", "find", "--trace-dir", place]
    for more in ((), ("--timeline",)):
        text = _on_a_terminal([*argv, *more], 80)
        lines = [line.rstrip("\r") for line in text.split("\n")]

        assert 60 < len(lines)
        assert 80 >= max(map(len, lines))


def _on_a_terminal(argv, columns):
    import pty
    import termios

    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns)) if hasattr(termios, "tcsetwinsize") else _size(slave, columns)
    environ = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    with subprocess.Popen(argv, stdout=slave, stdin=slave, env={**environ, "LC_ALL": "C.UTF-8"}) as process:
        os.close(slave)
        found = b""
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:
                break
            if not chunk:
                break
            found += chunk
    os.close(master)
    assert 0 == process.returncode

    return re.sub("\x1b\\[[0-9;]*m", "", found.decode())


def _size(terminal, columns):
    import fcntl
    import struct
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def test_pattern_that_the_shell_expands(capsys, tmp_path, payloads, made):
    """Several places behind one option are all looked at, as of a pattern that nobody quoted."""
    site = made.Site(seed=3, payloads=60)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    for number, path in enumerate(site.write(tmp_path, files=4)):
        path.rename(tmp_path / "ab"[number % 2] / path.name)
    places = ["--trace-dir", str(tmp_path / "a"), str(tmp_path / "b")]

    assert 0 == main(["trace", "find", *places, "--json"])
    assert [p["trace_id"] for p in payloads] == [p["trace_id"] for p in json.loads(capsys.readouterr().out)]
    assert 0 == main(["trace", "export", *places, "--parquet", str(tmp_path / "parquet")])
    capsys.readouterr()
    assert [p["trace_id"] for p in payloads] == [p["trace_id"] for p in ask(capsys, str(tmp_path / "parquet"))]

"""What questions take, and that what is measured answers them."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import pytest

from wlcg_isolate.trace.query import Question, asking, find
from wlcg_isolate.trace.query.duck import Duck
from wlcg_isolate.trace.query.times import given

_SPEC = importlib.util.spec_from_file_location(
    "benchmark", Path(__file__).resolve().parents[2] / "benchmarks" / "query.py"
)
BENCHMARK = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(BENCHMARK)

NOON = given("2026-02-15T12:00:00Z")

#: Question to the most of the processors' time that it may take, as a part of what one column of all records takes.
GOALS = {
    "host at time": 0.4,
    "user over 30 days": 2,
    "job": 0.5,
    "batch job": 1,
    "image, at a time": 3,
    "path": 3,
    "users of an hour": 2,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three of the days, with few records."""
    place = tmp_path_factory.mktemp("benchmark")
    BENCHMARK.make(place, 400_000, range(44, 47))

    return place


def test_measured_questions_are_answered(place):
    """The questions of the benchmark find what plain counting finds, in a process of their own."""
    import duckdb

    source = f"read_parquet('{place}/*/*/records.parquet', hive_partitioning = false)"
    text = (
        "SELECT count(*) FROM (SELECT payload_id FROM {} WHERE {} GROUP BY payload_id HAVING min(time) <= {} AND "
        "coalesce(max(CASE WHEN event_action = 'payload.end' THEN time END) >= {}, TRUE))"
    )
    wanted = (
        "host_name = 'wn0042.example.org'",
        f"payload_id IN (SELECT payload_id FROM {source} WHERE {BENCHMARK.IMAGE})",
    )
    counts = [duckdb.sql(text.format(source, which, NOON, NOON)).fetchall()[0][0] for which in wanted]
    names = ("host at time", "image, at a time")
    found = [int(BENCHMARK.asked(place, BENCHMARK.QUESTIONS[name][1], 1)[2]) for name in names]

    assert 0 < counts[1]
    assert counts == found


def test_lives_are_looked_at_before_columns(place, monkeypatch):
    """Of many payloads with an image, all columns are read only of those that were there."""
    read = []
    real = Duck._run

    def run(self, statement, bounds, owners):
        rows = real(self, statement, bounds, owners)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(Duck, "_run", run)
    digest = hashlib.sha256(b"i7").hexdigest()
    question = Question(images=[digest], since=NOON, until=NOON)
    whole = find([str(place)], question)
    monkeypatch.setattr(asking, "_FEW", 10)
    narrowed = find([str(place)], question)

    assert whole == narrowed
    hits, columns, again, lives, fewer = read
    assert (hits, columns) == (again, read[1])
    assert hits > lives > 0
    assert columns > fewer == 3 * lives


@pytest.mark.soak
def test_goals(tmp_path):
    """Over 20 million records no question takes more than its part of reading one column of all."""
    BENCHMARK.make(tmp_path, 20_000_000)
    base = BENCHMARK.asked(tmp_path, BENCHMARK.QUESTIONS["one column of all"][0])[1]
    took = {name: BENCHMARK.asked(tmp_path, BENCHMARK.QUESTIONS[name][1])[1] / base for name in GOALS}

    assert {} == {name: ratio for name, ratio in took.items() if ratio > GOALS[name]}

"""Spark gives the answers of DuckDB, on a cluster with two workers."""

from __future__ import annotations

import pytest

from wlcg_isolate.trace.query import Question, asking
from wlcg_isolate.trace.query.answer import engine_for, payloads, sightings
from wlcg_isolate.trace.query.payloads import payloads_of
from wlcg_isolate.trace.query.question import User
from wlcg_isolate.trace.query.times import DAY, SECOND, given

NOON = given("2026-03-02T12:00:00Z")

pytestmark = pytest.mark.spark

QUESTIONS = {
    "all": Question(),
    "host at time": Question(hosts=["wn000.example.org"], since=NOON, until=NOON, skew=300 * SECOND),
    "user": Question(users=[User(names=["/DC=ch/DC=cern/OU=Users/CN=user 3"])], since=NOON, until=NOON + DAY),
    "refused": Question(refused=True),
    "lists": Question(cvmfs=["h2"], paths=["/data/8/x"]),
    "injection": Question(jobs=["' OR 1=1 --", "{p0}", ":p0", "17"]),
}


@pytest.fixture(scope="module")
def engines(parquet):
    """DuckDB, and Spark with two workers that are processes of their own."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local-cluster[2,1,1024]").appName("test")
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "2",
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    with engine_for([parquet], "duckdb") as duck, engine_for([parquet], "spark") as spark:
        yield duck, spark, session
    session.stop()


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=list(QUESTIONS))
def test_same_answers(engines, question):
    """Whole payloads are the same."""
    duck, spark, _ = engines
    expected = payloads_of(duck.records(question, whole=True), whole=True)

    assert expected
    assert expected == payloads_of(spark.records(question, whole=True), whole=True)


def test_lives_first(engines, monkeypatch):
    """Where many payloads may be meant, their lives are read alike, and so is what became of them."""
    monkeypatch.setattr(asking, "_FEW", 3)
    question = Question(images=["el9"], since=NOON, until=NOON)
    duck, spark, _ = engines
    expected = payloads(duck, question)

    assert 3 < len(expected)
    assert expected == payloads(spark, question)


def test_same_sightings(engines):
    """Counts, first and last moments are the same."""
    duck, spark, _ = engines

    assert sightings(duck, Question(), "user.name") == sightings(spark, Question(), "user.name")


def test_two_workers(engines):
    """The work is done by two processes that are not this one."""
    context = engines[2].sparkContext
    executors = context._jsc.sc().getExecutorMemoryStatus().size()

    assert 3 == executors

"""Whether payloads can be traced, and what is missing."""

from __future__ import annotations

import json

import pytest

from wlcg_isolate import TraceError
from wlcg_isolate.cli import main
from wlcg_isolate.trace.query import Question
from wlcg_isolate.trace.query.answer import engine_for, payloads as find_payloads
from wlcg_isolate.trace.query.audit import audit
from wlcg_isolate.trace.query.batchlist import read_batch_jobs
from wlcg_isolate.trace.query.times import recorded

#: The same two jobs as batch systems list them.
LISTS = {
    "condor": '[{"ClusterId":5,"ProcId":0,"GlobalJobId":"ce01#5.0#1"},{"ClusterId":9,"ProcId":1}]',
    "lines": '{"ClusterId":5,"ProcId":0}\n{"ClusterId":9,"ProcId":1}\n',
    "sacct": "JobIDRaw|NodeList\n5.0|wn1\n9.1|wn2\n",
    "csv": "job_id,host\n5.0,wn1\n9.1,wn2\n",
    "ids": "job_id\n5.0\n9.1\n",
    "json-ids": '["5.0", "9.1"]',
}


@pytest.mark.parametrize("text", LISTS.values(), ids=list(LISTS))
def test_lists_of_batch_jobs(tmp_path, text):
    """What batch systems write is read, in all its forms."""
    (tmp_path / "jobs").write_text(text)
    found = read_batch_jobs(str(tmp_path / "jobs"))

    assert ["5.0", "9.1"] == [job.ids[-1] for job in found]


def test_steps_of_slurm_are_no_jobs(tmp_path):
    """A job of Slurm counts once, and not each of its steps."""
    (tmp_path / "jobs").write_text("JobID|JobName\n17|pilot\n17.batch|batch\n17.extern|extern\n18|pilot\n")

    assert [("17",), ("18",)] == [job.ids for job in read_batch_jobs(str(tmp_path / "jobs"))]


@pytest.mark.parametrize("text", ["", "{", "[[1]]", "a,b\n1,2\n", "[" * 100_000, "null"], ids=str)
def test_no_list_of_batch_jobs(tmp_path, text):
    """What is no list of jobs is refused, by name."""
    (tmp_path / "jobs").write_text(text if text != "null" else "[null]")

    with pytest.raises(TraceError, match=f"batch jobs cannot be read from {tmp_path}/jobs"):
        read_batch_jobs(str(tmp_path / "jobs"))


@pytest.mark.parametrize("form", ["plain", "duckdb"])
def test_audit_of_complete_records(site, lines, form):
    """A payload of which everything is known is found by user, job and node; the choice can be repeated."""
    with engine_for([lines], form) as engine:
        one, two = (audit(engine, Question(), seed=4, count=2) for _ in range(2))

    assert [s["trace_id"] for s in one["samples"]] == [s["trace_id"] for s in two["samples"]]
    assert [True, True] == [s["traced"] for s in one["samples"]]
    assert all(10 > s["seconds"] > 0 for s in one["samples"])
    assert sum(end is None for _, _, end in site.lives.values()) == len(one["coverage"]["without_end"])


def test_audit_names_what_is_missing(tmp_path, site, made):
    """A payload without user and job is reported as such."""
    start = next(r for r in site.records if r["event.action"] == "payload.start")
    gone = ("user.name", "user.hash", "wlcg.token.sub", "wlcg.job.id")
    (tmp_path / "a.jsonl").write_text(json.dumps({k: v for k, v in start.items() if k not in gone}) + "\n")
    with engine_for([str(tmp_path)]) as engine:
        found = audit(engine, Question())
    (sample,) = found["samples"]

    assert not sample["traced"]
    assert ["user.name or user.hash or wlcg.token.sub or wlcg.token.sub_hash"] == sample["owner"]["missing"]
    assert ["wlcg.job.id"] == sample["activity"]["missing"]
    assert sample["node"]["leads_back"]
    assert 3 == len(found["findings"])


def test_coverage(tmp_path, lines, capsys):
    """Batch jobs without records are named, and the exit status says that something is missing."""
    (tmp_path / "jobs.csv").write_text("job_id\n5.0\n9999.7\n")
    status = main(
        ["trace", "audit", "--trace-dir", lines, "--seed", "1", "--batch-jobs", str(tmp_path / "jobs.csv"), "--json"]
    )
    found = json.loads(capsys.readouterr().out)

    assert 3 == status
    assert (2, ["9999.7"]) == tuple(found["coverage"][k] for k in ("batch_jobs", "batch_jobs_without_payloads"))
    assert "1 of 2 batch jobs have no records, not even of a pilot" in found["findings"]


def test_arrays(tmp_path, site):
    """Tasks of a Slurm array are known by the name that sacct gives them, and found by it and by their array."""
    start = next(r for r in site.records if r["event.action"] == "payload.start")
    idle = {**start, "event.action": "pilot.start", "event.id": "p2", "container.id": "", "wlcg.pilot.id": "idle"}
    records = [
        {**one, "wlcg.batch.job_id": str(90 + i), "wlcg.batch.global_job_id": None,
         "wlcg.batch.array_job_id": "88", "wlcg.batch.array_task_id": str(i)}
        for i, one in enumerate([start, idle])
    ]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (tmp_path / "jobs").write_text("JobID|State\n88_0|COMPLETED\n88_0.batch|COMPLETED\n88_1|COMPLETED\n88_2|FAILED\n")
    jobs = read_batch_jobs(str(tmp_path / "jobs"))
    for engine in ("plain", "duckdb"):
        with engine_for([str(tmp_path / "a.jsonl")], engine) as asked:
            covered = audit(asked, Question(), jobs=jobs)["coverage"]
            found = [
                len(find_payloads(asked, Question(batch_jobs=[job]))) for job in ("90", "88", "88_0", "88_1", "x_0")
            ]

        assert (["88_1", "88_2"], ["88_2"], []) == tuple(
            covered[name]
            for name in ("batch_jobs_without_payloads", "batch_jobs_without_records", "payloads_of_unknown_batch_jobs")
        )
        assert [1, 1, 1, 0, 0] == found


def test_everything_found(tmp_path, site, made, capsys):
    """Records with nothing missing give exit status 0, and unreadable ones 1."""
    whole = [r for r in site.records if site.lives.get(r["container.id"], (0, 0, None))[2]]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in whole))

    assert 0 == main(["trace", "audit", "--trace-dir", str(tmp_path)])
    assert "everything was found" in capsys.readouterr().out
    assert 1 == main(["trace", "audit", "--trace-dir", str(tmp_path / "none")])


def test_pilots_without_payloads(tmp_path, site, made):
    """A pilot that began and ran nothing is listed, is no finding, and tells its batch job from one without records."""
    start = next(r for r in site.records if r["event.action"] == "payload.start")
    head = {"@timestamp": start["@timestamp"], "container.id": "", "host.name": "wn9"}
    pilots = [
        {**head, "event.action": "pilot.start", "event.id": f"p{i}", "wlcg.pilot.id": name, "wlcg.batch.job_id": job}
        for i, (name, job) in enumerate([(start["wlcg.pilot.id"], "1.0"), ("idle", "2.0")])
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [start, *pilots]))
    (tmp_path / "jobs").write_text('["2.0", "3.0"]')
    jobs = read_batch_jobs(str(tmp_path / "jobs"))
    for engine in ("plain", "duckdb"):
        with engine_for([str(tmp_path / "a.jsonl")], engine) as asked:
            covered = audit(asked, Question(), jobs=jobs)["coverage"]
            later = audit(asked, Question(since=recorded(start["@timestamp"]) + 1))["coverage"]

        assert (["idle"], 2) == (covered["pilots_without_payloads"], covered["pilots"])
        assert ["2.0", "3.0"] == covered["batch_jobs_without_payloads"]
        assert ["3.0"] == covered["batch_jobs_without_records"]
        assert [] == later["pilots_without_payloads"]

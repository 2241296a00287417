"""
Payloads in the jobs of a real Slurm.
"""

from __future__ import annotations

import os

import pytest

IMAGE = os.path.join(os.environ["WLCG_ISOLATE_TEST_IMAGES"], "debian13")

#: A script for sbatch whose interpreter is in a container.
SCRIPT = f"""\
#!/usr/bin/env -S wlcg-isolate run --image {IMAGE} --trace-dir TRACE OPTIONS --script -- bash
"""


@pytest.fixture(scope="module")
def script(slurm):
    """Make a script that runs in a container."""

    def make(text, options=""):
        return SCRIPT.replace("TRACE", str(slurm.trace)).replace("OPTIONS", options) + text

    return make


def actions(records):
    """List the events of payloads in order."""
    return [r["event.action"] for r in records if r["event.action"] in ("payload.start", "payload.end")]


@pytest.mark.serves("slurm", "array jobs")
@pytest.mark.serves("slurm", "exit status of the job")
@pytest.mark.serves("slurm", "job id in trace records")
@pytest.mark.serves("script", "first line of a script for sbatch")
def test_array(slurm, script):
    """Each of 50 tasks is in a container, fails as its payload does, and has records under its own job id."""
    text = "grep -c =trixie /etc/os-release; echo task $SLURM_ARRAY_TASK_ID job ${SLURM_JOB_ID:-unknown}\n"
    text += "exit $((SLURM_ARRAY_TASK_ID % 3))\n"
    job = slurm.submit(
        script(text, "--keep-env SLURM_ARRAY_TASK_ID"), "--array=1-50", "--output=array-%a.out", "--time=5"
    )
    found = slurm.ended(job, 50)
    statuses = sorted(status for _, status in found.values())
    printed = {(slurm.work / f"array-{i}.out").read_text() for i in range(1, 51)}
    starts = [one for name in found for one in slurm.records(name) if one["event.action"] == "payload.start"]
    arrays = {(one["wlcg.batch.array_job_id"], one["wlcg.batch.array_task_id"]) for one in starts}

    assert ["0:0"] * 16 + ["1:0"] * 17 + ["2:0"] * 17 == statuses
    assert {f"1\ntask {i} job unknown\n" for i in range(1, 51)} == printed
    assert {("payload.start", "payload.end")} == {tuple(actions(slurm.records(name))) for name in found}
    assert {(job, str(i)) for i in range(1, 51)} == arrays
    assert {f"slurm:{job}_{one['wlcg.batch.array_task_id']}" for one in starts} == {
        one["wlcg.batch.all"][1] for one in starts
    }


@pytest.mark.differs(
    "slurm",
    "jobs that a task of an array submits",
    "recorded as of that task's array, whose variables sbatch hands down to them, unless they are unset first",
)
@pytest.mark.parametrize(("unset", "array"), [("", True), ("env -u SLURM_ARRAY_JOB_ID -u SLURM_ARRAY_TASK_ID ", False)])
def test_job_of_a_task(slurm, script, unset, array):
    """A job that a task of an array submits has its own id, and an array where the environment says so."""
    (slurm.place / "inner.sh").write_text(script("echo inner\n"))
    text = f"#!/bin/sh\n{unset}sbatch --parsable --wait --time=5 {slurm.place}/inner.sh\n"
    job = slurm.submit(text, "--array=7", "--output=outer.out", "--time=5")
    slurm.ended(job)
    inner = (slurm.work / "outer.out").read_text().strip()
    (start,) = [one for one in slurm.records(inner) if one["event.action"] == "payload.start"]

    assert "inner" in slurm.output(inner)
    assert (job if array else None) == start.get("wlcg.batch.array_job_id")


def running(slurm, job):
    """Wait until a job has said that it runs."""
    slurm.until(lambda: (slurm.work / f"slurm-{job}.out").exists() and "up" in slurm.output(job))


@pytest.mark.serves("slurm", "scancel")
def test_cancel(slurm, script):
    """A cancelled job's payload hears of it and ends, and its end is on record."""
    job = slurm.submit(script("trap 'echo told; exit 4' TERM\necho up\nwhile :; do sleep 0.1; done\n"), "--time=5")
    running(slurm, job)
    slurm.ask("scancel", "--full", job)
    found = slurm.ended(job)
    slurm.until(lambda: "payload.end" in actions(slurm.records(job)))

    assert ["CANCELLED"] == [state for state, _ in found.values()]
    assert "told" in slurm.output(job)


@pytest.mark.serves("slurm", "signal before the end (scancel --signal, sbatch --signal)")
def test_signal(slurm, script):
    """A signal that a job asks for reaches its payload, which goes on and ends by itself."""
    job = slurm.submit(script("trap 'echo saved; exit 6' USR1\necho up\nwhile :; do sleep 0.1; done\n"), "--time=5")
    running(slurm, job)
    slurm.ask("scancel", "--signal=USR1", "--full", job)
    found = slurm.ended(job)

    assert [("FAILED", "6:0")] == list(found.values())
    assert "saved" in slurm.output(job)


@pytest.mark.serves("slurm", "steps (srun)")
def test_steps(slurm):
    """Steps of one job are payloads of their own, under the job's id, with the exit status of the worst."""
    line = f"wlcg-isolate run --image {IMAGE} --trace-dir {slurm.trace} --keep-env SLURM_PROCID --"
    text = f"#!/bin/sh\nsrun --ntasks=2 {line} sh -c 'echo rank $SLURM_PROCID; exit $SLURM_PROCID'\nexit $?\n"
    job = slurm.submit(text, "--ntasks=2", "--time=5")
    found = slurm.ended(job)

    assert [("FAILED", "1:0")] == list(found.values())
    assert {"rank 0", "rank 1"} <= set(slurm.output(job).splitlines())
    assert ["payload.end"] * 2 + ["payload.start"] * 2 == sorted(actions(slurm.records(job)))


@pytest.mark.serves("slurm", "variables of MPI under srun, by policy (environment.profiles)")
def test_mpi(slurm):
    """With the profile for parallel payloads each rank knows its place; without it none takes itself for one."""
    line = f"wlcg-isolate run --image {IMAGE} --trace-dir {slurm.trace}"
    show = "-- sh -c 'echo rank ${SLURM_PROCID-none} of ${SLURM_NTASKS-none}'"
    profile = "--set 'environment.profiles=[\"mpi\"]'"
    text = f"#!/bin/sh\nsrun --ntasks=2 {line} {profile} {show}\nsrun --ntasks=1 {line} {show}\n"
    job = slurm.submit(text, "--ntasks=2", "--time=5")

    assert [("COMPLETED", "0:0")] == list(slurm.ended(job).values())
    assert ["rank 0 of 2", "rank 1 of 2", "rank none of none"] == sorted(slurm.output(job).splitlines())


@pytest.mark.serves("slurm", "time limit (--time), with its warning signal (--signal)")
def test_time_limit(slurm, script):
    """A job that reaches its limit is warned, told to end, and its end is on record; nothing of it is left."""
    text = "trap 'echo warned' USR1\ntrap 'echo told; exit 4' TERM\necho up\nwhile :; do sleep 0.1; done\n"
    job = slurm.submit(script(text), "--time=1", "--signal=B:USR1@50")
    running(slurm, job)
    found = slurm.ended(job)
    slurm.until(lambda: "payload.end" in actions(slurm.records(job)))

    assert ["TIMEOUT"] == [state for state, _ in found.values()]
    assert ["up", "warned", "told"] == [
        line for line in slurm.output(job).splitlines() if line in ("up", "warned", "told")
    ]

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
    text = "grep -c trixie /etc/os-release; echo task $SLURM_ARRAY_TASK_ID job ${SLURM_JOB_ID:-unknown}\n"
    text += "exit $((SLURM_ARRAY_TASK_ID % 3))\n"
    job = slurm.submit(
        script(text, "--keep-env SLURM_ARRAY_TASK_ID"), "--array=1-50", "--output=array-%a.out", "--time=5"
    )
    found = slurm.ended(job, 50)
    statuses = sorted(status for _, status in found.values())
    printed = {(slurm.work / f"array-{i}.out").read_text() for i in range(1, 51)}

    assert ["0:0"] * 16 + ["1:0"] * 17 + ["2:0"] * 17 == statuses
    assert {f"1\ntask {i} job unknown\n" for i in range(1, 51)} == {"1\n" + text.partition("\n")[2] for text in printed}
    assert {("payload.start", "payload.end")} == {tuple(actions(slurm.records(name))) for name in found}

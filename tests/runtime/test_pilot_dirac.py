"""
What DIRAC prepares for a job, in real containers; DIRAC itself is in ``tests/integrations/dirac``.
"""

from __future__ import annotations

import os
import subprocess
import time

import attrs
import pytest

from wlcg_isolate import Payload, Request, load_policy, make_plan, outcome_of, run_isolated
from wlcg_isolate._supervisor import supervised
from wlcg_isolate.pilots.dirac import Job, request_for
from wlcg_isolate.pilots.dirac.ending import Lifeline, wait_for_end, was_begun

#: What comes before and after the start of the job in the two scripts of DIRAC.
SCRIPTS = {"installs": ("set -ex", "exit 0"), "does not": ("set -x", "chmod 644 retcode")}


@pytest.mark.parametrize(("begin", "end"), SCRIPTS.values(), ids=SCRIPTS)
def test_status(tmp_path, image, runtime, begin, end):
    """The job's status is kept, whatever DIRAC's script does with it; the job has its files where DIRAC has them."""
    area = tmp_path / "area it's"
    area.mkdir()
    (area / "dirac_container.sh").write_text(f"{begin}\ncd /tmp\nbash /tmp/Job7\necho $? > retcode\n{end}\n")
    (area / "Job7").write_text("cat /tmp/proxy >/tmp/seen && cp /tmp/seen /srv/result && exit 5\n")
    (area / "proxy").write_text("a proxy")
    job = Job(directory=str(area), image=image("debian13"), runtime=runtime, job_id="7")
    request = attrs.evolve(request_for(job, load_policy()), trace_dir=tmp_path / "trace")

    outcome = run_isolated(request, load_policy())

    assert outcome.started
    assert ("5\n", "a proxy") == ((area / "retcode").read_text(), (area / "result").read_text())
    assert ["Job7", "dirac_container.sh", "proxy", "result", "retcode"] == sorted(path.name for path in area.iterdir())


@pytest.fixture
def guarded(tmp_path, image, runtime):
    """A supervised command with a lifeline, for a payload that stays."""
    area = tmp_path / "area"
    work = area / "job"
    work.mkdir(parents=True)
    life = Lifeline(str(area))
    policy = attrs.evolve(load_policy(), payload_grace_seconds=0.5)

    def make(text):
        request = Request(
            payload=Payload(command=("sh", "-c", text)), image=image("debian13"), workdir=str(work),
            runtime=runtime, trace_dir=tmp_path / "trace",
        )  # fmt: skip
        plan = make_plan(request, policy)

        return plan, supervised(plan, life=life.path, estate=str(area))

    yield area, life, make
    life.cut()


def test_lifeline_over(guarded):
    """A payload that ends by itself has its own outcome; nothing but the runtime keeps the caller's pipes open."""
    area, life, make = guarded
    plan, command = make("echo out; exit 5")

    # This would not end while anything else held them.
    done = subprocess.run(command.argv, env=command.environ, check=False, capture_output=True, timeout=60)
    life.over()
    outcome = outcome_of(plan, done.returncode)
    life.cut()

    assert (5, b"out\n") == (done.returncode, done.stdout)
    assert ("exit-nonzero", 5) == (outcome.kind, outcome.exit_code)
    assert ["job", "life"] == sorted(os.listdir(area))


@pytest.mark.parametrize("text", ["trap '' TERM; touch began; while :; do sleep 0.1; done", "touch began; sleep 300"])
def test_lifeline_cut(guarded, text):
    """A payload whose lifeline is cut is stopped, one that does not heed it is killed, and the directory goes."""
    area, life, make = guarded
    plan, command = make(text)
    process = subprocess.Popen(command.argv, env=command.environ)
    deadline = time.monotonic() + 60
    while not (area / "job" / "began").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)

    life.cut()
    status = wait_for_end(plan)
    outcome = outcome_of(plan, status)

    assert was_begun(plan)
    assert status is not None
    assert (True, "stopped") == (outcome.started, outcome.kind)
    deadline = time.monotonic() + 10
    while area.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not area.exists()
    # Its status is taken already.
    process.wait()


def test_lifeline_missing(guarded):
    """Without its lifeline nothing is started, and nothing is left."""
    area, life, make = guarded
    plan, command = make("touch began")
    os.unlink(life.path)

    done = subprocess.run(command.argv, env=command.environ, check=False, capture_output=True, timeout=60)

    assert (125, True) == (done.returncode, b"is no named pipe" in done.stderr)
    assert not was_begun(plan)
    assert wait_for_end(plan) is None
    assert [] == os.listdir(area / "job")

"""
The end of jobs that nobody waits for any more: no process, no directory and no proxy of them is left.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
from DIRAC.Core.Utilities import Subprocess

from wlcg_isolate.errors import Problem, RequestError
from wlcg_isolate.pilots.dirac import element

#: Seconds until all has gone: what payloads have between TERM and KILL is 1.
GONE = 20.0


class Stays:
    """A job that stays, and that can be told from all others."""

    def __init__(self, pilot) -> None:
        self.pilot = pilot
        self.pilots = []
        self.seconds = f"{random.randrange(3000, 9000)}.{random.randrange(10**6)}"

    def forked(self, work):
        """Have a pilot of its own do something; it ends by a signal in any case."""
        pid = os.fork()
        if pid == 0:
            try:
                work()
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        self.pilots.append(psutil.Process(pid))

        return self.pilots[-1]

    def seen(self):
        """List the processes of the job and of what watches it, by what they were started as."""
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                text = file.read_bytes().decode(errors="replace")
            except OSError:
                continue
            if self.seconds in text or str(self.pilot.containers) in text:
                found.append((int(file.parent.name), text[:200]))

        return found

    def wait(self, count=1):
        """Wait until the job runs, or *count* of them."""
        deadline = time.monotonic() + 60
        while len(list(self.pilot.containers.rglob("stays"))) < count:
            assert time.monotonic() < deadline, "the job did not start"
            time.sleep(0.05)
        assert len(self.seen()) > 2 * count

    def assert_gone(self, others=()):
        """See that nothing of it is left, nor of *others*, which are processes."""
        deadline = time.monotonic() + GONE
        while time.monotonic() < deadline and (self.seen() or self.pilot.left() or any(map(runs, others))):
            time.sleep(0.05)

        assert [] == self.seen()
        assert [] == self.pilot.left()
        assert [] == [process for process in others if runs(process)]


def runs(process):
    """Tell whether a process still does anything."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def stays(pilot):
    """A job that stays, where payloads have a second to end."""
    pilot.configure(NumberOfProcessors="2", **pilot.limit("[payload]\ngrace_seconds = 1"))
    stays = Stays(pilot)
    yield stays
    for one in [*stays.pilots, *(psutil.Process(pid) for pid, _ in stays.seen())]:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


@pytest.mark.differs("dirac", "the pilot is interrupted", "the container ends first; DIRAC leaves it to run on")
def test_interrupted(pilot, proxy, stays):
    """An interrupt of the pilot passes on, once the job's container has ended, and its record says so."""
    element = pilot.element()

    def interrupt():
        try:
            stays.wait()
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        element.submitJob("ignored", proxy, jobDesc=pilot.job(Stay=stays.seconds))
    thread.join()

    # At once: not after a while.
    assert [] == stays.seen()
    assert [] == pilot.left()
    assert (1, 0) == (element.getCEStatus()["SubmittedJobs"], element.getCEStatus()["RunningJobs"])
    start, end = pilot.records()
    assert ("payload.start", "payload.end", "stopped") == (
        start["event.action"], end["event.action"], end["wlcg.outcome.kind"]
    )  # fmt: skip


@pytest.mark.differs("dirac", "the pilot is killed", "the container ends, and the job's directory and proxy go")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
def test_killed(pilot, proxy, stays, number):
    """A pilot that is killed leaves nothing running, and no proxy."""
    alone = stays.forked(lambda: pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job(Stay=stays.seconds)))
    stays.wait()
    assert list(pilot.containers.rglob("proxy"))

    alone.send_signal(number)
    alone.wait()

    stays.assert_gone()


def test_kept(pilot, proxy, stays):
    """A directory that is to be kept is kept, also of a pilot that was killed."""
    pilot.configure(NumberOfProcessors="2", KeepWorkArea="yes", **pilot.limit("[payload]\ngrace_seconds = 1"))
    alone = stays.forked(lambda: pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job(Stay=stays.seconds)))
    stays.wait()

    alone.kill()
    alone.wait()

    deadline = time.monotonic() + GONE
    while stays.seen() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [] == stays.seen()
    assert {"dirac_container.sh", "stays"} < {path.name for path in pilot.left()}


def submitted(pilot, proxy, stays):
    """Have a pool with two jobs that stay."""
    pool = pilot.element("Pool")
    assert pool.setParameters({"InnerCESubmissionType": "Singularity"})["OK"]
    for number in (1, 2):
        assert pool.submitJob("ignored", proxy, jobDesc=pilot.job(number, Stay=stays.seconds))["OK"]

    return pool


@pytest.mark.differs("dirac", "Pool: the pilot is killed", "its processes and their containers end with it")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
def test_pool_killed(pilot, proxy, stays, number):
    """The processes of a pool end with the pilot, and their jobs before them."""
    alone = stays.forked(lambda: (submitted(pilot, proxy, stays), time.sleep(300)))
    stays.wait(2)
    others = alone.children(recursive=True)
    assert len(others) > 2

    alone.send_signal(number)
    alone.wait()

    stays.assert_gone(others)


@pytest.mark.differs("dirac", "Pool: a process is killed", "its jobs are rescheduled, and the pool goes on")
def test_pool_loses_a_process(pilot, proxy, stays):
    """Jobs whose process was killed are to be rescheduled, and the pool takes others."""
    pool = submitted(pilot, proxy, stays)
    stays.wait(2)
    one, other = psutil.Process().children()

    one.kill()

    deadline = time.monotonic() + GONE
    while len(pool.taskResults) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [False, False] == [pool.taskResults[task]["OK"] for task in (0, 1)]
    assert "terminated abruptly" in pool.taskResults[0]["Message"]
    stays.assert_gone([one, other])
    assert 2 == pool.getCEStatus()["AvailableProcessors"]

    assert pool.submitJob("ignored", proxy, jobDesc=pilot.job(3, Status=3))["OK"]
    assert {"OK": True, "Value": 3} == pool.shutdown()["Value"][2]


@pytest.mark.differs("dirac", "a line longer than DIRAC takes", "the reason is in the answer")
def test_endless_line(pilot, proxy, monkeypatch):
    """A job that DIRAC gives up is stopped, and the answer says why, without the whole command."""
    # 50 MiB by default.
    monkeypatch.setattr(Subprocess, "systemCall", functools.partial(Subprocess.systemCall, bufferLimit=2**20))

    result = pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job(Endless="yes"))

    assert not result["OK"]
    assert "DIRAC gave up: Reached maximum allowed length" in result["Message"]
    assert len(result["Message"]) < 1000
    assert result["Outcome"]["started"]
    assert [] == pilot.left()


def test_container_that_nothing_ends(monkeypatch):
    """A job that not even KILL ends is told as stopped, and the pilot's own interrupt goes on."""
    running = RequestError([Problem(kind="request-invalid", message="the payload still runs")])
    monkeypatch.setattr(element, "wait_for_end", lambda _plan: None)
    monkeypatch.setattr(element, "outcome_of", lambda _plan, _status: (_ for _ in ()).throw(running))
    outcome = element._stopped(None)

    assert ("stopped", True, signal.SIGTERM) == (outcome.kind, outcome.started, outcome.signal)

"""A pilot's own log can be joined with the records, and nothing is configured behind its back."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading

import pytest
import structlog

from wlcg_isolate import Policy, TraceError, TraceRecord, _events
from wlcg_isolate.errors import PlanError, Problem
from wlcg_isolate.run import refuse
from wlcg_isolate.trace import add_trace_id, bind_trace_id, current_trace_id, pilot
from wlcg_isolate.trace.telling import Telling


@pytest.fixture
def told():
    """What the caller's log gets, with the public processor in place."""
    events = []

    def keep(_logger, method, event):
        events.append({**event, "level": method})
        raise structlog.DropEvent

    structlog.configure(processors=[add_trace_id, keep])
    yield events
    structlog.reset_defaults()


def test_own_lines_are_joined(told):
    """A line of the pilot's own log has the payload's id where one is bound, and none elsewhere."""
    log = structlog.get_logger("pilot")
    log.info("before")
    with bind_trace_id("t-1"):
        log.info("inside")
        with bind_trace_id("t-2"):
            log.info("inner")
        log.info("again", trace_id="own")
    log.info("after")

    assert [None, "t-1", "t-2", "own", None] == [event.get("trace_id") for event in told]


def test_threads_are_apart(told):
    """Each thread has the id of its own payload."""
    barrier = threading.Barrier(4)

    def work(name):
        with bind_trace_id(name):
            barrier.wait(10)
            structlog.get_logger().info("x", own=name)
            barrier.wait(10)

    threads = [threading.Thread(target=work, args=(f"t-{i}",)) for i in range(4)]
    for step in (threading.Thread.start, threading.Thread.join):
        list(map(step, threads))

    assert 4 == len(told)
    assert all(event["own"] == event["trace_id"] for event in told)
    assert current_trace_id() is None


def test_tasks_are_apart():
    """Each asyncio task has the id of its own payload."""

    async def work(name):
        """Pause while another task runs."""
        with bind_trace_id(name):
            await asyncio.sleep(0.001)
            return current_trace_id()

    async def both():
        """Run two tasks at once."""
        return await asyncio.gather(work("a"), work("b"))

    assert ["a", "b"] == asyncio.run(both())


def test_error_unbinds():
    """An error in the block does not leave the id behind."""
    with pytest.raises(RuntimeError), bind_trace_id("t"):
        raise RuntimeError

    assert current_trace_id() is None


def test_logging_of_the_standard_library(caplog):
    """A filter of two lines brings the id into the lines of `logging`."""

    class Filter(logging.Filter):
        def filter(self, record):
            record.trace_id = current_trace_id()
            return True

    caplog.handler.addFilter(kept := Filter())
    with bind_trace_id("t-1"):
        logging.getLogger("pilot").warning("x")
    caplog.handler.removeFilter(kept)

    assert ["t-1"] == [record.trace_id for record in caplog.records]


def test_each_record_is_an_event(told, tmp_path):
    """What is recorded is told, with the payload's id."""
    # Other tests of this process are pilots, too.
    pilot.end_pilot()
    del told[:]
    error = PlanError([Problem(kind="image-missing", message="gone")])
    outcome = refuse(error, None, [str(tmp_path)], Policy())
    pilot.end_pilot()

    assert ["pilot.start", "payload.refused", "pilot.end"] == [event["event"] for event in told]
    assert [outcome.trace_id, None] == [event.get("trace_id") for event in told[1:]]
    assert "image-missing" == told[1]["kind"]


def test_lost_end_is_told(told, tmp_path, mocker):
    """A last record that cannot be written is no error, and is told."""
    refuse(PlanError([Problem(kind="image-missing", message="gone")]), None, [str(tmp_path)], Policy())
    lost = TraceError([Problem(kind="trace-unwritable", message="disk full")])
    mocker.patch.object(pilot.Journal, "write", side_effect=lost)
    pilot.end_pilot()

    assert ("trace.lost", True) == (told[-1]["event"], "disk full" in told[-1]["reason"])


def test_nobody_listens(capsys):
    """Without a configuration nothing is said, and none is made."""
    _events.emit("x", trace_id="t")

    assert not structlog.is_configured()
    assert ("", "") == capsys.readouterr()


def test_nothing_is_loaded_or_configured(tmp_path):
    """A pilot that does not use structlog or logging pays for neither, and finds its own settings as they were."""
    code = (
        "import sys, signal\n"
        "from wlcg_isolate.run import refuse\n"
        "from wlcg_isolate.errors import PlanError, Problem\n"
        "before = [signal.getsignal(n) for n in (1, 2, 15, 17)]\n"
        f"refuse(PlanError([Problem(kind='image-missing', message='x')]), None, [{str(tmp_path)!r}])\n"
        "assert before == [signal.getsignal(n) for n in (1, 2, 15, 17)]\n"
        "print(*sorted({'structlog', 'cryptography', 'asyncio', 'wlcg_isolate.trace.model'} & set(sys.modules)))\n"
        "import logging\n"
        "print(logging.getLogger().handlers, logging.getLogger('wlcg_isolate').handlers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ("\n[] []\n", "") == (done.stdout, done.stderr)


def test_first_and_last(tmp_path, check_record):
    """A pilot's own records are the first and the last about something; one that goes on begins anew."""
    from wlcg_isolate.trace import read_records

    error = PlanError([Problem(kind="image-missing", message="gone")])
    for _ in range(2):
        refuse(error, None, [str(tmp_path)], Policy())
    pilot.end_pilot()
    pilot.end_pilot()
    refuse(error, None, [str(tmp_path)], Policy())
    pilot.end_pilot()
    records = [r for r in read_records(str(tmp_path))[0] if not r["event.action"].startswith("log.")]
    for record in records:
        check_record(record)

    assert "start refused refused end start refused end".split() == [
        record["event.action"].partition(".")[2] for record in records
    ]
    assert 1 == len({record["wlcg.pilot.id"] for record in records})
    assert records[0]["process.entity_id"] == records[1]["process.parent.entity_id"]


def test_record_without_payload():
    """A record about no payload has no payload's id."""
    assert "container.id" not in TraceRecord(action="pilot.start").to_dict()


def test_no_thread_for_a_record(told, mocker, tmp_path):
    """Where no thread can be started, a signal still reaches the payload, and that a record is lost is told."""
    plan = mocker.Mock(trace_id="t", trace_dirs=[str(tmp_path)], policy=Policy())
    telling = Telling.__new__(Telling)
    telling._plan, telling._threads, telling._process = plan, [], object()
    mocker.patch("wlcg_isolate.trace.telling.payload.killed")
    telling._who, telling._journal = None, mocker.Mock()
    mocker.patch(
        "wlcg_isolate.trace.telling.threading.Thread.start", side_effect=RuntimeError("can't start new thread")
    )
    telling._killed("stop", 15)

    assert [("trace.lost", "can't start new thread")] == [(event["event"], event["reason"]) for event in told]


def test_refusal_without_a_place_for_its_record(told, tmp_path):
    """A refusal that cannot be recorded is told all the same, with its id."""
    (tmp_path / "file").write_text("")
    outcome = refuse(
        PlanError([Problem(kind="image-missing", message="gone")]), None, [str(tmp_path / "file")], Policy()
    )

    assert [("trace.lost", outcome.trace_id, "payload.refused")] == [
        (event["event"], event["trace_id"], event["action"]) for event in told
    ]
    assert "warning: the record payload.refused is lost" in outcome.message

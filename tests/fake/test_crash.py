"""
Pilots that are killed while they write: nothing that was acknowledged is lost.

The writers are real processes that are killed at random instants; what kills
them picks these with a seed that it tells.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest

from wlcg_isolate import TraceRecord
from wlcg_isolate.policy.journal import JournalSettings
from wlcg_isolate.trace import Journal, iter_records
from wlcg_isolate.trace.verify import verify


def write_for_ever(place, said):
    """Write records from two threads, and say which are on disk."""
    journal = Journal(place, JournalSettings(rotate_bytes=65536, checkpoint_records=5))

    def work():
        number = 0
        while True:
            made = TraceRecord(action="payload.end", trace_id="t", fields={"fill": "x" * random.randrange(6000)})
            journal.write(made)
            os.write(said, made.event_id.encode() + b"\n")
            number += 1

    threading.Thread(target=work, daemon=True).start()
    work()


def killed_writer(place, seconds):
    """Run a writer for a time and kill it; give the records that it was told are on disk."""
    heard, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(heard)
            write_for_ever(place, said)
        finally:
            os._exit(1)
    os.close(said)
    killer = threading.Timer(seconds, os.kill, (pid, signal.SIGKILL))
    killer.start()
    with open(heard, encoding="ascii") as f:
        acknowledged = f.read().split()
    killer.join()

    assert signal.SIGKILL == os.waitpid(pid, 0)[1]

    return acknowledged


@pytest.mark.parametrize("kills", [30, pytest.param(1000, marks=pytest.mark.soak)])
def test_writers_that_are_killed(tmp_path, kills):
    """After any number of kills every acknowledged record is there, and every file verifies to where it was cut."""
    seed = time.time_ns()
    chance = random.Random(seed)
    acknowledged = set()
    for number in range(kills):
        # A directory holds a few generations, so that each is found by the next.
        place = str(tmp_path / str(number // 10))
        acknowledged |= set(killed_writer(place, chance.uniform(0.001, 0.08)))
    found, reports = set(), []
    for directory in tmp_path.iterdir():
        found |= {r["event.id"] for r in iter_records(str(directory))}
        reports.append(verify(str(directory)))
    states = {file.state for report in reports for file in report.files}

    assert set() == acknowledged - found, f"seed {seed}"
    assert {0} == {report.status for report in reports}, f"seed {seed}"
    assert {"closed", "left-open"} == states, "files that were rotated, and files that were cut"
    assert kills < len(acknowledged)

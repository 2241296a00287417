"""
Many payloads at once from many threads: every outcome right, every record there, nothing left.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import queue
import resource
import signal
import threading
import time
from pathlib import Path

import pytest

from wlcg_isolate import Policy, make_plan, start_plan

#: What payloads do in turn, and what must come of it: kind, exit status, signal.
WORK = (
    ("exit 0", None, ("success", 0, None)),
    ("exit 3", None, ("exit-nonzero", 3, None)),
    ("exit 255", None, ("exit-nonzero", 255, None)),
    ("kill -9 $$", None, ("ended-by-signal", None, signal.SIGKILL)),
    ("kill -USR1 $$", None, ("ended-by-signal", None, signal.SIGUSR1)),
    ("(trap '' TERM; setsid sleep 300 &) & exec sleep 300", 0.5, ("time-limit", None, signal.SIGTERM)),
    ("trap '' TERM; while :; do sleep 0.2; done", 0.5, ("time-limit", None, signal.SIGKILL)),
    ("echo x >/tmp/file; sleep 0.5; echo FATAL >&2; exit 7", None, ("exit-nonzero", 7, None)),
)


def _left(marks):
    """Count the living processes of payloads, and what this process has of its own."""
    processes = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            processes += [pid for mark in marks if b"WLCG_ISOLATE_ID=" + mark.encode() in environ]
    children = [Path(f"/proc/self/task/{t}/children") for t in os.listdir("/proc/self/task")]

    return {
        "processes": processes,
        "children": [word for file in children if file.exists() for word in file.read_text().split()],
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
    }


def _run_all(plans, threads):
    """Start all plans from some threads, then wait for all; the second value says how many ran at once at most."""
    todo = queue.SimpleQueue()
    for plan in plans:
        todo.put(plan)
    started, lock = [], threading.Lock()

    def work():
        with contextlib.suppress(queue.Empty):
            while True:
                running = start_plan(todo.get_nowait())
                with lock:
                    started.append(running)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    return {running.trace_id: running.wait(300) for running in started}


@pytest.mark.parametrize(
    ("payloads", "threads", "rounds"),
    [(32, 8, 2), pytest.param(256, 32, 20, marks=pytest.mark.soak)],
    ids=["short", "full"],
)
def test_many_at_once(request_for, tmp_path, record_property, payloads, threads, rounds):
    """Payloads of all kinds at once: outcomes right, records whole, nothing left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    policy = Policy(payload_grace_seconds=1)
    null = os.open(os.devnull, os.O_RDWR)
    try:
        before = _left(())
        for number in range(rounds):
            work = [WORK[i % len(WORK)] for i in range(payloads)]
            plans = [
                make_plan(request_for("sh", "-c", f"exec 2>/dev/null; {script}", timeout=limit), policy)
                for script, limit, _ in work
            ]
            begun = time.monotonic()
            outcomes = _run_all(plans, threads)
            record_property(f"round {number}", f"{time.monotonic() - begun:.1f} s")
            expected = {plan.trace_id: end for plan, (_, _, end) in zip(plans, work)}
            seen = {trace_id: (o.kind, o.exit_code, o.signal) for trace_id, o in outcomes.items()}

            assert expected == seen
            assert {} == {k: v for k, v in _events(tmp_path).items() if v != ["payload.start", "payload.end"]}
            assert payloads * (number + 1) == len(_events(tmp_path))
            assert before == {**_left([plan.trace_id for plan in plans]), "descriptors": before["descriptors"]}
            # Nothing of this round but the journal, which stays open.
            assert len(os.listdir("/proc/self/fd")) <= before["descriptors"] + 2
            assert ([], False) == (os.listdir(tmp_path / "work"), (tmp_path / "trace" / ".trees").exists())
    finally:
        os.close(null)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _events(tmp_path):
    found = collections.defaultdict(list)
    for file in sorted((tmp_path / "trace").glob("*.jsonl")):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            if record["event.action"] in ("payload.start", "payload.end", "payload.refused"):
                found[record["container.id"]].append(record["event.action"])

    return found

"""
From a process that is alive on this node to its payload.

Rule: what the kernel says comes first.  The variable in a process's
environment is what the process says itself: a payload can copy another one's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Optional

from wlcg_isolate.host.evidence import machine, process
from wlcg_isolate.host.procfs import ancestors, boot_id, marker, namespaces, start_ticks
from wlcg_isolate.trace.pilot import entity_id
from wlcg_isolate.trace.query.engine import Engine
from wlcg_isolate.trace.query.payloads import Payload, payloads_of
from wlcg_isolate.trace.query.question import Process, Question
from wlcg_isolate.trace.query.times import SECOND, recorded

#: A container has these of its own; the first that it has is looked for.
_OWN = ("pid", "mnt")


def payloads_of_process(engine: Engine, pid: int) -> list[Payload]:
    """
    Find the payload to which a living process belongs.

    Args:
        engine: Who is asked.

        pid: The process, as this node numbers it.

    Returns:
        The payload, and what led to it as `found_by`: ``"process"`` (it is
        the payload's first one), ``"ancestor"``, ``"namespace"`` or
        ``"marker"`` (its environment says so, and nothing else does).
    """
    boot = boot_id()
    if boot is None:
        return []
    for found_by, question in _ways(boot, pid):
        found = payloads_of(engine.records(question))
        # Numbers of namespaces are given again: who is over by its records is not alive.
        found = [one for one in found if found_by == "marker" or one["state"] == "open"] or found[-1:]
        if found:
            return [{**one, **_runs(one, found_by), "found_by": found_by} for one in found]

    return []


def _runs(payload: Payload, found_by: str) -> dict[str, str]:
    # What a process says of itself shows nothing.
    return {"state": "running", "state_by": found_by} if payload["state"] == "open" and found_by != "marker" else {}


def _ways(boot: str, pid: int) -> Iterator[tuple[str, Question]]:
    for number in (pid, *ancestors(pid)):
        ticks = start_ticks(number)
        if ticks is not None:
            process = Process(boot_id=boot, pid=number, start_ticks=ticks)
            yield "process" if number == pid else "ancestor", Question(boots=(boot,), processes=(process,))
    theirs, ours = namespaces(pid), namespaces()
    for kind in _OWN:
        if kind in theirs and theirs[kind] != ours.get(kind):
            yield "namespace", Question(boots=(boot,), namespaces=((kind, theirs[kind]),))
    said = marker(pid)
    if said:
        yield "marker", Question(trace_ids=(said,))


def on_this_node(payload: Payload) -> Optional[tuple[str, str, Optional[int]]]:
    """
    Say what this node shows of a payload without an end.

    Returns:
        ``"running"`` or ``"lost"``, what shows it, and by when it was over if
        that is known; or None where nothing does: it is another node's, or
        its numbers are those of another PID namespace.
    """
    here = machine()
    boot = payload["host.boot.id"]
    if boot is None or here.boot_id is None:
        return None
    if boot != here.boot_id:
        booted = int((time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)) * SECOND)
        # Another machine may have this one's name, and be up.
        before = payload["host.name"] == here.name and (recorded(payload["last_seen"]) or 0) < booted
        return ("lost", "reboot", booted) if before else None
    for by, there in (("process", _process(payload)), ("pilot", _pilot(payload))):
        if there:
            return "running", by, None
        # Whether a number is gone, only its own namespace shows.
        if there is False and payload["host.pid_ns_ino"] == here.pid_namespace is not None:
            return "lost", f"{by}-gone", None

    return None


def _process(payload: Payload) -> Optional[bool]:
    pid, ticks = payload["process.pid"], payload["wlcg.process.start_ticks"]

    return None if pid is None or ticks is None else _start(pid) == ticks


def _pilot(payload: Payload) -> Optional[bool]:
    pid, entity = payload["process.parent.pid"], payload["process.parent.entity_id"]

    return None if pid is None or entity is None else entity_id(pid, _start(pid)) == entity


def _start(pid: int) -> Optional[int]:
    found = process(pid)

    return None if found.ended else found.start_ticks

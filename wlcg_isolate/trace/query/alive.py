"""
From a process that is alive on this node to its payload.

Rule: what the kernel says comes first.  The variable in a process's
environment is what the process says itself: a payload can copy another one's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from wlcg_isolate.host.procfs import ancestors, boot_id, marker, namespaces, start_ticks
from wlcg_isolate.trace.query.answer import Engine
from wlcg_isolate.trace.query.payloads import Payload, payloads_of
from wlcg_isolate.trace.query.question import Process, Question

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
            return [{**one, "found_by": found_by} for one in found]

    return []


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


def still_there(payload: Payload) -> Optional[bool]:
    """
    Tell whether an open payload's first process is alive, or None when it is
    not of this node and boot.
    """
    if payload["host.boot.id"] != boot_id() or payload["process.pid"] is None:
        return None

    return bool(start_ticks(payload["process.pid"]) == payload["wlcg.process.start_ticks"])

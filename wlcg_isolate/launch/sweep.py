"""
End what is left of a container that has no PID namespace.

With one, the end of its process 1 ends all others.  Without, nothing but the
mounts tells the payload's processes from the pilot's.
"""

from __future__ import annotations

import signal
import time
from typing import Optional

from wlcg_isolate.host import procfs
from wlcg_isolate.launch import process
from wlcg_isolate.launch.handshake import Payload
from wlcg_isolate.plan import Plan

#: How long a killed process may take to be gone.
_PAUSE_SECONDS = 0.01


def sweep(plan: Plan, payload: Optional[Payload]) -> None:
    """
    Kill every process that shares the payload's mount namespace, until none
    is left or the plan's grace is over: a process that waits for a dead file
    system cannot be killed.
    """
    if payload is None or plan.runtime.pid:
        return
    deadline = time.monotonic() + plan.grace
    left = procfs.sharing("mnt", payload.namespaces["mnt"])
    while left and time.monotonic() < deadline:
        for pid in left:
            process.send(None, pid, signal.SIGKILL)
        time.sleep(_PAUSE_SECONDS)
        left = procfs.sharing("mnt", payload.namespaces["mnt"])

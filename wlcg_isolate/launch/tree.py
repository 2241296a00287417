"""
The processes of one container, and what the runtime started beside it.

Rules:

1. With a PID namespace, the end of its process 1 ends all others
   (pid_namespaces(7)).  They are killed before it all the same: a process
   that ends together with its process 1 is in nobody's account.
2. Without one, nothing but mounts, user namespaces and descent tells the
   payload's processes from the pilot's.  All are stopped before the first is
   killed, so that none can start another one meanwhile.
3. A number is signalled only while it is the process that was meant.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from wlcg_isolate.host import procfs
from wlcg_isolate.launch import process
from wlcg_isolate.launch.child import Child
from wlcg_isolate.launch.handshake import Payload

#: How long a killed process may take to be gone.
_PAUSE_SECONDS = 0.01

#: How long process 1 may take to reap what was killed.
_REAP_SECONDS = 1.0


class Tree:
    """
    Everything that has to end with one payload.

    Attributes:
        launcher: The runtime.
    """

    def __init__(self, launcher: Child, payload: Payload, grace: float) -> None:
        """
        Take note of it.

        Args:
            launcher: The runtime.

            payload: The payload, as it was found.

            grace: How many seconds what cannot be killed is waited for.
        """
        self.launcher = launcher
        self._payload = payload
        self._grace = grace
        self._strays = dict(payload.helpers)
        if payload.init is not None:
            self._strays[payload.init] = procfs.start_ticks(payload.init)

    def send(self, number: int) -> None:
        """
        Send a signal to all processes in the container, the youngest first,
        but not to its process 1, which is the runtime's.
        """
        for pid in reversed(self._inside()):
            process.send(None, pid, number)

    def kill(self) -> None:
        """
        End all processes of the container, then the runtime and its helpers.
        """
        if not self.launcher.poll():
            self.send(signal.SIGKILL)
            if self._payload.init is not None and not self.launcher.wait(_REAP_SECONDS):
                process.send(None, self._payload.init, signal.SIGKILL)
                self.launcher.wait(self._grace)
        self.launcher.kill()
        self.sweep()

    def sweep(self) -> None:
        """
        End what the runtime, which has ended, left behind.

        A process that waits for a dead file system cannot be killed: after
        the grace it is left alone.
        """
        deadline = time.monotonic() + self._grace
        if self._payload.init is None:
            self._end_akin(deadline)
        for pid, ticks in self._strays.items():
            _end_stray(pid, ticks, deadline)

    def _inside(self) -> list[int]:
        init = self._payload.init
        if init is None:
            return [pid for pid in self._akin() if pid != self.launcher.pid and pid not in self._strays]
        family = procfs.family(self.launcher.pid)
        depth = len(family.get(init, ()))

        spared = None if init == self._payload.pid else init

        return [pid for pid, numbers in family.items() if depth and pid != spared and len(numbers) >= depth]

    def _end_akin(self, deadline: float) -> None:
        stopped: set[int] = set()
        found = self._akin()
        while found and time.monotonic() < deadline:
            running = [pid for pid in found if pid not in stopped]
            for pid in running or found:
                process.send(None, pid, signal.SIGSTOP if running else signal.SIGKILL)
            stopped.update(running)
            if not running:
                time.sleep(_PAUSE_SECONDS)
            found = self._akin()

    def _akin(self) -> list[int]:
        """
        List what shares the payload's mounts or user namespace, is in a user
        namespace that was made in it, or descends from such a process.
        """
        namespaces = self._payload.namespaces
        found = procfs.sharing("mnt", namespaces["mnt"])
        if namespaces.get("user") not in (None, procfs.namespaces().get("user")):
            found += procfs.below_user_namespace(namespaces["user"])
        found += [below for pid in found for below in procfs.family(pid)]

        return [pid for pid in dict.fromkeys(found) if not procfs.is_zombie(pid)]


def _end_stray(pid: int, ticks: object, deadline: float) -> None:
    while procfs.start_ticks(pid) == ticks is not None and time.monotonic() < deadline:
        process.send(None, pid, signal.SIGKILL)
        # An orphan is the pilot's child where the pilot is a subreaper (prctl(2)).
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if procfs.is_zombie(pid):
            return
        time.sleep(_PAUSE_SECONDS)

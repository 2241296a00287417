"""
A child of the pilot's process, whatever else that process does with children.

Rules:

1. A number alone is never waited for where there is a descriptor: somebody
   else in the process may have reaped the child, and its number may be the
   next one's.
2. The caller's handling of SIGCHLD does not matter.  Where it takes the exit
   status away, the kernel is asked for it (Linux 6.15).
3. A signal handler may use what it interrupted.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any, Optional

from wlcg_isolate.host import procfs
from wlcg_isolate.launch import process
from wlcg_isolate.launch.process import Ended

#: Whether a child has ended, without waiting for it and without reaping it.
_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT

#: The kernel notes an exit status a moment after nobody can wait for it.
_NOTED = (0.0, 0.001, 0.01, 0.05)


class Child:
    """
    A child of this process, which is reaped exactly once.

    Attributes:
        pid: Its process id.

        ended: How it ended, or None while it runs.

        usage: Its and its reaped descendants' resource usage, once ended;
            None where somebody else reaped it.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended: Optional[Ended] = None
        self.usage: Optional[Any] = None
        self.pidfd = process.open_pidfd(pid)
        self._lock = threading.RLock()
        self._reaped_before: Optional[int] = None
        self._reaped_at_end: Optional[int] = None

    def mark(self) -> None:
        """
        Take note of what the child has reaped so far.
        """
        self._reaped_before = procfs.reaped_faults(self.pid)

    def has_reaped(self) -> Optional[bool]:
        """
        Tell whether the child, which has ended, reaped one of its own since
        the mark; None when the kernel did not tell.

        A child that passes on how its own child ended has reaped it; one that
        was killed over it has not.  Exit statuses are the same for both.
        """
        if self._reaped_before is None or self._reaped_at_end is None:
            return None

        return self._reaped_at_end > self._reaped_before

    def poll(self) -> bool:
        """
        Reap the child if it has ended.

        Returns:
            Whether it has.
        """
        with self._lock:
            if self.ended is None:
                seen: Optional[Ended] = None
                try:
                    seen = _seen(self.pid, self.pidfd)
                    if seen is None:
                        return False
                    # Only until it is reaped.
                    self._reaped_at_end = procfs.reaped_faults(self.pid)
                    _, status, usage = os.wait4(self.pid, 0)
                    self.ended, self.usage = process.decode(status), usage
                except ChildProcessError:
                    # The caller ignores SIGCHLD or reaps everything itself.
                    self.ended = seen or self._noted() or Ended(None, None)

            return self.ended is not None

    def wait(self, seconds: Optional[float], bell: Optional[int] = None) -> bool:
        """
        Wait for the end, at most *seconds* (None: for ever), or until the
        descriptor *bell* can be read.

        Returns:
            Whether it has ended.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        pause = 0.001
        while not self.poll():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            watched = [fd for fd in (self.pidfd, bell) if fd is not None]
            if self.pidfd is None:
                left = pause if left is None else min(pause, left)
                pause = min(pause * 2, 0.1)
            if bell in process.wait_readable(watched, left):
                return self.poll()

        return True

    def kill(self) -> None:
        """
        Send KILL if it still runs, and reap it.
        """
        if not self.poll():
            process.send(self.pidfd, self.pid, signal.SIGKILL)
            self.wait(None)

    def close(self) -> None:
        """
        Release the descriptor.
        """
        with self._lock:
            if self.pidfd is not None:
                os.close(self.pidfd)
                self.pidfd = None

    def _noted(self) -> Optional[Ended]:
        for pause in _NOTED:
            time.sleep(pause)
            found = process.exit_of(self.pidfd)
            if found is not None:
                return found

        return None


def _seen(pid: int, pidfd: Optional[int]) -> Optional[Ended]:
    """
    Look how a child ended and leave it to be reaped; None while it runs.

    Raises:
        ChildProcessError: It is no child any more.
    """
    found = None
    try:
        # By number before Linux 5.4, and where there is no descriptor.
        found = os.waitid(os.P_PID if pidfd is None else os.P_PIDFD, pid if pidfd is None else pidfd, _LOOK)
    except ChildProcessError:
        raise
    except OSError:
        found = os.waitid(os.P_PID, pid, _LOOK)
    if found is None:
        return None

    return Ended(found.si_status, None) if found.si_code == os.CLD_EXITED else Ended(None, found.si_status)

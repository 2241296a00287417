"""
The end of a container whose pilot is interrupted, or gone.

Rules:

1. No container outlives the process that waits for it.  What stops it needs
   nothing of that process, which may have been killed.
2. An end is waited for as long as policy lets a payload take, and not longer.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Optional

from wlcg_isolate.plan import Plan
from wlcg_isolate.remains import Start
from wlcg_isolate.remains.left import opened_for, read

#: Seconds for what comes after KILL.
_MARGIN = 10.0
_POLL = 0.02

#: Descriptors of all lifelines, which a child that the pilot forks must not keep open.
_held: set[int] = set()


class Lifeline:
    """
    A named pipe that this process holds open while it waits for a container.

    Attributes:
        path: The pipe.
    """

    def __init__(self, directory: str) -> None:
        """
        Make it.

        Args:
            directory: Where no payload sees it.

        Raises:
            OSError: It cannot be made there.
        """
        self.path = os.path.join(directory, "life")
        os.mkfifo(self.path, 0o600)
        self._fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        _held.add(self._fd)

    def over(self) -> None:
        """
        Say that the runtime has ended by itself.
        """
        os.write(self._fd, b"over\n")

    def cut(self) -> None:
        """
        Let go of it: unless it is over, the container is stopped.
        """
        if self._fd in _held:
            _held.remove(self._fd)
            os.close(self._fd)


def _forked() -> None:
    for fd in _held:
        with contextlib.suppress(OSError):
            os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_forked)


def was_begun(plan: Plan) -> bool:
    """
    Tell whether the command of a plan got as far as to leave something.
    """
    with opened_for(Start.of(plan, over=True)) as left:
        return left is not None


def wait_for_end(plan: Plan) -> Optional[int]:
    """
    Wait until nothing of a container is left whose lifeline was cut.

    Returns:
        The runtime's exit status, negative for a signal; None where somebody
        else has taken it, or the end did not come.
    """
    with opened_for(Start.of(plan, over=True)) as left:
        if left is None:
            return None
        deadline = time.monotonic() + plan.start_deadline + plan.grace + _MARGIN
        while read(left, "end") is None and time.monotonic() < deadline:
            time.sleep(_POLL)
        pid = (read(left, "runtime") or "").strip()

    return _taken(int(pid)) if pid.isdigit() else None


def _taken(pid: int) -> Optional[int]:
    """
    Take the exit status of a child, so that no zombie stays.
    """
    deadline = time.monotonic() + 1.0
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            time.sleep(_POLL)

    return None

"""
Start, watch and signal single processes.

Nothing here knows of containers.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

#: linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info) with the structure's first
#: published size, and the bit that asks for the exit status (Linux 6.15).
_PIDFD_GET_INFO = (3 << 30) | (64 << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT = 1 << 3
_EXIT_CODE_OFFSET = 60

#: Python ignores these from its start, and ignored signals stay ignored
#: across exec: a payload must find them as any shell would hand them down.
_IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}

#: Descriptors below this are the child's fixed ones.
FIRST_FREE = 10


class Ended(NamedTuple):
    """
    How a process ended.

    Attributes:
        exit_code: Its exit status, or None when a signal ended it.

        signal: The number of that signal, or None.
    """

    exit_code: Optional[int]
    signal: Optional[int]


def decode(status: int) -> Ended:
    """
    Read a wait status.
    """
    if os.WIFSIGNALED(status):
        return Ended(None, os.WTERMSIG(status))

    return Ended(os.WEXITSTATUS(status), None)


def spawn(argv: Sequence[str], environ: Mapping[str, str], descriptors: Mapping[int, int]) -> int:
    """
    Start a program in a session of its own.

    Args:
        argv: Absolute path of the program and its arguments.

        environ: Its whole environment.

        descriptors: Number in the child to number here; the child has these
            and no others.

    Returns:
        Its process id.  The caller must reap it.

    Raises:
        OSError: It cannot be executed.
    """
    parked = {target: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE) for target, fd in descriptors.items()}
    try:
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in parked.items()]
        # Descriptors that somebody else left inheritable must not arrive.
        # One that is closed meanwhile does no harm: glibc ignores EBADF here.
        actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable() if fd not in descriptors]
        return os.posix_spawn(
            argv[0],
            list(argv),
            dict(environ),
            file_actions=actions,
            setsid=True,
            setsigmask=[],
            setsigdef=_IGNORED_BY_PYTHON,
        )
    finally:
        for fd in parked.values():
            os.close(fd)


def _inheritable() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:
            continue

    return found


def open_pidfd(pid: int) -> Optional[int]:
    """
    Return a descriptor for a process, or None where there is no such thing
    (before Linux 5.3) or no such process.
    """
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def exit_of(pidfd: Optional[int]) -> Optional[Ended]:
    """
    Tell how a process that is no child of ours ended.

    Returns:
        None when the kernel does not tell (before Linux 6.15) or the process
        was not reaped yet.
    """
    if pidfd is None:
        return None
    info = bytearray(64)
    struct.pack_into("=Q", info, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    (mask,) = struct.unpack_from("=Q", info, 0)
    if not mask & _PIDFD_INFO_EXIT:
        return None
    (status,) = struct.unpack_from("=i", info, _EXIT_CODE_OFFSET)

    return decode(status)


def send(pidfd: Optional[int], pid: int, number: int) -> bool:
    """
    Send a signal; by descriptor where there is one, since a number can be
    somebody else's by now.

    Returns:
        Whether there was such a process.
    """
    try:
        if pidfd is not None:
            signal.pidfd_send_signal(pidfd, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        return False

    return True


class Child:
    """
    A child of this process, which is reaped exactly once.

    Attributes:
        pid: Its process id.

        ended: How it ended, or None while it runs.

        usage: Its and its reaped descendants' resource usage, once ended.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended: Optional[Ended] = None
        self.usage: Optional[Any] = None
        self.pidfd = open_pidfd(pid)
        self._lock = threading.Lock()
        self._reaped_before: Optional[int] = None
        self._reaped_at_end: Optional[int] = None

    def mark(self) -> None:
        """
        Take note of what the child has reaped so far.
        """
        self._reaped_before = _reaped_by(self.pid)

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
                try:
                    if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                        return False
                    # Only until it is reaped.
                    self._reaped_at_end = _reaped_by(self.pid)
                    _, status, usage = os.wait4(self.pid, 0)
                except ChildProcessError:
                    # The caller ignores SIGCHLD or reaps everything itself.
                    self.ended = exit_of(self.pidfd) or Ended(None, None)
                    return True
                self.ended, self.usage = decode(status), usage

            return self.ended is not None

    def wait(self, seconds: Optional[float]) -> bool:
        """
        Wait for the end, at most *seconds* (None: for ever).

        Returns:
            Whether it has ended.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        pause = 0.001
        while not self.poll():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            if self.pidfd is not None:
                wait_readable([self.pidfd], left)
            else:
                time.sleep(pause if left is None else min(pause, left))
                pause = min(pause * 2, 0.1)

        return True

    def kill(self) -> None:
        """
        Send KILL if it still runs, and reap it.
        """
        if not self.poll():
            send(self.pidfd, self.pid, signal.SIGKILL)
            self.wait(None)

    def close(self) -> None:
        """
        Release the descriptor.
        """
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


def _reaped_by(pid: int) -> Optional[int]:
    """
    Count the page faults of all that a process has reaped: no process is
    without any (proc_pid_stat(5), cminflt).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            # The program's name comes before, and may hold anything.
            return int(f.read().rpartition(b")")[2].split()[8])
    except (OSError, ValueError, IndexError):
        return None


def wait_readable(descriptors: Sequence[int], seconds: Optional[float]) -> list[int]:
    """
    Wait until one of *descriptors* can be read or is at its end.

    Returns:
        Those that can; none when *seconds* are over.
    """
    poller = select.poll()
    for fd in descriptors:
        poller.register(fd, select.POLLIN)
    milliseconds = None if seconds is None else max(0, int(seconds * 1000) + 1)

    return [fd for fd, _ in poller.poll(milliseconds)]

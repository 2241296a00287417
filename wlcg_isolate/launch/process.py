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

#: None of the fixed ones.
_PASSING = 9


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


def spawn(
    argv: Sequence[str], environ: Mapping[str, str], descriptors: Mapping[int, int], terminal: Optional[str] = None
) -> int:
    """
    Start a program in a session of its own.

    Args:
        argv: Absolute path of the program and its arguments.

        environ: Its whole environment.

        descriptors: Number in the child to number here; the child has these
            and no others.

        terminal: Path of a terminal that becomes its session's controlling
            one, or None.

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
        if terminal is not None:
            # A leader without one gets the first that it opens (tty_ioctl(4)).
            actions += [(os.POSIX_SPAWN_OPEN, _PASSING, terminal, os.O_RDWR, 0), (os.POSIX_SPAWN_CLOSE, _PASSING)]
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

"""
Put the program that becomes the payload into memory, and try it.

It is a file without a name (memfd_create(2)) that nobody can change, and is
executed through its descriptor: no path of the image or of the host leads to
it, and no ``noexec`` mount stands in its way.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
from typing import Optional

from wlcg_isolate.loader import loader_for
from wlcg_isolate.loader.program import MARKER_FD, RELEASE_FD

#: The descriptor through which it is executed.  All are below 10: the shell
#: that may take its place knows no number of two digits.
LOADER_FD = 8
PATH = f"/proc/self/fd/{LOADER_FD}"

#: linux/memfd.h: close on exec, allow seals, and (Linux 6.3) executable
#: whatever the node's default is.
_CLOEXEC, _ALLOW_SEALING, _EXECUTABLE = 1, 2, 16
#: linux/fcntl.h: no more seals, no shrinking, no growing, no writing.
_ADD_SEALS, _ALL_SEALS = 1033, 15

#: Number of memfd_create(2), for a Python that was built for older systems.
_MEMFD_CREATE = {"x86_64": 319, "aarch64": 279}

#: Descriptors of a trial are moved above the fixed ones first.
_FIRST_FREE = 10

_works: set[str] = set()


def open_loader(machine: str) -> int:
    """
    Make the file.

    Returns:
        Its descriptor, which the caller closes.

    Raises:
        OSError: There is no program for this processor, or the kernel has or
            allows no such files.
    """
    program = loader_for(machine)
    if program is None:
        raise OSError(errno.ENOEXEC, f"there is none for {machine}")
    fd = _memory_file("wlcg-isolate-loader", machine)
    try:
        os.write(fd, program)
        os.fchmod(fd, 0o555)
        fcntl.fcntl(fd, _ADD_SEALS, _ALL_SEALS)
    except BaseException:
        os.close(fd)
        raise

    return fd


def loader_fault(machine: str, seconds: float) -> Optional[str]:
    """
    Say why the program cannot be used on this node, or None when it can.

    It is really started once in the life of this process, and finds nothing
    to become.

    Args:
        machine: The node's architecture (`os.uname` spelling).

        seconds: How long it may take to answer.
    """
    if machine in _works:
        return None
    try:
        answers = _answers(machine, seconds)
    except OSError as e:
        return f"the loader cannot be executed: {e.strerror}"
    if not answers:
        return "the loader gives no start marker"
    _works.add(machine)

    return None


def _memory_file(name: str, machine: str) -> int:
    flags = _CLOEXEC | _ALLOW_SEALING
    try:
        return _memfd_create(name, flags | _EXECUTABLE, machine)
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise

        return _memfd_create(name, flags, machine)


def _memfd_create(name: str, flags: int, machine: str) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, flags)
    import ctypes

    number = _MEMFD_CREATE[machine]
    fd = int(ctypes.CDLL(None, use_errno=True).syscall(number, name.encode(), flags))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    return fd


def _answers(machine: str, seconds: float) -> bool:
    with contextlib.ExitStack() as opened:
        null = _parked(os.open(os.devnull, os.O_RDWR), opened)
        loader = _parked(open_loader(machine), opened)
        read, write = os.pipe()
        answer = _parked(read, opened)
        numbers = {0: null, 1: null, 2: null, RELEASE_FD: null, LOADER_FD: loader}
        with contextlib.ExitStack() as ours:
            numbers[MARKER_FD] = _parked(write, ours)
            actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in numbers.items()]
            pid = os.posix_spawn(PATH, [PATH], {}, file_actions=actions, setsid=True)
        ready, _, _ = select.select([answer], [], [], seconds)
        text = os.read(answer, 64) if ready else b""
        if not ready:
            os.kill(pid, 9)
        # The caller may ignore or reap its children itself.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)

    return text == b"%d\n" % pid


def _parked(fd: int, stack: contextlib.ExitStack) -> int:
    """
    Move a descriptor out of the way of the fixed ones.
    """
    try:
        copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
    finally:
        os.close(fd)
    stack.callback(os.close, copy)

    return copy

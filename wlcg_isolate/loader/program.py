"""
What the program does, written once for all processors.

1. Write its process id and a newline to descriptor 4: the start marker.
2. Read from descriptor 3 the size of the release, and the release itself
   into memory at `release.ADDRESS`: all of it, or end with 125.
3. Change to the payload's directory, let the kernel keep it from what the
   release says, and take descriptors 5, 6 and 7 as the standard ones, or end
   with 125.
4. Write a newline to descriptor 4: the release was read.
5. Lead a process group of its own, in the foreground of the terminal where it
   has one: what a payload sends to its group, or a keyboard to the foreground,
   must not reach the runtime.
6. Close all other descriptors, but for the marker's, which no program that is
   executed gets, and block no signal.
7. Execute the first candidate that can be.  One that is not there is passed
   over, also when it is only its interpreter that is missing; one of a format
   that the kernel does not know is a script for ``/bin/sh`` (execvp(3)).
8. Say what failed on descriptor 2, write the exit status as one byte to the
   marker's, and end: 127 when nothing was there, 126 when something was.

What was ignored or limited when it started stays so for the payload.
"""

from __future__ import annotations

import errno
from typing import Union

from wlcg_isolate.loader import release
from wlcg_isolate.loader.assembler import Assembler

RELEASE_FD, MARKER_FD = 3, 4
#: Where the marker's is from the release on: the lowest, so that all others
#: can be closed at once.  It closes by itself when a program is executed.
_REPORT_FD, _CLOSE_ON_EXEC = RELEASE_FD, 0o2000000
#: Where the payload's standard descriptors wait.
WAITING_FDS = (5, 6, 7)
#: Exit status when nothing was executed.
NOT_RELEASED = 125

#: A page of its own, below the release, with room for the largest page size.
_SCRATCH = release.ADDRESS - 0x10000
#: In it: the size as read, the end of the marker's text, a signal set that is
#: empty and one that is full, and the number of the group.
_SIZE, _MARKER_END, _NO_SIGNALS, _ALL_SIGNALS, _GROUP = 0, 64, 128, 136, 144

#: rt_sigprocmask(2), and ioctl_tty(2): TIOCSPGRP.
_SIG_SETMASK, _SET_FOREGROUND = 2, 0x5410

#: PROT_READ | PROT_WRITE; MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE.
#: Kernels before 4.17 take the last one as a wish, hence the check of the result.
_READ_WRITE, _FIXED_MEMORY = 3, 0x100022

#: linux/seccomp.h: SECCOMP_SET_MODE_FILTER, and SECCOMP_FILTER_FLAG_SPEC_ALLOW (Linux 4.17), without which kernels
#: before 5.16 slow down whatever is filtered.
_SET_FILTER, _AT_FULL_SPEED = 1, 4

#: What execve(2) says of a path that leads nowhere.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
#: faccessat(2): relative to the current directory; whether it exists.
_HERE, _EXISTS = -100, 0


def write_program(a: Assembler) -> None:
    """
    Write all of it.
    """
    _map(a, _SCRATCH, 4096)
    a.set("s0", _SCRATCH)
    _send_marker(a)
    _read_release(a)
    _restrict(a)
    _take_streams(a)
    _lead_a_group(a)
    _close_others(a)
    _execute(a)
    _give_up(a)


def _map(a: Assembler, address: int, size: Union[int, str]) -> None:
    a.call("mmap", address, size, _READ_WRITE, _FIXED_MEMORY, -1, 0)
    a.jump_if("ret", "ne", address, "fail")


def _send_marker(a: Assembler) -> None:
    a.call("getpid")
    a.copy("s1", "ret")
    # The text grows downwards from its newline.
    a.set("s2", _SCRATCH + _MARKER_END - 1)
    a.set("a2", ord("\n"))
    a.store_byte("a2", "s2", 0)
    a.label("digit")
    a.split_digit("s1", "a2")
    a.increase("a2", ord("0"))
    a.increase("s2", -1)
    a.store_byte("a2", "s2", 0)
    a.jump_if("s1", "ne", 0, "digit")
    a.set("a2", _SCRATCH + _MARKER_END)
    a.subtract("a2", "s2")
    a.call("write", MARKER_FD, "s2", "a2")
    a.jump_if("ret", "le", 0, "fail")


def _read_release(a: Assembler) -> None:
    # s2: where the next byte goes; s3: how many are missing; s4: whether the size is known.
    a.set("s2", _SCRATCH + _SIZE)
    a.set("s3", 8)
    a.set("s4", 0)
    a.label("read")
    a.call("read", RELEASE_FD, "s2", "s3")
    a.jump_if("ret", "eq", -errno.EINTR, "read")
    a.jump_if("ret", "le", 0, "fail")
    a.add("s2", "ret")
    a.subtract("s3", "ret")
    a.jump_if("s3", "ne", 0, "read")
    a.jump_if("s4", "ne", 0, "complete")
    a.load("s3", "s0", _SIZE)
    _map(a, release.ADDRESS, "s3")
    a.set("s2", release.ADDRESS)
    a.set("s4", 1)
    a.jump("read")
    a.label("complete")
    a.set("s0", release.ADDRESS)


def _restrict(a: Assembler) -> None:
    a.load("a0", "s0", release.DIRECTORY)
    a.call("chdir", "a0")
    a.jump_if("ret", "ne", 0, "fail")
    a.load("s1", "s0", release.FILTER)
    a.jump_if("s1", "eq", 0, "restricted")
    a.call("seccomp", _SET_FILTER, _AT_FULL_SPEED, "s1")
    a.jump_if("ret", "eq", 0, "restricted")
    a.call("seccomp", _SET_FILTER, 0, "s1")
    a.jump_if("ret", "ne", 0, "fail")
    a.label("restricted")


def _take_streams(a: Assembler) -> None:
    for standard, waiting in enumerate(WAITING_FDS):
        a.call("dup3", waiting, standard, 0)
        a.jump_if("ret", "ne", standard, "fail")
    a.call("write", MARKER_FD, _SCRATCH + _MARKER_END - 1, 1)
    a.jump_if("ret", "ne", 1, "fail")


def _lead_a_group(a: Assembler) -> None:
    a.call("setpgid", 0, 0)
    # Unless it is blocked, SIGTTOU keeps the background from becoming the foreground.
    a.set("s1", -1)
    a.set("s2", _SCRATCH)
    a.store("s1", "s2", _ALL_SIGNALS)
    a.call("rt_sigprocmask", _SIG_SETMASK, _SCRATCH + _ALL_SIGNALS, 0, 8)
    a.call("getpid")
    a.copy("s1", "ret")
    a.store("s1", "s2", _GROUP)
    a.call("ioctl", 0, _SET_FOREGROUND, _SCRATCH + _GROUP)


def _close_others(a: Assembler) -> None:
    a.call("dup3", MARKER_FD, _REPORT_FD, _CLOSE_ON_EXEC)
    a.jump_if("ret", "ne", _REPORT_FD, "fail")
    a.call("close_range", _REPORT_FD + 1, -1, 0)
    a.jump_if("ret", "eq", 0, "closed")
    # Before Linux 5.9: one by one, from the last that there can be.
    a.load("s1", "s0", release.LAST_FD)
    a.label("close")
    a.call("close", "s1")
    a.increase("s1", -1)
    a.jump_if("s1", "ne", _REPORT_FD, "close")
    a.label("closed")
    a.call("rt_sigprocmask", _SIG_SETMASK, _SCRATCH + _NO_SIGNALS, 0, 8)


def _execute(a: Assembler) -> None:
    # s1: the next candidate; s2: what to say when there is none; s3: the candidate.
    a.load("s1", "s0", release.CANDIDATES)
    a.set("s2", release.ADDRESS + release.NOT_FOUND)
    a.label("next")
    a.load("s3", "s1", 0)
    a.jump_if("s3", "eq", 0, "give-up")
    a.increase("s1", 8)
    a.load("a1", "s0", release.ARGUMENTS)
    a.load("a2", "s0", release.ENVIRONMENT)
    a.call("execve", "s3", "a1", "a2")
    for number in _NOT_THERE:
        a.jump_if("ret", "eq", -number, "missing")
    a.label("present")
    a.set("s2", release.ADDRESS + release.NOT_EXECUTABLE)
    a.jump_if("ret", "ne", -errno.ENOEXEC, "next")
    a.load("a1", "s0", release.SCRIPT_ARGUMENTS)
    a.store("s3", "a1", 8)
    a.load("a0", "a1", 0)
    a.load("a2", "s0", release.ENVIRONMENT)
    a.call("execve", "a0", "a1", "a2")
    a.jump("next")
    a.label("missing")
    a.copy("s4", "ret")
    a.call("faccessat", _HERE, "s3", _EXISTS)
    a.jump_if("ret", "ne", 0, "next")
    a.copy("ret", "s4")
    a.jump("present")


def _give_up(a: Assembler) -> None:
    a.label("give-up")
    a.load("a1", "s2", release.TEXT)
    a.load("a2", "s2", release.TEXT_SIZE)
    a.call("write", 2, "a1", "a2")
    a.copy("a1", "s2")
    a.increase("a1", release.STATUS)
    a.call("write", _REPORT_FD, "a1", 1)
    a.load("a0", "s2", release.STATUS)
    a.call("exit_group", "a0")
    a.label("fail")
    a.call("exit_group", NOT_RELEASED)

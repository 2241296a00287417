"""
A program for the kernel that says which system calls a payload may make
(seccomp(2)), for what no option of a runtime keeps it from:

* the keyrings (keyrings(7)): the session's is the pilot's own, and the user's
  can be linked into it by everybody with the same user, from any namespace;
* user namespaces, with which a payload gets capabilities over a part of the
  kernel that is no use to it but for containers of its own.

Calls that are kept back fail as in a kernel without them, so that programs
do without.  All others pass, unchanged and untouched.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Optional

_INSTRUCTION = struct.Struct("<HBBI")

#: linux/bpf_common.h: load a word of what is known of the call, compare,
#: compare as at least, compare a bit, return.
_LOAD, _EQUAL, _AT_LEAST, _BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06

#: linux/seccomp.h: what a program may say, and where it finds the number of
#: the call, the architecture, and the lower half of the first argument.
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16

_NEW_USER = 0x10000000

#: Numbers from here on are x32's, which have no table of their own.
_X32 = 0x40000000


class _Calls(NamedTuple):
    """
    Numbers of system calls in one architecture.

    Attributes:
        architecture: Its number (linux/audit.h).

        keyrings: add_key, request_key and keyctl.

        flagged: clone and unshare, whose first argument is their flags.

        clone3: Its flags are in memory, where no program can look.
    """

    architecture: int
    keyrings: tuple[int, int, int]
    flagged: tuple[int, int]
    clone3: int = 435


#: A processor's own architecture, and the one of 32 bits that it also runs.
_TABLES: Mapping[str, tuple[_Calls, ...]] = {
    "x86_64": (
        _Calls(0xC000003E, keyrings=(248, 249, 250), flagged=(56, 272)),
        _Calls(0x40000003, keyrings=(286, 287, 288), flagged=(120, 310)),
    ),
    "aarch64": (
        _Calls(0xC00000B7, keyrings=(217, 218, 219), flagged=(220, 97)),
        _Calls(0x40000028, keyrings=(309, 310, 311), flagged=(120, 337)),
    ),
}


def restrictions(machine: str, *, nesting: bool, keyrings: bool) -> Optional[bytes]:
    """
    Write the program.

    Args:
        machine: The processor (`os.uname` spelling).

        nesting: Whether user namespaces are allowed.

        keyrings: Whether keyrings are allowed.

    Returns:
        Its instructions; None where everything is allowed.

    Raises:
        KeyError: There are no tables for this processor.
    """
    if nesting and keyrings:
        return None
    blocks = [list(_block(calls, nesting=nesting, keyrings=keyrings)) for calls in _TABLES[machine]]
    program = [_step(_LOAD, _ARCHITECTURE)]
    for calls, block in zip(_TABLES[machine], blocks):
        program += [_step(_EQUAL, calls.architecture, otherwise=len(block)), *block]
    program.append(_fail(errno.ENOSYS))

    return b"".join(program)


def _block(calls: _Calls, *, nesting: bool, keyrings: bool) -> Iterator[bytes]:
    absent = [*(() if keyrings else calls.keyrings), *(() if nesting else (calls.clone3,))]
    yield _step(_LOAD, _NUMBER)
    for number in absent:
        yield _step(_EQUAL, number, otherwise=1)
        yield _fail(errno.ENOSYS)
    for number in () if nesting else calls.flagged:
        yield _step(_EQUAL, number, otherwise=4)
        yield _step(_LOAD, _FIRST_ARGUMENT)
        yield _step(_BIT, _NEW_USER, otherwise=1)
        yield _fail(errno.EPERM)
        yield _step(_RETURN, _ALLOW)
    yield _step(_AT_LEAST, _X32, otherwise=1)
    yield _fail(errno.ENOSYS)
    yield _step(_RETURN, _ALLOW)


def _fail(error: int) -> bytes:
    return _step(_RETURN, _FAIL | error)


def _step(code: int, value: int, *, otherwise: int = 0) -> bytes:
    """
    Write one instruction; a comparison that does not hold leaves *otherwise*
    instructions out.
    """
    return _INSTRUCTION.pack(code, 0, otherwise, value)

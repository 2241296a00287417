"""
What the kernel is told to keep back, run here as the kernel runs it.
"""

from __future__ import annotations

import errno
import struct

import pytest

from wlcg_isolate.loader.filter import restrictions

X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
ALLOWED = 0x7FFF0000
NEW_USER, NEW_NET, SIGCHLD = 0x10000000, 0x40000000, 17


def says(program, architecture, number, argument=0):
    """Run a program over one system call: None when it may pass, or the error that it gets."""
    known = {0: number, 4: architecture, 16: argument & 0xFFFFFFFF, 20: argument >> 32}
    at = value = 0
    for _ in range(len(program)):
        code, then, otherwise, constant = struct.unpack_from("<HBBI", program, 8 * at)
        if code == 0x06:
            return None if constant == ALLOWED else constant & 0xFFFF
        if code == 0x20:
            value = known[constant]
            at += 1
            continue
        holds = {0x15: value == constant, 0x35: value >= constant, 0x45: bool(value & constant)}[code]
        at += 1 + (then if holds else otherwise)

    raise AssertionError(program)


#: Architecture, number of the call, its first argument, and what keeps it back.
CALLS = [
    *((X86_64, number, 0, "keyrings") for number in (248, 249, 250)),
    *((I386, number, 0, "keyrings") for number in (286, 287, 288)),
    *((AARCH64, number, 0, "keyrings") for number in (217, 218, 219)),
    *((ARM, number, 0, "keyrings") for number in (309, 310, 311)),
    *((a, 435, 0, "clone3") for a in (X86_64, I386, AARCH64, ARM)),
    (X86_64, 272, NEW_USER, "nesting"),
    (X86_64, 272, NEW_USER | NEW_NET, "nesting"),
    (X86_64, 272, NEW_USER | 1 << 40, "nesting"),
    (X86_64, 56, NEW_USER | SIGCHLD, "nesting"),
    (I386, 310, NEW_USER, "nesting"),
    (I386, 120, NEW_USER, "nesting"),
    (AARCH64, 97, NEW_USER, "nesting"),
    (AARCH64, 220, NEW_USER, "nesting"),
    (ARM, 337, NEW_USER, "nesting"),
    (ARM, 120, NEW_USER, "nesting"),
    (X86_64, 272, NEW_NET, None),
    (X86_64, 56, 0x3D0F00, None),
    (X86_64, 56, SIGCHLD, None),
    (X86_64, 0, NEW_USER, None),
    (X86_64, 59, NEW_USER, None),
    (X86_64, 56 + 0x40000000, NEW_USER, "other"),
    (X86_64, 250 + 0x40000000, 0, "other"),
    (I386, 11, 0, None),
    (ARM, 0xF0005, 0, None),
    (AARCH64, 221, 0, None),
]
ERRORS = {"keyrings": errno.ENOSYS, "clone3": errno.ENOSYS, "nesting": errno.EPERM, "other": errno.ENOSYS, None: None}


@pytest.mark.parametrize(("nesting", "keyrings"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize(("architecture", "number", "argument", "by"), CALLS)
def test_calls(architecture, number, argument, by, nesting, keyrings):
    """Each call passes, or fails as in a kernel without it, also in the 32 bits that the processor runs."""
    machine = "x86_64" if architecture in (X86_64, I386) else "aarch64"
    program = restrictions(machine, nesting=nesting, keyrings=keyrings)
    lifted = (by == "keyrings" and keyrings) or (by in ("nesting", "clone3") and nesting)

    assert (None if lifted else ERRORS[by]) == says(program, architecture, number, argument)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_unknown_architecture(machine):
    """Nothing gets past the program in an architecture that it has no table of."""
    assert errno.ENOSYS == says(restrictions(machine, nesting=False, keyrings=False), 0xC0000016, 1)


def test_nothing_kept_back():
    """Where everything is allowed, there is no program at all."""
    assert None is restrictions("x86_64", nesting=True, keyrings=True)


def test_no_tables():
    """A processor without tables is no processor without restrictions."""
    with pytest.raises(KeyError):
        restrictions("riscv64", nesting=False, keyrings=False)

"""
Wrap a program up as an ELF file (System V ABI, chapters 4 and 5).

The file is one segment that can be read and executed, loaded at a fixed
address, and the word that the stack needs not be executable: without it,
kernels before 5.8 make all memory executable.
"""

from __future__ import annotations

import struct

#: Where the program is in memory, and the alignment of its only segment: the
#: largest page of aarch64.
ADDRESS = 0x400000
_ALIGNMENT = 0x10000

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")

_IDENTITY = b"\x7fELF" + bytes([2, 1, 1])  # 64 bits, little endian, version 1
_EXECUTABLE, _VERSION = 2, 1
_LOAD, _STACK = 1, 0x6474E551
_EXECUTE, _WRITE, _READ = 1, 2, 4


def wrap(code: bytes, machine: int) -> bytes:
    """
    Make the file.

    Args:
        code: The program; it starts with its first byte.

        machine: The processor's number (``e_machine``).
    """
    start = _HEADER.size + 2 * _SEGMENT.size
    size = start + len(code)
    header = _HEADER.pack(
        *(_IDENTITY, _EXECUTABLE, machine, _VERSION),
        *(ADDRESS + start, _HEADER.size, 0, 0),
        *(_HEADER.size, _SEGMENT.size, 2, 0, 0, 0),
    )
    load = _SEGMENT.pack(_LOAD, _READ | _EXECUTE, 0, ADDRESS, ADDRESS, size, size, _ALIGNMENT)
    stack = _SEGMENT.pack(_STACK, _READ | _WRITE, 0, 0, 0, 0, 0, 16)

    return header + load + stack + code

"""
What an ELF file says of the machine and kernel that it needs.

Sources: the System V ABI and its processor supplements (``e_machine``), the
note ``NT_GNU_ABI_TAG`` of glibc (oldest kernel), and the property
``GNU_PROPERTY_X86_ISA_1_NEEDED`` of the x86-64 psABI (level of instructions).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Callable, NamedTuple, Optional

#: e_machine to the name that `os.uname` has; 64 bit, little endian unless
#: the name says otherwise.
_MACHINES: Mapping[int, str] = {
    3: "i686",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "armv7l",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}

_PT_INTERP, _PT_NOTE = 3, 4
_NT_ABI_TAG, _NT_PROPERTY = 1, 5
_ISA_NEEDED = 0xC0008002

#: An honest program has a dozen headers, and notes of some hundred bytes.
_MOST_HEADERS = 64
_MOST_NOTES = 4096

Read = Callable[[int, int], bytes]


class Program(NamedTuple):
    """
    What is of interest in one ELF file.

    Attributes:
        machine: Architecture as `os.uname` spells it, or ``"unknown"``.

        interpreter: Path of its loader inside the image, or None.

        kernel: Oldest Linux that it runs on, such as ``(3, 2, 0)``, or None.

        level: Level of x86-64 that it needs, 1 to 4, or None.
    """

    machine: str
    interpreter: Optional[str] = None
    kernel: Optional[tuple[int, ...]] = None
    level: Optional[int] = None


def read_program(read: Read) -> Optional[Program]:
    """
    Read the headers of a program.

    Args:
        read: Gives up to so many bytes (second) from an offset (first).

    Returns:
        What they say; None when it is no ELF file.  Damaged headers behind
        the first one only leave things unknown.
    """
    head = read(0, 64)
    if head[:4] != b"\x7fELF" or len(head) < 20 or head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    order = "<" if head[5] == 1 else ">"
    machine = _machine(struct.unpack_from(order + "H", head, 18)[0], head)
    interpreter, kernel, level = None, None, None
    try:
        for kind, offset, size in _segments(read, head, order):
            data = read(offset, min(size, _MOST_NOTES))
            if kind == _PT_INTERP:
                interpreter = data.split(b"\0")[0].decode("ascii")
                continue
            for note, description in _notes(data, order, 8 if head[4] == 2 else 4):
                if note == _NT_ABI_TAG:
                    kernel = _kernel(description, order) or kernel
                elif note == _NT_PROPERTY:
                    level = _level(description, order, 8 if head[4] == 2 else 4) or level
    except (struct.error, UnicodeDecodeError):
        pass

    return Program(machine, interpreter, kernel, level if machine == "x86_64" else None)


def _machine(number: int, head: bytes) -> str:
    name = _MACHINES.get(number, "unknown")
    # An x86_64 program for a 32-bit address space (x32) is x86_64 all the same.
    if name == "ppc64" and head[5] == 1:
        return "ppc64le"

    return name


def _segments(read: Read, head: bytes, order: str) -> Iterator[tuple[int, int, int]]:
    wide = head[4] == 2
    table, entry, count = (
        struct.unpack_from(order + "Q14xHH", head, 32) if wide else struct.unpack_from(order + "I10xHH", head, 28)
    )
    layout = struct.Struct(order + ("I4xQ16xQ" if wide else "II8xI"))
    if entry < layout.size:
        return
    data = read(table, entry * min(count, _MOST_HEADERS))
    for at in range(0, len(data) - layout.size + 1, entry):
        kind, offset, size = layout.unpack_from(data, at)
        if kind in (_PT_INTERP, _PT_NOTE):
            yield kind, offset, size


def _notes(data: bytes, order: str, align: int) -> Iterator[tuple[int, bytes]]:
    """
    List the notes named ``GNU``: number and description.
    """
    at = 0
    while at + 12 <= len(data):
        name_size, size, number = struct.unpack_from(order + "III", data, at)
        name_end = at + 12 + name_size
        # The ABI's notes are aligned to 4; those with properties, of 64-bit programs, to 8.
        start = -(-name_end // 4) * 4
        if data[at + 12 : name_end] == b"GNU\0":
            yield number, data[start : start + size]
        at = start + -(-size // (align if number == _NT_PROPERTY else 4)) * (align if number == _NT_PROPERTY else 4)


def _kernel(description: bytes, order: str) -> Optional[tuple[int, ...]]:
    system, *version = struct.unpack_from(order + "IIII", description)

    return tuple(version) if system == 0 else None


def _level(description: bytes, order: str, align: int) -> Optional[int]:
    at = 0
    while at + 8 <= len(description):
        number, size = struct.unpack_from(order + "II", description, at)
        if number == _ISA_NEEDED and size == 4:
            (bits,) = struct.unpack_from(order + "I", description, at + 8)
            return min(bits.bit_length(), 4) or None
        at += 8 + -(-size // align) * align

    return None

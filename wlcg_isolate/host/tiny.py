"""
A program and an image made of nothing but bytes written here.

To know whether containers start, one has to be started, and a node need have
no image for that.  The program makes six system calls one after another; it
needs no library, no shell and no file:

1. write one byte to standard output: the container stands;
2. read one byte from standard input: the host has looked at it from outside;
3. unshare(CLONE_NEWUSER): would a container inside this one start;
4. write the answer, eight bytes, to standard output;
5. read until the host closes its end;
6. exit with `EXIT_STATUS`, which nothing else on the way gives.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

#: HTCondor's own probe expects 37; the two should not be mistaken for each other.
EXIT_STATUS = 73

#: Its name in the image; as a process it is known by the first 15 letters.
PROGRAM = "/wlcg-probe"

_CLONE_NEWUSER = 0x10000000

#: Where the kernel puts the program: below it lies the file's header.
_BASE = 0x400000
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")

#: What the tree needs for ``--contain``, and to be one that an overlay is not needed for.
_DIRECTORIES = ("dev", "etc", "proc", "root", "sys", "tmp", "var/tmp")


class _Call(NamedTuple):
    """
    One system call.

    Attributes:
        name: A key of the tables of numbers.

        arguments: Numbers, or None for the address of eight bytes on the
            stack.

        store: Whether the result goes to those eight bytes.
    """

    name: str
    arguments: tuple[Optional[int], ...]
    store: bool = False


_CALLS = (
    _Call("write", (1, None, 1)),
    _Call("read", (0, None, 1)),
    _Call("unshare", (_CLONE_NEWUSER,), store=True),
    _Call("write", (1, None, 8)),
    _Call("read", (0, None, 1)),
    _Call("exit", (EXIT_STATUS,)),
)


def _x86_64(calls: Sequence[_Call]) -> bytes:
    """
    Write the calls for x86_64 (Intel SDM; Linux' asm/unistd_64.h).
    """
    numbers = {"read": 0, "write": 1, "exit": 60, "unshare": 272}
    registers = (b"\xbf", b"\xbe", b"\xba")  # mov edi, esi, edx, imm32
    pointers = (b"\x48\x89\xe7", b"\x48\x89\xe6", b"\x48\x89\xe2")  # mov rdi, rsi, rdx, rsp
    code = [b"\x6a\x00"]  # push 0: the eight bytes
    for call in calls:
        for i, value in enumerate(call.arguments):
            code.append(pointers[i] if value is None else registers[i] + struct.pack("<I", value))
        code.append(b"\xb8" + struct.pack("<I", numbers[call.name]))  # mov eax, imm32
        code.append(b"\x0f\x05")  # syscall
        if call.store:
            code.append(b"\x48\x89\x04\x24")  # mov [rsp], rax

    return b"".join(code)


def _aarch64(calls: Sequence[_Call]) -> bytes:
    """
    Write the calls for aarch64 (Arm ARM, A64; Linux' asm-generic/unistd.h).
    """
    numbers = {"read": 63, "write": 64, "exit": 93, "unshare": 97}
    words = [0xF81F0FFF]  # str xzr, [sp, #-16]!: the eight bytes
    for call in calls:
        for register, value in enumerate(call.arguments):
            if value is None:
                words.append(0x910003E0 | register)  # mov xN, sp
                continue
            words.append(0xD2800000 | (value & 0xFFFF) << 5 | register)  # movz xN, #imm
            words.append(0xF2A00000 | (value >> 16) << 5 | register)  # movk xN, #imm, lsl #16
        words.append(0xD2800008 | numbers[call.name] << 5)  # movz x8, #imm
        words.append(0xD4000001)  # svc #0
        if call.store:
            words.append(0xF90003E0)  # str x0, [sp]

    return struct.pack(f"<{len(words)}I", *words)


#: Architecture to its ELF machine number and the writer of its code.
_MACHINES = {"x86_64": (62, _x86_64), "aarch64": (183, _aarch64)}

#: Architectures that have the program.
ARCHITECTURES = frozenset(_MACHINES)


def program(machine: str) -> bytes:
    """
    Write the program as an ELF file.

    Args:
        machine: One of `ARCHITECTURES`.
    """
    number, assemble = _MACHINES[machine]
    start = _HEADER.size + _SEGMENT.size
    code = assemble(_CALLS)
    # 64 bits, little-endian, version 1; an executable; one loadable segment, readable and executable.
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = _HEADER.pack(
        ident, 2, number, 1, _BASE + start, _HEADER.size, 0, 0, _HEADER.size, _SEGMENT.size, 1, 0, 0, 0
    )
    size = start + len(code)

    return header + _SEGMENT.pack(1, 5, 0, _BASE, _BASE, size, size, 0x10000) + code


def files(machine: str) -> Mapping[str, bytes]:
    """
    List the files of the image, by their path in it.
    """
    built = program(machine)

    return {PROGRAM[1:]: built, "bin/sh": built}


def directories(workdir: str) -> tuple[str, ...]:
    """
    List the directories of the image, parents first.

    Args:
        workdir: Where the working directory is in the container.
    """
    wanted = ("bin", "var", *_DIRECTORIES, workdir.strip("/"))

    return tuple(dict.fromkeys(sorted(wanted)))


def write_tree(root: str, machine: str, workdir: str) -> None:
    """
    Write the image as a tree below *root*, which must exist.

    The caller's umask does not count: it may be any.

    Raises:
        OSError: It cannot be written.
    """
    for name in directories(workdir):
        make_directory(os.path.join(root, name))
    for name, content in files(machine).items():
        fd = os.open(os.path.join(root, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755)
        with open(fd, "wb") as f:
            os.fchmod(fd, 0o755)
            f.write(content)


def make_directory(path: str) -> None:
    """
    Make a directory that all may read, whatever the umask is.

    Raises:
        OSError: It cannot be made.
    """
    os.mkdir(path)
    os.chmod(path, 0o755)  # noqa: S103 - an image's directories are like that

"""
The test program and the test image are what they are meant to be, byte for byte.
"""

from __future__ import annotations

import os
import struct
import subprocess

import pytest
import unicorn
from PySquashfsImage import SquashFsImage
from unicorn import arm64_const, x86_const

from wlcg_isolate.host import sif, tiny

#: Numbers of the system calls (asm/unistd_64.h, asm-generic/unistd.h).
NAMES = {
    "x86_64": {0: "read", 1: "write", 60: "exit", 272: "unshare"},
    "aarch64": {63: "read", 64: "write", 93: "exit", 97: "unshare"},
}


class Emulated:
    """A processor that runs the program, and a kernel that notes what it asks for."""

    def __init__(self, machine, nested):
        self.machine, self.nested = machine, nested
        self.calls, self.output = [], b""
        if machine == "x86_64":
            self.cpu = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
            self.stack, self.number, self.result = (
                x86_const.UC_X86_REG_RSP,
                x86_const.UC_X86_REG_RAX,
                x86_const.UC_X86_REG_RAX,
            )
            self.arguments = (x86_const.UC_X86_REG_RDI, x86_const.UC_X86_REG_RSI, x86_const.UC_X86_REG_RDX)
            self.cpu.hook_add(unicorn.UC_HOOK_INSN, self._call, None, 1, 0, x86_const.UC_X86_INS_SYSCALL)
        else:
            self.cpu = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
            self.stack, self.number, self.result = (
                arm64_const.UC_ARM64_REG_SP,
                arm64_const.UC_ARM64_REG_X8,
                arm64_const.UC_ARM64_REG_X0,
            )
            self.arguments = (
                arm64_const.UC_ARM64_REG_X0,
                arm64_const.UC_ARM64_REG_X1,
                arm64_const.UC_ARM64_REG_X2,
            )
            self.cpu.hook_add(unicorn.UC_HOOK_INTR, self._call)

    def run(self, program):
        """Load the ELF file as the kernel would, and run it up to its exit."""
        entry, offset = struct.unpack_from("<QQ", program, 24)
        kind, flags, start, address, _, size, memory, _ = struct.unpack_from("<IIQQQQQQ", program, offset)
        assert (1, 5, 0, len(program), len(program)) == (kind, flags, start, size, memory)
        self.cpu.mem_map(address, 0x10000)
        self.cpu.mem_write(address, program)
        self.cpu.mem_map(0x7F0000, 0x10000)
        self.cpu.reg_write(self.stack, 0x7FF000)
        self.cpu.emu_start(entry, address + len(program), count=1000)

    def _call(self, cpu, *_):
        name = NAMES[self.machine][cpu.reg_read(self.number)]
        first, second, third = (cpu.reg_read(register) for register in self.arguments)
        result = 0
        if name in ("read", "write"):
            self.calls.append((name, first, third))
            result = third
        else:
            self.calls.append((name, first))
        if name == "write":
            self.output += bytes(cpu.mem_read(second, third))
        if name == "unshare":
            result = -self.nested % (1 << 64)
        if name == "exit":
            cpu.emu_stop()
        cpu.reg_write(self.result, result)


@pytest.mark.parametrize("nested", [0, 1, 28])
@pytest.mark.parametrize("machine", sorted(tiny.ARCHITECTURES))
def test_program(machine, nested):
    """On each architecture the program asks the kernel for these six things and for nothing else."""
    emulated = Emulated(machine, nested)
    emulated.run(tiny.program(machine))

    assert [
        ("write", 1, 1),
        ("read", 0, 1),
        ("unshare", 0x10000000),
        ("write", 1, 8),
        ("read", 0, 1),
        ("exit", tiny.EXIT_STATUS),
    ] == emulated.calls
    assert b"\0" + (-nested).to_bytes(8, "little", signed=True) == emulated.output


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
def test_header(machine, number):
    """The file says of itself what it is for."""
    program = tiny.program(machine)

    assert (b"\x7fELF\x02\x01\x01", 2, number) == (program[:7], *struct.unpack_from("<HH", program, 16))


def test_program_runs_here(tmp_path):
    """The kernel takes the program, and it ends with its status."""
    tiny.write_tree(str(tmp_path), os.uname().machine, "/srv")
    done = subprocess.run([str(tmp_path) + tiny.PROGRAM], input=b"??", stdout=subprocess.PIPE, check=False)

    assert (tiny.EXIT_STATUS, 9) == (done.returncode, len(done.stdout))


def test_tree(tmp_path):
    """The tree has what a container needs, and nothing else."""
    tiny.write_tree(str(tmp_path), "aarch64", "/workdir")
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))

    assert "bin bin/sh dev etc proc root sys tmp var var/tmp wlcg-probe workdir".split() == found


def test_squashfs():
    """An independent reader finds what was written, files of several blocks among it."""
    big = bytes(range(256)) * 1200
    files = {"bin/sh": b"#!\n", "empty": b"", "big": big, "a/b/c": b"c"}
    image = SquashFsImage.from_bytes(sif.squashfs(["bin", "a", "a/b", "none"], files))
    found = {inode.path.lstrip("/"): inode for inode in image if inode.path.strip("/")}

    assert files == {path: inode.read_bytes() for path, inode in found.items() if inode.is_file}
    assert {"bin", "a", "a/b", "none"} == {path for path, inode in found.items() if inode.is_dir}
    assert {0o755} == {inode.mode & 0o7777 for inode in found.values()}


def test_too_much_for_the_writer():
    """The writer says so when its single block of metadata is full."""
    with pytest.raises(ValueError, match="one metadata block"):
        sif.squashfs([f"directory-{i}" for i in range(400)], {})


@pytest.mark.parametrize(("machine", "code"), [("x86_64", b"02\0"), ("aarch64", b"04\0")])
def test_sif(machine, code):
    """Header and descriptor have the values that the format wants, in their places."""
    partition = sif.squashfs([], {"file": b"x"})
    image = sif.sif(partition, machine)

    assert (b"SIF_MAGIC\0", b"01\0", code) == (image[32:42], image[42:45], image[45:48])
    assert (0x4004, 1) == struct.unpack_from("<i?", image, 4096)
    offset, size = struct.unpack_from("<qq", image, 4096 + 17)
    assert partition == image[offset : offset + size]
    assert (1, 2, code) == struct.unpack_from("<ii3s", image, 4096 + 201)


def test_same_bytes_always():
    """The image is the same wherever and whenever it is made."""
    files = tiny.files("x86_64")

    assert sif.squashfs(tiny.directories("/srv"), files) == sif.squashfs(reversed(tiny.directories("/srv")), files)

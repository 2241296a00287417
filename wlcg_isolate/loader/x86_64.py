"""
How x86_64 spells the instructions.

Numbers of instructions are from Intel's Software Developer's Manual, volume
2; of system calls from the kernel's arch/x86/entry/syscalls/syscall_64.tbl.
Every instruction has the form with 32-bit constants, also where a shorter one
would do: one form is easier to check than three.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from wlcg_isolate.loader.assembler import Assembler

#: Registers that the program has no name for.
_RAX, _RCX, _RDX = 0, 1, 2

_JUMPS = {"eq": 0x84, "ne": 0x85, "le": 0x8E}


class X86_64(Assembler):  # noqa: N801 - the processor's own name
    """
    Writes x86_64.
    """

    elf_machine = 62
    #: rsp, rbp and r12 would need other forms as a base of memory; rcx and
    #: r11 do not survive a system call.
    registers: ClassVar[Mapping[str, int]] = {
        "a0": 7, "a1": 6, "a2": 2, "a3": 10, "a4": 8, "a5": 9,
        "ret": _RAX, "s0": 3, "s1": 5, "s2": 13, "s3": 14, "s4": 15,
    }  # fmt: skip
    calls: ClassVar[Mapping[str, int]] = {
        "read": 0, "write": 1, "close": 3, "mmap": 9, "rt_sigprocmask": 14, "ioctl": 16, "getpid": 39,
        "execve": 59, "chdir": 80, "setpgid": 109, "exit_group": 231, "faccessat": 269, "seccomp": 317,
        "dup3": 292, "close_range": 436,
    }  # fmt: skip

    def set(self, target: str, value: int) -> None:
        """
        Write mov r/m64, imm32.
        """
        self._with_constant(0xC7, 0, target, value)

    def copy(self, target: str, source: str) -> None:
        """
        Write mov r/m64, r64.
        """
        self._between(0x89, self._number(target), self._number(source))

    def load(self, target: str, base: str, offset: int) -> None:
        """
        Write mov r64, r/m64.
        """
        self._with_memory(0x8B, target, base, offset)

    def store(self, source: str, base: str, offset: int) -> None:
        """
        Write mov r/m64, r64.
        """
        self._with_memory(0x89, source, base, offset)

    def store_byte(self, source: str, base: str, offset: int) -> None:
        """
        Write mov r/m8, r8.
        """
        self._with_memory(0x88, source, base, offset)

    def increase(self, target: str, value: int) -> None:
        """
        Write add r/m64, imm32.
        """
        self._with_constant(0x81, 0, target, value)

    def add(self, target: str, source: str) -> None:
        """
        Write add r/m64, r64.
        """
        self._between(0x01, self._number(target), self._number(source))

    def subtract(self, target: str, source: str) -> None:
        """
        Write sub r/m64, r64.
        """
        self._between(0x29, self._number(target), self._number(source))

    def split_digit(self, value: str, digit: str) -> None:
        """
        Write div r/m64, which divides rdx:rax and leaves the rest in rdx.
        """
        # Its neighbours set both up.
        assert self._number(digit) == _RDX  # noqa: S101 - for who changes the program
        self._between(0x89, _RAX, self._number(value))
        self.set(digit, 0)
        self._emit(b"\xb9" + _int32(10))  # mov ecx, imm32
        self._emit(bytes([0x48, 0xF7, _modes(3, 6, _RCX)]))
        self._between(0x89, self._number(value), _RAX)

    def jump(self, label: str) -> None:
        """
        Write nop; jmp rel32: as long as the other jumps.
        """
        self._emit_jump(b"\x90\xe9" + bytes(4), label)

    def jump_if(self, register: str, condition: str, value: int, label: str) -> None:
        """
        Write cmp r/m64, imm32; jcc rel32.
        """
        self._with_constant(0x81, 7, register, value)
        self._emit_jump(bytes([0x0F, _JUMPS[condition]]) + bytes(4), label)

    def _system_call(self, number: int) -> None:
        self._emit(b"\xb8" + _int32(number))  # mov eax, imm32
        self._emit(b"\x0f\x05")

    def _aim(self, place: int, distance: int) -> None:
        # A jump counts from its end.
        self._code[place + 2 : place + 6] = _int32(distance - 6)

    def _between(self, opcode: int, target: int, source: int) -> None:
        self._emit(bytes([_rex(source, target), opcode, _modes(3, source, target)]))

    def _with_constant(self, opcode: int, extension: int, target: str, value: int) -> None:
        number = self._number(target)
        self._emit(bytes([_rex(0, number), opcode, _modes(3, extension, number)]) + _int32(value))

    def _with_memory(self, opcode: int, register: str, base: str, offset: int) -> None:
        one, two = self._number(register), self._number(base)
        self._emit(bytes([_rex(one, two), opcode, _modes(2, one, two)]) + _int32(offset))


def _rex(register: int, base: int) -> int:
    """
    Make the prefix that says 64 bits, and the fourth bit of both registers.
    """
    return 0x48 | (register >> 3) << 2 | base >> 3


def _modes(mode: int, register: int, base: int) -> int:
    """
    Make the ModR/M byte; mode 3 is a register, mode 2 memory with a 32-bit
    offset.
    """
    return mode << 6 | (register & 7) << 3 | base & 7


def _int32(value: int) -> bytes:
    return value.to_bytes(4, "little", signed=True)

"""
How aarch64 spells the instructions.

Numbers of instructions are from the Arm Architecture Reference Manual for
A-profile (DDI 0487), section C6.2; of system calls from the kernel's
include/uapi/asm-generic/unistd.h.  Every instruction is of four bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from wlcg_isolate.loader.assembler import Assembler

#: Registers that the program has no name for: two to work with, the one with
#: the number of a system call, and the one that is always zero.
_WORK, _MORE, _CALL, _ZERO = 9, 10, 8, 31

_CONDITIONS = {"eq": 0, "ne": 1, "le": 13}


class AArch64(Assembler):
    """
    Writes aarch64.
    """

    elf_machine = 183
    registers: ClassVar[Mapping[str, int]] = {
        "a0": 0, "a1": 1, "a2": 2, "a3": 3, "a4": 4, "a5": 5,
        "ret": 0, "s0": 19, "s1": 20, "s2": 21, "s3": 22, "s4": 23,
    }  # fmt: skip
    calls: ClassVar[Mapping[str, int]] = {
        "read": 63, "write": 64, "close": 57, "mmap": 222, "rt_sigprocmask": 135, "getpid": 172, "execve": 221,
        "chdir": 49, "exit_group": 94, "faccessat": 48, "seccomp": 277, "dup3": 24, "ioctl": 29,
        "setpgid": 154, "close_range": 436,
    }  # fmt: skip

    def set(self, target: str, value: int) -> None:
        """
        Write movz or movn, and movk for what is above 16 bits.
        """
        self._set(self._number(target), value)

    def copy(self, target: str, source: str) -> None:
        """
        Write orr xd, xzr, xm.
        """
        self._three(0xAA000000, self._number(target), _ZERO, self._number(source))

    def load(self, target: str, base: str, offset: int) -> None:
        """
        Write ldr xt, [xn, #offset], counted in eights.
        """
        self._with_constant(0xF9400000, self._number(target), self._number(base), offset // 8)

    def store(self, source: str, base: str, offset: int) -> None:
        """
        Write str xt, [xn, #offset], counted in eights.
        """
        self._with_constant(0xF9000000, self._number(source), self._number(base), offset // 8)

    def store_byte(self, source: str, base: str, offset: int) -> None:
        """
        Write strb wt, [xn, #offset].
        """
        self._with_constant(0x39000000, self._number(source), self._number(base), offset)

    def increase(self, target: str, value: int) -> None:
        """
        Write add or sub xd, xn, #imm12.
        """
        number = self._number(target)
        self._with_constant(0x91000000 if value >= 0 else 0xD1000000, number, number, abs(value))

    def add(self, target: str, source: str) -> None:
        """
        Write add xd, xn, xm.
        """
        self._three(0x8B000000, self._number(target), self._number(target), self._number(source))

    def subtract(self, target: str, source: str) -> None:
        """
        Write sub xd, xn, xm.
        """
        self._three(0xCB000000, self._number(target), self._number(target), self._number(source))

    def split_digit(self, value: str, digit: str) -> None:
        """
        Write udiv and msub.
        """
        number = self._number(value)
        self._set(_WORK, 10)
        # udiv xd, xn, xm
        self._three(0x9AC00800, _MORE, number, _WORK)
        # msub xd, xn, xm, xa is xa - xn * xm
        self._three(0x9B008000 | number << 10, self._number(digit), _MORE, _WORK)
        self._three(0xAA000000, number, _ZERO, _MORE)

    def jump(self, label: str) -> None:
        """
        Write b.
        """
        self._emit_jump(_word(0x14000000), label)

    def jump_if(self, register: str, condition: str, value: int, label: str) -> None:
        """
        Write subs xzr, xn, xm; b.cond.
        """
        self._set(_WORK, value)
        self._three(0xEB000000, _ZERO, self._number(register), _WORK)
        self._emit_jump(_word(0x54000000 | _CONDITIONS[condition]), label)

    def _system_call(self, number: int) -> None:
        self._set(_CALL, number)
        self._emit(_word(0xD4000001))  # svc #0

    def _aim(self, place: int, distance: int) -> None:
        instruction = int.from_bytes(self._code[place : place + 4], "little")
        steps = distance // 4
        if instruction >> 24 == 0x54:  # b.cond has 19 bits, b 26
            instruction |= (steps & 0x7FFFF) << 5
        else:
            instruction |= steps & 0x3FFFFFF
        self._code[place : place + 4] = _word(instruction)

    def _set(self, number: int, value: int) -> None:
        # movz or movn (all bits the other way) for the low half, movk for the high one
        bits = value if value >= 0 else ~value
        self._emit(_word((0xD2800000 if value >= 0 else 0x92800000) | (bits & 0xFFFF) << 5 | number))
        if bits >> 16:
            self._emit(_word(0xF2A00000 | (value >> 16 & 0xFFFF) << 5 | number))

    def _three(self, instruction: int, target: int, one: int, two: int) -> None:
        self._emit(_word(instruction | two << 16 | one << 5 | target))

    def _with_constant(self, instruction: int, register: int, base: int, value: int) -> None:
        self._emit(_word(instruction | value << 10 | base << 5 | register))


def _word(value: int) -> bytes:
    return value.to_bytes(4, "little")

"""
The few instructions that the program needs, the same for each processor.

Each method appends one instruction, or the two or three that a processor
needs for it.  Registers have names that say what they are for: ``a0`` to
``a5`` are the arguments of a system call, ``ret`` is its result, ``s0`` to
``s4`` keep their values across one.  After a system call ``a0`` may be the
same as ``ret``.  Numbers are of 64 bits, and negative results of a system
call are error numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Union


class Assembler(ABC):
    """
    Collects a program's bytes and its labels.

    Attributes:
        elf_machine: The processor's number in an ELF header.

        registers: Number of each register by its name.

        calls: Number of each system call by its name.
    """

    elf_machine: ClassVar[int]
    registers: ClassVar[Mapping[str, int]]
    calls: ClassVar[Mapping[str, int]]

    def __init__(self) -> None:
        self._code = bytearray()
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []

    def label(self, name: str) -> None:
        """
        Give the next instruction a name.
        """
        self._labels[name] = len(self._code)

    def call(self, name: str, *arguments: Union[int, str]) -> None:
        """
        Make a system call; its arguments are numbers and registers.

        They are set in their order, so a register that is an argument's own
        must come in its own place or before it.
        """
        for i, value in enumerate(arguments):
            target = f"a{i}"
            if isinstance(value, int):
                self.set(target, value)
            elif value != target:
                self.copy(target, value)
        self._system_call(self.calls[name])

    def finish(self) -> bytes:
        """
        Fill in where the jumps go, and return the program.
        """
        for place, name in self._jumps:
            self._aim(place, self._labels[name] - place)

        return bytes(self._code)

    def _emit(self, *parts: bytes) -> None:
        self._code += b"".join(parts)

    def _emit_jump(self, instruction: bytes, label: str) -> None:
        self._jumps.append((len(self._code), label))
        self._code += instruction

    def _number(self, name: str) -> int:
        return self.registers[name]

    @abstractmethod
    def set(self, target: str, value: int) -> None:
        """
        Set a register to a number of at most 32 bits, sign included.
        """

    @abstractmethod
    def copy(self, target: str, source: str) -> None:
        """
        Set a register to the value of another.
        """

    @abstractmethod
    def load(self, target: str, base: str, offset: int) -> None:
        """
        Read eight bytes of memory; *offset* is a multiple of eight.
        """

    @abstractmethod
    def store(self, source: str, base: str, offset: int) -> None:
        """
        Write eight bytes of memory; *offset* is a multiple of eight.
        """

    @abstractmethod
    def store_byte(self, source: str, base: str, offset: int) -> None:
        """
        Write the lowest byte of a register to memory.
        """

    @abstractmethod
    def increase(self, target: str, value: int) -> None:
        """
        Add a number of less than 4096, which may be negative.
        """

    @abstractmethod
    def add(self, target: str, source: str) -> None:
        """
        Add a register to another.
        """

    @abstractmethod
    def subtract(self, target: str, source: str) -> None:
        """
        Subtract a register from another.
        """

    @abstractmethod
    def split_digit(self, value: str, digit: str) -> None:
        """
        Divide *value* by ten and put the rest into *digit*, which is ``a2``.
        """

    @abstractmethod
    def jump(self, label: str) -> None:
        """
        Go on at a label.
        """

    @abstractmethod
    def jump_if(self, register: str, condition: str, value: int, label: str) -> None:
        """
        Go on at a label when a register compares so with a number: ``eq``,
        ``ne``, or ``le``, which is signed.
        """

    @abstractmethod
    def _system_call(self, number: int) -> None:
        """
        Call the kernel.
        """

    @abstractmethod
    def _aim(self, place: int, distance: int) -> None:
        """
        Write into the jump at *place* how far it goes, from its own start.
        """

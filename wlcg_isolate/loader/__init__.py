"""
The program that waits in the container and becomes the payload.

It is a static ELF program of some hundred bytes, made here from its source:
`program` says what it does, `x86_64` and `aarch64` how a processor spells
that, `elf` wraps it up, and `release` lays out what it reads.

Rules:

1. No compiler, no file that a person cannot read: the bytes are made from
   this package's text each time.
2. The program takes nothing from the image: no library, no shell, no file.
3. It decides nothing.  The host lays out all that it needs; the program reads
   that whole, or ends with 125.

Nothing here touches the machine.
"""

from __future__ import annotations

from functools import cache
from typing import Optional

from wlcg_isolate.loader import elf
from wlcg_isolate.loader.aarch64 import AArch64
from wlcg_isolate.loader.assembler import Assembler
from wlcg_isolate.loader.program import write_program
from wlcg_isolate.loader.x86_64 import X86_64

#: Processors that have one, by the spelling of `os.uname`.
MACHINES: dict[str, type[Assembler]] = {"x86_64": X86_64, "aarch64": AArch64}


@cache
def loader_for(machine: str) -> Optional[bytes]:
    """
    Make the program for a processor.

    Args:
        machine: Its architecture (`os.uname` spelling).

    Returns:
        The whole ELF file, or None when there is none for it.
    """
    kind = MACHINES.get(machine)
    if kind is None:
        return None
    assembler = kind()
    write_program(assembler)

    return elf.wrap(assembler.finish(), kind.elf_machine)

"""
What of a node's processor and kernel matters for images.
"""

from __future__ import annotations

import os
import re
from typing import Optional

from wlcg_isolate.images.misfit import Node

#: Flags of /proc/cpuinfo that each level of x86-64 adds (System V ABI,
#: "Micro-Architecture Levels"; names as the kernel has them).
_LEVELS = (
    frozenset("cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3".split()),
    frozenset("avx avx2 bmi1 bmi2 f16c fma abm movbe xsave".split()),
    frozenset("avx512f avx512bw avx512cd avx512dq avx512vl".split()),
)


def read_node() -> Node:
    """
    Read what matters.
    """
    uname = os.uname()
    flags = re.search(r"^flags\s*:(.*)$", _text("/proc/cpuinfo", 16384), re.MULTILINE)

    return Node(
        machine=uname.machine,
        kernel=uname.release,
        level=level_of(flags[1].split()) if flags and uname.machine == "x86_64" else None,
        vsyscall="[vsyscall]" in _text("/proc/self/maps", 1 << 20) if uname.machine == "x86_64" else None,
        cores=len(os.sched_getaffinity(0)),
    )


def level_of(flags: list[str]) -> int:
    """
    Return the level of x86-64 that a processor with *flags* has.
    """
    level = 1
    for needed in _LEVELS:
        if not needed <= set(flags):
            break
        level += 1

    return level


def _text(path: str, most: int) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read(most)
    except OSError:
        return ""


def of_facts(node: Optional[Node], machine: str, kernel: str) -> Node:
    """
    Return what was read of a node, or the little that its facts tell.
    """
    return node if node is not None else Node(machine=machine, kernel=kernel)

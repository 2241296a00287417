"""
What of a node's processor and kernel matters for images.
"""

from __future__ import annotations

import os
from typing import Optional

from wlcg_isolate.host.node import processor
from wlcg_isolate.host.nodefacts import NodeFacts
from wlcg_isolate.images.misfit import Node


def read_processor() -> Node:
    """
    Read what matters.
    """
    uname = os.uname()
    level, vsyscall = processor()

    return _node(uname.machine, uname.release, level, vsyscall, len(os.sched_getaffinity(0)))


def of_facts(node: Optional[NodeFacts], machine: str, kernel: str) -> Node:
    """
    Return what was read of a node, or the little that its facts tell.
    """
    if node is None:
        return Node(machine=machine, kernel=kernel)

    return _node(machine, kernel, node.cpu_level, node.vsyscall, node.cores)


def as_facts(node: Node) -> NodeFacts:
    """
    Return facts that tell no more than *node*.
    """
    vsyscall = None if node.vsyscall is None else ("emulate" if node.vsyscall else "none")

    return NodeFacts(cpu_level=node.level, cores=node.cores, vsyscall=vsyscall)


def _node(machine: str, kernel: str, level: Optional[int], vsyscall: Optional[str], cores: Optional[int]) -> Node:
    return Node(
        machine=machine,
        kernel=kernel,
        level=level,
        vsyscall=None if vsyscall is None else vsyscall != "none",
        cores=cores,
    )

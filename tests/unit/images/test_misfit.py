"""
What does not fit a node is found in what the image needs.
"""

from __future__ import annotations

import pytest

from wlcg_isolate.host.processor import read_processor
from wlcg_isolate.images.contents import Contents
from wlcg_isolate.images.misfit import Node, kernel_numbers, misfits, runs_on

NODE = Node(machine="x86_64", kernel="5.14.0-427.el9.x86_64", level=3, vsyscall=True)
EL6 = {"ID": "rhel", "VERSION_ID": "6"}


@pytest.mark.parametrize(
    ("contents", "node", "expected"),
    [
        ({}, {}, []),
        ({"machine": "x86_64"}, {}, []),
        ({"machine": "i686"}, {}, []),
        ({"machine": "aarch64"}, {}, ["image-wrong-architecture"]),
        ({"machine": "x86_64"}, {"machine": "i686"}, ["image-wrong-architecture"]),
        ({"machine": "unknown"}, {}, ["image-wrong-architecture"]),
        ({"level": 2}, {}, []),
        ({"level": 3}, {}, []),
        ({"level": 4}, {}, ["image-processor-too-old"]),
        ({"level": 4}, {"level": None}, []),
        ({"kernel": (5, 14, 0)}, {}, []),
        ({"kernel": (5, 15, 0)}, {}, ["image-kernel-too-old"]),
        ({"kernel": (3, 2, 0)}, {"kernel": "2.6.32-754.el6.x86_64"}, ["image-kernel-too-old"]),
        ({"kernel": (3, 2, 0)}, {"kernel": "odd"}, []),
        ({"kernel": (6, 0, 0), "level": 4}, {}, ["image-processor-too-old", "image-kernel-too-old"]),
        ({"machine": "x86_64", "system": EL6}, {}, []),
        ({"machine": "x86_64", "system": EL6}, {"vsyscall": False}, ["image-needs-vsyscall"]),
        ({"machine": "x86_64", "system": EL6}, {"vsyscall": None}, []),
        ({"machine": "i686", "system": EL6}, {"vsyscall": False}, []),
        ({"machine": "x86_64", "system": {"ID": "rocky", "VERSION_ID": "9"}}, {"vsyscall": False}, []),
    ],
    ids=repr,
)
def test_misfits(contents, node, expected):
    """Architecture, level, kernel and system calls are judged."""
    import attrs

    found = list(misfits("/image", Contents(**contents), attrs.evolve(NODE, **node)))

    assert expected == [problem.kind for problem in found]
    assert all(problem.message and problem.advice and "/image" in problem.message for problem in found)


@pytest.mark.parametrize(
    ("release", "expected"),
    [("6.18.44-fc", (6, 18, 44)), ("5.14", (5, 14, 0)), ("4.18.0-553.el8_10.x86_64", (4, 18, 0)), ("", ()), ("x", ())],
)
def test_kernel(release, expected):
    """The numbers of any release are read."""
    assert expected == kernel_numbers(release)


V2 = "fpu lm cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
V3 = f"{V2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"


def test_this_node():
    """This node is one that can be."""
    node = read_processor()

    assert node.level is None or 1 <= node.level <= 4
    assert runs_on(node.machine, node.machine)
    assert node.cores
    assert kernel_numbers(node.kernel)

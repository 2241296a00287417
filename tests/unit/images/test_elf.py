"""
What a program needs is read from its headers.
"""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from wlcg_isolate.images.elf import Program, read_program


def read(data):
    """Read a program that is in memory."""
    return read_program(lambda at, size: data[at : at + size])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Program("x86_64")),
        ({"machine": 183}, Program("aarch64")),
        ({"machine": 3, "wide": False}, Program("i686")),
        ({"machine": 40, "wide": False}, Program("armv7l")),
        ({"machine": 21}, Program("ppc64le")),
        ({"machine": 21, "little": False}, Program("ppc64")),
        ({"machine": 22, "little": False}, Program("s390x")),
        ({"machine": 4242}, Program("unknown")),
        ({"interpreter": "/lib64/ld.so"}, Program("x86_64", "/lib64/ld.so")),
        ({"kernel": (3, 2, 0)}, Program("x86_64", None, (3, 2, 0))),
        ({"kernel": (2, 6, 18), "wide": False, "machine": 3}, Program("i686", None, (2, 6, 18))),
        ({"kernel": (3, 7, 0), "little": False, "machine": 22}, Program("s390x", None, (3, 7, 0))),
        ({"level": 1}, Program("x86_64", level=1)),
        ({"level": 2}, Program("x86_64", level=2)),
        ({"level": 3, "kernel": (5, 14, 0), "interpreter": "/l"}, Program("x86_64", "/l", (5, 14, 0), 3)),
        ({"level": 4}, Program("x86_64", level=4)),
        ({"level": 3, "machine": 183}, Program("aarch64")),
    ],
    ids=repr,
)
def test_program(elf_of, options, expected):
    """Machine, loader, kernel and level are what the file says."""
    assert expected == read(elf_of(**options))


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"#!/bin/sh\n", b"\x7fELF" + b"\x09" * 60], ids=repr)
def test_no_program(data):
    """What is no ELF file tells nothing."""
    assert None is read(data)


@given(st.data())
def test_damaged(elf_of, data):
    """Any damage behind the magic leaves things unknown, and raises nothing."""
    good = bytearray(elf_of(kernel=(3, 2, 0), level=2, interpreter="/lib64/ld.so"))
    for _ in range(data.draw(st.integers(1, 8))):
        good[data.draw(st.integers(4, len(good) - 1))] = data.draw(st.integers(0, 255))
    found = read(bytes(good[: data.draw(st.integers(0, len(good)))]))

    assert found is None or isinstance(found, Program)

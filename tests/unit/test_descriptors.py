"""
The descriptors of a launch.
"""

from __future__ import annotations

import os

import pytest

from wlcg_isolate.launch import descriptors


def test_words_are_what_was_written():
    """What the runtime says is read back, and nothing is in its place when it says nothing."""
    with descriptors.own_file() as f:
        assert b"" == descriptors.words_in(f)
        os.write(f.fileno(), b"FATAL:   no\n")

        assert b"FATAL:   no\n" == descriptors.words_in(f)


def test_words_have_an_end():
    """Whoever prints without end fills no memory: the file does not grow."""
    with descriptors.own_file() as f:
        size = os.fstat(f.fileno()).st_size
        assert size == f.write(b"x" * (2 * size))
        with pytest.raises(PermissionError):
            f.write(b"x")

        assert size == os.fstat(f.fileno()).st_size == len(descriptors.words_in(f))


def test_words_have_an_end_without_files_in_memory(monkeypatch):
    """Where the kernel has no such files, no more than that is read."""
    monkeypatch.delattr(os, "memfd_create")
    with descriptors.own_file() as f:
        size = os.fstat(f.fileno()).st_size
        f.write(b"y" * (2 * size))

        assert b"y" * size == descriptors.words_in(f)

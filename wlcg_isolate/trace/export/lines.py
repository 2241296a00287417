"""
Read whole lines of a file that may still grow.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

#: One request to a receiver is about so large.
_CHUNK = 256 << 10
_MOST_LINES = 500

#: No record is larger; what is, is no record and is passed over in pieces.
_MOST_LINE = 32 << 20


class Lines(NamedTuple):
    """
    Some lines that follow each other.

    Attributes:
        lines: Without their ends.

        ends: For each, the first byte behind it.
    """

    lines: tuple[bytes, ...]
    ends: tuple[int, ...]


def read_lines(path: str, offset: int) -> Lines:
    """
    Read the whole lines from *offset* on, as many as one request should hold.

    Returns:
        None at all where the rest of the file is no whole line.

    Raises:
        OSError: The file cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(None, "it is no plain file")
        size = _CHUNK
        while True:
            data = os.pread(fd, size, offset)
            end = data.rfind(b"\n") + 1
            if end or len(data) < size or size >= _MOST_LINE:
                break
            size *= 8
    finally:
        os.close(fd)
    lines, ends = [], []
    for line in data[:end].split(b"\n")[:-1][:_MOST_LINES]:
        offset += len(line) + 1
        if line:
            lines.append(line)
            ends.append(offset)

    return Lines(tuple(lines), tuple(ends))


def whole_end(file: str) -> int:
    """
    Return the end of a file's last whole line.

    Raises:
        OSError: It cannot be read.
    """
    fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        size = os.fstat(fd).st_size
        end = size
        while end > 0:
            begin = max(0, end - (64 << 10))
            at = os.pread(fd, end - begin, begin).rfind(b"\n")
            if at >= 0:
                return begin + at + 1
            end = begin
    finally:
        os.close(fd)

    return 0

"""
Read pieces of a file at given places.

Rule: what a header claims is never believed; a piece that would reach beyond
the end of the file, or that is larger than anything honest needs, is a fault.
"""

from __future__ import annotations

import os

from wlcg_isolate.images.fault import corrupt

#: No structure that is read at once is larger: 1 MiB is the largest block of
#: squashfs.
_LARGEST_PIECE = 1 << 20


class Source:
    """
    A part of an open file.

    Attributes:
        size: Bytes in it.
    """

    def __init__(self, fd: int, base: int = 0, size: int = -1) -> None:
        self._fd = fd
        self._base = base
        self.size = os.fstat(fd).st_size - base if size < 0 else size

    def part(self, base: int, size: int) -> Source:
        """
        Return a part of this part.

        Raises:
            ImageFault: It reaches beyond the end.
        """
        if base < 0 or size < 0 or base + size > self.size:
            raise corrupt(f"truncated: bytes {base} to {base + size} are wanted and there are {self.size}")

        return Source(self._fd, self._base + base, size)

    def read(self, at: int, size: int) -> bytes:
        """
        Read exactly *size* bytes at *at*.

        Raises:
            ImageFault: They are not there.

            OSError: The file system failed.
        """
        if not 0 <= size <= _LARGEST_PIECE:
            raise corrupt(f"a piece of {size} bytes is claimed at byte {at}")
        if at < 0 or at + size > self.size:
            raise corrupt(f"truncated: byte {at + size} is wanted and there are {self.size}")
        data = os.pread(self._fd, size, self._base + at)
        if len(data) != size:
            raise corrupt(f"truncated while it was read, at byte {at + len(data)}")

        return data

    def head(self, size: int) -> bytes:
        """
        Read up to *size* bytes at the begin.
        """
        return os.pread(self._fd, min(size, self.size), self._base)

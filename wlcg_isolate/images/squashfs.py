"""
Look up paths in a squashfs, and read the begin of files.

Rules:

1. Only the blocks on the way are read: the inodes and directory blocks of a
   path, and the data blocks of what is asked for.
2. The file is not trusted; see `wlcg_isolate.images.metadata`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Optional

from wlcg_isolate.images import compression
from wlcg_isolate.images.fault import corrupt
from wlcg_isolate.images.metadata import META_SIZE, NO_FRAGMENT, Cursor, Metadata, Node
from wlcg_isolate.images.source import Source

_UNCOMPRESSED = 1 << 24

_ENTRY = struct.Struct("<HhHH")
_HEADER = struct.Struct("<III")


class Squashfs:
    """
    A squashfs that was opened for look-ups.

    Attributes:
        metadata: Its metadata.
    """

    def __init__(self, source: Source) -> None:
        """
        Read the superblock of *source*.

        Raises:
            ImageFault: It is damaged.
        """
        self.metadata = Metadata(source)
        self._data: tuple[int, bytes] = (-1, b"")

    def root(self) -> Node:
        """
        Return the root directory.
        """
        self.metadata.refill()

        return self.metadata.inode(self.metadata.superblock.root)

    def child(self, node: Node, name: str) -> Optional[Node]:
        """
        Find *name* in a directory.
        """
        wanted = os.fsencode(name)
        for found, reference in self._entries(node, wanted):
            if found == wanted:
                return self.metadata.inode(reference)
            # Sorted; the kernel stops at the same place.
            if found[:1] > wanted[:1]:
                break

        return None

    def names(self, node: Node, most: int) -> list[str]:
        """
        List up to *most* names of a directory.
        """
        found = []
        for name, _ in self._entries(node):
            found.append(os.fsdecode(name))
            if len(found) == most:
                break

        return found

    def goal(self, node: Node) -> str:
        """
        Read where a link points to.
        """
        if node.size > 4096:
            raise corrupt(f"a link of {node.size} bytes")

        return os.fsdecode(Cursor(self.metadata, *node.rest).take(node.size))

    def read(self, node: Node, offset: int, size: int) -> bytes:
        """
        Read up to *size* bytes of a file.
        """
        size = min(size, max(node.size - offset, 0))
        pieces = []
        while size > 0:
            number, start = divmod(offset, self.metadata.superblock.block_size)
            piece = self._file_block(node, number)[start : start + size]
            if not piece:
                raise corrupt("a file is shorter than its inode says")
            pieces.append(piece)
            offset += len(piece)
            size -= len(piece)

        return b"".join(pieces)

    def _file_block(self, node: Node, number: int) -> bytes:
        whole, tail = divmod(node.size, self.metadata.superblock.block_size)
        in_fragment = node.fragment != NO_FRAGMENT
        if number == whole and in_fragment:
            return self._fragment(node.fragment)[node.offset : node.offset + tail]
        # The list of sizes may be long, and is read as far as it is needed.
        sizes = Cursor(self.metadata, *node.rest).take(4 * (number + 1))
        at = node.at
        for (word,) in struct.iter_unpack("<I", sizes[:-4]):
            at += word & (_UNCOMPRESSED - 1)
        (word,) = struct.unpack("<I", sizes[-4:])
        length = self.metadata.superblock.block_size if number < whole else tail

        return self._data_block(at, word) if word else bytes(length)

    def _data_block(self, at: int, word: int) -> bytes:
        if self._data[0] != at:
            data = self.metadata.source.read(at, word & (_UNCOMPRESSED - 1))
            if not word & _UNCOMPRESSED:
                data = compression.decompress(self.metadata.compression, data, self.metadata.superblock.block_size)
            self._data = at, data

        return self._data[1]

    def _fragment(self, number: int) -> bytes:
        if number >= self.metadata.superblock.fragments:
            raise corrupt(f"there is no fragment {number}")
        block, entry = divmod(number, META_SIZE // 16)
        (at,) = struct.unpack("<Q", self.metadata.source.read(self.metadata.superblock.fragment_table + 8 * block, 8))
        start, word, _ = struct.unpack("<QII", Cursor(self.metadata, at, 16 * entry).take(16))

        return self._data_block(start, word)

    def _entries(self, node: Node, wanted: Optional[bytes] = None) -> Iterator[tuple[bytes, int]]:
        """
        List a directory, from where its index says that *wanted* may be.
        """
        # An empty listing has a size of 3: "." and ".." are counted, not stored.
        left = node.size - 3
        at, offset = self.metadata.superblock.directory_table + node.at, node.offset
        if wanted is not None and node.indexed:
            skip, block = self._indexed(node, wanted)
            if skip:
                left -= skip
                at, offset = self.metadata.superblock.directory_table + block, (offset + skip) % META_SIZE
        listing = _Listing(Cursor(self.metadata, at, offset), left)
        while listing.left > 0:
            count, start, _ = listing.take(_HEADER)
            if count >= 256:
                raise corrupt(f"a directory header of {count + 1} entries")
            for _ in range(count + 1):
                inode, _, _, length = listing.take(_ENTRY)
                yield listing.name(length + 1), start << 16 | inode

    def _indexed(self, node: Node, wanted: bytes) -> tuple[int, int]:
        cursor = Cursor(self.metadata, *node.rest)
        best = (0, 0)
        for _ in range(node.indexed):
            skip, start, length = _HEADER.unpack(cursor.take(12))
            if length >= 256:
                raise corrupt(f"a name of {length + 1} bytes in an index")
            if cursor.take(length + 1) > wanted:
                break
            best = skip, start

        return best


class _Listing:
    """
    Takes a directory's listing apart, a block at a time.

    Attributes:
        left: Bytes that were not taken yet.
    """

    def __init__(self, cursor: Cursor, left: int) -> None:
        self._cursor = cursor
        self._unread = left
        self._data = b""
        self._at = 0
        self.left = left

    def take(self, layout: struct.Struct) -> tuple[int, ...]:
        """
        Take one structure.
        """
        if self._at + layout.size > len(self._data):
            self._more(layout.size)
        fields = layout.unpack_from(self._data, self._at)
        self._at += layout.size
        self.left -= layout.size

        return fields

    def name(self, length: int) -> bytes:
        """
        Take a name.
        """
        if length > 256:
            raise corrupt(f"a name of {length} bytes")
        if self._at + length > len(self._data):
            self._more(length)
        self._at += length
        self.left -= length

        return self._data[self._at - length : self._at]

    def _more(self, size: int) -> None:
        there = self._data[self._at :]
        wanted = min(max(self._unread, 0), META_SIZE)
        if len(there) + wanted < size:
            raise corrupt("a directory's listing ends within an entry")
        self._data, self._at = there + self._cursor.take(wanted), 0
        self._unread -= wanted

"""
The metadata of a squashfs: superblock, inodes, and the blocks they lie in.

Rules:

1. The file is not trusted.  Every place and size is checked, nothing is
   recursive, blocks are decompressed within a known size, and one look-up
   reads no more than `MOST_BLOCKS`.
2. Format 4.0, which is the only one that Apptainer and kernels since 2009
   mount (Documentation/filesystems/squashfs.rst of Linux).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from wlcg_isolate.images import compression
from wlcg_isolate.images.fault import ImageFault, corrupt
from wlcg_isolate.images.source import Source

MAGIC = b"hsqs"

_SUPERBLOCK = struct.Struct("<4sIIIIHHHHHHQQQQQQQQ")
META_SIZE = 8192

#: Metadata blocks that one look-up may decompress: 16 MiB of listings, which
#: is more than 500,000 names.
MOST_BLOCKS = 2048
_MOST_CACHED = 512

NO_FRAGMENT = 0xFFFFFFFF

#: Inode types: basic ones from 1, extended ones from 8.
_KINDS = ("directory", "file", "link", "other", "other", "other", "other")


class Node(NamedTuple):
    """
    One inode.

    Attributes:
        kind: ``"directory"``, ``"file"``, ``"link"`` or ``"other"``.

        mode: Permission bits.

        size: Bytes of a file, of a link's goal, or of a directory's listing.

        at: Place of its content: of the first data block, or of a
            directory's block in the directory table.

        offset: Offset in that block, or in the fragment.

        fragment: Number of the fragment with a file's end, or none.

        indexed: Number of index entries of a directory.

        rest: Place behind the inode's fixed part, for its variable part.
    """

    kind: str
    mode: int
    size: int
    at: int
    offset: int
    fragment: int
    indexed: int
    rest: tuple[int, int]


class Superblock(NamedTuple):
    """
    The fields of a squashfs superblock, as they are stored.
    """

    magic: bytes
    inodes: int
    mtime: int
    block_size: int
    fragments: int
    compression: int
    block_log: int
    flags: int
    ids: int
    major: int
    minor: int
    root: int
    bytes_used: int
    id_table: int
    xattr_table: int
    inode_table: int
    directory_table: int
    fragment_table: int
    export_table: int


def read_superblock(source: Source) -> Superblock:
    """
    Read and check the superblock.

    Raises:
        ImageFault: It is none, or of a version that is not known.
    """
    block = Superblock(*_SUPERBLOCK.unpack(source.read(0, _SUPERBLOCK.size)))
    if block.magic != MAGIC:
        raise corrupt("there is no squashfs superblock")
    if (block.major, block.minor) != (4, 0):
        raise ImageFault("image-form-unsupported", f"squashfs {block.major}.{block.minor} is not known, only 4.0 is")
    if block.compression not in compression.NAMES:
        raise corrupt(f"there is no compression number {block.compression}")
    if not 12 <= block.block_log <= 20 or block.block_size != 1 << block.block_log:
        raise corrupt(f"the block size {block.block_size} is not one of squashfs")
    if block.bytes_used > source.size:
        raise corrupt(f"truncated: it says {block.bytes_used} bytes and there are {source.size}")

    return block


class Metadata:
    """
    The metadata blocks of a squashfs, read once each.

    Attributes:
        superblock: The superblock.

        source: The file.

        compression: Name of the compression.
    """

    def __init__(self, source: Source) -> None:
        """
        Read the superblock of *source*.

        Raises:
            ImageFault: It is damaged.
        """
        self.source = source
        self.superblock = read_superblock(source)
        self.compression = compression.NAMES[self.superblock.compression]
        self._blocks: dict[int, tuple[bytes, int]] = {}
        self._left = MOST_BLOCKS

    def refill(self) -> None:
        """
        Begin a look-up, with its own limit of blocks.
        """
        self._left = MOST_BLOCKS

    def block(self, at: int) -> tuple[bytes, int]:
        """
        Read the metadata block at *at*.

        Returns:
            Its content, and the place of the next one.
        """
        known = self._blocks.get(at)
        if known is not None:
            return known
        self._left -= 1
        if self._left < 0:
            raise corrupt(f"one look-up needs more than {MOST_BLOCKS} blocks")
        (word,) = struct.unpack("<H", self.source.read(at, 2))
        size = word & 0x7FFF
        data = self.source.read(at + 2, size)
        if not word & 0x8000:
            data = compression.decompress(self.compression, data, META_SIZE)
        if not 0 < len(data) <= META_SIZE:
            raise corrupt(f"a metadata block of {len(data)} bytes")
        if len(self._blocks) >= _MOST_CACHED:
            self._blocks.clear()
        self._blocks[at] = data, at + 2 + size

        return self._blocks[at]

    def inode(self, reference: int) -> Node:
        """
        Read the inode that a directory entry or the superblock refers to.
        """
        cursor = Cursor(self, self.superblock.inode_table + (reference >> 16), reference & 0xFFFF)
        number, mode, _, _, _, _ = struct.unpack("<HHHHII", cursor.take(16))
        if not 1 <= number <= 14:
            raise corrupt(f"there is no inode type {number}")
        kind = _KINDS[(number - 1) % 7]
        size, at, offset, fragment, index = _LAYOUTS.get(number, _nothing)(cursor)

        return Node(kind, mode & 0o7777, size, at, offset, fragment, index, cursor.place())


class Cursor:
    """
    Reads on over the borders of metadata blocks.
    """

    def __init__(self, metadata: Metadata, at: int, offset: int) -> None:
        self._metadata = metadata
        self._at = at
        self._offset = offset

    def take(self, size: int) -> bytes:
        """
        Read the next *size* bytes.
        """
        data, following = self._metadata.block(self._at)
        if self._offset > len(data):
            raise corrupt("a place behind the end of its metadata block")
        piece = data[self._offset : self._offset + size]
        self._offset += len(piece)
        if len(piece) == size:
            return piece
        pieces, left = [piece], size - len(piece)
        while left > 0:
            self._at = following
            data, following = self._metadata.block(self._at)
            pieces.append(data[:left])
            self._offset = len(pieces[-1])
            left -= self._offset

        return b"".join(pieces)

    def place(self) -> tuple[int, int]:
        """
        Return where the next byte is.
        """
        return self._at, self._offset


_Fields = tuple[int, int, int, int, int]


def _nothing(_: Cursor) -> _Fields:
    return 0, 0, 0, NO_FRAGMENT, 0


def _directory(cursor: Cursor) -> _Fields:
    at, _, size, offset, _ = struct.unpack("<IIHHI", cursor.take(16))

    return size, at, offset, NO_FRAGMENT, 0


def _long_directory(cursor: Cursor) -> _Fields:
    _, size, at, _, index, offset, _ = struct.unpack("<IIIIHHI", cursor.take(24))

    return size, at, offset, NO_FRAGMENT, index


def _file(cursor: Cursor) -> _Fields:
    at, fragment, offset, size = struct.unpack("<IIII", cursor.take(16))

    return size, at, offset, fragment, 0


def _long_file(cursor: Cursor) -> _Fields:
    at, size, _, _, fragment, offset, _ = struct.unpack("<QQQIIII", cursor.take(40))

    return size, at, offset, fragment, 0


def _link(cursor: Cursor) -> _Fields:
    _, size = struct.unpack("<II", cursor.take(8))

    return size, 0, 0, NO_FRAGMENT, 0


_LAYOUTS = {1: _directory, 2: _file, 3: _link, 8: _long_directory, 9: _long_file, 10: _link}

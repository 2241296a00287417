"""
Write a small image file: a SIF that holds a squashfs.

Only what a probe needs: plain directories and small files, owned by root,
nothing compressed, all times 0.  Everything is little-endian, each table is
one metadata block.

Formats: squashfs 4.0 as Linux' fs/squashfs/squashfs_fs.h has it; SIF 1.0 as
github.com/sylabs/sif has it, checked with what Apptainer 1.4.5 writes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Optional, Union

_SUPERBLOCK = struct.Struct("<5I6H8Q")
_INODE = struct.Struct("<4H2I")
_DIRECTORY = struct.Struct("<2I2HI")
_FILE = struct.Struct("<4I")
_ENTRY = struct.Struct("<HhHH")

_BLOCK_LOG = 17
_BLOCK = 1 << _BLOCK_LOG
_NONE_32 = 0xFFFFFFFF
_NONE_64 = 0xFFFFFFFFFFFFFFFF
#: A metadata block holds at most 8 KiB; this bit of its length says that it is not compressed.
_METADATA_BYTES = 8192
_METADATA_PLAIN = 0x8000
_DATA_PLAIN = 1 << 24
#: Inodes, data, fragments and ids are not compressed; no fragments, no attributes.
_FLAGS = 0x1 | 0x2 | 0x8 | 0x10 | 0x200 | 0x800
#: What decompresses must be named though nothing is compressed; every kernel has it.
_GZIP = 1
_TYPE_DIRECTORY, _TYPE_FILE = 1, 2
_MODE = 0o755

_SIF_HEADER = struct.Struct("<32s10s3s3s16s8q")
_SIF_DESCRIPTOR = struct.Struct("<i?3I7q128s384s")
_SIF_EXTRA = struct.Struct("<2i3s")
_SIF_DESCRIPTORS = 48
_SIF_TABLE = 4096
_SIF_DATA = 32768
_SIF_PARTITION = 0x4004
_SIF_GROUP = 0xF0000001
_SIF_SQUASHFS, _SIF_PRIMARY = 1, 2
_SIF_ARCHITECTURES = {"x86_64": b"02\0", "aarch64": b"04\0"}


class _Node(NamedTuple):
    """
    One file or directory.

    Attributes:
        number: Of its inode, from 1.

        type: Of its inode.

        offset: Of its inode in the inode table.
    """

    number: int
    type: int
    offset: int


class _Writer:
    """
    A squashfs under construction.
    """

    def __init__(self, directories: tuple[str, ...], files: Mapping[str, bytes]) -> None:
        self._files = files
        self._children: dict[str, list[str]] = {"": []}
        for path in sorted({*directories, *files}):
            self._children.setdefault(path.rpartition("/")[0], []).append(path)
        self._data = bytearray()
        self._inodes = bytearray()
        self._listings = bytearray()
        self._numbers = {path: i + 1 for i, path in enumerate(sorted({"", *directories, *files}))}

    def image(self) -> bytes:
        """
        Write everything.
        """
        root = self._add("", None)
        inodes, listings = _metadata(self._inodes), _metadata(self._listings)
        inode_start = _SUPERBLOCK.size + len(self._data)
        listing_start = inode_start + len(inodes)
        id_block = listing_start + len(listings)
        ids = _metadata(struct.pack("<I", 0))
        id_start = id_block + len(ids)
        end = id_start + 8
        superblock = _SUPERBLOCK.pack(
            0x73717368,
            len(self._numbers),
            0,
            _BLOCK,
            0,
            _GZIP,
            _BLOCK_LOG,
            _FLAGS,
            1,
            4,
            0,
            root.offset,
            end,
            id_start,
            _NONE_64,
            inode_start,
            listing_start,
            id_block,
            _NONE_64,
        )
        whole = b"".join((superblock, self._data, inodes, listings, ids, struct.pack("<Q", id_block)))

        return whole.ljust(-(-len(whole) // _SIF_TABLE) * _SIF_TABLE, b"\0")

    def _add(self, path: str, parent: Optional[int]) -> _Node:
        if path in self._files:
            return self._add_file(path)
        children = [(child, self._add(child, self._numbers[path])) for child in self._children.get(path, ())]
        listing = self._listing(children)
        where, self._listings = len(self._listings), self._listings + listing
        links = 2 + sum(node.type == _TYPE_DIRECTORY for _, node in children)
        # The root's parent has the number behind the last.
        above = len(self._numbers) + 1 if parent is None else parent
        # "." and ".." are not in the listing; they count as three bytes.
        return self._inode(path, _TYPE_DIRECTORY, _DIRECTORY.pack(0, links, len(listing) + 3, where, above))

    def _add_file(self, path: str) -> _Node:
        content = self._files[path]
        start = _SUPERBLOCK.size + len(self._data)
        self._data += content
        blocks = [min(_BLOCK, len(content) - i) | _DATA_PLAIN for i in range(0, len(content), _BLOCK)]
        body = _FILE.pack(start, _NONE_32, 0, len(content)) + struct.pack(f"<{len(blocks)}I", *blocks)

        return self._inode(path, _TYPE_FILE, body)

    def _inode(self, path: str, kind: int, body: bytes) -> _Node:
        node = _Node(self._numbers[path], kind, len(self._inodes))
        self._inodes += _INODE.pack(kind, _MODE, 0, 0, 0, node.number) + body

        return node

    def _listing(self, children: list[tuple[str, _Node]]) -> bytes:
        if not children:
            return b""
        base = children[0][1].number
        listing = struct.pack("<3I", len(children) - 1, 0, base)
        for path, node in children:
            name = path.rpartition("/")[2].encode()
            listing += _ENTRY.pack(node.offset, node.number - base, node.type, len(name) - 1) + name

        return listing


def _metadata(content: Union[bytes, bytearray]) -> bytes:
    if len(content) > _METADATA_BYTES:
        msg = "this writer has one metadata block for each table"
        raise ValueError(msg)

    return struct.pack("<H", len(content) | _METADATA_PLAIN) + content


def squashfs(directories: Iterable[str], files: Mapping[str, bytes]) -> bytes:
    """
    Write a squashfs.

    Args:
        directories: Paths below the root, parents among them.

        files: Paths below the root, and what the files hold.

    Raises:
        ValueError: It is too much for this writer.
    """
    return _Writer(tuple(directories), files).image()


def sif(partition: bytes, machine: str) -> bytes:
    """
    Wrap a squashfs as the primary partition of a SIF.

    Args:
        partition: The squashfs.

        machine: Its architecture, ``"x86_64"`` or ``"aarch64"``.
    """
    architecture = _SIF_ARCHITECTURES[machine]
    header = _SIF_HEADER.pack(
        b"#!/usr/bin/env run-singularity\n",
        b"SIF_MAGIC",
        b"01",
        architecture,
        b"wlcg_isolate",
        0,
        0,
        _SIF_DESCRIPTORS - 1,
        _SIF_DESCRIPTORS,
        _SIF_TABLE,
        _SIF_DESCRIPTORS * _SIF_DESCRIPTOR.size,
        _SIF_DATA,
        len(partition),
    )
    descriptor = _SIF_DESCRIPTOR.pack(
        _SIF_PARTITION,
        True,
        1,
        _SIF_GROUP,
        0,
        _SIF_DATA,
        len(partition),
        len(partition),
        0,
        0,
        0,
        0,
        b"probe.squashfs",
        _SIF_EXTRA.pack(_SIF_SQUASHFS, _SIF_PRIMARY, architecture),
    )

    return (header.ljust(_SIF_TABLE, b"\0") + descriptor).ljust(_SIF_DATA, b"\0") + partition

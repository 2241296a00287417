"""
Images made by hand, so that every byte of them is known, and can be wrong.
"""

from __future__ import annotations

import io
import struct
import zlib

import pytest

BLOCK = 131072
META = 8192


def _metadata(data, compress):
    """Cut metadata into blocks; return them and the place of each."""
    out, places = b"", []
    for at in range(0, max(len(data), 1), META):
        piece = data[at : at + META]
        places.append(len(out))
        packed = zlib.compress(piece) if compress else piece
        word = len(packed) if compress else len(packed) | 0x8000
        out += struct.pack("<H", word) + packed

    return out, places


class SquashfsWriter:
    """
    Writes a small squashfs 4.0 with gzip or without.

    A tree is a dict of names; a dict in it is a directory, bytes are a file,
    text is the goal of a link, and None is a pipe.
    """

    def __init__(self, compress=False):
        self.compress = compress
        self.data = io.BytesIO()
        self.inodes = b""
        self.directories = b""
        self.count = 0

    def write(self, tree):
        """Return the whole image."""
        # Where a block of metadata lies must be known before it is packed.
        stride = META + 2
        root = self._directory(tree, stride)
        data = self.data.getvalue()
        inodes, _ = _metadata(self.inodes, False)
        directories, _ = _metadata(self.directories, False)
        inode_table = 96 + len(data)
        directory_table = inode_table + len(inodes)
        ids, _ = _metadata(struct.pack("<I", 0), False)
        end = directory_table + len(directories)
        id_table = end + len(ids)
        total = id_table + 8
        block = struct.pack(
            "<4sIIIIHHHHHHQQQQQQQQ",
            b"hsqs", self.count, 0, BLOCK, 0, 1, 17, 0, 1, 4, 0,
            root, total, id_table, 2**64 - 1, inode_table, directory_table, 2**64 - 1, 2**64 - 1,
        )  # fmt: skip

        return block + data + inodes + directories + ids + struct.pack("<Q", end)

    def _inode(self, kind, body, mode=0o755):
        at = len(self.inodes)
        self.count += 1
        self.inodes += struct.pack("<HHHHII", kind, mode, 0, 0, 0, self.count) + body

        return (at // META * (META + 2)) << 16 | at % META

    def _node(self, value, stride):
        if isinstance(value, dict):
            return 1, self._directory(value, stride)
        if value is None:
            return 6, self._inode(6, struct.pack("<I", 1))
        if isinstance(value, str):
            goal = value.encode()
            return 3, self._inode(3, struct.pack("<II", 1, len(goal)) + goal)

        return 2, self._file(value)

    def _file(self, content):
        start = 96 + self.data.tell()
        sizes = b""
        for at in range(0, len(content), BLOCK):
            piece = content[at : at + BLOCK]
            if self.compress:
                piece = zlib.compress(piece)
            self.data.write(piece)
            sizes += struct.pack("<I", len(piece) | (0 if self.compress else 1 << 24))

        return self._inode(2, struct.pack("<IIII", start, 0xFFFFFFFF, 0, len(content)) + sizes)

    def _directory(self, tree, stride):
        entries = []
        for name, value in sorted((name.encode(), value) for name, value in tree.items()):
            kind, reference = self._node(value, stride)
            entries.append((name, kind, reference))
        begin = len(self.directories)
        index, runs = [], []
        for name, kind, reference in entries:
            if not runs or runs[-1][0] != reference >> 16 or len(runs[-1][1]) == 256:
                runs.append((reference >> 16, []))
            runs[-1][1].append((name, kind, reference & 0xFFFF))
        listing = b""
        for block, run in runs:
            here = begin + len(listing)
            if listing and here // META != (begin + (index[-1][0] if index else 0)) // META:
                index.append((len(listing), here // META * (META + 2), run[0][0]))
            listing += struct.pack("<III", len(run) - 1, block, 1)
            for name, kind, offset in run:
                listing += struct.pack("<HhHH", offset, 0, kind, len(name) - 1) + name
        self.directories += listing
        at, offset, size = begin // META * (META + 2), begin % META, len(listing) + 3
        if size < 65536 and not index:
            return self._inode(1, struct.pack("<IIHHI", at, 2, size, offset, 1))
        body = struct.pack("<IIIIHHI", 2, size, at, 1, len(index), offset, 0xFFFFFFFF)
        for skip, place, name in index:
            body += struct.pack("<III", skip, place, len(name) - 1) + name

        return self._inode(8, body)


def make_sif(partition, *, label=b"02\0", file_system=1, part=2, kind=0x4004, total=4, version=b"01\0", used=True):
    """Wrap a file system into a SIF."""
    at = 4096
    offset = at + 585 * total
    header = struct.pack(
        "<32s10s3s3s16sqqqqqqqq",
        b"#!/usr/bin/env run-singularity\n", b"SIF_MAGIC\0", version, label, bytes(range(16)),
        0, 0, total - 1, total, at, 585 * total, offset, len(partition),
    )  # fmt: skip
    extra = struct.pack("<ii3s", file_system, part, label)
    descriptor = struct.pack(
        "<i?IIIqqqqqqq128s384s", kind, used, 1, 0xF0000001, 0, offset, len(partition), len(partition), 0, 0, 0, 0,
        b"", extra,
    )  # fmt: skip

    return header.ljust(at, b"\0") + descriptor.ljust(585 * total, b"\0") + partition


def make_elf(machine=62, *, wide=True, little=True, interpreter=None, kernel=None, level=None):
    """Make the headers and notes of a program."""
    order = "<" if little else ">"
    notes = b""
    if kernel is not None:
        notes += struct.pack(order + "III4s4I", 4, 16, 1, b"GNU\0", 0, *kernel)
    properties = b""
    if level is not None:
        entry = struct.pack(order + "II", 0xC0000002, 4) + b"\0" * (8 if wide else 4)
        entry += struct.pack(order + "III", 0xC0008002, 4, (1 << level) - 1) + b"\0" * (4 if wide else 0)
        properties = struct.pack(order + "III4s", 4, len(entry), 5, b"GNU\0") + entry
    segments = [(4, notes), (4, properties), (3, (interpreter or "").encode() + b"\0")]
    segments = [(kind, data) for kind, data in segments if data.strip(b"\0")]
    size, entry_size = (64, 56) if wide else (52, 32)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if little else 2, 1]) + b"\0" * 9
    head = struct.pack(order + "HHI", 2, machine, 1)
    if wide:
        head += struct.pack(order + "QQQIHHHHHH", 0, size, 0, 0, size, entry_size, len(segments), 0, 0, 0)
    else:
        head += struct.pack(order + "IIIIHHHHHH", 0, size, 0, 0, size, entry_size, len(segments), 0, 0, 0)
    table, body = b"", b""
    at = size + entry_size * len(segments)
    for kind, data in segments:
        if wide:
            table += struct.pack(order + "IIQQQQQQ", kind, 4, at + len(body), 0, 0, len(data), len(data), 8)
        else:
            table += struct.pack(order + "IIIIIIII", kind, at + len(body), 0, 0, len(data), len(data), 4, 4)
        body += data

    return ident + head + table + body


SYSTEM = {
    "bin": "usr/bin",
    "lib64": {"ld-linux-x86-64.so.2": make_elf(kernel=(3, 10, 0), level=2)},
    "usr": {
        "bin": {"sh": "bash", "bash": make_elf(interpreter="/lib64/ld-linux-x86-64.so.2", kernel=(3, 2, 0))},
        "lib": {"os-release": b'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos"\nVERSION_ID="9.4"\n'},
    },
    "etc": {"os-release": "../usr/lib/os-release", "hosts": b""},
    "srv": {},
    "tmp": {},
    "var": {"tmp": {}, "run": "/run"},
    "run": {},
    ".singularity.d": {"env": {"90-environment.sh": b"export A=1\n"}, "labels.json": b'{"x": "y"}'},
}


@pytest.fixture(scope="session")
def squashfs_of():
    """Write a squashfs of a tree of dicts."""
    return lambda tree, compress=False: SquashfsWriter(compress).write(tree)


@pytest.fixture(scope="session")
def sif_of():
    """Wrap a file system into a SIF."""
    return make_sif


@pytest.fixture(scope="session")
def elf_of():
    """Make the headers of a program."""
    return make_elf


@pytest.fixture(scope="session")
def system():
    """A tree of dicts that looks like Enterprise Linux 9."""
    return SYSTEM


@pytest.fixture
def unpack():
    """Make a tree of dicts a tree of files."""

    def make(place, tree):
        place.mkdir(parents=True, exist_ok=True)
        for name, value in tree.items():
            if isinstance(value, dict):
                make(place / name, value)
            elif isinstance(value, bytes):
                (place / name).write_bytes(value)
            elif isinstance(value, str):
                (place / name).symlink_to(value)
            else:
                import os

                os.mkfifo(place / name)
        return place

    return make

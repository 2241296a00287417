"""
Read the index of a SIF file.

The layout is that of SIF version 01 (github.com/apptainer/sif): a header of
128 bytes, and descriptors of 585 bytes each.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Optional

from wlcg_isolate.images.fault import ImageFault, corrupt
from wlcg_isolate.images.source import Source

MAGIC = b"SIF_MAGIC\0"
MAGIC_AT = 32

_HEADER = struct.Struct("<32s10s3s3s16sqqqqqqqq")
_DESCRIPTOR = struct.Struct("<i?IIIqqqqqqq128s384s")
_PARTITION = struct.Struct("<ii3s")

#: Apptainer makes 48.
_MOST_DESCRIPTORS = 1024

_PARTITION_TYPE, _SIGNATURE_TYPE = 0x4004, 0x4005
_OCI_TYPES = (0x400A, 0x400B)
_PRIMARY = 2

_FILE_SYSTEMS: Mapping[int, str] = {
    1: "squashfs",
    2: "ext3",
    3: "archive",
    4: "raw",
    5: "encrypted squashfs",
    6: "gocryptfs",
}

_ARCHITECTURES: Mapping[bytes, str] = {
    b"01\0": "i686",
    b"02\0": "x86_64",
    b"03\0": "armv7l",
    b"04\0": "aarch64",
    b"05\0": "ppc64",
    b"06\0": "ppc64le",
    b"11\0": "s390x",
    b"12\0": "riscv64",
}


class Partition(NamedTuple):
    """
    The partition that a container's root is mounted from.

    Attributes:
        offset: Its first byte.

        size: Its bytes.

        file_system: ``"squashfs"``, ``"ext3"``, ...

        label: Architecture that the label claims, or None.
    """

    offset: int
    size: int
    file_system: str
    label: Optional[str]


class Sif(NamedTuple):
    """
    The index of a SIF.

    Attributes:
        uuid: Identity that its builder gave it.

        partition: The primary system partition.

        signatures: Number of signatures in it.
    """

    uuid: str
    partition: Partition
    signatures: int


def read_sif(source: Source) -> Sif:
    """
    Read the index.

    Raises:
        ImageFault: It is damaged, or holds no root of a container.
    """
    fields = _HEADER.unpack(source.read(0, _HEADER.size))
    _, magic, version, _, identity, _, _, _, total, at, _, _, _ = fields
    if magic != MAGIC:
        raise corrupt("there is no SIF header")
    if version != b"01\0":
        raise ImageFault("image-form-unsupported", f"version {version!r} of SIF is not known, only 01 is")
    if not 0 < total <= _MOST_DESCRIPTORS:
        raise corrupt(f"a SIF with {total} descriptors")
    table = source.read(at, _DESCRIPTOR.size * total)
    used = [fields for fields in _DESCRIPTOR.iter_unpack(table) if fields[1]]
    partition = next(_partitions(source, used), None)
    if partition is None:
        oci = any(fields[0] in _OCI_TYPES for fields in used)
        what = "it is an OCI-SIF, which Apptainer does not run" if oci else "it holds no root of a container"
        raise ImageFault("image-form-unsupported", what)

    return Sif(
        uuid=str(uuid.UUID(bytes=identity)),
        partition=partition,
        signatures=sum(fields[0] == _SIGNATURE_TYPE for fields in used),
    )


def _partitions(source: Source, used: list[tuple[int, ...]]) -> Iterator[Partition]:
    for fields in used:
        kind, _, _, _, _, offset, size, *_, extra = fields
        if kind != _PARTITION_TYPE:
            continue
        file_system, part, label = _PARTITION.unpack_from(bytes(extra))
        if part != _PRIMARY:
            continue
        # Checked before anybody is told where to look.
        source.part(offset, size)
        yield Partition(
            offset,
            size,
            _FILE_SYSTEMS.get(file_system, f"file system number {file_system}"),
            _ARCHITECTURES.get(label),
        )

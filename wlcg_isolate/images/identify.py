"""
What an image is, by its content and never by its name.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Iterator
from typing import Optional

import attrs

from wlcg_isolate.images.fault import ImageFault
from wlcg_isolate.images.rootfs import Root
from wlcg_isolate.images.source import Source
from wlcg_isolate.images.tree import Tree

#: The superblock of ext2 to ext4: where it is, its magic number in it, and
#: the flag of a journal, which ext3 has.
_EXT_AT, _EXT_MAGIC_AT, _EXT_FEATURES_AT = 1024, 56, 92

#: Singularity 2 put a line for the kernel's binfmt before its images.
_LAUNCH_LINE = 31

#: First bytes of what people name by mistake.
_OTHERS = (
    (0, b"\x1f\x8b", "gzip data"),
    (0, b"\xfd7zXZ\0", "xz data"),
    (0, b"\x28\xb5\x2f\xfd", "zstd data"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x7fELF", "a program"),
    (0, b"QFI\xfb", "a disk of a virtual machine"),
    (0, b"#!", "a script"),
    (257, b"ustar", "a tar archive"),
    (0, b"sqsh", "squashfs for big-endian machines"),
)


@attrs.frozen(kw_only=True)
class Opened:
    """
    An image that was opened to be read.

    Attributes:
        form: ``"tree"``, ``"sif"``, ``"squashfs"``, ``"ext3"`` or
            ``"unknown"``.

        root: Its root for look-ups, or None where it cannot be looked into.

        note: What else there is to say, for a person.

        fault: Why *root* is None.

        size: Bytes of an image file, else None.

        inodes: Files and directories in a squashfs.

        label: Architecture that a SIF's label claims.

        uuid: Identity of a SIF.

        signatures: Number of signatures in a SIF.
    """

    form: str
    root: Optional[Root] = None
    note: str = ""
    fault: Optional[ImageFault] = None
    size: Optional[int] = None
    inodes: Optional[int] = None
    label: Optional[str] = None
    uuid: Optional[str] = None
    signatures: int = 0


@contextlib.contextmanager
def open_image(path: str) -> Iterator[Opened]:
    """
    Open the image at *path* to read what it is and what is in it.

    Raises:
        OSError: It cannot be opened or read.
    """
    # A pipe must not block, and a device must not be touched.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            yield _directory(path)
        elif stat.S_ISREG(mode):
            yield _file(Source(fd))
        else:
            yield _unknown("it is neither a directory nor a plain file")
    finally:
        os.close(fd)


def _unknown(note: str, size: Optional[int] = None) -> Opened:
    return Opened(form="unknown", note=note, fault=ImageFault("image-form-unsupported", note), size=size)


def _directory(path: str) -> Opened:
    tree = Tree(path)
    if tree.child(tree.root(), "oci-layout") is not None and tree.child(tree.root(), "bin") is None:
        return _unknown("it is an OCI layout, which is no root of a system")

    return Opened(form="tree", root=tree)


def _file(source: Source) -> Opened:
    if source.size == 0:
        return Opened(form="unknown", note="it is empty", fault=ImageFault("image-corrupt", "it is empty"), size=0)
    # A tree needs none of this.
    from wlcg_isolate.images import metadata, sif

    head = source.head(2048)
    for start in (0, _LAUNCH_LINE):
        if head[start : start + 4] == metadata.MAGIC:
            return _squashfs(source.part(start, source.size - start), Opened(form="squashfs", size=source.size))
        if _is_ext(head[start:]):
            note = "ext3" if _has_journal(head[start:]) else "ext without a journal, which ext3 has"
            fault = ImageFault("image-form-unsupported", "it is an ext3 file, into which this library cannot look")
            return Opened(form="ext3", note=note, fault=fault, size=source.size)
    if head[sif.MAGIC_AT :].startswith(sif.MAGIC):
        return _sif(source)
    note = next((f"it is {what}" for at, magic, what in _OTHERS if head[at:].startswith(magic)), "it is no image")

    return _unknown(note, source.size)


def _is_ext(head: bytes) -> bool:
    return head[_EXT_AT + _EXT_MAGIC_AT :].startswith(b"\x53\xef")


def _has_journal(head: bytes) -> bool:
    return bool(struct.unpack_from("<I", head.ljust(2048, b"\0"), _EXT_AT + _EXT_FEATURES_AT)[0] & 4)


def _squashfs(source: Source, so_far: Opened) -> Opened:
    from wlcg_isolate.images.compression import available
    from wlcg_isolate.images.squashfs import Squashfs

    try:
        root = Squashfs(source)
        name = root.metadata.compression
        if not available(name):
            kind, reason = (
                "image-form-unsupported",
                f"it is compressed with {name}, and this node has no {name} library",
            )
            return attrs.evolve(so_far, fault=ImageFault(kind, reason), note=reason)
        root.root()
    except ImageFault as fault:
        return attrs.evolve(so_far, fault=fault, note=fault.reason)

    return attrs.evolve(so_far, root=root, note=f"compressed with {name}", inodes=root.metadata.superblock.inodes)


def _sif(source: Source) -> Opened:
    from wlcg_isolate.images import sif

    so_far = Opened(form="sif", size=source.size)
    try:
        index = sif.read_sif(source)
        so_far = attrs.evolve(so_far, label=index.partition.label, uuid=index.uuid, signatures=index.signatures)
        if index.partition.file_system != "squashfs":
            reason = f"its root is {index.partition.file_system}, into which this library cannot look"
            return attrs.evolve(so_far, fault=ImageFault("image-form-unsupported", reason), note=reason)
        part = source.part(index.partition.offset, index.partition.size)
    except ImageFault as fault:
        return attrs.evolve(so_far, fault=fault, note=fault.reason)

    return _squashfs(part, so_far)

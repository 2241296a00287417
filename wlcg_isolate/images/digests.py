"""
Which digest is which, and how a file's is made.

Rule: a digest is never seen without its kind, and only digests of one kind
are compared.  Four of them are 64 hexadecimal digits and mean different
things.
"""

from __future__ import annotations

import os
import re
import time
from typing import Callable, Optional

import attrs

from wlcg_isolate.images.fault import ImageFault

SHA256 = re.compile(r"[0-9a-f]{64}\Z")

#: Names of directories that publishers make from a digest.  ``.flat`` of
#: unpacked.cern.ch has the digest of the image's configuration (cvmfs_ducc),
#: ``.images`` of singularity.opensciencegrid.org that over the digests of its
#: layers (cvmfs-singularity-sync).
_BY_PATH = (
    ("config", re.compile(r"/\.flat/[0-9a-f]{2}/([0-9a-f]{64})/?\Z")),
    ("layers", re.compile(r"/\.images/([0-9a-f]{2}/[0-9a-f]{62})/?\Z")),
)

_PIECE = 1 << 20
#: How far ahead the kernel is told to read.
_AHEAD = 16 << 20

Progress = Callable[[int], None]

#: Device, inode, size, and the times of content and inode in nanoseconds.
Identity = tuple[int, int, int, int, int]


@attrs.frozen(kw_only=True)
class Digest:
    """
    A digest and what it is of.

    Attributes:
        kind: ``"file"`` (the bytes of an image file), ``"config"``,
            ``"layers"``, ``"manifest"``, or ``"none"``.

        value: 64 hexadecimal digits of SHA-256, or None.
    """

    kind: str = "none"
    value: Optional[str] = None


@attrs.frozen(kw_only=True)
class Proof:
    """
    What was found out about the identity of an image file.

    Attributes:
        verdict: ``"verified"`` (a known checksum holds), ``"mismatch"``,
            ``"unlisted"`` (none is known), or ``"failed"`` (it could not be
            found out).

        digest: The file's checksum, where it was made.

        identity: The file that was examined.

        sources: Who knew the checksum.

        reason: Words for a person, when it is not verified.

        kind: Kind of the problem, when it failed.

        remembered: Whether the checksum had been made before.
    """

    verdict: str
    digest: Digest = attrs.field(factory=Digest)
    identity: Optional[Identity] = None
    sources: tuple[str, ...] = ()
    reason: str = ""
    kind: str = ""
    remembered: bool = False


def digest_of_path(path: str) -> Digest:
    """
    Read the digest that a publisher put into a resolved path.
    """
    for kind, pattern in _BY_PATH:
        match = pattern.search(path)
        if match:
            return Digest(kind=kind, value=match[1].replace("/", ""))

    return Digest()


def identity_of(found: os.stat_result) -> Identity:
    """
    Return what makes a file the same file with the same content.

    The time of the inode (``ctime``) cannot be set by a user: any write,
    rename or change of its owner moves it.
    """
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def hash_open(fd: int, seconds: float, progress: Optional[Progress] = None) -> str:
    """
    Return the SHA-256 of an open file.

    One thread is enough: the kernel reads ahead meanwhile, and the hash of
    one file cannot be shared out.

    Args:
        fd: The file.

        seconds: Time that it may take.

        progress: Called with the number of bytes after each piece.

    Raises:
        ImageFault: It takes longer.

        OSError: It cannot be read.
    """
    import hashlib

    deadline = time.monotonic() + seconds
    result = hashlib.sha256()
    buffer = bytearray(_PIECE)
    view = memoryview(buffer)
    at = 0
    _read_ahead(fd, 0)
    while True:
        length = os.preadv(fd, [buffer], at)
        if length == 0:
            return result.hexdigest()
        result.update(view[:length])
        at += length
        if at % _AHEAD < length:
            _read_ahead(fd, at)
        if progress is not None:
            progress(length)
        if time.monotonic() > deadline:
            raise ImageFault("image-unverified", f"its checksum is not made within {seconds:g} s")


def _read_ahead(fd: int, at: int) -> None:
    os.posix_fadvise(fd, at, 2 * _AHEAD, os.POSIX_FADV_WILLNEED)


def is_same(path: str, identity: Identity) -> bool:
    """
    Tell whether the file at *path* still is the one with *identity*.
    """
    try:
        return identity_of(os.stat(path, follow_symlinks=False)) == identity
    except OSError:
        return False

"""
Checksums of image files, made once on a node and remembered.

Rules:

1. What is remembered belongs to a file's identity (device, inode, size, both
   times) since the node's start, never to its name.
2. Of many processes that want the same checksum, one makes it and the others
   wait, for as long as their deadline allows.  The lock is the kernel's
   (flock(2)), so that it ends with its process, however that ends.
3. A place that others can write, or that is somebody else's, is not used;
   neither is a record in it that could be theirs.  Without a place,
   everything works, only slower.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import time
import uuid
from collections.abc import Iterator
from typing import Callable, NamedTuple, Optional

from wlcg_isolate.images.digests import Identity, Progress, hash_open, identity_of
from wlcg_isolate.images.fault import ImageFault

_BOOT_ID = "/proc/sys/kernel/random/boot_id"

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1

#: A record is 200 bytes.
_MOST_RECORD = 4096

_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Kept(NamedTuple):
    """
    What was found out about a file.

    Attributes:
        value: Such as its SHA-256 in hexadecimal digits.

        identity: The file that it was found out of.

        remembered: Whether it was known before.
    """

    value: str
    identity: Identity
    remembered: bool


def checksum(path: str, place: Optional[str], seconds: float, progress: Optional[Progress] = None) -> Kept:
    """
    Return the SHA-256 of the file at *path*.

    Args:
        path: The file, links already resolved.

        place: Directory of what is remembered, or None to remember nothing.

        seconds: Time that waiting and hashing may take, each.

        progress: Called with numbers of bytes while it is made.

    Raises:
        ImageFault: It is not made in time, or the file changes meanwhile.

        OSError: It cannot be read.
    """
    return once(path, place, seconds, "sha256", lambda fd: hash_open(fd, seconds, progress))


def once(path: str, place: Optional[str], seconds: float, what: str, make: Callable[[int], str]) -> Kept:
    """
    Find something out about the file at *path*, or remember it.

    Args:
        path: The file, links already resolved.

        place: Directory of what is remembered, or None to remember nothing.

        seconds: Time to wait for another process that is at it.

        what: What is found out.

        make: Finds it out of an open file.

    Raises:
        ImageFault: Waiting takes too long, or the file changes meanwhile.

        OSError: It cannot be read.
    """
    fd = os.open(path, _OPEN_FILE)
    try:
        identity = identity_of(os.fstat(fd))
        directory = None if place is None else _open_place(place)
        if directory is None:
            return Kept(_made(fd, identity, make), identity, False)
        try:
            return _shared(fd, directory, identity, seconds, (what, make))
        finally:
            os.close(directory)
    finally:
        os.close(fd)


def _shared(
    fd: int, directory: int, identity: Identity, seconds: float, work: tuple[str, Callable[[int], str]]
) -> Kept:
    what, make = work
    name = _name_of(identity, what)
    known = _recall(directory, name, identity)
    if known is not None:
        return Kept(known, identity, True)
    with _locked(directory, f"{name}.lock", seconds):
        known = _recall(directory, name, identity)
        if known is not None:
            return Kept(known, identity, True)
        value = _made(fd, identity, make)
        # A full disk costs the next one the time; the value is right all the same.
        with contextlib.suppress(OSError):
            _remember(directory, name, identity, value)

    return Kept(value, identity, False)


def _made(fd: int, identity: Identity, make: Callable[[int], str]) -> str:
    value = make(fd)
    if identity_of(os.fstat(fd)) != identity:
        raise ImageFault("image-changed", "it changed while it was examined")

    return value


def _name_of(identity: Identity, what: str) -> str:
    try:
        with open(_BOOT_ID, encoding="ascii") as f:
            boot = f.read().strip()
    except OSError:
        boot = ""

    return hashlib.sha256(repr((boot, identity, what)).encode()).hexdigest()


def _open_place(place: str) -> Optional[int]:
    """
    Open the directory, made if need be; None when it is not ours alone.
    """
    try:
        os.makedirs(place, mode=0o700, exist_ok=True)
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    if _is_ours(os.fstat(fd)):
        return fd
    os.close(fd)

    return None


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _recall(directory: int, name: str, identity: Identity) -> Optional[str]:
    try:
        fd = os.open(name, _OPEN_FILE, dir_fd=directory)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or not _is_ours(found):
            return None
        record = json.loads(os.read(fd, _MOST_RECORD))
        value = record["value"] if record["identity"] == list(identity) else None
    except (OSError, ValueError, TypeError, KeyError):
        # Cut short by a crash: made again.
        return None
    finally:
        os.close(fd)

    return value if isinstance(value, str) and value else None


def _remember(directory: int, name: str, identity: Identity, value: str) -> None:
    temporary = f"{name}.{uuid.uuid4()}"
    fd = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory
    )
    try:
        with open(fd, "wb") as f:
            f.write(json.dumps({"identity": identity, "value": value}).encode())
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        os.unlink(temporary, dir_fd=directory)
        raise


@contextlib.contextmanager
def _locked(directory: int, name: str, seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        pause = _FIRST_PAUSE
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    reason = f"another process has not made its checksum within {seconds:g} s"
                    raise ImageFault("image-unverified", reason) from None
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        yield
    finally:
        os.close(fd)

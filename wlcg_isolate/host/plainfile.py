"""
Read a small plain file that may be anything, or on a disk that hangs.
"""

from __future__ import annotations

import os
import stat

from wlcg_isolate._deadline import within

#: Modes of a file whose content others could read or exchange.
_FOREIGN = stat.S_IWGRP | stat.S_IRWXO


def read_plain(path: str, most: int, *, secret: bool = False) -> bytes:
    """
    Read a file, for as long as it takes.

    Args:
        path: The file.

        most: The most bytes that it may have.

        secret: Whether only its owner, this user or root, may be able to
            change it, and nobody else but its group to read it.

    Raises:
        OSError: It cannot be read, or is something else.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as f:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(None, "it is no plain file")
        if secret and (status.st_mode & _FOREIGN or status.st_uid not in (0, os.geteuid())):
            raise OSError(None, "others may read or change it (mode 0600 or 0640, of this user or root, is safe)")
        content = f.read(most + 1)
    if len(content) > most:
        raise OSError(None, f"it has more than {most} bytes")

    return content


def read_plain_within(seconds: float, path: str, most: int, *, secret: bool = False) -> bytes:
    """
    The same with a deadline.

    Raises:
        OSError: As above, or there is no answer in time.
    """
    content = within(seconds, lambda: read_plain(path, most, secret=secret))
    if content is None:
        raise OSError(None, f"no answer within {seconds:g} s")

    return content

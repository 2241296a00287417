"""
How far each receiver has come in each file.

One small file for each, beside the journal, in ``sent/``: the number of bytes
that were taken.  It is written after the receiver has answered, so a crash
between the two sends something twice, and never leaves it out.
"""

from __future__ import annotations

import contextlib
import json
import os
import time

from wlcg_isolate.trace.export.receiver import Refusal
from wlcg_isolate.trace.place import make_directory

DIRECTORY = "sent"

_REFUSED = "refused"


class Progress:
    """
    What is known of one receiver in one directory of records.
    """

    def __init__(self, directory: str, receiver: str) -> None:
        """
        Take note of a receiver; nothing is touched yet.

        Args:
            directory: The directory of the journal's files.

            receiver: The receiver's name in policy.
        """
        self._place = os.path.join(directory, DIRECTORY)
        self._receiver = receiver

    def read(self, file: str) -> int:
        """
        Return the bytes of a file that were taken.
        """
        try:
            fd = os.open(self._path(file), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return 0
        with open(fd, "rb") as f:
            text = f.read(32)

        return int(text) if text.isdigit() else 0

    def write(self, file: str, offset: int) -> None:
        """
        Note that *offset* bytes of a file were taken.

        Raises:
            OSError: That cannot be written.
        """
        make_directory(self._place)
        path = self._path(file)
        new = f"{path}.{os.getpid()}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, b"%d" % offset)
        finally:
            os.close(fd)
        os.rename(new, path)

    def refused(self, file: str, offset: int, refusal: Refusal) -> None:
        """
        Write down that the receiver will never take a record.

        Raises:
            OSError: That cannot be written.
        """
        make_directory(self._place)
        entry = {
            "time": time.time(),
            "receiver": self._receiver,
            "file": os.path.basename(file),
            "offset": offset,
            "reason": refusal.reason,
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(os.path.join(self._place, _REFUSED), flags, 0o600)
        try:
            os.write(fd, json.dumps(entry).encode() + b"\n")
        finally:
            os.close(fd)

    def _path(self, file: str) -> str:
        return os.path.join(self._place, f"{os.path.basename(file)}@{self._receiver}")


def forget(directory: str, name: str) -> None:
    """
    Remove what is noted of a file that is gone.
    """
    place = os.path.join(directory, DIRECTORY)
    with contextlib.suppress(OSError):
        for noted in os.listdir(place):
            if noted.startswith(f"{name}@"):
                os.unlink(os.path.join(place, noted))

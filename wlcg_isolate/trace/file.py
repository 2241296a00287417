"""
One file of records, from its first line to its last.

Rules:

1. A record counts when it is on disk; until then neither the chain nor the
   file's end, as this process knows it, has moved.  What a failed write left
   behind is cut off before the next one, by the process that wrote it.
2. A file that is no longer under its name, or that somebody else wrote to, is
   left as it is: it is evidence.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from wlcg_isolate.trace.chain import NOTHING, Chain, new_file_key
from wlcg_isolate.trace.place import create, is_at
from wlcg_isolate.trace.record import TraceRecord
from wlcg_isolate.trace.seal import first_key


class LostFileError(OSError):
    """
    The file can take no more records; another one may.
    """


class _Stand(NamedTuple):
    """
    What is certain: the file's size and chain, as one value.
    """

    size: int
    chain: Chain


class JournalFile:
    """
    A file that this process writes.

    Attributes:
        name: Its name in the directory.

        file_id: Its identity.
    """

    def __init__(self, where: str, directory: int, *, sequence: int, head: Optional[str]) -> None:
        """
        Make the file; `begin` writes its first record.

        Args:
            where: Path of the directory.

            directory: Descriptor of it, needed until `begin` is done.

            sequence: Number of its first record.

            head: Hash of the last record of this process's file before, or
                None.

        Raises:
            OSError: That is not possible.
        """
        self.name, self._fd = create(directory)
        self._path = os.path.join(where, self.name)
        self.file_id = uuid.uuid4().hex
        self._stand = _Stand(0, Chain("", self.file_id, "", sequence, 0, head or NOTHING, None))
        self._dirty = False

    def begin(self, directory: int, fields: Mapping[str, Any], public_key: Optional[str]) -> None:
        """
        Write the first record and make the file's name last; a file that
        cannot take that is removed.

        Raises:
            OSError: It cannot be written.
        """
        try:
            key, said = first_key(self.file_id, public_key)
            alg, kid = new_file_key(key)
            self._stand = _Stand(0, self._stand.chain._replace(alg=alg, kid=kid, key=key))
            self.append(own_record("log.genesis", {**fields, **said}))
            os.fsync(directory)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(self.name, dir_fd=directory)
            os.close(self._fd)
            raise

    @property
    def size(self) -> int:
        """
        The bytes that are certain.
        """
        return self._stand.size

    def stand(self) -> dict[str, Any]:
        """
        Return what the next file says of this one.
        """
        size, chain = self._stand

        return {
            "name": self.name,
            "file_id": self.file_id,
            "sequence": chain.sequence - 1,
            "hash": chain.head,
            "bytes": size,
        }

    def append(self, record: Mapping[str, Any], *, sync: bool = True) -> None:
        """
        Append a record, and wait until it is on disk.

        Args:
            record: The record, in plain types.

            sync: Whether to wait.

        Raises:
            LostFileError: The file can take no more.

            OSError: The record is not on disk.

            ValueError: It cannot be written as JSON.

            TypeError: Nor this.
        """
        size, chain = self._stand
        line, digest = chain.line(record)
        self._make_ready(size)
        # An exception of the caller's (a signal handler's) may come at any
        # line: what is certain changes at one instant.
        after = _Stand(size + len(line), chain.after(digest))
        self._dirty = True
        try:
            _write_all(self._fd, line)
            if sync:
                os.fdatasync(self._fd)
            self._stand = after
        except BaseException:
            # Best at once, so that no reader sees half a line.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, size)
            raise
        self._dirty = False

    def _make_ready(self, size: int) -> None:
        """
        Cut off what a failed write left, and see that the file is ours.
        """
        if not is_at(self._path, self._fd):
            raise LostFileError(None, "the file was taken away")
        if os.fstat(self._fd).st_size == size:
            self._dirty = False
            return
        if not self._dirty:
            raise LostFileError(None, "somebody else wrote to the file")
        try:
            os.ftruncate(self._fd, size)
        except OSError as e:
            raise LostFileError(None, f"half a record cannot be cut off: {e.strerror}") from e
        self._dirty = False

    def close(self, fields: Mapping[str, Any]) -> None:
        """
        Write the last record, if that is possible, and give the file up.
        """
        try:
            with contextlib.suppress(OSError):
                self.append(own_record("log.close", fields))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """
        Give the file up as it is, and forget its key.
        """
        size, chain = self._stand
        self._stand = _Stand(size, chain._replace(key=None))
        with contextlib.suppress(OSError):
            os.close(self._fd)
        self._fd = -1


def _write_all(fd: int, line: bytes) -> None:
    # One write per line, so that a reader never sees half of it; the rest of
    # a short one (a full disk) follows or fails.
    left = memoryview(line)
    while left:
        left = left[os.write(fd, left) :]


def own_record(action: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """
    Make a record about the journal itself, which belongs to no payload.
    """
    return TraceRecord(action=action, trace_id="", fields=fields).to_dict()

"""
Read trace records back.

Rules:

1. Files are read as streams: a directory may hold more than memory does.
2. What cannot be read as a record is told, and never ends the reading.
3. Nothing is waited for: a pipe or a device under the name of a file is no
   file of records.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, Optional

import attrs

from wlcg_isolate._values import as_mapping
from wlcg_isolate.errors import Problem, TraceError
from wlcg_isolate.trace.chain import MAX_LINE
from wlcg_isolate.trace.place import SUFFIX


class Entry(NamedTuple):
    """
    One line of a file.

    Attributes:
        file: Path of the file.

        offset: Its first byte.

        end: The first byte behind it; where to go on.

        record: What it says, or None where that is no record.

        whole: Whether the line is complete.
    """

    file: str
    offset: int
    end: int
    record: Optional[dict[str, Any]]
    whole: bool


@attrs.frozen(kw_only=True)
class Position:
    """
    How far a reader has come in a directory whose files grow.

    Attributes:
        offsets: For each file's name, the first byte that was not taken.
    """

    offsets: Mapping[str, int] = attrs.field(factory=dict, converter=as_mapping)

    def after(self, *entries: Entry) -> Position:
        """
        Return the position behind these entries.
        """
        return Position(offsets={**self.offsets, **{os.path.basename(entry.file): entry.end for entry in entries}})

    def to_text(self) -> str:
        """
        Write it as one line.
        """
        return json.dumps(dict(self.offsets), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Position:
        """
        Read what `to_text` wrote.

        Raises:
            ValueError: It is something else.
        """
        offsets = json.loads(text)
        if not isinstance(offsets, dict) or not all(
            isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in offsets.values()
        ):
            msg = "no position: it must map names of files to bytes"
            raise ValueError(msg)

        return cls(offsets=offsets)


def follow(directory: str, position: Optional[Position] = None) -> Iterator[Entry]:
    """
    List the whole lines that came into a directory behind a position.

    It ends when there are no more; call it again, with the position behind
    what was taken, for those that came meanwhile.  A line that is still being
    written comes when it is whole.  A file that is shorter than the position
    gives nothing: what `wlcg-isolate trace verify` is for.

    Args:
        directory: Where the files are.

        position: Where to go on; None for the beginning.

    Raises:
        TraceError: The directory or a file in it cannot be read.
    """
    offsets = {} if position is None else position.offsets
    for file in files_of(directory):
        try:
            yield from (e for e in entries_of(file, offsets.get(os.path.basename(file), 0)) if e.whole)
        except TraceError:
            # A purge may have taken it since the directory was listed.
            if os.path.lexists(file):
                raise


def iter_records(path: str, *, journal: bool = False) -> Iterator[dict[str, Any]]:
    """
    List the records of a file, or of all files in a directory, file by file.

    Args:
        path: A ``.jsonl`` file, or a directory that holds some.

        journal: Whether to list those that the journal wrote about itself
            (``log.*``), too.

    Raises:
        TraceError: The path cannot be read.
    """
    for file in files_of(path):
        for entry in entries_of(file):
            if entry.record is not None and (journal or not _is_own(entry.record)):
                yield entry.record


def read_records(path: str, *, journal: bool = False) -> tuple[list[dict[str, Any]], list[str]]:
    """
    Read the records of a file, or of all files in a directory, into memory.

    Args:
        path: A ``.jsonl`` file, or a directory that holds some.

        journal: Whether to read those that the journal wrote about itself
            (``log.*``), too.

    Returns:
        The records in the order of their time, and one remark for each line
        that is no record (a crash can leave the last line of a file torn).

    Raises:
        TraceError: The path cannot be read.
    """
    records: list[dict[str, Any]] = []
    remarks: list[str] = []
    for file in files_of(path):
        for number, entry in enumerate(entries_of(file), 1):
            if entry.record is None:
                # An empty line says nothing, and hides nothing.
                if not entry.whole or entry.end > entry.offset + 1:
                    remarks.append(f"{file}:{number}: not a record")
            elif journal or not _is_own(entry.record):
                records.append(entry.record)

    return sorted(records, key=lambda r: str(r.get("@timestamp", ""))), remarks


def _is_own(record: Mapping[str, Any]) -> bool:
    return str(record["event.action"]).startswith("log.")


def entries_of(file: str, offset: int = 0) -> Iterator[Entry]:
    """
    List the lines of a file.

    Args:
        file: Its path.

        offset: Where a line begins.

    Raises:
        TraceError: It cannot be read.
    """
    try:
        with open_plain(file) as f:
            f.seek(offset)
            for line in lines_in(f):
                end = offset + line.size
                yield Entry(file, offset, end, record_in(line.content), line.whole)
                offset = end
    except OSError as e:
        raise unreadable(file, e.strerror or str(e)) from e


class RawLine(NamedTuple):
    """
    The bytes of a line.

    Attributes:
        content: With the newline; empty where it is too long for a record.

        size: Its bytes.

        whole: Whether it ends with a newline.
    """

    content: bytes
    size: int
    whole: bool


def lines_in(file: BinaryIO) -> Iterator[RawLine]:
    """
    Split a file into lines, with no more than one in memory.

    Raises:
        OSError: It cannot be read.
    """
    while True:
        content = file.readline(MAX_LINE)
        if not content:
            return
        if content[-1] == 10 or len(content) < MAX_LINE:
            yield RawLine(content, len(content), content[-1] == 10)
            continue
        size, rest = len(content), content
        while rest and rest[-1] != 10:
            rest = file.readline(MAX_LINE)
            size += len(rest)
        yield RawLine(b"", size, bool(rest))


def record_in(line: bytes) -> Optional[dict[str, Any]]:
    """
    Read a line as a record; None where it is none.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None

    return record if isinstance(record, dict) and "event.action" in record else None


def open_plain(path: str) -> BinaryIO:
    """
    Open a plain file; anything else may never end.

    Raises:
        OSError: It is none, or cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(None, "it is no plain file")

    return open(fd, "rb", buffering=1 << 20)


def files_of(path: str) -> list[str]:
    """
    List the files of records in a directory, oldest first, or the one.

    Raises:
        TraceError: There is no such path.
    """
    try:
        if not os.path.isdir(path):
            os.stat(path)
            return [path]
        return sorted(os.path.join(path, name) for name in os.listdir(path) if name.endswith(SUFFIX))
    except OSError as e:
        raise unreadable(path, e.strerror or str(e)) from e


def unreadable(path: str, reason: str) -> TraceError:
    """
    Make the error of records that cannot be read.
    """
    return TraceError(
        [
            Problem(
                kind="trace-unwritable",
                message=f"trace records cannot be read from {path}: {reason}",
                origin="--trace-dir",
                advice="check the path and its permissions",
            )
        ]
    )

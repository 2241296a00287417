"""
What the subcommands print and write.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Optional

from wlcg_isolate._values import absolute_path, is_below, printable
from wlcg_isolate.errors import IsolateError, Problem, RequestError
from wlcg_isolate.outcome import Outcome


def report(message: str) -> None:
    """
    Print problems to standard error, one line each.
    """
    for line in message.split("\n") if message else ():
        print(f"wlcg-isolate: {printable(line)}", file=sys.stderr)


def visible(text: str) -> str:
    """
    Write out what would steer a terminal, or does not fit standard output.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"

    return printable(text).encode(encoding, "backslashreplace").decode(encoding)


def report_error(error: IsolateError) -> None:
    """
    Print all problems of an error to standard error.
    """
    report("\n".join(str(problem) for problem in error.problems))


def print_json(value: Any) -> None:
    """
    Print a value as JSON.
    """
    print(json.dumps(value, indent=2, sort_keys=False))


def table(rows: Iterable[Sequence[str]]) -> str:
    """
    Align rows into columns; the last one is ragged.
    """
    lines: list[Sequence[str]] = [tuple(map(printable, row)) for row in rows]
    widths = [max(len(row[i]) for row in lines) for i in range(len(lines[0]) - 1)] if lines else []

    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]).rstrip() for row in lines
    )


#: More than an outcome takes; one that is longer needs a disk that is not full.
_ROOM = 16_384


def workdir_of(parsed: Any) -> str:
    """
    Return the working directory that a command line means, "" for this one.
    """
    asked = parsed.options if parsed.request is None else parsed.request

    return getattr(asked, "workdir", None) or ""


class OutcomeFile:
    """
    The file that takes the outcome.

    Its directory is opened before the payload runs, and the file is written
    beside and moved into place: a link that the payload plants meanwhile is
    replaced, never followed.
    """

    def __init__(self, path: str, workdir: str = "") -> None:
        """
        Check that the file can be written, and remove an older one.

        Args:
            path: Where it is to be.

            workdir: The payload's working directory; in it, no link that an
                earlier payload may have left is followed.

        Raises:
            RequestError: It cannot, or something else has its name.
        """
        self._path = path
        directory, self._name = os.path.split(absolute_path(path))
        self._temporary = f".{self._name}.{uuid.uuid4()}"
        try:
            self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._check_place(directory, absolute_path(workdir or os.curdir))
            self._check_name()
            os.close(self._create())
            os.unlink(self._temporary, dir_fd=self._directory)
            self._reserved = self._reserve()
        except OSError as e:
            raise RequestError(
                [
                    Problem(
                        kind="request-invalid",
                        message=f"the outcome cannot be written to {path}: {e.strerror or e}",
                        origin="--outcome",
                        advice="name a plain file in a directory that can be written",
                    )
                ]
            ) from e

    def write(self, outcome: Outcome) -> None:
        """
        Write the outcome, whatever the payload did to the name.

        One that cannot be written (a full disk) goes to standard error: the
        payload has run, and what became of it must not be lost.
        """
        text = json.dumps(outcome.to_dict(), indent=2) + "\n"
        try:
            self._write(text.encode())
            self._move_into_place()
        except OSError as e:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._directory)
            report(f"the outcome cannot be written to {self._path}: {e.strerror}: {json.dumps(outcome.to_dict())}")
        os.close(self._directory)

    def _write(self, text: bytes) -> None:
        """
        Write the temporary file, where the disk is full into what was reserved.
        """
        if self._reserved is not None:
            with open(self._reserved, "wb") as f:
                f.write(text)
                f.truncate()
                f.flush()
                # The way to name a nameless file (open(2), O_TMPFILE).
                os.link(f"/proc/self/fd/{f.fileno()}", self._temporary, dst_dir_fd=self._directory)
        else:
            with open(self._create(), "wb") as f:
                f.write(text)

    def _reserve(self) -> Optional[int]:
        """
        Take room for the outcome before the payload can fill the disk, in a
        file without a name: the payload cannot reach it, and a pilot that is
        killed leaves nothing.

        Returns:
            A descriptor, or None where the file system or its free space does
            not allow it.
        """
        try:
            fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=self._directory)
        except OSError:
            return None
        try:
            os.posix_fallocate(fd, 0, _ROOM)
        except OSError:
            os.close(fd)
            return None

        return fd

    def _move_into_place(self) -> None:
        try:
            self._rename(self._temporary, self._name)
        except IsADirectoryError:
            # The payload's, and not empty: it stays, under another name.
            self._rename(self._name, f"{self._temporary}.replaced")
            self._rename(self._temporary, self._name)

    def _rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def _check_place(self, directory: str, workdir: str) -> None:
        place = os.readlink(f"/proc/self/fd/{self._directory}")
        if is_below(directory, workdir) and not is_below(place, os.path.realpath(workdir)):
            raise OSError(None, f"a link in the working directory leads to {place}")

    def _check_name(self) -> None:
        if not self._name:
            raise OSError(None, "it names a directory")
        try:
            mode = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            raise OSError(None, "something else than a plain file has that name")
        # Whoever finds a file there afterwards finds this payload's outcome, also when the pilot was killed.
        os.unlink(self._name, dir_fd=self._directory)

    def _create(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

        return os.open(self._temporary, flags, 0o644, dir_fd=self._directory)


def flat(record: dict[str, Any]) -> str:
    """
    Show a value of a record in one cell.
    """
    return json.dumps(record) if isinstance(record, (dict, list)) else str(record)

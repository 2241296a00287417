"""
Read trace records back.
"""

from __future__ import annotations

import json
import os
import stat
from typing import Any

from wlcg_isolate.errors import Problem, TraceError


def read_records(path: str) -> tuple[list[dict[str, Any]], list[str]]:
    """
    Read the records of a file, or of all files in a directory.

    Args:
        path: A ``.jsonl`` file, or a directory that holds some.

    Returns:
        The records in the order of their time, and one remark for each line
        that is no record (a crash can leave the last line of a file torn).

    Raises:
        TraceError: The path cannot be read.
    """
    records: list[dict[str, Any]] = []
    remarks: list[str] = []
    for file in _files(path):
        try:
            lines = _content(file).split(b"\n")
        except OSError as e:
            raise _unreadable(file, e.strerror or str(e)) from e
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict) and "event.action" in record:
                records.append(record)
            else:
                remarks.append(f"{file}:{number}: not a record")

    return sorted(records, key=lambda r: str(r.get("@timestamp", ""))), remarks


def _content(path: str) -> bytes:
    """
    Read a plain file; anything else may never end.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as f:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(None, "it is no plain file")
        return f.read()


def _files(path: str) -> list[str]:
    try:
        if not os.path.isdir(path):
            os.stat(path)
            return [path]
        return sorted(os.path.join(path, name) for name in os.listdir(path) if name.endswith(".jsonl"))
    except OSError as e:
        raise _unreadable(path, e.strerror or str(e)) from e


def _unreadable(path: str, reason: str) -> TraceError:
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

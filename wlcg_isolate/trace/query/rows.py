"""
Lay out records in columns, and read files of JSON lines in plain Python.

What comes from a file may be anything: a line that is no record is remarked,
and never an error.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from typing import Any, Optional, Union

from wlcg_isolate.trace.query.columns import COLUMNS, Column
from wlcg_isolate.trace.query.times import day, recorded

Row = dict[str, Any]

#: A longer line is no record.
MAX_LINE = 1 << 20

#: Columns that name a user; the first that does counts as the owner.
OWNERS = ("user_hash", "user_name", "wlcg_token_sub_hash", "wlcg_token_sub")

_INT64 = 1 << 63
_DIGITS = 20


def record_of(line: bytes) -> Optional[dict[str, Any]]:
    """
    Read a line, or return None when it is no record: no JSON object, a key
    given twice, no event, no time.
    """
    try:
        record = loads(line, once=True)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("event.action"), str):
        return None

    return None if recorded(record.get("@timestamp")) is None else record


def loads(text: Union[str, bytes], *, once: bool = False) -> Any:
    """
    Read JSON; a number that Python could not write again as JSON stays text.

    Raises:
        ValueError: It is none; with *once*, or a key is given twice.
    """
    return json.loads(
        text,
        object_pairs_hook=_once if once else None,
        parse_constant=_no_number,
        parse_float=lambda word: word if math.isinf(float(word)) else float(word),
        parse_int=lambda word: word if len(word) > _DIGITS else int(word),
    )


def _no_number(word: str) -> None:
    msg = f"{word} is no JSON"
    raise ValueError(msg)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Readers differ over which one counts.
        msg = "a key is given twice"
        raise ValueError(msg)

    return found


def row_of(record: dict[str, Any], line: bytes, site: str = "unknown") -> Row:
    """
    Lay out one record.
    """
    row: Row = {}
    held: set[str] = set()
    for column in COLUMNS:
        row[column.name] = _value(column, record, held)
    moment = recorded(record["@timestamp"]) or 0
    if row["event_id"] is None:
        row["event_id"] = hashlib.sha256(line).hexdigest()
    row["time"] = moment
    row["payload_id"] = row["container_id"] or row["event_id"]
    row["day"] = day(moment)
    row["site"] = row["wlcg_site"] or site
    row["owner"] = owner_of(row)
    row["extra"] = plain_text(json.dumps({k: v for k, v in record.items() if k not in held}, separators=(",", ":")))

    return row


def owner_of(row: Row) -> Any:
    """
    Name whom a record is about by one text, by which Parquet is ordered.
    """
    return next((row[name] for name in OWNERS if row[name]), "")


def _value(column: Column, record: dict[str, Any], held: set[str]) -> Any:
    for field in column.fields:
        value = _typed(column, record.get(field))
        if value is not None:
            if column.whole:
                held.add(field)
            return value

    return None


def _typed(column: Column, value: Any) -> Union[str, int, list[str], None]:
    if column.kind == "text":
        return plain_text(value) if isinstance(value, str) else None
    if column.kind == "int":
        whole = isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < _INT64
        return value if whole else None
    if column.kind == "part":
        return _joined(column, value)
    if not isinstance(value, list):
        return None
    if column.kind == "list":
        return [plain_text(v) for v in value] if all(isinstance(v, str) for v in value) else None

    return [text for text in (_joined(column, item) for item in value) if text is not None]


def _joined(column: Column, item: Any) -> Optional[str]:
    """
    Join the parts of one object; a text or a whole number counts as a part.
    """
    if not isinstance(item, dict):
        return None
    words = []
    for spellings in column.parts:
        found = [item[s] for s in spellings if isinstance(item.get(s), (str, int)) and not isinstance(item[s], bool)]
        if not found:
            return None
        words.append(plain_text(str(found[0])))

    return "@".join(words)


def plain_text(text: str) -> str:
    """
    Write out bytes that were not UTF-8, which no engine but Python can hold.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def lines_of(path: str) -> Iterator[tuple[int, Optional[bytes]]]:
    """
    Read a file's lines with their numbers; None stands for one that is too
    long.

    Raises:
        OSError: It cannot be read, or is no plain file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as f:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(None, "it is no plain file")
        number = 0
        while line := f.readline(MAX_LINE + 1):
            number += 1
            long = len(line) > MAX_LINE
            while long and line and not line.endswith(b"\n"):
                line = f.readline(MAX_LINE)
            if long:
                yield number, None
            elif line.strip():
                yield number, line


def rows_of(path: str, remarks: list[str]) -> Iterator[Row]:
    """
    Read a file's records as rows; what is none is remarked.
    """
    bad: list[int] = []
    try:
        for number, line in lines_of(path):
            record = None if line is None else record_of(line)
            if line is None or record is None:
                bad.append(number)
            else:
                yield row_of(record, line.rstrip(b"\r\n"))
    except OSError as e:
        remarks.append(f"{path}: cannot be read: {e.strerror or e}")
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        remarks.append(f"{path}: line {bad[0]}{more}: not a record")

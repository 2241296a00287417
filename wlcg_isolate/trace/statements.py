"""
What is said of a file elsewhere: in other files, or by who received copies.

A chain shows that a file was altered in its middle.  That its end, or the
whole file, is missing shows only where somebody else knew of it.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Optional

import attrs

from wlcg_isolate.trace.chain import link_of
from wlcg_isolate.trace.findings import Finding
from wlcg_isolate.trace.read import files_of, lines_in, open_plain, record_in, unreadable


class Statement(NamedTuple):
    """
    One thing that is said of a file.

    Attributes:
        kind: ``"previous"``, ``"neighbour"``, ``"recovered"``, ``"next"``,
            ``"purged"`` or ``"received"``.

        by: Who says it: a path.

        file_id: Of which file, or "" where only its name is known.

        name: That file's name, or "".

        sequence: Number of a record that it held, or None.

        hash: That record's hash, or "".
    """

    kind: str
    by: str
    file_id: str
    name: str
    sequence: Optional[int]
    hash: str


@attrs.frozen(kw_only=True)
class Opening:
    """
    What a file says of itself and of others before its first payload.

    Attributes:
        file: Its path.

        file_id: Its identity, or "".

        statements: What it says of others.
    """

    file: str
    file_id: str
    statements: tuple[Statement, ...]


_FIELDS = {
    "previous": "wlcg.journal.previous",
    "recovered": "wlcg.journal.recovered",
    "purged": "wlcg.journal.purged",
}


def opening_of(file: str) -> Opening:
    """
    Read the records at the beginning of a file that are about files.

    Raises:
        OSError: The file cannot be read.
    """
    found: list[Statement] = []
    file_id = ""
    with open_plain(file) as f:
        for number, line in enumerate(lines_in(f)):
            link = link_of(line.content)
            record = record_in(line.content)
            if link is None or record is None or not str(record["event.action"]).startswith("log."):
                break
            if not number:
                file_id = link.file_id
            found += _statements_in(record, file)

    return Opening(file=file, file_id=file_id, statements=tuple(found))


def _statements_in(record: Mapping[str, Any], by: str) -> Iterator[Statement]:
    for kind, field in _FIELDS.items():
        yield from _statement(kind, by, record.get(field))
    neighbours = record.get("wlcg.journal.neighbours")
    for neighbour in neighbours if isinstance(neighbours, list) else ():
        yield from _statement("neighbour", by, neighbour)


def _statement(kind: str, by: str, said: Any) -> Iterator[Statement]:
    if isinstance(said, dict) and isinstance(said.get("name"), str):
        sequence = said.get("sequence")
        number = sequence if isinstance(sequence, int) and not isinstance(sequence, bool) else None
        # The same is said of a file many times; one text is enough.
        file_id, name, digest = (sys.intern(str(said.get(key, ""))) for key in ("file_id", "name", "hash"))
        yield Statement(kind, by, file_id, name, number, digest)


def next_of(record: Mapping[str, Any], by: str) -> Iterator[Statement]:
    """
    Read which file follows, from the record that closes one.
    """
    yield from _statement("next", by, record.get("wlcg.journal.next"))


def received(paths: Iterable[str]) -> Iterator[Statement]:
    """
    Read copies of records that were received elsewhere.

    Each line holds a record as the journal wrote it; what a receiver put
    before it (a header of syslog) is not looked at, and lines without one are
    passed over.

    Args:
        paths: Files, or directories of them.

    Raises:
        TraceError: One cannot be read.
    """
    for path in paths:
        for file in files_of(path):
            try:
                with open_plain(file) as f:
                    for line in lines_in(f):
                        begin = max(0, line.content.find(b'{"@timestamp":"'))
                        link = link_of(line.content[begin:])
                        if link is not None and link.true:
                            yield Statement("received", file, link.file_id, "", link.sequence, link.hash)
            except OSError as e:
                raise unreadable(file, e.strerror or str(e)) from e


class Known:
    """
    All that is said, by the file that it is about.
    """

    def __init__(self, statements: Iterable[Statement]) -> None:
        self._by_id: dict[str, list[Statement]] = defaultdict(list)
        self._by_name: dict[str, list[Statement]] = defaultdict(list)
        for said in statements:
            if said.file_id:
                self._by_id[said.file_id].append(said)
            else:
                self._by_name[said.name].append(said)

    def of(self, file_id: str) -> list[Statement]:
        """
        List what is said of a file.
        """
        return self._by_id.get(file_id, [])

    def missing(self, openings: Iterable[Opening]) -> Iterator[list[Statement]]:
        """
        List, for each file that is not there and was not purged, what is said
        of it.
        """
        there = list(openings)
        ids = {opening.file_id for opening in there}
        purged = {s.name for said in self._by_id.values() for s in said if s.kind == "purged"}
        names = {os.path.basename(opening.file) for opening in there} | purged
        for file_id, said in self._by_id.items():
            if file_id not in ids and not any(s.kind == "purged" for s in said):
                yield said
        for name, said in self._by_name.items():
            if name not in names and not any(s.kind == "purged" for s in said):
                yield said


def by_sequence(known: Iterable[Statement]) -> dict[int, list[Statement]]:
    """
    Arrange what is said of a file by the records that it is about.
    """
    found: dict[int, list[Statement]] = defaultdict(list)
    for said in known:
        if said.sequence is not None:
            found[said.sequence].append(said)

    return found


def compare_end(known: Iterable[Statement], last: int, *, closed: bool) -> Iterator[Finding]:
    """
    Compare where a file ends with what is said of it.

    Args:
        known: What is said.

        last: Number of the file's last record.

        closed: Whether that record closes it.
    """
    numbered = [(said, said.sequence) for said in known if said.sequence is not None]
    beyond = [(sequence, said.by) for said, sequence in numbered if sequence > last]
    if beyond:
        sequence, by = max(beyond)
        yield Finding(kind="truncated", message=f"{by} tells of record {sequence}; the last one is {last}")
    for said, sequence in numbered:
        if said.kind == "previous" and last > sequence + int(closed):
            message = f"records follow {sequence}, which was the last one when {said.by} began"
            yield Finding(kind="contradicted", message=message)
        elif said.kind == "recovered" and last > sequence:
            yield Finding(kind="continued", message=f"{said.by} took its process for dead at record {sequence}")


def level_of(known: Iterable[Statement], last_start: int) -> tuple[int, str]:
    """
    Tell the assurance level of a file in which nothing is altered, and why it
    is not the next one.

    Args:
        known: What is said of it.

        last_start: Number of the last record in it that started a payload.
    """
    copies = [said.sequence for said in known if said.kind == "received" and said.sequence is not None]
    if not copies:
        return 0, "no copy of its records that left the node was given (--received)"
    if max(copies) < last_start:
        return 0, f"record {last_start} started a payload; the last one that was received is {max(copies)}"

    return 1, "who received it adds nothing of its own that this command could compare"

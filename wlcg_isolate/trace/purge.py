"""
Remove old files of records, and keep what shows that nothing else is missing.

Rules:

1. Files go as a whole; nothing is ever cut out of one.
2. A record of what is removed, with the hash that its chain ended with, is on
   disk before the file goes.
3. What was altered is evidence and stays, unless that is asked for; what a
   process may still write stays in any case.
4. What a receiver has not taken stays, unless that is asked for.
5. What older purges removed is told again when their own records go, as long
   as a file that stays speaks of it.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterable, Iterator
from typing import Optional

import attrs

from wlcg_isolate.trace.examine import Examination
from wlcg_isolate.trace.export.lines import whole_end
from wlcg_isolate.trace.export.progress import Progress, forget
from wlcg_isolate.trace.file import own_record
from wlcg_isolate.trace.findings import FileReport
from wlcg_isolate.trace.journal import Journal
from wlcg_isolate.trace.place import unwritable
from wlcg_isolate.trace.read import files_of, unreadable
from wlcg_isolate.trace.statements import Known, Opening, Statement, opening_of

#: What policies of sites and of data protection ask for; outside, a warning.
SHORTEST_DAYS = 90
LONGEST_DAYS = 540


@attrs.frozen(kw_only=True)
class Purged:
    """
    What a purge did, or would do.

    Attributes:
        removed: The files that went.

        kept: Files that are old enough and stay, with the reason.

        record: The file that tells of it, or "" when none was needed.
    """

    removed: tuple[FileReport, ...]
    kept: tuple[tuple[str, str], ...]
    record: str


def retention_warning(days: int) -> str:
    """
    Say what is unusual about a retention, or "".
    """
    if days < SHORTEST_DAYS:
        return f"{days} days are less than the {SHORTEST_DAYS} that sites are asked to keep"
    if days > LONGEST_DAYS:
        return f"{days} days are more than the {LONGEST_DAYS} that personal data may usually be kept"

    return ""


def purge(
    directory: str,
    *,
    days: int,
    altered: bool = False,
    receivers: Iterable[str] = (),
    dry_run: bool = False,
    now: Optional[datetime.datetime] = None,
) -> Purged:
    """
    Remove the files whose last record is older than *days*.

    Args:
        directory: Where they are.

        days: How old.

        altered: Whether files go that do not verify.

        receivers: Names of those that must have taken a file before it goes.

        dry_run: Whether to remove nothing.

        now: The present time, for those who know better.

    Raises:
        TraceError: The directory cannot be read or written.
    """
    before = (now or datetime.datetime.now(datetime.timezone.utc)) - datetime.timedelta(days=days)
    limit = before.strftime("%Y%m%dT%H%M%S")
    # A file cannot end before it began, so the name tells which are too young.
    files = [file for file in files_of(directory) if os.path.basename(file)[: len(limit)] < limit]
    removed: list[FileReport] = []
    kept: list[tuple[str, str]] = []
    for file in files:
        report = _examined(file)
        if report.last and report.last > before.strftime("%Y-%m-%dT%H:%M:%S"):
            continue
        reason = _reason_to_keep(report, altered=altered) or _unsent(report.file, receivers)
        if reason:
            kept.append((file, reason))
        else:
            removed.append(report)
    record = "" if dry_run or not removed else _remove(directory, removed)

    return Purged(removed=tuple(removed), kept=tuple(kept), record=record)


def _examined(file: str) -> FileReport:
    try:
        return Examination(file, None, ()).run()
    except OSError as e:
        raise unreadable(file, e.strerror or str(e)) from e


def _reason_to_keep(report: FileReport, *, altered: bool) -> str:
    if os.path.islink(report.file):
        return "it is a link"
    if report.state == "open":
        return "its process is alive"
    if report.harmed and not altered:
        return "it does not verify: " + ", ".join(sorted({f.kind for f in report.findings if f.harm}))

    return ""


def _unsent(file: str, receivers: Iterable[str]) -> str:
    """
    Name the receivers that have not taken a file to its last whole line.
    """
    place = os.path.dirname(file)
    names = [name for name in receivers if Progress(place, name).read(file) < whole_end(file)]

    return f"not sent yet: {', '.join(names)}" if names else ""


def _remove(directory: str, reports: Iterable[FileReport]) -> str:
    """
    Tell what goes, and then remove it.

    Returns:
        The file that tells.
    """
    going = {os.path.basename(report.file): report for report in reports}
    again = list(_told_again(directory, going))
    journal = Journal(directory)
    for said in again:
        fields = {"name": said.name, "file_id": said.file_id, "sequence": said.sequence, "hash": said.hash}
        journal.write_fields(own_record("log.purged", {"wlcg.journal.purged": fields}))
    for name, report in going.items():
        journal.write_fields(own_record("log.purged", {"wlcg.journal.purged": _said_of(name, report)}))
        try:
            os.unlink(report.file)
        except OSError as e:
            raise unwritable(report.file, e.strerror or str(e)) from e
        forget(directory, name)
    journal.close()

    return journal.path


def _said_of(name: str, report: FileReport) -> dict[str, object]:
    return {
        "name": name,
        "file_id": report.file_id,
        "sequence": report.sequence,
        "hash": report.head,
        "records": report.records,
        "first": report.first,
        "last": report.last,
        "state": report.state,
        "findings": sorted({finding.kind for finding in report.findings}),
    }


def _told_again(directory: str, going: Iterable[str]) -> Iterator[Statement]:
    """
    List what files that go say of older purges, and files that stay need.
    """
    openings, names = list(_openings(directory)), set(going)
    stay = [opening for opening in openings if os.path.basename(opening.file) not in names]
    gone = [opening for opening in openings if os.path.basename(opening.file) in names]
    told = {s.file_id or s.name: s for opening in gone for s in opening.statements if s.kind == "purged"}
    known = Known(s for opening in stay for s in opening.statements)
    for said in known.missing(openings):
        found = told.get(said[0].file_id or said[0].name)
        if found is not None:
            yield found


def _openings(directory: str) -> Iterator[Opening]:
    for file in files_of(directory):
        with contextlib.suppress(OSError):
            yield opening_of(file)

"""
Verify files of trace records, alone and against each other.

It never says that all is well: it says what was compared, what was found,
which assurance level each file reaches, and why not more.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

import attrs

from wlcg_isolate.trace.examine import Examination
from wlcg_isolate.trace.findings import FileReport, Finding
from wlcg_isolate.trace.read import files_of
from wlcg_isolate.trace.seal import Keys
from wlcg_isolate.trace.statements import Known, Opening, Statement, opening_of, received


@attrs.frozen(kw_only=True)
class Report:
    """
    What is known of a directory, or of one file.

    Attributes:
        path: Which.

        files: What is known of each file.

        findings: What was found of the directory as a whole.

        unreadable: Files that could not be read, with the reason.

        compared: What the files were compared with, in words.
    """

    path: str
    files: tuple[FileReport, ...]
    findings: tuple[Finding, ...]
    unreadable: tuple[tuple[str, str], ...]
    compared: tuple[str, ...]

    @property
    def harmed(self) -> bool:
        """
        Whether something was altered or lost.
        """
        return any(f.harm for f in self.findings) or any(file.harmed for file in self.files)

    @property
    def status(self) -> int:
        """
        The exit status of the command line: 0, 1 or 2.
        """
        if self.harmed:
            return 1

        return 2 if self.unreadable or not self.files else 0

    def to_dict(self) -> dict[str, Any]:
        """
        Return the report in plain types.
        """
        return {
            "path": self.path,
            "harmed": self.harmed,
            "files": [file.to_dict() for file in self.files],
            "findings": [{**attrs.asdict(f), "harm": f.harm} for f in self.findings],
            "unreadable": [{"file": file, "reason": reason} for file, reason in self.unreadable],
            "compared": list(self.compared),
        }


def verify(path: str, *, keys: Optional[Keys] = None, copies: Sequence[str] = (), partial: bool = False) -> Report:
    """
    Verify a file, or all files of a directory.

    Args:
        path: A ``.jsonl`` file, or a directory that holds some.

        keys: What to check keyed digests with.

        copies: Files of records as they were received elsewhere.

        partial: Whether files may be missing because *path* holds only some
            of those that were written together.

    Raises:
        TraceError: The path or a copy cannot be read.
    """
    whole = os.path.isdir(path)
    findings: list[Finding] = []
    unreadable: list[tuple[str, str]] = []
    openings = list(_openings(files_of(path), findings, unreadable, whole=whole))
    taken = list(received(copies))
    said = [*taken, *(s for opening in openings for s in opening.statements)]
    known = Known(said)
    files: list[FileReport] = []
    for opening in openings:
        examination = Examination(opening.file, keys, known.of(opening.file_id))
        try:
            files.append(examination.run())
        except OSError as e:
            unreadable.append((opening.file, e.strerror or str(e)))
        said += examination.following
    findings += _replayed(openings)
    if whole and not partial:
        findings += _missing(path, Known(said), openings)

    return Report(
        path=path,
        files=tuple(files),
        findings=tuple(findings),
        unreadable=tuple(unreadable),
        compared=tuple(_compared(whole and not partial, keys, len(taken) if copies else None)),
    )


def _openings(
    files: Iterable[str], findings: list[Finding], unreadable: list[tuple[str, str]], *, whole: bool
) -> Iterator[Opening]:
    for file in files:
        # Who names one file may name it by a link; in a directory nobody put one.
        if whole and (os.path.islink(file) or not os.path.isfile(file)):
            findings.append(Finding(kind="not-a-file", message=f"{file} is no plain file"))
            continue
        try:
            yield opening_of(file)
        except OSError as e:
            unreadable.append((file, e.strerror or str(e)))


def _replayed(openings: Iterable[Opening]) -> Iterator[Finding]:
    same: dict[str, list[str]] = defaultdict(list)
    for opening in openings:
        if opening.file_id:
            same[opening.file_id].append(opening.file)
    for files in same.values():
        if len(files) > 1:
            yield Finding(kind="replayed", message=f"{', '.join(files)} have the same identity")


def _missing(path: str, known: Known, openings: Sequence[Opening]) -> Iterator[Finding]:
    listed = {os.path.basename(opening.file) for opening in openings}
    for said in known.missing(openings):
        # A pilot that writes meanwhile may have begun its next file.
        if any(s.name and s.name not in listed and os.path.isfile(os.path.join(path, s.name)) for s in said):
            continue
        name = next((s.name for s in said if s.name), f"with the identity {said[0].file_id}")
        held = max((s.sequence for s in said if s.sequence is not None), default=None)
        records = "" if held is None else f" and held record {held}"
        yield Finding(kind="missing-file", message=f"the file {name} is not there; {_who(said)} tells of it{records}")


def _who(said: Sequence[Statement]) -> str:
    more = f" and {len(said) - 1} more" if len(said) > 1 else ""

    return f"{said[0].by}{more}"


def _compared(whole: bool, keys: Optional[Keys], copies: Optional[int]) -> Iterator[str]:
    yield "each record with the hash that follows from the one before"
    if keys is not None:
        yield "the keyed digest of each record with the key that was given"
    if whole:
        yield "the files of the directory with what they say of each other"
    if copies is not None:
        yield f"the records with {copies} copies that were received"

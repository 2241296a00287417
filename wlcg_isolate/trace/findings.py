"""
What `wlcg-isolate trace verify` can find, and how it reports a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import attrs


class Meaning(NamedTuple):
    """
    What a kind of finding means.

    Attributes:
        harm: Whether something was altered or lost.

        text: One sentence.
    """

    harm: bool
    text: str


#: The closed list; a word once published is never renamed.
FINDINGS: Mapping[str, Meaning] = {
    "altered": Meaning(True, "A record is not the one that was written: its bytes do not give its hash."),
    "rewritten": Meaning(True, "A record follows from another one than the one before it: that one was exchanged."),
    "forged": Meaning(True, "Hashes are right and the keyed digest is not: somebody without the key wrote the record."),
    "wrong-epoch": Meaning(True, "A record claims a key that belongs to another place in the file."),
    "gap": Meaning(True, "Records are missing in the middle of the file."),
    "reordered": Meaning(True, "A record stands behind later ones."),
    "duplicate": Meaning(True, "A record's number occurs twice."),
    "spliced": Meaning(True, "A record of another file stands in this one."),
    "no-record": Meaning(True, "A whole line is no record of a journal."),
    "no-genesis": Meaning(True, "The file does not begin with its first record: its beginning is missing."),
    "foreign": Meaning(True, "No line of the file was written by a journal: nothing protects it."),
    "after-close": Meaning(True, "Something stands behind the record that closed the file."),
    "truncated": Meaning(True, "The file ends before a record that is known from elsewhere."),
    "contradicted": Meaning(True, "A record is not the one that is known from elsewhere."),
    "missing-file": Meaning(True, "A file that is known from elsewhere is not there, and no purge removed it."),
    "replayed": Meaning(True, "Two files have the same identity: one is a copy, maybe of an older state."),
    "not-a-file": Meaning(True, "Something else than a plain file has the name of a file of records."),
    "unsealed": Meaning(True, "A key was given, and the file is not sealed with any."),
    "wrong-key": Meaning(True, "The key that was given is not the file's, so nothing it seals could be checked."),
    "too-many": Meaning(True, "There are more findings than are listed; the rest of the file was not examined."),
    "left-open": Meaning(
        False,
        "No record closes the file: its process was killed, or the end was cut off; without a copy of the end "
        "elsewhere nobody can tell which.",
    ),
    "torn": Meaning(False, "The last line is not whole: a crash, or a disk that was full, cut it."),
    "empty": Meaning(False, "The file holds no whole record: its process was killed while it began."),
    "still-written": Meaning(False, "A process of this host that is alive may still write to the file."),
    "continued": Meaning(False, "The file went on after another process took its writer for dead."),
    "clock-back": Meaning(False, "A record is older than the one before it: the clock was set back."),
    "renamed": Meaning(False, "The file had another name when it was written."),
}


@attrs.frozen(kw_only=True)
class Finding:
    """
    One thing that was found.

    Attributes:
        kind: A key of `FINDINGS`.

        message: What exactly.

        line: Number of the line, from 1, or None.

        offset: Its first byte, or None.
    """

    kind: str = attrs.field(validator=attrs.validators.in_(tuple(FINDINGS)))
    message: str
    line: Optional[int] = None
    offset: Optional[int] = None

    @property
    def harm(self) -> bool:
        """
        Whether something was altered or lost.
        """
        return FINDINGS[self.kind].harm


@attrs.frozen(kw_only=True)
class FileReport:
    """
    What is known of one file.

    Attributes:
        file: Its path.

        file_id: Its identity, or "".

        host: Where it was written, as it says.

        pid: By which process, as it says.

        records: Whole records in it.

        first: Time of the first record.

        last: Time of the last record.

        sequence: Number of the last record, or None.

        head: Its hash, or "".

        state: ``"closed"``, ``"open"``, ``"left-open"`` or ``"unknown"``.

        cut_at: The byte at which whole records end, when something follows.

        protection: What holds its records together, in words.

        level: The assurance level that was reached, or None when something
            was altered or lost.

        level_reason: Why it is not more.

        findings: What was found, in the order of the file.
    """

    file: str
    file_id: str = ""
    host: str = ""
    pid: Optional[int] = None
    records: int = 0
    first: str = ""
    last: str = ""
    sequence: Optional[int] = None
    head: str = ""
    state: str = "unknown"
    cut_at: Optional[int] = None
    protection: str = "none"
    level: Optional[int] = None
    level_reason: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def harmed(self) -> bool:
        """
        Whether something was altered or lost.
        """
        return any(finding.harm for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """
        Return the report in plain types.
        """
        plain = attrs.asdict(self, recurse=False)
        findings = [{**attrs.asdict(f), "harm": f.harm} for f in self.findings]

        return {**plain, "harmed": self.harmed, "findings": findings}

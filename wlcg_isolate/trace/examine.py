"""
Verify one file, line by line.

The usual line is compared as bytes and is not parsed; what is wrong with an
unusual one is the matter of `diagnose`.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from wlcg_isolate.trace import diagnose
from wlcg_isolate.trace.chain import CHAINED, NOTHING, SEALED, Chain, Link, action_of, link_of, time_of
from wlcg_isolate.trace.ends import is_alive
from wlcg_isolate.trace.findings import FileReport, Finding
from wlcg_isolate.trace.read import RawLine, lines_in, open_plain, record_in
from wlcg_isolate.trace.seal import Keys
from wlcg_isolate.trace.statements import Statement, by_sequence, compare_end, level_of, next_of

#: More is not listed: whoever replaced a whole file shall not fill a disk.
_MOST = 200

#: Seconds that a record may have waited for others to be written.
_WAITED = 10

_OWN = b'"event.action":"log.'
_START = b'"event.action":"payload.start"'
#: Where the journal writes what a record is about.
_WHERE = 44


class Examination:
    """
    The reading of one file.

    Attributes:
        file: Its path.

        findings: What was found so far.

        following: What its last record says of the next file.
    """

    def __init__(self, file: str, keys: Optional[Keys], known: Iterable[Statement]) -> None:
        self.file = file
        self.findings: list[Finding] = []
        self.following: list[Statement] = []
        self._keys = keys
        self._known = list(known)
        self._wanted: Mapping[int, list[Statement]] = by_sequence(self._known)
        self._chain: Optional[Chain] = None
        self._genesis: Mapping[str, Any] = {}
        self._sealed = "none"
        self._number = self._offset = self._records = 0
        self._first = self._last = ""
        self._head_at = -1
        self._closed = False
        self._cut_at: Optional[int] = None
        self._start = -1

    def run(self) -> FileReport:
        """
        Read the file and report.

        Raises:
            OSError: It cannot be read.
        """
        with open_plain(self.file) as f:
            lines = lines_in(f)
            for line in lines:
                self._number += 1
                if not line.whole:
                    self._torn(line)
                elif self._number == 1:
                    self._begin(line.content)
                elif self._chain is None:
                    self._unread(line)
                if self._number == 1 and self._chain is not None:
                    self._offset += line.size
                    self._go_on(self._chain, lines)
                    break
                self._offset += line.size
        self._end()

        return self._report()

    def _find(self, kind: str, message: str, *, here: bool = True) -> None:
        place = (self._number, self._offset) if here else (None, None)
        self.findings.append(Finding(kind=kind, message=message, line=place[0], offset=place[1]))

    def _begin(self, line: bytes) -> None:
        """
        Take the file's first record, which says how it is protected.
        """
        link, record = link_of(line), record_in(line)
        if link is None or record is None:
            self._find("no-genesis", "the first line is no record of a journal")
            return
        if action_of(line) != "log.genesis" or link.epoch:
            self._find("no-genesis", f"the file begins with record {link.epoch} of it, {record['event.action']}")
        else:
            self._genesis = record
        if (link.alg, link.mac is None) not in ((CHAINED, True), (SEALED, False)):
            self._find("altered", "the first record names a method that is not known")
            return
        key = self._first_key(link)
        chain = Chain(link.alg, link.file_id, link.kid, link.sequence, link.epoch, link.prev, key)
        self._check_origin(link)
        self._take(line, chain, link.hash)
        if chain.accepts(line) is None:
            odd = diagnose.examine(line, chain, diagnose.Seen(0))
            self._find(odd.kind or "altered", odd.message or "the first record is not the one that was written")
        self._chain = chain.after(link.hash)
        self._records = 1

    def _first_key(self, link: Link) -> Optional[bytes]:
        self._sealed = "hash chain" if link.alg == CHAINED else "hash chain and keyed digests, not checked (no key)"
        if self._keys is None:
            return None
        if link.alg == CHAINED:
            self._find("unsealed", "a key was given, and the file has no keyed digests")
            return None
        key = self._keys.first_key(link.file_id, self._genesis)
        if key is None:
            self._find("wrong-key", f"the file was sealed with a key named {link.kid}, which the one given is not")
        elif not link.epoch:
            self._sealed = "hash chain and keyed digests, checked"

        return key if not link.epoch else None

    def _check_origin(self, link: Link) -> None:
        """
        See that the first record agrees with what it says of the file before.
        """
        previous = self._genesis.get("wlcg.journal.previous")
        said = previous if isinstance(previous, dict) else {"hash": NOTHING, "sequence": -1}
        if self._genesis and (said.get("hash") != link.prev or not 0 < link.sequence - _number(said, "sequence") <= 2):
            self._find("rewritten", "the first record does not follow from the file that it names")

    def _go_on(self, chain: Chain, lines: Iterable[RawLine]) -> None:
        """
        Read all lines behind the first.
        """
        seen, begin = diagnose.Seen(chain.sequence - 1), chain.sequence - 1
        for line in lines:
            self._number += 1
            content = line.content
            digest = chain.accepts(content) if line.whole else None
            if digest is not None:
                self._take(content, chain, digest)
                chain = chain.after(digest)
                self._records += 1
            elif not line.whole:
                self._torn(line)
            else:
                seen.run(begin, chain.sequence - 1)
                chain = self._odd(content, chain, seen)
                begin = chain.sequence
            self._offset += line.size
            if len(self.findings) > _MOST:
                self._find("too-many", f"there are more than {_MOST} findings")
                break
        seen.run(begin, chain.sequence - 1)
        self.findings += [diagnose.gap(*missing) for missing in seen.gaps()]
        self._chain = chain

    def _odd(self, line: bytes, chain: Chain, seen: diagnose.Seen) -> Chain:
        odd = diagnose.examine(line, chain, seen)
        if odd.kind:
            self._find(odd.kind, odd.message)
        link = link_of(line)
        if odd.taken is not None and link is not None:
            self._records += 1
            seen.run(odd.taken, odd.taken)
            if odd.chain is not chain:
                self._take(line, odd.chain._replace(sequence=odd.taken), link.hash)

        return odd.chain

    def _take(self, line: bytes, chain: Chain, digest: str) -> None:
        """
        Take note of a record at its place.
        """
        if self._closed:
            self._find("after-close", "a record stands behind the one that closed the file")
            self._closed = False
        self._take_time(time_of(line))
        for said in self._wanted.get(chain.sequence, ()):
            if said.hash != digest:
                self._find("contradicted", f"record {chain.sequence} is not the one that {said.by} tells of")
        if line.startswith(_OWN, _WHERE):
            self._own(line, chain)
        elif line.startswith(_START, _WHERE):
            self._start = chain.sequence

    def _take_time(self, time: str) -> None:
        if time < self._last:
            # Records are made before they are written, and many threads write.
            if _seconds_between(time, self._last) <= _WAITED:
                return
            self._find("clock-back", f"the record's time is {time}, behind {self._last}")
        self._first, self._last = self._first or time, time

    def _own(self, line: bytes, chain: Chain) -> None:
        record = record_in(line) or {}
        self._closed = record.get("event.action") == "log.close"
        if self._closed:
            self.following = list(next_of(record, self.file))
        stand = record.get("wlcg.journal.checkpoint")
        if isinstance(stand, dict) and stand.get("bytes") != self._offset:
            self._find("contradicted", f"{stand.get('bytes')} bytes were before the checkpoint {chain.sequence}")

    def _torn(self, line: RawLine) -> None:
        self._cut_at = self._offset
        if self._closed:
            self._find("after-close", f"{line.size} bytes stand behind the record that closed the file")
        else:
            self._find("torn", f"{line.size} bytes of a record stand behind byte {self._offset}")

    def _unread(self, line: RawLine) -> None:
        """
        Look for a record in a file that does not begin with one.
        """
        link = link_of(line.content)
        if link is not None:
            self._chain = Chain(link.alg, link.file_id, link.kid, link.sequence + 1, link.epoch + 1, link.hash, None)

    def _end(self) -> None:
        """
        Judge the end of the file, after its last line.
        """
        if self._chain is None:
            if self._number and self.findings[0].kind != "torn":
                self.findings = [Finding(kind="foreign", message="no line was written by a journal")]
            else:
                self._find("empty", "there is no whole record", here=False)
            self._compare(-1)
            return
        last = self._chain.sequence - 1
        if not self._closed:
            if is_alive(self._genesis):
                self._find("still-written", "its process is alive", here=False)
            else:
                self._find("left-open", f"the file ends with record {last} at byte {self._end_of_records}", here=False)
        name = self._genesis.get("wlcg.journal.name")
        if name not in (None, os.path.basename(self.file)):
            self._find("renamed", f"it was written as {name}", here=False)
        self._compare(last)

    @property
    def _end_of_records(self) -> int:
        return self._offset if self._cut_at is None else self._cut_at

    def _compare(self, last: int) -> None:
        """
        Compare the end with what is known from elsewhere.
        """
        self.findings += compare_end(self._known, last, closed=self._closed)

    def _report(self) -> FileReport:
        chain, genesis = self._chain, self._genesis
        harmed = any(finding.harm for finding in self.findings)
        level, reason = (None, "something was altered or lost") if harmed else level_of(self._known, self._start)
        open_kinds = {finding.kind for finding in self.findings} & {"left-open", "still-written", "empty"}

        return FileReport(
            file=self.file,
            file_id="" if chain is None else chain.file_id,
            host=str(genesis.get("host.name", "")),
            pid=_number(genesis, "process.pid"),
            records=self._records,
            first=self._first,
            last=self._last,
            sequence=None if chain is None else chain.sequence - 1,
            head="" if chain is None else chain.head,
            state="closed" if self._closed else "open" if open_kinds == {"still-written"} else "left-open",
            cut_at=self._cut_at,
            protection=self._sealed,
            level=level,
            level_reason=reason,
            findings=tuple(self.findings),
        )


def _number(mapping: Mapping[str, Any], name: str) -> int:
    value = mapping.get(name)

    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _seconds_between(first: str, second: str) -> float:
    try:
        times = [datetime.datetime.strptime(time, "%Y-%m-%dT%H:%M:%S.%fZ") for time in (first, second)]  # noqa: DTZ007
    except ValueError:
        return _WAITED + 1

    return (times[1] - times[0]).total_seconds()

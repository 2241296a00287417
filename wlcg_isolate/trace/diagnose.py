"""
What is wrong with a line that is not the one that should follow.

Rules:

1. The reader goes on behind it: one edit is one finding, not all that follow.
2. What a line says of itself is believed only to find out what happened;
   nothing that was found is taken back because of it.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from typing import NamedTuple, Optional

from wlcg_isolate.trace.chain import Chain, Link, link_of, mac_of, next_key
from wlcg_isolate.trace.findings import Finding

#: A number further ahead is no gap but a forgery, and not worth so many keys.
_FURTHEST = 10_000_000


class Odd(NamedTuple):
    """
    What became of an odd line.

    Attributes:
        kind: The finding, or "" where it shows with the gap alone.

        message: What exactly.

        chain: Where the reader goes on.

        taken: The number of the record, when it counts as one of the file.
    """

    kind: str
    message: str
    chain: Chain
    taken: Optional[int] = None


class Seen:
    """
    The numbers of the records that were seen, as ranges.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self._ranges: list[list[int]] = []

    def add(self, sequence: int) -> None:
        """
        Take note of a number.
        """
        if self._ranges and self._ranges[-1][1] + 1 == sequence:
            self._ranges[-1][1] = sequence
        else:
            self._ranges.append([sequence, sequence])

    def run(self, first: int, last: int) -> None:
        """
        Take note of all numbers of a range.
        """
        if first <= last:
            self.add(first)
            self._ranges[-1][1] = last

    def __contains__(self, sequence: int) -> bool:
        return any(first <= sequence <= last for first, last in self._ranges)

    def gaps(self) -> Iterator[tuple[int, int]]:
        """
        List the ranges of numbers that are missing before the last one.
        """
        expected = self._first
        for first, last in sorted(self._ranges):
            if first > expected:
                yield expected, first - 1
            expected = max(expected, last + 1)


def examine(line: bytes, chain: Chain, seen: Seen) -> Odd:
    """
    Tell why a line is not the next record of a file.
    """
    link = link_of(line)
    if link is None:
        return Odd("no-record", "the line is no record of a journal", chain)
    if link.file_id != chain.file_id:
        return Odd("spliced", f"the record belongs to the file with the identity {link.file_id}", chain)
    if (link.alg, link.kid, link.mac is None) != (chain.alg, chain.kid, chain.mac_missing):
        return Odd("altered", "the record names another method or key than the file's first one", chain, link.sequence)
    if link.sequence < chain.sequence or link.sequence - chain.sequence > _FURTHEST:
        return _elsewhere(link, chain, seen)

    return _at_its_place(link, chain)


def _elsewhere(link: Link, chain: Chain, seen: Seen) -> Odd:
    """
    Examine a record whose number belongs to another place.
    """
    if link.sequence in seen:
        return Odd("duplicate", f"record {link.sequence} was there before", chain)
    if link.sequence > chain.sequence:
        return Odd("altered", f"the record says that its number is {link.sequence}", chain)

    return Odd("reordered", f"record {link.sequence} stands behind {chain.sequence - 1}", chain, link.sequence)


def _at_its_place(link: Link, chain: Chain) -> Odd:
    """
    Examine a record that is the next one, or comes behind a gap.
    """
    ahead = link.sequence - chain.sequence
    key = chain.key
    for _ in range(0 if key is None else ahead):
        key = next_key(key or b"")
    here = chain._replace(sequence=link.sequence, epoch=chain.epoch + ahead, key=key)
    after = here.after(link.hash)
    number = link.sequence
    if link.epoch != here.epoch:
        return Odd("wrong-epoch", f"record {number} claims key {link.epoch}, not {here.epoch}", after, number)
    if not link.true:
        return Odd("altered", f"record {number} is not the one that was written", after, number)
    if key is not None and not hmac.compare_digest(mac_of(key, link.hash.encode()), link.mac or ""):
        return Odd("forged", f"record {number} was not sealed with the file's key", after, number)
    if not ahead and link.prev != chain.head:
        return Odd("rewritten", f"record {number} follows from another record than {number - 1}", after, number)

    return Odd("", "", after, number)


def gap(first: int, last: int) -> Finding:
    """
    Tell of records that are missing.
    """
    which = f"record {first} is" if first == last else f"records {first} to {last} are"

    return Finding(kind="gap", message=f"{which} missing")

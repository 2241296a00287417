"""
What becomes of a payload when its records cannot be written.

Rules:

1. Unless policy says otherwise, a payload whose start is not on disk does not
   start.
2. Whatever policy says, a record that was lost is told in the outcome: a
   pilot must be able to see it, and pass it on.
3. A receiver that must have the start cannot have what was never written: to
   require one is to refuse what cannot be recorded.
4. A receiver that cannot be used refuses or warns as a full disk does, and
   costs no record on this node.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from wlcg_isolate import _events
from wlcg_isolate.errors import TraceError
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.policy import Policy
from wlcg_isolate.trace.pilot import open_journal, write
from wlcg_isolate.trace.record import TraceRecord
from wlcg_isolate.trace.sending import attach, require


class GuardedJournal:
    """
    The journal of one payload's records, and what was lost of them.
    """

    def __init__(self, directories: Iterable[str], policy: Policy, *, needed: bool = True) -> None:
        """
        Find the journal, so that a payload that cannot have one is refused
        before anything is started.

        Args:
            directories: Where it may be, best first.

            policy: What holds here.

            needed: Whether policy is asked at all; what was refused already
                cannot be refused again.

        Raises:
            TraceError: There is none, and policy wants one.
        """
        self._directories = tuple(directories)
        self._policy = policy
        self._needed = needed and (policy.trace_on_write_error == "refuse" or bool(policy.trace_required))
        self._lost: list[str] = []
        try:
            attach(open_journal(self._directories, policy), policy)
        except TraceError as error:
            if self._needed:
                raise
            self._unsent(error)

    def write(self, record: TraceRecord, *, sync: bool = True) -> None:
        """
        Write a record without which the payload may not start.

        Args:
            record: The record.

            sync: Whether to wait for the disk, and not leave that to the next
                record.

        Raises:
            TraceError: It is not written, and policy wants it to be.
        """
        try:
            self._write(record, sync=sync)
        except TraceError as error:
            if self._needed:
                raise
            self._lose(record, error)

    def deliver(self) -> None:
        """
        Wait for the receivers without which the payload may not start,
        whatever becomes of records that cannot be written.

        Raises:
            TraceError: One has not taken all in time.
        """
        if self._policy.trace_required:
            require(open_journal(self._directories, self._policy), self._policy)

    def write_after(self, record: TraceRecord) -> None:
        """
        Write a record of what has happened already.
        """
        try:
            self._write(record)
        except TraceError as error:
            self._lose(record, error)

    def told(self, outcome: Outcome) -> Outcome:
        """
        Add to an outcome what was lost.
        """
        return attrs.evolve(outcome, message="\n".join([outcome.message, *self._lost])) if self._lost else outcome

    def _write(self, record: TraceRecord, *, sync: bool = True) -> None:
        # A directory that took none before may do so by now.
        write(open_journal(self._directories, self._policy), record, sync=sync)

    def _unsent(self, error: TraceError) -> None:
        """
        Tell of receivers that cannot be used; a directory that takes no
        record is told with the record.
        """
        reasons = "; ".join(p.message for p in error.problems if p.kind == "trace-undelivered")
        if reasons:
            self._lost.append(f"warning: no record is sent: {reasons}")
            _events.emit("trace.not_sent", reason=reasons)

    def _lose(self, record: TraceRecord, error: TraceError) -> None:
        reasons = "; ".join(problem.message for problem in error.problems)
        self._lost.append(f"warning: the record {record.action} is lost: {reasons}")
        _events.emit("trace.lost", trace_id=record.trace_id, action=record.action, reason=reasons)

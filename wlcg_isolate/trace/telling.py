"""
Tell the life of one payload, event by event, to journal and log.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Optional

from wlcg_isolate import _events
from wlcg_isolate.launch import Container, Ready
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.plan import Plan
from wlcg_isolate.trace import describe, payload
from wlcg_isolate.trace.guard import GuardedJournal
from wlcg_isolate.trace.reading import protected_identity


class Telling:
    """
    The records of one payload.

    Before the payload runs, a record that cannot be written is an error;
    afterwards its result must not be lost with its record.
    """

    def __init__(self, plan: Plan) -> None:
        """
        Find out for whom it is, and record that it may run.

        Raises:
            HostError: Its identity cannot be read or protected.

            TraceError: The record cannot be written.
        """
        self._plan = plan
        self._who = protected_identity(plan.request.identity, plan.policy, plan.trace_id)
        self._repositories = payload.look_at_repositories(plan)
        self._planned = describe.plan_fields(plan)
        self._process: Optional[Ready] = None
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._journal = GuardedJournal(plan.trace_dirs, plan.policy)
        payload.tell_decisions(plan)
        # On disk with the start, which the first instruction waits for; the kernel has it before anything is started.
        self._journal.write(payload.authorised(plan, self._who), sync=False)

    def started(self, process: Ready) -> None:
        """
        Record the start, before the first instruction.

        Raises:
            TraceError: The record is not on disk, or not with a receiver
                that must have it.
        """
        self._process = process
        record = payload.started(self._plan, process, self._who, planned=self._planned, cvmfs=self._repositories)
        self._journal.write(record)
        self._journal.deliver()

    @contextlib.contextmanager
    def of(self, container: Container) -> Iterator[None]:
        """
        Record what happens to the running payload.
        """
        container.on_kill = self._killed
        if self._plan.policy.trace_running_seconds is not None:
            self._begin(threading.Thread(target=self._say_running, daemon=True))
        try:
            yield
        finally:
            self._over.set()

    def ended(self, outcome: Outcome) -> Outcome:
        """
        Record the end, as the last of all.

        Returns:
            The outcome, with what was lost of the records.
        """
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._process is not None:
            channels = self._plan.policy.trace_required
            self._journal.write_after(payload.ended(self._plan, self._process, outcome, self._who, channels=channels))

        return self._journal.told(outcome)

    def _killed(self, reason: str, number: int) -> None:
        """
        Record who ends it, in a thread: this may be a signal handler, which
        interrupted the very code that holds the journal.
        """
        if self._process is not None:
            record = payload.killed(self._plan, self._process, self._who, reason, number)
            self._begin(threading.Thread(target=self._journal.write_after, args=(record,), daemon=True))

    def _say_running(self) -> None:
        while not self._over.wait(self._plan.policy.trace_running_seconds):
            record = None if self._process is None else payload.running(self._plan, self._process, self._who)
            if record is not None:
                self._journal.write_after(record)

    def _begin(self, thread: threading.Thread) -> None:
        try:
            thread.start()
        except RuntimeError as error:
            # No more threads: a signal must reach the payload nevertheless.
            _events.emit("trace.lost", trace_id=self._plan.trace_id, reason=str(error))
        else:
            self._threads.append(thread)

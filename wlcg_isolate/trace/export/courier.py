"""
Bring the records of some files to one receiver, in a thread of its own.

What a receiver costs in time it costs this thread: callers only wait where
they ask to, and no longer than they say.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import Optional

import attrs

from wlcg_isolate import _events
from wlcg_isolate.trace.export.lines import Lines, read_lines
from wlcg_isolate.trace.export.progress import Progress
from wlcg_isolate.trace.export.receiver import Receiver, ReceiverError

#: Seconds from one try to the next: the first, and the most.
_FIRST_PAUSE, _LAST_PAUSE = 0.2, 60.0

#: Deadline in seconds for each wait of a protocol.
_ANSWER_SECONDS = 10.0

#: After so long without a record a connection is ended in order, which makes
#: what went over it certain.
_IDLE_SECONDS = 1.0

#: How often the kernel is asked whether all was acknowledged.
_ASK_SECONDS = 0.005


@attrs.frozen(kw_only=True)
class Status:
    """
    How one receiver stands.

    Attributes:
        receiver: Its name.

        pending: Bytes of the known files that it has not taken.

        fault: Why the last try failed, or "".
    """

    receiver: str
    pending: int
    fault: str


class Courier:
    """
    Serve one receiver.

    Safe to use from many threads.
    """

    def __init__(self, name: str, receiver: Receiver, progress: Progress) -> None:
        """
        Take note of a receiver; its thread starts with the first record.

        Args:
            name: The receiver's name in policy.

            receiver: What sends.

            progress: What it has taken so far.
        """
        self.name = name
        self._receiver = receiver
        self._progress = progress
        self._changed = threading.Condition()
        self._ends: dict[str, int] = {}
        self._handed: dict[str, int] = {}
        self._unsettled: deque[tuple[float, str, int]] = deque()
        self._fault = ""
        self._not_before = 0.0
        self._pause = _FIRST_PAUSE
        self._thread: Optional[threading.Thread] = None
        self._stopped = False
        self._hurry = False

    def offer(self, file: str, end: int) -> None:
        """
        Tell that a file has whole lines up to *end*, and return at once.
        """
        with self._changed:
            if self._stopped:
                return
            self._ends[file] = max(end, self._ends.get(file, 0))
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=f"trace-{self.name}", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def knows_less(self, file: str) -> bool:
        """
        Tell whether a file has more than the receiver took.

        Raises:
            OSError: It cannot be looked at.
        """
        return self._progress.read(file) < os.stat(file, follow_symlinks=False).st_size

    def wait(self, file: str, end: int, seconds: float) -> bool:
        """
        Wait until the receiver has a file up to *end*; a pause between two
        tries is cut short.

        Returns:
            Whether it has.
        """
        with self._changed:
            self._not_before = 0.0
            self._changed.notify_all()

            return self._changed.wait_for(lambda: self._handed.get(file, 0) >= end, seconds)

    def drain(self, seconds: float) -> bool:
        """
        Wait until the receiver has everything that was offered, for sure as
        far as its protocol can tell.

        Returns:
            Whether it has.
        """
        with self._changed:
            self._not_before = 0.0
            self._hurry = True
            self._changed.notify_all()

            return self._changed.wait_for(lambda: not self._pending() and not self._unsettled, seconds)

    def stop(self, seconds: float) -> None:
        """
        End the thread; what was not taken stays in the journal.
        """
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def status(self) -> Status:
        """
        Tell how it stands.
        """
        with self._changed:
            pending = sum(end - self._handed.get(file, 0) for file, end in self._pending())

            return Status(receiver=self.name, pending=pending, fault=self._fault)

    def _pending(self) -> list[tuple[str, int]]:
        return [(file, end) for file, end in sorted(self._ends.items()) if self._handed.get(file, 0) < end]

    def _serve(self) -> None:
        try:
            while self._next():
                pass
        finally:
            self._receiver.close()

    def _next(self) -> bool:
        """
        Do one thing, or wait for one.

        Returns:
            Whether to go on.
        """
        with self._changed:
            if self._stopped:
                return False
            now = time.monotonic()
            pending = self._pending() if now >= self._not_before else []
            if not pending:
                self._changed.wait(self._idle(now))
        try:
            if pending:
                self._send(pending[0][0])
            self._settle()
        except (ReceiverError, OSError) as e:
            self._failed(str(e))
        except Exception as e:  # noqa: BLE001 - of a protocol's library; without its thread nothing is ever sent
            self._failed(f"failed with {type(e).__name__}")

        return True

    def _idle(self, now: float) -> Optional[float]:
        """
        Return the seconds until there is something to do without being told.
        """
        times = [self._not_before] if self._pending() else []
        if self._unsettled:
            times.append(self._settling())

        return max(0.0, min(times) - now) if times else None

    def _send(self, file: str) -> None:
        if file not in self._handed:
            self._hand(file, self._progress.read(file))
        offset = self._handed[file]
        try:
            found = read_lines(file, offset)
        except OSError as e:
            self._pass_over(file, e.strerror or str(e))
            return
        if not found.lines:
            # What is offered is whole.
            self._pass_over(file, "it was cut short")
            return
        try:
            for refusal in self._receiver.send(found.lines, _ANSWER_SECONDS):
                self._progress.refused(file, found.ends[refusal.number - 1] if refusal.number else offset, refusal)
                _events.emit("trace.refused", receiver=self.name, reason=refusal.reason)
            self._await_delivery()
        except ReceiverError as e:
            self._partly(file, found, e.taken)
            raise
        self._taken(file, found.ends[-1])

    def _pass_over(self, file: str, reason: str) -> None:
        """
        Leave a file that was purged, or harmed, to the next one that looks:
        it must not keep back those behind it.  Nobody has it for that.
        """
        with self._changed:
            self._ends.pop(file, None)
            self._changed.notify_all()
        _events.emit("trace.not_sent", receiver=self.name, file=file, reason=reason)

    def _await_delivery(self) -> None:
        deadline = time.monotonic() + _ANSWER_SECONDS
        while not self._receiver.delivered():
            if time.monotonic() > deadline:
                raise ReceiverError("what was sent is not acknowledged in time")
            time.sleep(_ASK_SECONDS)

    def _partly(self, file: str, found: Lines, taken: int) -> None:
        if taken:
            self._taken(file, found.ends[taken - 1])

    def _taken(self, file: str, end: int) -> None:
        if self._receiver.settles:
            self._unsettled.append((time.monotonic(), file, end))
        else:
            self._progress.write(file, end)
        self._hand(file, end)
        self._pause = _FIRST_PAUSE

    def _hand(self, file: str, end: int) -> None:
        with self._changed:
            self._handed[file] = end
            self._fault = ""
            self._changed.notify_all()

    def _settling(self) -> float:
        """
        Return when something can be made certain: what is oldest by its age,
        or all of it by a goodbye once nothing follows.
        """
        if self._pending():
            return self._unsettled[0][0] + self._receiver.settles

        return 0.0 if self._hurry else self._unsettled[-1][0] + _IDLE_SECONDS

    def _settle(self) -> None:
        """
        Note as taken for good what is certain by now.

        Raises:
            ReceiverError: The connection broke: what was sent may be lost.
        """
        if not self._unsettled or time.monotonic() < self._settling():
            return
        if self._pending():
            certain = time.monotonic() - self._receiver.settles if self._receiver.delivered() else 0.0
        else:
            self._receiver.goodbye(_ANSWER_SECONDS)
            certain = time.monotonic()
        settled: dict[str, int] = {}
        while self._unsettled and self._unsettled[0][0] <= certain:
            _, file, end = self._unsettled.popleft()
            settled[file] = end
        for file, end in settled.items():
            self._progress.write(file, end)
        with self._changed:
            self._changed.notify_all()

    def _failed(self, reason: str) -> None:
        """
        Go back to what is certain, and try again later.
        """
        back = {file for _, file, _ in self._unsettled}
        self._unsettled.clear()
        with self._changed:
            for file in back:
                self._handed[file] = self._progress.read(file)
            self._fault = reason
            self._not_before = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LAST_PAUSE)
        _events.emit("trace.not_sent", receiver=self.name, reason=reason)

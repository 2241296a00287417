"""
Where trace records are kept on the node.

One file per pilot process, in JSON lines, append only, mode 0600.  `write`
returns when the line is on disk.  A payload cannot see the directory: the
plan refuses any bind that would show it.

No lock is held on any file: a file has one writer, and a process that forks
gives its child none.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, Callable, Optional

from wlcg_isolate import _events
from wlcg_isolate.errors import Problem, TraceError
from wlcg_isolate.policy.journal import JournalSettings
from wlcg_isolate.trace import ends
from wlcg_isolate.trace.chain import FORMAT
from wlcg_isolate.trace.file import JournalFile, LostFileError, own_record
from wlcg_isolate.trace.place import listing, open_directory, problem, unwritable
from wlcg_isolate.trace.record import TraceRecord

_DEFAULTS = JournalSettings()


class Journal:
    """
    The file of one process in one directory, and those that follow it.

    Safe to use from many threads and from signal handlers; in a child process
    it begins a file anew.

    Attributes:
        listener: Called with a file's path and the bytes of it that are
            certain, each time that there are more of them.
    """

    def __init__(self, directory: str, settings: JournalSettings = _DEFAULTS) -> None:
        """
        Create the directory, if it is not there, and a new file in it.

        Args:
            directory: Where.

            settings: How.

        Raises:
            TraceError: That is not possible, or another user could exchange
                the directory.
        """
        self.listener: Optional[Callable[[str, int], None]] = None
        self._where = os.path.abspath(directory)
        self._settings = settings
        self._lock = threading.RLock()
        self._busy = False
        self._waiting: list[Mapping[str, Any]] = []
        self._names: set[str] = set()
        self._before: Optional[dict[str, Any]] = None
        self._since_checkpoint = 0
        self._file: Optional[JournalFile] = self._begin("")
        _all.add(self)

    @property
    def path(self) -> str:
        """
        The file that takes records now, or took the last one.
        """
        name = self._file.name if self._file is not None else (self._before or {}).get("name", "")

        return os.path.join(self._where, name)

    def stand(self) -> tuple[str, int]:
        """
        Return the file that takes records now, and its certain bytes.
        """
        with self._lock:
            return self.path, 0 if self._file is None else self._file.size

    def write(self, record: TraceRecord, *, sync: bool = True) -> None:
        """
        Append one record and wait until it is on disk.

        From a signal handler that interrupts the writing of another record,
        it returns at once; the record follows that one.

        Args:
            record: The record.

            sync: Whether to wait; where not, the kernel has the record when
                this returns, and the next one that waits does so for both.

        Raises:
            TraceError: It is not written.
        """
        self.write_fields(record.to_dict(), sync=sync)

    def write_fields(self, record: Mapping[str, Any], *, sync: bool = True) -> None:
        """
        Append one record that is in plain types already, as `write` does.

        Raises:
            TraceError: It is not written.
        """
        with self._lock:
            if self._busy:
                # A signal handler, in the middle of a record of its own
                # thread: what it writes has to stand behind that one.
                self._waiting.append(record)
                return
            self._busy = True
            try:
                self._put(record, sync=sync)
                self._put_waiting()
            finally:
                self._busy = False

    def _put(self, record: Mapping[str, Any], *, sync: bool = True) -> None:
        try:
            self._append(record, sync=sync)
        except (OSError, ValueError, TypeError) as e:
            raise unwritable(self.path, getattr(e, "strerror", None) or str(e)) from e
        self._keep_house()
        if sync:
            self._tell(self._file)

    def _tell(self, file: Optional[JournalFile]) -> None:
        if file is not None and self.listener is not None:
            self.listener(os.path.join(self._where, file.name), file.size)

    def _put_waiting(self) -> None:
        while self._waiting:
            record = self._waiting.pop(0)
            try:
                self._put(record)
            except TraceError as e:
                _events.emit("trace.lost", action=record.get("event.action"), reason=str(e))

    def close(self) -> None:
        """
        Write that no more records follow; one that does begins a new file.
        """
        with self._lock:
            self._close({"wlcg.journal.close.reason": "end"})

    def _append(self, record: Mapping[str, Any], *, sync: bool) -> None:
        if self._file is None:
            self._file = self._begin("reopened")
        try:
            self._file.append(record, sync=sync)
        except LostFileError as e:
            self._give_up()
            self._file = self._begin(e.strerror or str(e))
            self._file.append(record, sync=sync)

    def _keep_house(self) -> None:
        """
        Add a checkpoint or begin the next file, when it is time; what fails
        here fails again, and is told, with the next record.
        """
        file = self._file
        if file is None:
            return
        self._since_checkpoint += 1
        try:
            if file.size >= self._settings.rotate_bytes:
                self._rotate(file)
            elif self._since_checkpoint >= self._settings.checkpoint_records:
                self._since_checkpoint = 0
                file.append(own_record("log.checkpoint", {"wlcg.journal.checkpoint": file.stand()}), sync=False)
        except (OSError, TraceError):
            return

    def _rotate(self, file: JournalFile) -> None:
        self._before = file.stand()
        # The next one first: a crash between leaves a file without an end,
        # and not one whose successor seems to have been taken away.
        self._file = self._begin("rotated", skip=1)
        following = {"name": self._file.name, "file_id": self._file.file_id}
        file.close({"wlcg.journal.close.reason": "rotated", "wlcg.journal.next": following})
        self._tell(file)

    def _close(self, fields: Mapping[str, Any]) -> None:
        self._put_waiting()
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close(fields)
            finally:
                self._before = file.stand()
                self._tell(file)

    def _give_up(self) -> None:
        if self._file is not None:
            self._before = self._file.stand()
            self._file.abandon()
            self._file = None

    def _begin(self, reason: str, skip: int = 0) -> JournalFile:
        """
        Begin a file.

        Args:
            reason: Why there is another one, or "" for the first.

            skip: Records that the file before will still get.

        Raises:
            TraceError: That is not possible.
        """
        directory = open_directory(self._where)
        before = self._before
        try:
            seen = (ends.look(directory, name) for name in ends.newest(listing(directory)))
            known = [end for end in seen if end is not None]
            sequence, head = (0, None) if before is None else (before["sequence"] + 1 + skip, before["hash"])
            file = JournalFile(self._where, directory, sequence=sequence, head=head)
            fields = {
                **ends.writer_fields(),
                "wlcg.journal.format": FORMAT,
                "wlcg.journal.name": file.name,
                "wlcg.journal.previous": None if before is None else {**before, "reason": reason},
                "wlcg.journal.neighbours": [end.fields() for end in known[-ends.KEPT :]],
            }
            file.begin(directory, fields, self._settings.seal_public_key)
            self._names.add(file.name)
            for end in ends.left_open(directory, known, frozenset(self._names)):
                found = {**end.fields(), "torn_bytes": end.torn}
                with contextlib.suppress(OSError):
                    file.append(own_record("log.recovered", {"wlcg.journal.recovered": found}), sync=False)
        except OSError as e:
            raise unwritable(self._where, e.strerror or str(e)) from e
        finally:
            os.close(directory)
        self._since_checkpoint = 0

        return file

    def _forget(self) -> None:
        """
        Let go of what belongs to the parent of this process.
        """
        # Another thread of the parent may have held it.
        self._lock = threading.RLock()
        self._busy, self._waiting = False, []
        # The threads that serve it are not here.
        self.listener = None
        if self._file is not None:
            self._file.abandon()
        self._file, self._before, self._names = None, None, set()

    def _close_at_exit(self) -> None:
        # A thread that hangs in a write must not keep the process.
        if self._lock.acquire(timeout=1):
            try:
                self._close({"wlcg.journal.close.reason": "exit"})
            finally:
                self._lock.release()


_all: weakref.WeakSet[Journal] = weakref.WeakSet()
_open: dict[str, Journal] = {}
_open_lock = threading.Lock()


def journal_for(directories: Iterable[str], settings: JournalSettings = _DEFAULTS) -> Journal:
    """
    Return this process's journal in the first directory that takes one.

    Args:
        directories: Where records may go, best first.

        settings: How they are written; what was given first for a directory
            stays.

    Raises:
        TraceError: With a problem for each directory.
    """
    problems: list[Problem] = []
    with _open_lock:
        for directory in directories:
            if directory not in _open:
                try:
                    _open[directory] = Journal(directory, settings)
                except TraceError as e:
                    problems += e.problems
                    continue
            return _open[directory]

    raise TraceError(problems or [problem("", "no directory for trace records is known")])


def _after_fork() -> None:
    global _open_lock  # noqa: PLW0603 - the parent's may be held by a thread that is not here
    _open_lock = threading.Lock()
    for journal in list(_all):
        journal._forget()  # noqa: SLF001 - of this module


@atexit.register
def close_journals() -> None:
    """
    Write that no more records follow, in all files of this process.

    Python does so at its end; a program that ends itself (`os._exit`) calls
    this before.
    """
    for journal in list(_all):
        journal._close_at_exit()  # noqa: SLF001 - of this module


os.register_at_fork(after_in_child=_after_fork)

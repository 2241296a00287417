"""
All receivers of one directory of records.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from wlcg_isolate.errors import Problem, TraceError
from wlcg_isolate.trace import ends
from wlcg_isolate.trace.export.courier import Courier, Status
from wlcg_isolate.trace.export.lines import whole_end
from wlcg_isolate.trace.export.progress import Progress
from wlcg_isolate.trace.export.receiver import open_receiver


class Dispatch:
    """
    The receivers of one process's files in one directory.

    Safe to use from many threads; after a fork, use `dispatch_for` again.
    """

    def __init__(self, directory: str, receivers: Mapping[str, str]) -> None:
        """
        Make a courier for each receiver.

        Args:
            directory: The directory of the journal's files.

            receivers: Names and addresses.

        Raises:
            TraceError: With a problem for each that cannot be used.
        """
        self._couriers: dict[str, Courier] = {}
        problems = []
        for name, address in receivers.items():
            try:
                self._couriers[name] = Courier(name, open_receiver(address), Progress(directory, name))
            except ValueError as e:
                problems.append(_problem(f"receiver {name}: {e}", f"trace.receivers.{name}", "correct the policy"))
        if problems:
            raise TraceError(problems)

    def wrote(self, file: str, end: int) -> None:
        """
        Tell that a file has whole lines up to *end*.
        """
        for courier in self._couriers.values():
            courier.offer(file, end)

    def adopt(self, directory: str) -> None:
        """
        Offer what others left in the directory: files that were closed, or
        whose process was one of this node and is no more.

        What cannot be read is left to the next one that looks.
        """
        with contextlib.suppress(OSError):
            for file in _files(directory):
                name = os.path.basename(file)
                if any(courier.knows_less(file) for courier in self._couriers.values()) and _is_left(directory, name):
                    self.wrote(file, whole_end(file))

    def require(self, names: Iterable[str], file: str, end: int, seconds: float) -> None:
        """
        Wait until these receivers have a file up to *end*.

        Raises:
            TraceError: One has not in time.
        """
        deadline = time.monotonic() + seconds
        problems = []
        for name in names:
            courier = self._couriers.get(name)
            if courier is None:
                problems.append(
                    _problem(f"there is no receiver {name}", "trace.required", "name one of trace.receivers")
                )
            elif not courier.wait(file, end, max(0.0, deadline - time.monotonic())):
                fault = courier.status().fault or f"no answer within {seconds:g} s"
                problems.append(
                    _problem(
                        f"receiver {name} has not taken the record: {fault}", "trace.required", "mend the receiver"
                    )
                )
        if problems:
            raise TraceError(problems)

    def drain(self, seconds: float) -> tuple[Status, ...]:
        """
        Wait until all receivers have everything, or time is over.

        Returns:
            How each stands.
        """
        deadline = time.monotonic() + seconds
        for courier in self._couriers.values():
            courier.drain(max(0.0, deadline - time.monotonic()))

        return tuple(courier.status() for courier in self._couriers.values())

    def close(self, seconds: float = 1.0) -> None:
        """
        End all threads; what was not taken stays in the journal.
        """
        for courier in self._couriers.values():
            courier.stop(seconds)


_open: dict[tuple[int, str, tuple[tuple[str, str], ...]], Dispatch] = {}
_lock = threading.Lock()


def dispatch_for(directory: str, receivers: Mapping[str, str]) -> Dispatch:
    """
    Return this process's dispatch of a directory, made once.

    Raises:
        TraceError: A receiver cannot be used.
    """
    key = (os.getpid(), directory, tuple(sorted(receivers.items())))
    with _lock:
        if key not in _open:
            _open[key] = Dispatch(directory, receivers)

        return _open[key]


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - a thread of the parent's may hold it
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def ship(directory: str, receivers: Mapping[str, str], seconds: float) -> tuple[Status, ...]:
    """
    Send everything of a directory that was not sent yet, of all its files.

    Args:
        directory: The directory of the journal's files.

        receivers: Names and addresses.

        seconds: Deadline.

    Returns:
        How each receiver stands.

    Raises:
        TraceError: The directory cannot be read, or a receiver not be used.
    """
    dispatch = Dispatch(directory, receivers)
    try:
        for file in _files(directory):
            dispatch.wrote(file, whole_end(file))
        return dispatch.drain(seconds)
    except OSError as e:
        raise TraceError([_problem(f"{directory}: {e.strerror or e}", "--trace-dir", "check the path")]) from e
    finally:
        dispatch.close()


def _is_left(directory: str, name: str) -> bool:
    if ends.is_dead(name):
        return True
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end = ends.look(fd, name)
    finally:
        os.close(fd)

    return end is not None and end.closed


def _files(directory: str) -> Sequence[str]:
    return [os.path.join(directory, name) for name in sorted(os.listdir(directory)) if name.endswith(".jsonl")]


def _problem(message: str, origin: str, advice: str) -> Problem:
    return Problem(kind="trace-undelivered", message=message, origin=origin, advice=advice)

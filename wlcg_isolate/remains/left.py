"""
The files that a start leaves, which `_supervisor` writes.

They are reached through descriptors of directories that belong to this user,
and no link is followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Optional

from wlcg_isolate._supervisor import STARTS
from wlcg_isolate.host import evidence
from wlcg_isolate.launch.scratch import empty
from wlcg_isolate.remains.start import Start, invalid

#: More than any file that a start leaves; the runtime's words may be more.
_MOST_BYTES = 1 << 16

#: How long an answer is kept.
_KEEP_SECONDS = 7 * 86_400.0

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Seen(NamedTuple):
    """
    What a start has left.

    Attributes:
        started: What it says of the payload's process; empty when there was
            none.

        begin: When it was released, in seconds since the epoch.

        wall: How long it ran, in seconds.

        cpu: What it and the runtime used of the processor, in seconds.

        status: The exit status, or None when a signal ended the runtime.

        killed_by: That signal, or None.

        flags: Names of the other files that are there.

        refused: Kind and message of a refusal, or "".

        words: What the runtime said, where the payload did not start.
    """

    started: Mapping[str, str]
    begin: float
    wall: float
    cpu: float
    status: Optional[int]
    killed_by: Optional[int]
    flags: frozenset[str]
    refused: str
    words: str


@contextlib.contextmanager
def opened_for(start: Start) -> Iterator[Optional[int]]:
    """
    Open the directory with what is left, of which there may be none.
    """
    with contextlib.ExitStack() as opened:
        yield next(_found(start, opened), None)


def _found(start: Start, opened: contextlib.ExitStack) -> Iterator[int]:
    for place in start.trace_dirs:
        try:
            above = _own_directory(os.path.join(place, STARTS.format(uid=os.geteuid())), None, opened)
            found = _own_directory(start.trace_id, above, opened)
        except OSError:
            continue
        yield found


def _own_directory(path: str, above: Optional[int], opened: contextlib.ExitStack) -> int:
    fd = os.open(path, _DIRECTORY, dir_fd=above)
    opened.callback(os.close, fd)
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(None, "others may write there")

    return fd


def read(directory: int, name: str) -> Optional[str]:
    """
    Read a file, or None when there is none.
    """
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    with open(fd, "rb") as f:
        return f.read(_MOST_BYTES).decode(errors="surrogateescape")


def write(directory: int, name: str, text: str) -> None:
    """
    Write a file that is not there yet, where that is possible.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(OSError), open(os.open(name, flags, 0o600, dir_fd=directory), "w", encoding="utf-8") as f:
        f.write(text)


def see(left: int, exit_code: Optional[int]) -> Seen:
    """
    Read all that a start has left.

    Args:
        left: Descriptor of its directory.

        exit_code: What the caller knows of its end.

    Raises:
        RequestError: Nothing says how it ended.
    """
    end = read(left, "end")
    status, *times = (end or "").split() or [""]
    code = int(status) if status.isdigit() else exit_code
    if code is None:
        raise invalid("the exit status of the process that was started is needed", origin="--exit-code")
    started = _started(left)
    begin, over = _time_of(left, "started"), _time_of(left, "over") or _time_of(left, "end") or time.time()

    return Seen(
        started=started,
        begin=begin,
        wall=max(0.0, over - begin) if started else 0.0,
        # Of the shell itself, and of its children.
        cpu=sum(map(_seconds, times[2:])),
        status=None if code < 0 else code,
        killed_by=-code if code < 0 else None,
        flags=frozenset(os.listdir(left)),
        refused=read(left, "refused") or "",
        words=read(left, "words") or "",
    )


def _started(left: int) -> dict[str, str]:
    return dict(line.partition(" ")[::2] for line in (read(left, "started") or "").splitlines())


def refuse_early(left: int) -> None:
    """
    Let nobody ask of a payload that runs.

    Raises:
        RequestError: Its process is there, and nothing says that it is over.
    """
    started = _started(left)
    pid, ticks = started.get("pid", ""), started.get("start_ticks", "")
    if read(left, "end") is not None or not (pid.isdigit() and ticks.isdigit()):
        return
    found = evidence.process(int(pid))
    # Another process may have its number by now.
    if found.start_ticks == int(ticks) and not found.ended:
        raise invalid(f"the payload still runs, as process {pid}", advice="ask once it has ended")


def _time_of(directory: int, name: str) -> float:
    with contextlib.suppress(OSError):
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime

    return 0.0


def _seconds(text: str) -> float:
    """
    Read a time as ``times`` of a shell writes it: ``0m1.25s``.
    """
    minutes, _, seconds = text.rstrip("s").partition("m")
    try:
        return int(minutes) * 60 + float(seconds)
    except ValueError:
        return 0.0


def remove(scratch: str) -> None:
    """
    Remove the payload's private directory, where the watcher could not.
    """
    parent, name = os.path.split(scratch)
    with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
        above = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, above)
        fd = os.open(name, _DIRECTORY, dir_fd=above)
        opened.callback(os.close, fd)
        empty(fd)
        os.rmdir(name, dir_fd=above)


def prune(start: Start) -> None:
    """
    Forget answers that are old.
    """
    import shutil

    for place in start.trace_dirs:
        directory = os.path.join(place, STARTS.format(uid=os.geteuid()))
        with contextlib.suppress(OSError):
            for entry in os.scandir(directory):
                answer = os.path.join(entry.path, "outcome")
                if os.path.isfile(answer) and time.time() - os.stat(answer).st_mtime > _KEEP_SECONDS:
                    shutil.rmtree(entry.path, ignore_errors=True)

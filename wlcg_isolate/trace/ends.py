"""
What can be seen of the other files of a directory without reading them.

Rules:

1. A file of another process is never written to, whatever became of that.
2. Only the newest files are looked at, and of each only its first and last
   bytes: a pilot's start must not depend on how much was written before.
3. A file whose process is alive, or of another host, is not judged.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional

from wlcg_isolate.trace.chain import MAX_LINE, Link, action_of, link_of
from wlcg_isolate.trace.place import SUFFIX

#: Files that a new one knows of: those that were left open among these are
#: named in it ...
LOOKED_AT = 64
#: ... and of these it keeps where they stood.
KEPT = 16

_BLOCK = 65_536


class End(NamedTuple):
    """
    Where a file stood when it was looked at.

    Attributes:
        name: Its name.

        size: Its bytes.

        torn: Bytes of it after the last whole line.

        link: What its last whole line says of its place; None where that is
            no record.

        closed: Whether that line is the last one that its process wrote.
    """

    name: str
    size: int
    torn: int
    link: Optional[Link]
    closed: bool

    def fields(self) -> dict[str, Any]:
        """
        Return what a record keeps of it.
        """
        link = self.link

        return {
            "name": self.name,
            "bytes": self.size - self.torn,
            **({} if link is None else {"file_id": link.file_id, "sequence": link.sequence, "hash": link.hash}),
        }


def look(directory: int, name: str) -> Optional[End]:
    """
    Look at the end of a file; None where it cannot be read.
    """
    try:
        fd = os.open(name, _FLAGS, dir_fd=directory)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        size = os.fstat(fd).st_size
        line, torn = _last_line(fd, size)
    except OSError:
        return None
    finally:
        os.close(fd)

    return End(name, size, torn, link_of(line), action_of(line) == "log.close")


_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _last_line(fd: int, size: int) -> tuple[bytes, int]:
    """
    Read the last whole line, and count the bytes behind it.
    """
    length = _BLOCK
    while True:
        begin = max(0, size - length)
        block = os.pread(fd, size - begin, begin)
        end = block.rfind(b"\n") + 1
        start = block.rfind(b"\n", 0, max(0, end - 1)) + 1
        if end and (start or not begin):
            return block[start:end], len(block) - end
        if not begin or length > MAX_LINE:
            return b"", len(block)
        length *= 4


def newest(names: Sequence[str]) -> Sequence[str]:
    """
    Keep the names that a new file knows of.
    """
    return names[-LOOKED_AT:]


def left_open(directory: int, ends: Sequence[End], own: frozenset[str]) -> Iterator[End]:
    """
    List the files whose processes ended without closing them, and that no
    other file names as such.

    Args:
        directory: Where they are.

        ends: The newest files.

        own: Names of this process's files.
    """
    candidates = [end for end in ends if not end.closed and end.name not in own and _is_left(end.name)]
    named = {name for end in ends for name in _recovered(directory, end.name)} if candidates else set()
    yield from (end for end in candidates if end.name not in named)


def is_dead(name: str) -> bool:
    """
    Tell whether the process that a file is named after was one of this host,
    and is no more.

    A number that another process has by now counts as alive: the file is then
    left to the next one that looks.
    """
    host, number = _writer(name)

    return host == os.uname().nodename and not os.path.exists(f"/proc/{number}")


def is_alive(genesis: Mapping[str, Any]) -> bool:
    """
    Tell whether the process that wrote a file's first record still runs on
    this host.
    """
    here = writer_fields()

    return (
        all(genesis.get(name) == here[name] for name in ("host.name", "host.boot.id"))
        and genesis.get("wlcg.process.start_ticks") == _start_ticks(genesis.get("process.pid"))
        and "wlcg.process.start_ticks" in genesis
    )


def writer_fields() -> dict[str, Any]:
    """
    Name this process, as the first record of a file does.
    """
    return {
        "host.name": os.uname().nodename,
        "host.boot.id": _content("/proc/sys/kernel/random/boot_id"),
        "process.pid": os.getpid(),
        "wlcg.process.start_ticks": _start_ticks(os.getpid()),
        "process.user.id": str(os.geteuid()),
    }


def _start_ticks(pid: Any) -> Optional[int]:
    # Field 22 of the line, counted behind the name, which may hold anything (proc(5)).
    words = (_content(f"/proc/{pid}/stat") if isinstance(pid, int) else "").rpartition(")")[2].split()

    return int(words[19]) if len(words) > 19 else None


def _content(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read().strip()
    except OSError:
        return ""


def _is_left(name: str) -> bool:
    # This process's own number, in the file of another, is one that was given again.
    return is_dead(name) or _writer(name) == (os.uname().nodename, str(os.getpid()))


def _writer(name: str) -> tuple[str, str]:
    """
    Read host and process from a file's name.
    """
    rest, _, number = name[: -len(SUFFIX)].rpartition("-")

    return rest.partition("-")[2], number if number.isdigit() else "none"


def _recovered(directory: int, name: str) -> Iterator[str]:
    """
    List the files that a file names as left open.
    """
    try:
        fd = os.open(name, _FLAGS, dir_fd=directory)
    except OSError:
        return
    try:
        lines = os.pread(fd, 4 * _BLOCK, 0).split(b"\n") if stat.S_ISREG(os.fstat(fd).st_mode) else []
    finally:
        os.close(fd)
    for line in lines[1:]:
        if action_of(line) != "log.recovered":
            return
        try:
            yield str(json.loads(line)["wlcg.journal.recovered"]["name"])
        except (ValueError, KeyError, TypeError):
            return

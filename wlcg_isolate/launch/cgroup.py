"""
A cgroup of version 2 for one payload (cgroups(7)).

Nothing here knows of containers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Optional

from wlcg_isolate.launch.mounts import Mounts, mounts_of

#: The kernel needs a moment to let go of what has ended.
_PAUSE_SECONDS = 0.005

#: The period that a processor's time is counted in, in microseconds.
_PERIOD = 100_000


class GroupError(Exception):
    """
    No cgroup can be had, and why.
    """


class Group:
    """
    A cgroup, which is removed with everything in it.

    Attributes:
        path: Its directory.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def take(self, pid: int) -> None:
        """
        Move a process into it; its children will be in it, too.

        Raises:
            GroupError: The kernel refuses.
        """
        try:
            _write(self.path, "cgroup.procs", str(pid))
            there = str(pid) in _read(self.path, "cgroup.procs").split()
        except OSError as e:
            msg = f"{self.path} takes no process: {e.strerror}"
            raise GroupError(msg) from e
        if not there:
            msg = f"{self.path} did not take the process"
            raise GroupError(msg)

    def reached(self) -> tuple[str, ...]:
        """
        Name the limits that something in it has run into.
        """
        found = []
        for file, word, name in (("memory.events", "oom_kill", "memory_bytes"), ("pids.events", "max", "processes")):
            with contextlib.suppress(OSError, ValueError):
                counts = dict(line.split() for line in _read(self.path, file).splitlines())
                found += [name] if int(counts.get(word, "0")) else []

        return tuple(found)

    def remove(self, seconds: float) -> bool:
        """
        Kill what is in it and remove it.

        Args:
            seconds: How long that may take.

        Returns:
            Whether it has gone.
        """
        deadline = time.monotonic() + seconds
        while True:
            self._kill()
            try:
                os.rmdir(self.path)
            except FileNotFoundError:
                return True
            except OSError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(_PAUSE_SECONDS)
            else:
                return True

    def _kill(self) -> None:
        try:
            if not _read(self.path, "cgroup.procs").strip():
                return
            _write(self.path, "cgroup.kill", "1")
        except OSError:
            # Before Linux 5.14: one by one.
            with contextlib.suppress(OSError, ValueError):
                for word in _read(self.path, "cgroup.procs").split():
                    os.kill(int(word), signal.SIGKILL)


def settings_for(*, memory: Optional[int], processes: Optional[int], cpus: Optional[float]) -> dict[str, str]:
    """
    Write limits as the kernel reads them: file to contents.
    """
    found: dict[str, str] = {}
    if memory is not None:
        # The kernel counts in pages.
        found["memory.max"] = str(max(1, memory // _PAGE) * _PAGE)
    if processes is not None:
        found["pids.max"] = str(processes)
    if cpus is not None:
        found["cpu.max"] = f"{round(cpus * _PERIOD)} {_PERIOD}"

    return found


_PAGE = os.sysconf("SC_PAGE_SIZE")

#: What belongs to a limit of memory and may not be there: no swap beside it,
#: and all of a payload ends with its largest process.
_BESIDE_MEMORY = {"memory.swap.max": "0", "memory.oom.group": "1"}


def make_group(name: str, settings: Mapping[str, str], parent: Optional[str] = None) -> Group:
    """
    Make a cgroup.

    Args:
        name: Its name.

        settings: What `settings_for` gives.

        parent: Directory of the cgroup to make it in; None tries this
            process's own and the one above it.

    Raises:
        GroupError: With what was tried.
    """
    reasons = []
    for place in _own_places() if parent is None else (parent,):
        try:
            return _make_in(place, name, settings)
        except OSError as e:
            reasons.append(f"{place}: {e.strerror or e}")
    raise GroupError("; ".join(reasons) or "there is no cgroup of version 2 here")


def _make_in(place: str, name: str, settings: Mapping[str, str]) -> Group:
    enabled = _read(place, "cgroup.subtree_control").split()
    missing = sorted({file.partition(".")[0] for file in settings} - set(enabled))
    if missing:
        # Refused where processes are right in it, the pilot among them.
        _write(place, "cgroup.subtree_control", " ".join(f"+{controller}" for controller in missing))
    path = os.path.join(place, name)
    os.mkdir(path, 0o755)
    group = Group(path)
    try:
        for file, text in settings.items():
            _set(path, file, text)
        for file, text in _BESIDE_MEMORY.items() if "memory.max" in settings else ():
            with contextlib.suppress(FileNotFoundError):
                _write(path, file, text)
    except BaseException:
        group.remove(0)
        raise

    return group


def _set(place: str, name: str, text: str) -> None:
    _write(place, name, text)
    if _read(place, name).strip() != text:
        raise OSError(None, f"{name} does not become {text}")


def _own_places() -> Iterator[str]:
    """
    List the directories of this process's own cgroup and of the one above.
    """
    own = own_group(mounts_of())
    if own is not None:
        mount, path = own
        yield path
        if path != mount:
            yield os.path.dirname(path)


def own_group(mounts: Mounts) -> Optional[tuple[str, str]]:
    """
    Find the cgroup that this process is in.

    Returns:
        Where the file system is mounted, and the directory; None where there
        is none of version 2.
    """
    mount = next((m for m in mounts.seen() if m.fs_type == "cgroup2"), None)
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as f:
        inside = next((line[3:].rstrip("\n") for line in f if line.startswith("0::")), None)
    if mount is None or inside is None:
        return None
    below = os.path.relpath(inside, mount.root)

    return None if below.startswith("..") else (mount.point, os.path.normpath(os.path.join(mount.point, below)))


def _read(place: str, name: str) -> str:
    with open(os.path.join(place, name), encoding="ascii", errors="replace") as f:
        return f.read()


def _write(place: str, name: str, text: str) -> None:
    """
    Write a setting; its file must be there.
    """
    fd = os.open(os.path.join(place, name), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)

"""
Read what the kernel says of processes (proc(5)).

Nothing here knows of containers.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from typing import Optional

#: linux/nsfs.h: _IO(0xb7, 2).
_NS_GET_PARENT = 0xB702


def family(pid: int) -> dict[int, tuple[int, ...]]:
    """
    List the living descendants of a process.

    Returns:
        Process id as seen here, to its ids from this PID namespace inwards
        (``NSpid`` in proc(5)).
    """
    found: dict[int, tuple[int, ...]] = {}
    todo = [pid]
    while todo:
        for child in _children(todo.pop()):
            numbers = namespace_pids(child)
            if numbers and child not in found:
                found[child] = numbers
                todo.append(child)

    return found


def _children(pid: int) -> list[int]:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for task in tasks:
        try:
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
                found += [int(word) for word in f.read().split()]
        except OSError:
            continue

    return found


def namespace_pids(pid: int) -> tuple[int, ...]:
    """
    Read a process's ids, from this PID namespace inwards; none when it has
    gone.
    """
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
            for line in f:
                if line.startswith("NSpid:"):
                    return tuple(int(word) for word in line.split()[1:])
    except OSError:
        pass

    return ()


def start_ticks(pid: int) -> Optional[int]:
    """
    Read when a process started, in clock ticks since boot (proc(5), field 22
    of ``stat``); together with the boot id it names a process for ever.
    """
    found = _stat(pid, 22)

    return None if found is None else int(found)


def in_session(leader: int) -> list[int]:
    """
    List the processes in the session of a leader that was reaped.

    As long as there are any, no other process gets its number; one that has
    it is another one, with a session of its own.
    """
    if os.path.exists(f"/proc/{leader}"):
        return []
    wanted = str(leader).encode()

    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _stat(int(pid), 6) == wanted]


def is_zombie(pid: int) -> bool:
    """
    Tell whether a process has ended and waits to be reaped.
    """
    return _stat(pid, 3) == b"Z"


def is_stopped(pid: int) -> bool:
    """
    Tell whether a process waits for `SIGCONT`.
    """
    return _stat(pid, 3) == b"T"


def has_shell(group: int) -> bool:
    """
    Tell whether the parent of a process group's leader could let it go on:
    one of the same session, in another group (no orphaned group, setpgid(2)).
    """
    session, parent = _stat(group, 6), _stat(group, 4)
    if parent is None:
        return False

    return _stat(int(parent), 6) == session and _stat(int(parent), 5) != str(group).encode()


def reaped_faults(pid: int) -> Optional[int]:
    """
    Count the page faults of all that a process has reaped (field 11, cminflt):
    no process is without any.
    """
    found = _stat(pid, 11)

    return None if found is None else int(found)


def _stat(pid: int, field: int) -> Optional[bytes]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            # The second field is the program's name and may hold anything.
            return f.read().rpartition(b")")[2].split()[field - 3]
    except (OSError, IndexError):
        return None


def namespaces(pid: object = "self") -> dict[str, int]:
    """
    Read the inode numbers of a process's namespaces, as far as it is allowed.
    """
    found = {}
    for name in ("pid", "mnt", "user", "net", "ipc", "uts", "cgroup"):
        try:
            link = os.readlink(f"/proc/{pid}/ns/{name}")
        except OSError:
            continue
        found[name] = int(link.partition("[")[2].rstrip("]"))

    return found


def status(pid: int) -> dict[str, str]:
    """
    Read what the kernel says of a process: name to value.

    Raises:
        OSError: There is no such process, or it may not be looked at.
    """
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
        pairs = (line.partition(":") for line in f)
        return {name: value.strip() for name, _, value in pairs}


def sharing(name: str, number: int) -> list[int]:
    """
    List the processes that are in a namespace, as far as this user may tell.

    Args:
        name: Its kind: ``"mnt"``, ``"pid"``, ...

        number: Its inode number.
    """
    wanted = f"{name}:[{number}]"
    found = []
    for pid in os.listdir("/proc"):
        try:
            if pid.isdigit() and os.readlink(f"/proc/{pid}/ns/{name}") == wanted:
                found.append(int(pid))
        except OSError:
            continue

    return found


def ancestors(pid: int) -> list[int]:
    """
    List a process's parents, the nearest first.
    """
    found: list[int] = []
    while True:
        try:
            with open(f"/proc/{pid}/stat", "rb") as f:
                pid = int(f.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return found
        # Between two looks a number can have gone to another process.
        if pid == 0 or pid in found:
            return found
        found.append(pid)


def marker(pid: int) -> Optional[str]:
    """
    Read which payload a process's environment names, if this user may.
    """
    try:
        with open(f"/proc/{pid}/environ", "rb") as f:
            words = f.read().split(b"\0")
    except OSError:
        return None
    values = [word.partition(b"=")[2] for word in words if word.startswith(b"WLCG_ISOLATE_ID=")]

    return values[0].decode("ascii", "replace") if values else None


def boot_id() -> Optional[str]:
    """
    Read what names this boot of the node.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
            return f.read().strip()
    except OSError:
        return None


def below_user_namespace(number: int) -> list[int]:
    """
    List the processes that are in a user namespace or in one that was made
    in it, as far as this user may tell.

    Args:
        number: Its inode number.
    """
    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and number in _user_namespaces(pid)]


def _user_namespaces(pid: str) -> Iterator[int]:
    """
    Give the user namespace of a process and those above it, up to this
    process's own.
    """
    try:
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        while True:
            yield os.fstat(fd).st_ino
            above = fcntl.ioctl(fd, _NS_GET_PARENT)
            os.close(fd)
            fd = above
    except OSError:
        # Where this process's own world ends (ioctl_ns(2)).
        return
    finally:
        os.close(fd)

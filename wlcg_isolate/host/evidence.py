"""
Read what names a node and a process for ever.

A name of a node may be given again, and so may a process id and an inode of
a namespace; with the boot's id and the process's start they are not.
"""

from __future__ import annotations

import functools
import os
from typing import NamedTuple, Optional

from wlcg_isolate.host import procfs

#: More than most such files have.
_CHUNK = 1 << 16

#: A user id that nobody set: loginuid under most batch daemons.
_UNSET = 4294967295

#: This network, loopback and link-local addresses (RFC 6890).
_NOT_OF_NODE = ("0.", "127.", "169.254.")

#: The scope of an IPv6 address that others can reach, in ``if_inet6``.
_GLOBAL = "00"


#: States of processes that have ended (proc(5)).
_ENDED = ("Z", "X")


class Machine(NamedTuple):
    """
    A node.

    Attributes:
        name: Its own name for itself.

        id: machine-id(5), or None.

        boot_id: Identity of this boot, or None.

        kernel: Release of the kernel.

        addresses: Its addresses but loopback and link-local ones.

        pid_namespace: Inode of the pilot's own PID namespace, or None.
    """

    name: str
    id: Optional[str]
    boot_id: Optional[str]
    kernel: str
    addresses: tuple[str, ...]
    pid_namespace: Optional[int]


class Process(NamedTuple):
    """
    A process as seen from this PID namespace.

    Attributes:
        ended: Whether nothing but its exit status is left of it, if that.

        parent: Its parent's process id.

        group: Process group.

        session: Session.

        start_ticks: When it started, in clock ticks since boot.

        cgroup: Its cgroup, as version 2 tells it; else that of the first
            controller.

        login_uid: The user who logged in, or None where nobody did.

        audit_session: The session of the audit system, or None.
    """

    ended: bool = True
    parent: Optional[int] = None
    group: Optional[int] = None
    session: Optional[int] = None
    start_ticks: Optional[int] = None
    cgroup: Optional[str] = None
    login_uid: Optional[int] = None
    audit_session: Optional[int] = None


def machine() -> Machine:
    """
    Read the node; once for a process, since nothing of it changes.
    """
    return _machine(os.getpid())


@functools.lru_cache(maxsize=1)
def _machine(_pid: int) -> Machine:
    uname = os.uname()

    return Machine(
        name=uname.nodename,
        id=(_read("/etc/machine-id") or "").strip() or None,
        boot_id=(_read("/proc/sys/kernel/random/boot_id") or "").strip() or None,
        kernel=uname.release,
        addresses=_addresses(),
        pid_namespace=procfs.namespaces().get("pid"),
    )


def process(pid: int) -> Process:
    """
    Read a process, as far as it is there.
    """
    words = (_read(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
    if len(words) < 20:
        return Process()

    return Process(
        ended=words[0] in _ENDED,
        parent=int(words[1]),
        group=int(words[2]),
        session=int(words[3]),
        start_ticks=int(words[19]),
        cgroup=parse_cgroup(_read(f"/proc/{pid}/cgroup") or ""),
        login_uid=_number(_read(f"/proc/{pid}/loginuid")),
        audit_session=_number(_read(f"/proc/{pid}/sessionid")),
    )


def executable(pid: int) -> Optional[str]:
    """
    Return the path of a process's program in its own container, or None.
    """
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return None


def owner_of(path: str) -> Optional[tuple[int, int]]:
    """
    Return device and inode of a path, by which its files are found again.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None

    return status.st_dev, status.st_ino


def parse_cgroup(text: str) -> Optional[str]:
    """
    Choose the cgroup of ``/proc/PID/cgroup`` (cgroups(7)).
    """
    rows = [line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2]
    unified = next((path for number, _, path in rows if number == "0"), None)
    # On a hybrid node version 2 is there and empty; version 1 tells more.
    legacy = next((path for number, _, path in rows if number != "0" and path != "/"), None)

    return legacy if unified in (None, "/") and legacy else unified


def parse_addresses(fib_trie: str, if_inet6: str) -> tuple[str, ...]:
    """
    List the node's addresses from ``fib_trie`` and ``if_inet6`` (proc(5)).
    """
    lines = [line.strip() for line in fib_trie.splitlines()]
    # An address, then what it is.
    local = [line[4:] for line, kind in zip(lines, lines[1:]) if kind == "/32 host LOCAL" and line.startswith("|-- ")]
    found = [word for word in dict.fromkeys(local) if not word.startswith(_NOT_OF_NODE)]
    rows = [line.split() for line in if_inet6.splitlines()]
    numbers = [row[0] for row in rows if len(row) > 3 and row[3] == _GLOBAL]
    if numbers:
        import ipaddress

        found += [str(ipaddress.IPv6Address(int(number, 16))) for number in numbers]

    return tuple(found)


def _addresses() -> tuple[str, ...]:
    try:
        return parse_addresses(_read("/proc/net/fib_trie") or "", _read("/proc/net/if_inet6") or "")
    except ValueError:
        return ()


def _number(text: Optional[str]) -> Optional[int]:
    try:
        number = int(text or "")
    except ValueError:
        return None

    return None if number == _UNSET else number


def _read(path: str) -> Optional[str]:
    """
    Read a file of the kernel's, at a third of what `open` takes.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    parts = []
    try:
        while part := os.read(fd, _CHUNK):
            parts.append(part)
    except OSError:
        return None
    finally:
        os.close(fd)

    return b"".join(parts).decode("ascii", "replace")

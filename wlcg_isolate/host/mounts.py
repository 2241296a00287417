"""
Read the kernel's table of mounts (proc(5), ``/proc/PID/mountinfo``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from wlcg_isolate.host.nodefacts import MountFact

#: The kernel's own file systems: they say nothing of where files lie.
_KERNEL_TYPES = frozenset(
    "proc sysfs cgroup cgroup2 devpts mqueue securityfs debugfs tracefs configfs pstore bpf hugetlbfs efivarfs "
    "binfmt_misc fusectl rpc_pipefs nsfs selinuxfs".split()
)

#: Blanks, tabs, newlines and backslashes in a name are written in octal.
_OCTAL = re.compile(r"\\([0-7]{3})")

#: More mounts than any node has for files; a table without end must not fill memory.
_MAX_MOUNTS = 2000


def parse_mountinfo(text: str) -> Iterator[MountFact]:
    """
    Read every line that has the form of one.
    """
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if dash and len(left) >= 6 and len(right) >= 2:
            yield MountFact(
                target=_plain(left[4]),
                source=_plain(right[1]),
                fs_type=right[0],
                options=tuple(left[5].split(",")),
            )


def of_files(mounts: Iterator[MountFact]) -> tuple[MountFact, ...]:
    """
    Keep the mounts on which files of people lie.
    """
    kept = [mount for mount in mounts if mount.fs_type not in _KERNEL_TYPES and not mount.target.startswith("/proc/")]

    return tuple(kept[:_MAX_MOUNTS])


def proc_is_masked(mounts: Iterator[MountFact]) -> bool:
    """
    Tell whether something covers a part of ``/proc``.

    The kernel lets nobody mount a new one then, who has no rights over the
    old one (mount_too_revealing in fs/namespace.c).  An automount point, as
    for binfmt_misc, is an empty directory, which does not count.
    """
    return any(mount.target.startswith("/proc/") and mount.fs_type not in ("autofs", "binfmt_misc") for mount in mounts)


def _plain(name: str) -> str:
    if "\\" not in name:
        return name

    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), name)

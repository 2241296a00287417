"""
The peak of a payload's whole memory, where the kernel counts it.

Only a cgroup (version 2) counts the memory of a tree; sampling all of its
processes would cost more than it tells.  So there is a figure where the
payload is in a cgroup that its pilot is not in, and none elsewhere.
"""

from __future__ import annotations

import contextlib
import os
from typing import Optional

from wlcg_isolate.launch.mounts import mounts_of


class Peak:
    """
    Reads the peak of the cgroup that a payload is in.
    """

    def __init__(self, pid: int) -> None:
        """
        Open it; the payload must be in its cgroup already.

        Args:
            pid: The payload.
        """
        self._fd: Optional[int] = None
        path = _group_of(pid)
        if path is not None and not _is_above(path, _group_of("self")):
            with contextlib.suppress(OSError, StopIteration):
                mount = next(m for m in mounts_of() if m.fs_type == "cgroup2")
                place = os.path.join(mount.point, os.path.relpath(path, mount.root))
                # Linux 5.19, and a parent that has the controller.
                self._fd = os.open(os.path.join(place, "memory.peak"), os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> Optional[int]:
        """
        Return it in bytes, or None where nobody counts.
        """
        if self._fd is None:
            return None
        try:
            return int(os.pread(self._fd, 64, 0))
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """
        Release the descriptor.
        """
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _group_of(pid: object) -> Optional[str]:
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as f:
            return next((line[3:].rstrip("\n") for line in f if line.startswith("0::")), None)
    except OSError:
        return None


def _is_above(path: str, other: Optional[str]) -> bool:
    """
    Tell whether a cgroup holds another one, or is the same.
    """
    return other is None or f"{other}/".startswith(f"{path.rstrip('/')}/")

"""
What is kept of a job between the programs that one starter of HTCondor calls:
its hooks, its wrapper, and the wrapper once more for ``condor_ssh_to_job``.

Rules:

1. The ads in a scratch directory are no evidence: a file that the job
   transfers may replace them (seen with HTCondor 23.9, which writes them
   before the transfer).  What the starter hands to a hook is.
2. All is kept under the process id and the start of the starter, the parent
   of them all, which no job can choose; in a directory of this user's that
   others cannot exchange.  Whoever keeps something sees to it that no payload
   sees that directory.
3. What is left of starters that have gone is removed.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import Optional

import attrs

from wlcg_isolate.host.procfs import start_ticks
from wlcg_isolate.trace.place import open_own_directory

__all__ = ["PLACE", "Starter", "parent"]

#: Its own place, whatever a job's variables say: not by HOME, TMPDIR or XDG.
PLACE = "/var/tmp/wlcg_isolate.{uid}/starters"

#: Seconds after which what another PID namespace left, whose starters cannot be seen from here, is removed.
_OLD = 30 * 86400.0


@attrs.frozen(kw_only=True)
class Starter:
    """
    The place of one starter.

    Attributes:
        path: Its directory, which need not exist.
    """

    path: str

    def keep(self, name: str, text: str) -> str:
        """
        Write a file, in place of an earlier one.

        Returns:
            Its path.

        Raises:
            OSError: That is not possible, or another user could exchange it.
        """
        fd = open_own_directory(self.path)
        try:
            part = f".{name}.{os.getpid()}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(part, flags, 0o600, dir_fd=fd), "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
            os.rename(part, name, src_dir_fd=fd, dst_dir_fd=fd)
        finally:
            os.close(fd)

        return f"{self.path}/{name}"

    def kept(self, name: str) -> Optional[str]:
        """
        Read a file; None where there is none.

        Raises:
            OSError: It cannot be read, or another user could have exchanged it.
        """
        if not os.path.lexists(f"{self.path}/{name}"):
            return None
        fd = open_own_directory(self.path)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(name, flags, dir_fd=fd), encoding="utf-8", errors="surrogateescape") as file:
                return file.read()
        finally:
            os.close(fd)

    def forget(self) -> None:
        """
        Remove all that is kept, and what is left of starters that have gone.
        """
        shutil.rmtree(self.path, ignore_errors=True)
        place, mine = os.path.split(self.path)
        space = mine.partition(".")[0]
        for name in os.listdir(place) if os.path.isdir(place) else ():
            if _is_over(f"{place}/{name}", name, space):
                shutil.rmtree(f"{place}/{name}", ignore_errors=True)


def parent(place: Optional[str] = None) -> Starter:
    """
    Give the place of the process that started this one.

    Args:
        place: The directory for all starters, instead of `PLACE`.
    """
    pid = os.getppid()
    space = os.stat("/proc/self/ns/pid").st_ino

    return Starter(path=f"{place or PLACE.format(uid=os.geteuid())}/{space}.{pid}.{start_ticks(pid)}")


def _is_over(path: str, name: str, space: str) -> bool:
    parts = name.split(".")
    if len(parts) != 3:
        return False
    try:
        # Where /proc is mounted with hidepid, a user cannot see when a starter of root began.
        if parts[0] == space and parts[2] != "None":
            return str(start_ticks(int(parts[1]))) != parts[2]

        return time.time() - os.stat(path).st_mtime > _OLD
    except (OSError, ValueError):
        return False

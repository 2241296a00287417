"""
The set-uid starter of a runtime.

What the runtime says of it (``buildcfg``) is only half true: Singularity 3
and SingularityCE name what they were built for, not what is installed, and on
a file system mounted ``nosuid``, as CVMFS is, the mode bit gives no rights.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

_SAYS_SO = re.compile(r"^(?:APPTAINER|SINGULARITY)_SUID_INSTALL=1$", re.MULTILINE)
_LIBEXEC = re.compile(r"^LIBEXECDIR=(/.*)$", re.MULTILINE)


def starters_of(buildcfg: str) -> tuple[str, ...]:
    """
    List where a runtime looks for its set-uid starter.

    Args:
        buildcfg: Its answer to ``buildcfg``.
    """
    named = _LIBEXEC.search(buildcfg)

    return tuple(_starters(named.group(1))) if named else ()


def acts_setuid(buildcfg: str) -> bool:
    """
    Tell whether a runtime can act with a set-uid starter.

    Args:
        buildcfg: Its answer to ``buildcfg``.
    """
    if not _SAYS_SO.search(buildcfg):
        return False
    starters = starters_of(buildcfg)

    # With nothing to look at, it is believed.
    return not starters or any(map(_acts, starters))


def _starters(libexec: str) -> Iterator[str]:
    for name in ("apptainer", "singularity"):
        yield os.path.join(libexec, name, "bin", "starter-suid")


def _acts(path: str) -> bool:
    try:
        found = os.stat(path)
        mount = os.statvfs(path)
    except OSError:
        return False

    return bool(found.st_mode & stat.S_ISUID) and found.st_uid == 0 and not mount.f_flag & os.ST_NOSUID

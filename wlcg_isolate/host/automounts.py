"""
Find where file systems are mounted on demand (autofs(5)).

What is mounted there appears in a container only if it was there at the
start, or if the automount point is a shared mount: the kernel hands it on to
the container's copy then (mount_namespaces(7)).  And it goes away again when
nobody has anything open on it, which a container in a mount namespace of its
own does not prevent on every kernel (cvmfs/cvmfs#3151).
"""

from __future__ import annotations

import re

#: Blanks, tabs, newlines and backslashes in a name are written in octal.
_OCTAL = re.compile(r"\\([0-7]{3})")


def parse_automounts(text: str) -> dict[str, bool]:
    """
    Read the automount points from a table of mounts (proc(5), ``mountinfo``).

    Returns:
        Each place, to whether it is a shared mount.
    """
    found: dict[str, bool] = {}
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if dash and len(fields) >= 6 and after.startswith("autofs "):
            place = _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), fields[4])
            found[place] = any(word.startswith("shared:") for word in fields[6:])

    return found


def read_automounts() -> dict[str, bool]:
    """
    Read them of this process; none where the kernel does not tell.
    """
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
            return parse_automounts(f.read())
    except OSError:
        return {}

"""
What the payload finds beside what was decided: the image's own variables.

The process that waits in the container was started with all that image and
runtime set.  What the runtime adds is taken away again, by name, and what was
decided wins over what the image says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Optional

from wlcg_isolate import _render
from wlcg_isolate.plan import Plan

#: Variables by name; both may be any bytes.
Environ = Mapping[bytes, bytes]

_RUNTIME_NAMES = re.compile(rb"(APPTAINER|SINGULARITY)")
_RUNTIME_ADDS = frozenset(name.encode() for name in _render.RUNTIME_ADDS)
_LIBRARIES = b"LD_LIBRARY_PATH"

#: getrlimit(2), RLIMIT_NOFILE, as the kernel sets it.
_USUAL_LIMIT = 1024


def environ_of(pid: int) -> Optional[dict[bytes, bytes]]:
    """
    Read what a process was started with, or None when it is hidden.
    """
    try:
        with open(f"/proc/{pid}/environ", "rb") as f:
            raw = f.read()
    except OSError:
        return None
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if b"=" in entry)

    return {name: value for name, _, value in pairs}


def last_descriptor(pid: int) -> int:
    """
    Find the highest descriptor that a process has open; a usual limit where
    the kernel hides it.
    """
    try:
        return max(map(int, os.listdir(f"/proc/{pid}/fd")))
    except (OSError, ValueError):
        return _USUAL_LIMIT


def payload_environ(plan: Plan, found: Environ) -> dict[bytes, bytes]:
    """
    Put together what the payload starts with.

    Args:
        plan: The plan.

        found: What image and runtime set.
    """
    kept = found if plan.image_environ else {name: value for name, value in found.items() if name == b"PATH"}
    environ = {name: value for name, value in kept.items() if not _is_runtimes(plan, name, value)}
    libraries = environ.pop(_LIBRARIES, b"")
    own = [part for part in libraries.split(b":") if part and part != _render.RUNTIME_LIBS.encode()]
    if own:
        environ[_LIBRARIES] = b":".join(own)
    environ.update((os.fsencode(name), os.fsencode(value)) for name, value in plan.payload_environ.items())

    return environ


def _is_runtimes(plan: Plan, name: bytes, value: bytes) -> bool:
    if _RUNTIME_NAMES.match(name) or name in _RUNTIME_ADDS:
        return True
    given = plan.runtime_environ.get(os.fsdecode(name))

    # Its own PATH is no more than what it finds its helpers with.
    return name != b"PATH" and given is not None and value == os.fsencode(given)

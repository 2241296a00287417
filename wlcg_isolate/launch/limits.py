"""
Give a payload its limits.

Rules:

1. A limit counts as given when the kernel, asked again, says so.
2. What limits all processes together is a cgroup; what limits each of them
   is a limit of the process that waits, which all others inherit
   (getrlimit(2)).  The one is no stand-in for the other.
3. A limit that cannot be given is never left out in silence.
"""

from __future__ import annotations

import os
import re
import resource
from types import TracebackType
from typing import Any, Optional

from wlcg_isolate import _events
from wlcg_isolate.errors import LaunchError
from wlcg_isolate.launch.cgroup import Group, GroupError, make_group, settings_for
from wlcg_isolate.launch.handshake import Payload
from wlcg_isolate.launch.verdict import not_started
from wlcg_isolate.plan import Plan, scratch_name

#: Limits of each process.
_OF_PROCESSES = {
    "address_space_bytes": resource.RLIMIT_AS,
    "file_bytes": resource.RLIMIT_FSIZE,
    "open_files": resource.RLIMIT_NOFILE,
    "core_bytes": resource.RLIMIT_CORE,
}

#: Limits that only a cgroup gives.
_OF_GROUPS = ("memory_bytes", "cpus", "processes")

#: From here on the kernel counts the processes of a user namespace by
#: themselves, and not those of the same user elsewhere.
_COUNTS_NAMESPACES = (5, 14)


class Limiter:
    """
    The limits of one payload.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._limits = plan.isolation.limits.given
        self._group: Optional[Group] = None
        self._without = ""

    def __enter__(self) -> Limiter:
        """
        Make the payload's cgroup, where one is needed or named.

        Raises:
            LaunchError: It cannot be had, and is required.
        """
        limits = self._plan.isolation.limits
        wanted = {name: self._limits.get(name) for name in _OF_GROUPS}
        if limits.cgroup is None and not any(wanted.values()):
            return self
        settings = settings_for(memory=wanted["memory_bytes"], processes=wanted["processes"], cpus=wanted["cpus"])
        try:
            self._group = make_group(scratch_name(self._plan.trace_id)[1:], settings, limits.cgroup)
        except (OSError, GroupError) as e:
            self._without = str(e)
            missing = [name for name in _OF_GROUPS if wanted[name] and not self._without_group(name)]
            if limits.required and (missing or limits.cgroup is not None):
                raise self._unavailable(missing) from None

        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._group is not None:
            reached = self._group.reached()
            if reached:
                _events.emit("limits.reached", trace_id=self._plan.trace_id, limits=list(reached))
            self._group.remove(self._plan.grace)

    def apply(self, payload: Payload) -> Payload:
        """
        Limit what waits in the container.

        Returns:
            The same, with what it got.

        Raises:
            LaunchError: A required limit cannot be given.
        """
        given: dict[str, Any] = {}
        if self._group is not None:
            try:
                self._group.take(payload.pid)
                given.update({name: self._limits[name] for name in _OF_GROUPS if name in self._limits})
            except GroupError as e:
                self._without = str(e)
        for name, number in _OF_PROCESSES.items():
            if name in self._limits and _set(payload.pid, number, self._limits[name]):
                given[name] = self._limits[name]
        most = self._limits.get("processes")
        if most is not None and "processes" not in given and self._without_group("processes"):
            given.update({"processes": most} if _set(payload.pid, resource.RLIMIT_NPROC, most) else {})
        missing = [name for name in self._limits if name not in given]
        if missing and self._plan.isolation.limits.required:
            raise self._unavailable(missing)
        if missing:
            _events.emit("limits.incomplete", trace_id=self._plan.trace_id, missing=missing, reason=self._without)

        return payload._replace(limits=given, cgroup=None if self._group is None else self._group.path)

    def _without_group(self, name: str) -> bool:
        """
        Tell whether a limit can be given to each process instead.
        """
        counted = kernel_numbers(os.uname().release) >= _COUNTS_NAMESPACES and self._plan.runtime.mode == "userns"

        return name == "processes" and counted and os.geteuid() != 0

    def _unavailable(self, missing: list[str]) -> LaunchError:
        what = f"{', '.join(missing)} cannot be limited here" if missing else "there is no cgroup for the payload"
        reason = what + (f": {self._without}" if self._without else "")
        advice = "delegate a cgroup to the pilot (limits.cgroup), or say limits.required = false"

        return not_started("limit-unavailable", reason, "policy", advice)


def kernel_numbers(release: str) -> tuple[int, int]:
    """
    Read the first two numbers of a kernel's release; zeros when it has none.
    """
    match = re.match(r"(\d+)\.(\d+)", release)

    return (int(match[1]), int(match[2])) if match else (0, 0)


def _set(pid: int, number: int, most: int) -> bool:
    """
    Limit a process and see whether it is.
    """
    try:
        _, hard = resource.prlimit(pid, number)
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.prlimit(pid, number, (most, most))

        return resource.prlimit(pid, number) == (most, most)
    except (OSError, ValueError):
        return False

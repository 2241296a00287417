"""
See that the container shows what the plan promises.

Asked when the container stands and before the payload's first instruction:
runtimes leave binds out with a warning or in silence, by version and by
configuration.

Rules:

1. The kernel is asked, from outside, so that nothing depends on what the
   image has.
2. No link of the image is followed out of its root: every component is
   opened by itself, as ``openat2(2)`` does with ``RESOLVE_IN_ROOT``, which
   older kernels and Python lack.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Optional

from wlcg_isolate._deadline import within
from wlcg_isolate.binds import BindDecision
from wlcg_isolate.errors import LaunchError, Problem
from wlcg_isolate.host.automounts import read_automounts
from wlcg_isolate.plan import Plan

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

#: path_resolution(7): the kernel's own limit.
_MAX_LINKS = 40


class _Mount(NamedTuple):
    """
    One line of ``/proc/PID/mountinfo`` (proc(5)).
    """

    read_only: bool
    fs_type: str
    receives: bool


def check_promises(plan: Plan, pid: int) -> None:
    """
    Compare what a container shows with what was decided.

    Args:
        plan: The plan.

        pid: A process in the container.

    Raises:
        LaunchError: With a problem for each bind that is not seen.
    """
    problems = within(plan.start_deadline, lambda: list(_broken(plan, pid)))
    if problems is None:
        problems = [_problem("the binds", f"no answer within {plan.start_deadline:g} s", "this node")]
    if problems:
        raise LaunchError(problems)


def _broken(plan: Plan, pid: int) -> Iterator[Problem]:
    try:
        mounts = _mounts_of(pid)
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        yield _problem("the container's root", e.strerror or str(e), "this node")
        return
    try:
        for bind in plan.mounts:
            fault = _fault_of(bind, root, mounts)
            if fault:
                yield _problem(f"{bind.source} at {bind.target}", fault, bind.origin)
    finally:
        os.close(root)


def _problem(what: str, fault: str, origin: str) -> Problem:
    return Problem(
        kind="bind-not-seen",
        message=f"the container does not show {what}: {fault}",
        origin=origin,
        advice="run wlcg-isolate doctor; the runtime's configuration may forbid it",
    )


def _fault_of(bind: BindDecision, root: int, mounts: Mapping[int, _Mount]) -> str:
    try:
        source = os.stat(bind.source)
    except OSError as e:
        return f"the source has gone: {e.strerror}"
    try:
        inside = open_inside(root, bind.place)
    except OSError as e:
        return f"the target is not there: {e.strerror}"
    try:
        if not os.path.samestat(source, os.fstat(inside)):
            return "something else is there"
        mount = mounts.get(_mount_id(inside))
    finally:
        os.close(inside)
    if mount is None:
        return "the kernel does not tell how it is mounted"

    return _fault_of_mount(bind, mount, source.st_mode)


def _fault_of_mount(bind: BindDecision, mount: _Mount, mode: int) -> str:
    # Writing to a device is no matter of its file system.
    plain = stat.S_ISDIR(mode) or stat.S_ISREG(mode)
    if not bind.writable and plain and not mount.read_only:
        return "it can be written"
    if mount.fs_type == "autofs" and not mount.receives and read_automounts().get(bind.source):
        return "what is mounted there on demand does not reach it ('mount slave = no' in the runtime's configuration?)"

    return ""


def open_inside(root: int, path: str) -> int:
    """
    Open a path below a root, without reading or mounting what is there.

    Args:
        root: Descriptor of the root.

        path: Absolute path as seen from it.

    Returns:
        A descriptor (``O_PATH``), which the caller must close.

    Raises:
        OSError: It is not there.
    """
    todo = _parts(path)
    links = 0
    with contextlib.ExitStack() as last:
        passed = [os.dup(root)]
        last.callback(_close_all, passed)
        while todo:
            part = todo.pop()
            if part == "..":
                if len(passed) > 1:
                    os.close(passed.pop())
                continue
            fd = os.open(part, _LOOK, dir_fd=passed[-1])
            passed.append(fd)
            goal = _goal_of(fd)
            if goal is None:
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            os.close(passed.pop())
            while goal.startswith("/") and len(passed) > 1:
                os.close(passed.pop())
            todo += _parts(goal)
        return passed.pop()


def _close_all(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)


def _goal_of(fd: int) -> Optional[str]:
    if not stat.S_ISLNK(os.fstat(fd).st_mode):
        return None

    return os.readlink("", dir_fd=fd)


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part and part != "."]


def _mount_id(fd: int) -> int:
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as f:
        for line in f:
            if line.startswith("mnt_id:"):
                return int(line.split()[1])

    return -1


def _mounts_of(pid: int) -> dict[int, _Mount]:
    found = {}
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        for line in f:
            before, _, after = line.partition(" - ")
            fields = before.split(" ")
            found[int(fields[0])] = _Mount(
                read_only="ro" in fields[5].split(","),
                fs_type=after.partition(" ")[0],
                receives=any(word.startswith(("master:", "shared:")) for word in fields[6:]),
            )

    return found

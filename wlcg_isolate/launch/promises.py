"""
See that the container shows what the plan promises.

Asked when the container stands and before the payload's first instruction:
runtimes leave binds out with a warning or in silence, by version and by
configuration.

Rules:

1. The kernel is asked, from outside, so that nothing depends on what the
   image has.
2. Two answers must agree where both can be had: its table of mounts, which
   touches no file system, and the inode that is found on the way through the
   container's root.  Into a root that is a FUSE file system of the container
   it lets nobody look from outside.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from wlcg_isolate._deadline import within
from wlcg_isolate.binds import BindDecision
from wlcg_isolate.errors import LaunchError, Problem
from wlcg_isolate.host.automounts import read_automounts
from wlcg_isolate.launch.inside import open_inside
from wlcg_isolate.launch.mounts import Mount, Mounts, mounts_of, origin_of
from wlcg_isolate.plan import Plan


class _Container(NamedTuple):
    """
    What is compared.

    Attributes:
        root: Descriptor of the container's root.

        inside: Its table of mounts.

        here: This process's own.
    """

    root: int
    inside: Mounts
    here: Mounts


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
        inside, here = mounts_of(pid), mounts_of()
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        yield _problem("its mounts", e.strerror or str(e), "this node")
        return
    try:
        for bind in plan.mounts:
            fault = _fault_of(bind, _Container(root, inside, here))
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


def _fault_of(bind: BindDecision, container: _Container) -> str:
    mount = container.inside.at(bind.place)
    if mount is None or mount.point != bind.place:
        return "nothing is mounted there"
    try:
        source = os.open(bind.source, os.O_PATH | os.O_CLOEXEC)
    except OSError as e:
        return f"the source has gone: {e.strerror}"
    try:
        if origin_of(source, container.here) != (mount.device, mount.root):
            return f"{mount.root} of the device {mount.device} is there"
        found = os.fstat(source)
    finally:
        os.close(source)

    return _fault_of_inode(bind, container.root, found) or _fault_of_mount(bind, mount, found.st_mode)


def _fault_of_inode(bind: BindDecision, root: int, source: os.stat_result) -> str:
    try:
        inside = open_inside(root, bind.place)
    except PermissionError:
        return ""
    except OSError as e:
        return f"the target is not there: {e.strerror}"
    try:
        return "" if os.path.samestat(source, os.fstat(inside)) else "something else is there"
    finally:
        os.close(inside)


def _fault_of_mount(bind: BindDecision, mount: Mount, mode: int) -> str:
    # Writing to a device is no matter of its file system.
    plain = stat.S_ISDIR(mode) or stat.S_ISREG(mode)
    if not bind.writable and plain and not mount.read_only:
        return "it can be written"
    if mount.fs_type == "autofs" and not mount.receives and read_automounts().get(bind.source):
        return "what is mounted there on demand does not reach it ('mount slave = no' in the runtime's configuration?)"

    return ""

"""
See that a container is as isolated as it was asked to be.

Asked when the container stands and before the payload's first instruction:
settings of a node drop options of a runtime without a word, so the kernel is
asked, from outside.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from wlcg_isolate import _events
from wlcg_isolate._deadline import within
from wlcg_isolate.errors import LaunchError, Problem
from wlcg_isolate.host import procfs
from wlcg_isolate.launch.handshake import Payload
from wlcg_isolate.launch.inside import open_inside
from wlcg_isolate.launch.mounts import Mounts, mounts_of
from wlcg_isolate.plan import Plan

#: proc(5): sets of capabilities that a process has, or can come to have.
_HELD = ("CapInh", "CapPrm", "CapEff", "CapAmb")
_BOUND = "CapBnd"

#: capabilities(7); it lets root have user namespaces, and files with capabilities count for nothing here.
_SETFCAP = 1 << 31

#: What a file system is whose root is nobody else's.
_OWN_ROOTS = ("overlay", "tmpfs")


def check_confinement(plan: Plan, payload: Payload) -> tuple[str, ...]:
    """
    Compare a container with what was asked for.

    Args:
        plan: The plan.

        payload: What waits in the container.

    Returns:
        The differences, where policy lets a payload run in spite of them.

    Raises:
        LaunchError: With a problem for each, where it does not.
    """
    found = within(plan.start_deadline, lambda: tuple(_differences(plan, payload)))
    if found is None:
        found = (f"nothing could be seen of it within {plan.start_deadline:g} s",)
    if found and plan.isolation.on_difference != "warn":
        raise LaunchError([_problem(difference) for difference in found])
    if found:
        _events.emit("isolation.incomplete", trace_id=plan.trace_id, differences=list(found))

    return found


def _problem(difference: str) -> Problem:
    return Problem(
        kind="isolation-incomplete",
        message=f"the container is not what was asked for: {difference}",
        origin="the runtime's configuration",
        advice="run wlcg-isolate doctor, or say isolation.on_difference = 'warn'",
    )


def _differences(plan: Plan, payload: Payload) -> Iterator[str]:
    yield from (f"it has no {name} namespace of its own" for name in shared_namespaces(plan, payload))
    try:
        yield from _powers(plan, procfs.status(payload.pid))
        yield from _places(plan, payload.pid)
    except OSError as e:
        yield f"it cannot be looked at: {e.strerror}"


def shared_namespaces(plan: Plan, payload: Payload) -> Iterator[str]:
    """
    Name the namespaces that a container should have of its own and has not.

    Args:
        plan: The plan.

        payload: A process in it.
    """
    wanted = {
        "mnt": True,
        "ipc": True,
        "user": plan.runtime.mode == "userns",
        "pid": plan.runtime.pid,
        "net": plan.isolation.network == "none",
    }
    here = procfs.namespaces()
    for name, asked in wanted.items():
        if asked and payload.namespaces.get(name) in (None, here.get(name)):
            yield name


def _powers(plan: Plan, status: Mapping[str, str]) -> Iterator[str]:
    isolation = plan.isolation
    if isolation.powerful:
        return
    # Kernels before 4.10 do not tell.
    if status.get("NoNewPrivs", "1") != "1":
        yield "programs in it can gain privileges (no_new_privs is not set)"
    granted = _SETFCAP if isolation.confined and isolation.nesting else 0
    for name in (*_HELD, *([_BOUND] if isolation.confined else [])):
        excess = int(status.get(name, "0"), 16) & ~granted
        if excess:
            yield f"the payload has capabilities ({name} {excess:016x})"


def _places(plan: Plan, pid: int) -> Iterator[str]:
    inside, here = mounts_of(pid), mounts_of()
    root = inside.at("/")
    if root is None or not (root.read_only or root.fs_type in _OWN_ROOTS):
        yield "the image can be written"
    for shown in plan.isolation.shown:
        mount = inside.at(shown.target)
        if not shown.writable and mount is not None and mount.point == shown.target and not mount.read_only:
            yield f"{shown.target} of the host can be written"
    shared, own = inside.at("/dev/shm"), here.at("/dev/shm")
    if shared is not None and own is not None and (shared.device, shared.root) == (own.device, own.root):
        yield "/dev/shm is the host's"
    yield from _private(plan, pid)
    if plan.isolation.confined:
        yield from _roots_own(plan, inside)


def _roots_own(plan: Plan, inside: Mounts) -> Iterator[str]:
    """
    Find what root's own rights reach of the host.
    """
    for mount in inside.seen():
        if mount.fs_type in ("sysfs", "cgroup", "cgroup2") and not mount.read_only:
            yield f"{mount.point} of the host can be written by root"
    for shown in plan.isolation.shown:
        over = inside.at(shown.target)
        if not shown.writable and (over is None or over.point != shown.target):
            yield f"{shown.target} is not kept from root"


def _private(plan: Plan, pid: int) -> Iterator[str]:
    """
    Find that a directory for temporary files is not the payload's own.

    In an image, one of them may be a link to the other.
    """
    own = [os.stat(os.path.join(plan.scratch, name)) for name in ("tmp", "var_tmp")]
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in ("/tmp", "/var/tmp"):
            if path not in {bind.target for bind in plan.mounts} and not _is_one_of(root, path, own):
                yield f"{path} is not private to the payload"
    finally:
        os.close(root)


def _is_one_of(root: int, path: str, own: list[os.stat_result]) -> bool:
    try:
        fd = open_inside(root, path)
    except OSError:
        # Where nothing is, nothing is shared; and into a root that is a FUSE file system of the container nobody can
        # look from outside.
        return True
    try:
        return any(os.path.samestat(os.fstat(fd), mine) for mine in own)
    finally:
        os.close(fd)

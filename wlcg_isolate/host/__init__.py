"""
The only reader of the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Optional

from wlcg_isolate._values import is_below, normal_path
from wlcg_isolate.host import runtimes
from wlcg_isolate.host.facts import HostFacts, ImageFact, PathFact, RuntimeFact, TargetFact
from wlcg_isolate.host.image import image_path_of, look_at_image
from wlcg_isolate.host.touch import look_at_all
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Request

__all__ = ["HostFacts", "ImageFact", "PathFact", "RuntimeFact", "TargetFact", "probe_host"]

#: Kernel limits that decide over unprivileged user namespaces.
_SYSCTL = {
    "user.max_user_namespaces": "/proc/sys/user/max_user_namespaces",
    "kernel.unprivileged_userns_clone": "/proc/sys/kernel/unprivileged_userns_clone",
    "kernel.apparmor_restrict_unprivileged_userns": "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
}


def probe_host(request: Request, policy: Policy) -> HostFacts:
    """
    Read what a plan for *request* needs to know of this node.

    Every look at a path has the deadline of ``host.touch_seconds``; one that
    gets no answer is a fact like any other.  Nothing is changed.
    """
    cwd = _cwd()
    paths = look_at_all(_paths_of_interest(request, policy, cwd), policy.host_touch_seconds)
    search = (request.runtime,) if request.runtime else policy.runtime_search
    uname = os.uname()

    return HostFacts(
        hostname=uname.nodename,
        machine=uname.machine,
        kernel=uname.release,
        uid=os.geteuid(),
        gid=os.getegid(),
        cwd=cwd,
        environ=os.environ,
        runtimes=runtimes.ask_all(
            runtimes.candidates(search, os.environ.get("PATH", os.defpath)),
            policy.runtime_probe_seconds,
        ),
        image=look_at_image(request, policy, paths),
        paths=paths,
        sysctl={name: _read(path) for name, path in _SYSCTL.items()},
    )


def workdir_of(request: Request, cwd: Optional[str]) -> Optional[str]:
    """
    Return the working directory that *request* means, or None.
    """
    chosen = request.workdir or cwd

    return None if chosen is None else normal_path(chosen)


def trace_candidates(request: Request, policy: Policy, environ: Mapping[str, str], uid: int) -> Iterator[str]:
    """
    List the directories that may take the trace records, best first.
    """
    if request.trace_dir is not None:
        yield normal_path(request.trace_dir)
        return
    home = environ.get("HOME", "")
    state = environ.get("XDG_STATE_HOME", "") or (home and os.path.join(home, ".local/state"))
    for template in policy.trace_directories:
        if "{state}" not in template or state.startswith("/"):
            yield normal_path(template.replace("{state}", state).replace("{uid}", str(uid)))


def _paths_of_interest(request: Request, policy: Policy, cwd: Optional[str]) -> Iterator[str]:
    workdir = workdir_of(request, cwd)
    if workdir is not None:
        yield workdir
        yield from (os.path.join(workdir, name) for name in ("tmp", "var_tmp"))
    binds = (*policy.bind_default, *request.binds)
    places = [(bind.target, normal_path(os.path.join(workdir or "/", bind.source))) for bind in binds]
    yield from (source for _, source in places)
    if workdir is not None:
        places.append((policy.container_workdir, workdir))
    # Where a target lies in another bind, what is there counts.
    for target, _ in places:
        for parent, root in places:
            if target != parent and is_below(target, parent):
                yield normal_path(os.path.join(root, os.path.relpath(target, parent)))
    image = image_path_of(request, policy)
    if image is not None:
        yield image
    yield from trace_candidates(request, policy, os.environ, os.geteuid())
    yield "/dev/fuse"


def _cwd() -> Optional[str]:
    try:
        return os.getcwd()
    except OSError:
        return None


def _read(path: str) -> Optional[str]:
    try:
        with open(path, encoding="ascii") as f:
            return f.read().strip()
    except (OSError, UnicodeDecodeError):
        return None

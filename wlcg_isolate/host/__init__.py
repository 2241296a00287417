"""
The only reader of the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Optional

from wlcg_isolate._values import is_below, normal_path
from wlcg_isolate.errors import PolicyError
from wlcg_isolate.host import runtimes
from wlcg_isolate.host.facts import HostFacts, ImageFact, PathFact, RuntimeFact, TargetFact, config_of
from wlcg_isolate.host.image import look_at_image
from wlcg_isolate.host.loader import loader_fault
from wlcg_isolate.host.node import read_node
from wlcg_isolate.host.touch import look_at_all
from wlcg_isolate.policy import Policy
from wlcg_isolate.policy.settle import settle
from wlcg_isolate.request import Request
from wlcg_isolate.variables import credential_files, paths_of_interest

__all__ = [
    "HostFacts",
    "ImageFact",
    "PathFact",
    "RuntimeFact",
    "TargetFact",
    "ask_runtimes",
    "config_of",
    "probe_host",
    "repository_path",
    "trace_candidates",
    "workdir_of",
]

#: Kernel limits that decide over unprivileged user namespaces.
_SYSCTL = {
    "user.max_user_namespaces": "/proc/sys/user/max_user_namespaces",
    "kernel.unprivileged_userns_clone": "/proc/sys/kernel/unprivileged_userns_clone",
    "kernel.apparmor_restrict_unprivileged_userns": "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
}


def probe_host(request: Request, policy: Policy) -> HostFacts:
    """
    Read what a plan for *request* needs to know of this node.

    Every look at a path has the deadline that policy gives it; one that gets
    no answer is a fact like any other.  Nothing is changed.
    """
    cwd = _cwd()
    uname = os.uname()
    found, settled = ask_runtimes(request, policy)
    paths = look_at_all(_paths_of_interest(request, settled, cwd), settled.touch_seconds)

    node = read_node()

    return HostFacts(
        hostname=uname.nodename,
        machine=uname.machine,
        kernel=uname.release,
        uid=os.geteuid(),
        gid=os.getegid(),
        cwd=cwd,
        environ=os.environ,
        runtimes=found,
        image=look_at_image(request, settled, node, paths=paths, workdir=workdir_of(request, cwd), runtimes=found),
        paths=paths,
        sysctl={name: _read(path) for name, path in _SYSCTL.items()},
        node=node,
        loader_fault=loader_fault(uname.machine, settled.runtime_probe_seconds),
    )


def ask_runtimes(request: Request, policy: Policy) -> tuple[tuple[RuntimeFact, ...], Policy]:
    """
    Ask the runtimes that *policy* names.

    Returns:
        What they said, and the policy that holds when the node and the
        request have spoken as well.
    """
    asked = _settled(policy, request)
    machine = os.uname().machine
    search = (program.replace("{arch}", machine) for program in asked.runtime_search)
    places = os.environ.get("PATH", os.defpath)
    found = runtimes.ask_all(runtimes.candidates(search, places), asked.runtime_probe_seconds)

    return found, _settled(policy, request, found)


def _settled(policy: Policy, request: Request, found: tuple[RuntimeFact, ...] = ()) -> Policy:
    config, file = config_of(found)
    try:
        return settle(policy, request, os.environ, config, file)
    except PolicyError:
        # Whoever decides settles again, and reports it together with all else.
        return policy


def workdir_of(request: Request, cwd: Optional[str]) -> Optional[str]:
    """
    Return the working directory that *request* means, or None.
    """
    chosen = request.workdir or cwd

    return None if chosen is None else normal_path(chosen)


def trace_candidates(policy: Policy, environ: Mapping[str, str], uid: int) -> Iterator[str]:
    """
    List the directories that may take the trace records, best first.
    """
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
    places = [(bind.target, policy.on_node(normal_path(os.path.join(workdir or "/", bind.source)))) for bind in binds]
    yield from (source for _, source in places)
    if workdir is not None:
        places.append((policy.container_workdir, workdir))
    # Where a target lies in another bind, what is there counts.
    for target, _ in places:
        for parent, root in places:
            if target != parent and is_below(target, parent):
                yield normal_path(os.path.join(root, os.path.relpath(target, parent)))
    # What policy forbids is compared by where it really is.
    yield from (root for roots in policy.roots_of_all() for root in roots)
    yield from (*policy.bind_forbidden_sources, *policy.bind_read_only)
    yield from (policy.on_node(repository_path(name)) for name in policy.cvmfs_repositories)
    yield from paths_of_interest(os.environ, request, policy)
    yield from credential_files(request, os.environ)
    yield from (path for path in (policy.runtime_tmpdir, policy.runtime_cachedir) if path is not None)
    yield from trace_candidates(policy, os.environ, os.geteuid())
    yield "/dev/fuse"


def repository_path(name: str) -> str:
    """
    Return where a CVMFS repository is on a node.
    """
    return f"/cvmfs/{name}"


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

"""
The only reader of the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Optional

import attrs

from wlcg_isolate._values import is_below, normal_path
from wlcg_isolate.errors import PolicyError
from wlcg_isolate.host import fitness, runtimes
from wlcg_isolate.host.automounts import read_automounts
from wlcg_isolate.host.facts import HostFacts, ImageFact, PathFact, ProbeFact, RuntimeFact, TargetFact, config_of
from wlcg_isolate.host.image import look_at_image
from wlcg_isolate.host.loader import loader_fault
from wlcg_isolate.host.node import read_node, surroundings
from wlcg_isolate.host.nodefacts import NodeFacts
from wlcg_isolate.host.pilot import credential_places
from wlcg_isolate.host.processor import of_facts
from wlcg_isolate.host.showing import below_sources, repository_path, sources
from wlcg_isolate.host.surrounding import PATHS
from wlcg_isolate.host.touch import look_at_all
from wlcg_isolate.policy import Policy
from wlcg_isolate.policy.settle import settle
from wlcg_isolate.request import Request
from wlcg_isolate.variables import credential_files, paths_of_interest

__all__ = [
    "HostFacts",
    "ImageFact",
    "NodeFacts",
    "PathFact",
    "ProbeFact",
    "RuntimeFact",
    "TargetFact",
    "ask_runtimes",
    "config_of",
    "examine_host",
    "paths_to_look_at",
    "probe_host",
    "repository_path",
    "trace_candidates",
    "workdir_of",
]

#: Kernel limits that decide over unprivileged user namespaces.
_SYSCTL = {
    "user.max_user_namespaces": "/proc/sys/user/max_user_namespaces",
    "user.max_mnt_namespaces": "/proc/sys/user/max_mnt_namespaces",
    "user.max_pid_namespaces": "/proc/sys/user/max_pid_namespaces",
    "user.max_ipc_namespaces": "/proc/sys/user/max_ipc_namespaces",
    "kernel.unprivileged_userns_clone": "/proc/sys/kernel/unprivileged_userns_clone",
    "kernel.apparmor_restrict_unprivileged_userns": "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
}


def probe_host(request: Request, policy: Policy) -> HostFacts:
    """
    Read what a plan for *request* needs to know of this node.

    Every look at a path has the deadline that policy gives it; one that gets
    no answer is a fact like any other.  Unless ``runtime.probe_starts`` says
    otherwise, a container is started with an image of the library's own; what
    that showed is kept in the first of ``host.cache_directories`` that can be
    written.  Nothing else is changed.
    """
    return _probe(request, policy, thorough=False)


def examine_host(request: Request, policy: Policy) -> HostFacts:
    """
    Read everything of this node that this library knows to read.

    All candidates for the runtime are asked, with all forms of images, and
    nothing that was known before counts.
    """
    return _probe(request, policy, thorough=True)


def _probe(request: Request, policy: Policy, *, thorough: bool) -> HostFacts:
    cwd, uname = _cwd(), os.uname()
    workdir = workdir_of(request, cwd)
    sysctl = {name: _read(path) for name, path in _SYSCTL.items()}
    places = dict.fromkeys(("/tmp", *([workdir] if workdir else [])))
    asked = _settled(policy, request)
    node = read_node(os.environ, places, asked.touch_seconds)
    asker = _asker(request, asked, node, sysctl)
    programs = tuple(_programs(asked))
    answers = tuple(asker.ask_until_good(programs))
    # The configuration of the runtime is a layer of policy, and what policy says decides where to look.
    settled = _settled(policy, request, answers)
    shown = sources(request, settled, workdir)
    look = partial(
        look_at_all,
        deadline=settled.touch_seconds,
        light=frozenset(source for roots in shown.values() for source in roots) - {workdir},
        automounts=(automounts := read_automounts()),
    )
    paths = look(paths_to_look_at(request, settled, cwd, os.environ, os.geteuid()))
    processor = of_facts(node, uname.machine, uname.release)
    image = look_at_image(request, settled, processor, paths=paths, workdir=workdir, runtimes=answers)
    # Where a target lies in another bind, what is there counts.
    paths |= look(set(below_sources(shown, image.targets if image is not None else {})) - paths.keys())
    asker = attrs.evolve(
        asker,
        policy=settled,
        surroundings=surroundings(node, sysctl, settled),
        forms=_forms(image, settled, thorough=thorough),
        every=thorough,
        fresh=thorough,
    )
    form = fitness.form_of(image.form if image is not None else None)

    return HostFacts(
        hostname=uname.nodename,
        machine=uname.machine,
        kernel=uname.release,
        uid=os.geteuid(),
        gid=os.getegid(),
        cwd=cwd,
        environ=os.environ,
        runtimes=tuple(asker.ask_until_good(programs, form, answers)),
        image=image,
        paths=paths,
        sysctl=sysctl,
        node=node,
        loader_fault=loader_fault(uname.machine, settled.runtime_probe_seconds),
        automounts=automounts,
    )


def ask_runtimes(request: Request, policy: Policy) -> tuple[tuple[RuntimeFact, ...], Policy]:
    """
    Ask the runtimes that *policy* names for their versions.

    Returns:
        What they said, and the policy that holds when the node and the
        request have spoken as well.
    """
    asked = _settled(policy, request)
    asker = runtimes.Asker(policy=asked, machine=os.uname().machine, uid=os.geteuid())
    found = tuple(asker.ask_until_good(_programs(asked)))

    return found, _settled(policy, request, found)


def _programs(policy: Policy) -> Iterator[str]:
    return runtimes.candidates(policy.runtime_search, os.environ, os.uname().machine, policy.touch_seconds)


def _asker(request: Request, policy: Policy, node: NodeFacts, sysctl: Mapping[str, Optional[str]]) -> runtimes.Asker:
    return runtimes.Asker(
        policy=policy,
        machine=os.uname().machine,
        uid=os.geteuid(),
        node=node,
        surroundings=surroundings(node, sysctl, policy),
        directories=tuple(_cache_directories(request, policy, workdir_of(request, _cwd()))),
    )


def _forms(image: Optional[ImageFact], policy: Policy, *, thorough: bool) -> tuple[str, ...]:
    """
    Choose from which forms of images containers are started on trial.
    """
    if not policy.runtime_probe_starts:
        return ()
    if thorough:
        return ("tree", "file")
    if image is None or not image.root.present:
        # There will be no plan.
        return ()

    return (fitness.form_of(image.form),)


def _cache_directories(request: Request, policy: Policy, workdir: Optional[str]) -> Iterator[str]:
    """
    List where verdicts are kept, but for places that a payload could write.
    """
    home = os.environ.get("HOME", "")
    cache = os.environ.get("XDG_CACHE_HOME", "") or (home and os.path.join(home, ".cache"))
    binds = (*policy.bind_default, *request.binds)
    shown = [normal_path(os.path.join(workdir or "/", bind.source)) for bind in binds if bind.writable]
    shown += [workdir] if workdir else []
    for template in policy.host_cache_directories:
        if "{cache}" not in template or cache.startswith("/"):
            place = normal_path(template.replace("{cache}", cache).replace("{uid}", str(os.geteuid())))
            if not any(is_below(place, path) or is_below(path, place) for path in shown):
                yield place


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


def paths_to_look_at(
    request: Request, policy: Policy, cwd: Optional[str], environ: Mapping[str, str], uid: int
) -> Iterator[str]:
    """
    List the paths that a plan for *request* asks a node about; some may come
    more than once.
    """
    workdir = workdir_of(request, cwd)
    if workdir is not None:
        yield workdir
        yield from (os.path.join(workdir, name) for name in ("tmp", "var_tmp"))
    yield from (source for roots in sources(request, policy, workdir).values() for source in roots)
    yield from ("/etc/hosts", "/etc/localtime", "/etc/resolv.conf", "/etc/OpenCL/vendors")
    yield from (path for _, path in credential_places(environ))
    if cwd is not None:
        yield cwd
    # What policy forbids is compared by where it really is.
    yield from (root for roots in policy.roots_of_all() for root in roots)
    yield from (*policy.bind_forbidden_sources, *policy.bind_read_only, *policy.storage_posix)
    yield from (policy.on_node(repository_path(name)) for name in policy.cvmfs_repositories)
    yield from paths_of_interest(environ, request, policy)
    yield from credential_files(request, environ)
    own = (policy.runtime_tmpdir, policy.runtime_cachedir, policy.image_registry_credentials)
    yield from (path for path in own if path is not None)
    yield from trace_candidates(policy, environ, uid)
    yield from PATHS


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

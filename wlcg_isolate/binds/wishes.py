"""
All that is to be shown to a payload, those first that win on a common place.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from wlcg_isolate.binds.decision import Wish
from wlcg_isolate.host.facts import HostFacts
from wlcg_isolate.host.showing import CVMFS, repository_path, source_of
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Bind, Request

#: Makers of drivers for OpenCL; what their files name is there by --nv and
#: --rocm.
_OPENCL = "/etc/OpenCL/vendors"


def wishes(request: Request, policy: Policy, facts: HostFacts, workdir: str) -> Iterator[Wish]:
    """
    List all wishes: the working directory, those of site and experiment,
    those of the request, and the built-in ones.
    """
    own = Bind(source=workdir, target=policy.container_workdir, writable=True, origin="library")
    yield Wish(bind=own, source=workdir)
    by_site = _by_site(policy)
    for bind in _in_order(request, policy):
        for wish in _on_this_node(bind, source_of(bind, policy, workdir), policy, facts):
            yield attrs.evolve(wish, by_site=True) if _paths(bind) in by_site else wish
    if policy.gpu_use:
        yield Wish(bind=Bind(source=_OPENCL, required=False, origin="gpu.use"), source=_OPENCL)


def _by_site(policy: Policy) -> frozenset[tuple[str, str]]:
    """
    List what the site itself wrote down; a variable of the host may be set
    by anybody.
    """
    layers = (layer for layer in policy.layers or () if layer.name == "site" and layer.trusted)

    return frozenset(_paths(bind) for layer in layers for bind in layer.values.get("bind.default", ()))


def _paths(bind: Bind) -> tuple[str, str]:
    return bind.source, bind.target


def _in_order(request: Request, policy: Policy) -> Iterator[Bind]:
    yield from (bind for bind in policy.bind_default if bind.origin != "built-in")
    yield from request.binds
    yield from (bind for bind in policy.bind_default if bind.origin == "built-in")


def _on_this_node(bind: Bind, source: str, policy: Policy, facts: HostFacts) -> Iterator[Wish]:
    """
    Show CVMFS as a whole, or where that would show nothing, by repositories.

    What autofs mounts after the start does not reach a container whose copy
    of the automount point is cut off from the host's.
    """
    whole = source == policy.cvmfs_root and bind.target == CVMFS
    if not whole or facts.automounts.get(source, True) or not policy.cvmfs_repositories:
        yield Wish(bind=bind, source=source)
        return
    for name in policy.cvmfs_repositories:
        one = Bind(
            source=policy.on_node(repository_path(name)),
            target=f"{CVMFS}/{name}",
            writable=bind.writable,
            required=bind.required,
            origin=bind.origin,
        )
        yield Wish(bind=one, source=one.source)

"""
Which paths have to be looked at for binds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Optional

from wlcg_isolate._values import normal_path
from wlcg_isolate.host.facts import TargetFact, straight_way
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Bind, Request

#: Where CVMFS is for every program.
CVMFS = "/cvmfs"


def repository_path(name: str) -> str:
    """
    Return where a CVMFS repository is for every program; `Policy.on_node`
    tells where it is on a node.
    """
    return f"{CVMFS}/{name}"


def source_of(bind: Bind, policy: Policy, workdir: str) -> str:
    """
    Return a bind's source on this node: relative ones are in the working
    directory, and CVMFS may be elsewhere.
    """
    return policy.on_node(normal_path(os.path.join(workdir, bind.source)))


def sources(request: Request, policy: Policy, workdir: Optional[str]) -> dict[str, list[str]]:
    """
    List the sources of binds by their targets, the working directory's
    included.
    """
    found: dict[str, list[str]] = {}
    for bind in (*policy.bind_default, *request.binds):
        found.setdefault(bind.target, []).append(source_of(bind, policy, workdir or "/"))
    if workdir is not None:
        found.setdefault(policy.container_workdir, []).append(workdir)

    return found


def below_sources(found: Mapping[str, list[str]], targets: Mapping[str, TargetFact]) -> Iterator[str]:
    """
    List the paths in sources of binds where targets of others lie.

    Args:
        found: What `sources` gave.

        targets: What the targets are in the image.
    """
    facts = {target: targets.get(target, TargetFact(path=target)) for target in found}
    at: dict[str, list[str]] = {}
    for target, roots in found.items():
        for place in {target, facts[target].resolves_to or target}:
            at.setdefault(place, []).extend(roots)
    for target, fact in facts.items():
        ends = {target, fact.resolves_to or target, *_detours(fact, at)}
        steps = dict.fromkeys((place, end) for end in ends for place in _above(end))
        for place, end in steps:
            for root in at.get(place, ()):
                yield normal_path(os.path.join(root, os.path.relpath(end, place)))


def _detours(fact: TargetFact, at: Mapping[str, list[str]]) -> Iterator[str]:
    """
    List where the way to a target leads when it passes another bind.
    """
    for place, rest in fact.trail:
        if rest and place in at:
            yield normal_path(f"{place}/{rest}")


def _above(place: str) -> Iterator[str]:
    yield "/"
    yield from (above for above, rest in straight_way(place) if rest)

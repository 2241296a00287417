"""
What has to stay mounted as long as the payload runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wlcg_isolate._values import is_below
from wlcg_isolate.binds.decision import BindDecision
from wlcg_isolate.host.facts import HostFacts
from wlcg_isolate.host.showing import repository_path
from wlcg_isolate.policy import Policy


def held_open(binds: Iterable[BindDecision], policy: Policy, facts: HostFacts) -> tuple[str, ...]:
    """
    List what autofs would unmount as soon as nothing on the host uses it: a
    payload's use, in a mount namespace of its own, does not always count.

    Args:
        binds: All decisions.

        policy: What holds here; the repositories that it requires are held
            where CVMFS is bound.

        facts: What was read of the node.
    """
    if not facts.automounts:
        return ()

    return tuple(dict.fromkeys(path for path in _shown(binds, policy) if _on_demand(path, facts)))


def _shown(binds: Iterable[BindDecision], policy: Policy) -> Iterator[str]:
    for bind in binds:
        if bind.decision == "mount":
            yield bind.source
            for name in policy.cvmfs_repositories:
                path = policy.on_node(repository_path(name))
                if is_below(path, bind.source):
                    yield path


def _on_demand(path: str, facts: HostFacts) -> bool:
    return any(is_below(facts.resolved(path), place) or is_below(path, place) for place in facts.automounts)

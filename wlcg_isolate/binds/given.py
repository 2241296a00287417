"""
What the runtime shows in every container, asked or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Optional

from wlcg_isolate.binds import targets
from wlcg_isolate.binds.decision import BindDecision, Wish
from wlcg_isolate.errors import Problem
from wlcg_isolate.host.facts import HostFacts, config_of
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Bind

#: Copied or bound by the runtime in every container, also with --contain, and
#: the directive of its configuration that decides (Apptainer 1.4.5 and
#: SingularityCE 4: both keep these two of "bind path").
_GIVEN: Mapping[str, tuple[str, str]] = {
    "/etc/hosts": ("bind path", "/etc/hosts"),
    "/etc/localtime": ("bind path", "/etc/localtime"),
    "/etc/resolv.conf": ("config resolv_conf", "yes"),
}


def given_binds(
    binds: Iterable[BindDecision], policy: Policy, facts: HostFacts, *, layer: Optional[str] = None
) -> Iterator[BindDecision]:
    """
    Say what the runtime adds to the binds that are asked of it.

    Args:
        binds: What is decided on.

        policy: What holds here.

        facts: What was read of the node.

        layer: As for `decide_binds`.
    """
    config, _ = config_of(facts.runtimes)
    creates = targets.can_create(policy, facts, layer)
    mounted = {bind.place: bind for bind in binds if bind.decision == "mount"}
    for path, (directive, value) in _GIVEN.items():
        wish = Wish(bind=Bind(source=path, required=False, origin="runtime"), source=path)
        spot = targets.find_spot(path, mounted, facts)
        fact = facts.paths.get(path)
        if spot.place in mounted:
            continue
        if fact is not None and not fact.present:
            yield wish.decided("skip", f"the node has no {path}")
        elif value not in config.get(directive, (value,)):
            yield wish.decided("skip", f"'{directive}' in the runtime's configuration leaves it out")
        else:
            why = targets.judge(wish, spot, "file", facts, home=policy.container_workdir, layer=creates)
            yield (
                wish.decided("skip", why.message)
                if isinstance(why, Problem)
                else wish.decided("mount", f"the runtime does this itself; {why}", kind="file", place=spot.place)
            )

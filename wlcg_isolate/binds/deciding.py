"""
Decide on one bind after the other, parents first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional, Union

from wlcg_isolate._values import utf8_fault
from wlcg_isolate.binds import sources, targets
from wlcg_isolate.binds.decision import BindDecision, Wish
from wlcg_isolate.binds.targets import Spot
from wlcg_isolate.binds.wishes import wishes
from wlcg_isolate.errors import Problem
from wlcg_isolate.host.facts import HostFacts, straight_way
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Bind, Request

_Verdict = Union[BindDecision, Problem]


def decide_binds(
    request: Request, policy: Policy, facts: HostFacts, workdir: str, *, layer: Optional[str] = None
) -> tuple[tuple[BindDecision, ...], list[Problem]]:
    """
    Decide on every bind of *policy* and *request*.

    Args:
        request: What the pilot asks.

        policy: What holds here.

        facts: What was read of the node.

        workdir: Normal absolute path of the working directory.

        layer: What creates a target that the image lacks: ``"overlay"``,
            ``"underlay"`` or ``"none"``; what policy says when not given.

    Returns:
        The decisions in the order of mounting, those left out at the end,
        and a problem for each required bind that cannot be made.
    """
    has_layer = targets.can_create(policy, facts, layer)
    deciding = _Deciding(policy, facts, workdir, layer=has_layer)
    deciding.all_of(tuple(wishes(request, policy, facts, workdir)))
    deciding.problems += _without_tmp(policy, facts, layer=has_layer)

    return (*deciding.mounted.values(), *deciding.skipped), deciding.problems


def _without_tmp(policy: Policy, facts: HostFacts, *, layer: bool) -> Iterator[Problem]:
    """
    Find what stands against the private directories that every plan has.
    """
    if facts.image is None or layer:
        return
    for target in targets.PRIVATE_TMP:
        if targets.target_fact(target, facts).kind != "directory":
            wish = Wish(bind=Bind(source=policy.container_workdir, target=target, origin="library"), source="")
            yield targets.no_layer(wish, f"{target} is no directory in the image")


class _Deciding:
    """
    What is decided so far.

    Attributes:
        mounted: What is mounted, by place, in the order of mounting.

        skipped: What is left out.

        problems: What refuses the payload.
    """

    def __init__(self, policy: Policy, facts: HostFacts, workdir: str, *, layer: bool) -> None:
        self._policy = policy
        self._facts = facts
        self._workdir = workdir
        self._layer = layer
        self._forbidden = sources.forbidden_paths(policy, facts, workdir)
        self._home = policy.container_workdir
        self.mounted: dict[str, BindDecision] = {}
        self.skipped: list[BindDecision] = []
        self.problems: list[Problem] = []

    def all_of(self, all_wishes: tuple[Wish, ...]) -> None:
        """
        Decide on all wishes.
        """
        for wish in _parents_first(all_wishes, self._facts):
            self._settle(wish, self._judge(wish))
        self._look_again()

    def _settle(self, wish: Wish, verdict: _Verdict) -> None:
        if isinstance(verdict, Problem) and not wish.bind.required:
            verdict = wish.decided("skip", verdict.message)
        if isinstance(verdict, Problem):
            self.problems.append(verdict)
        elif verdict.decision == "skip":
            self.skipped.append(verdict)
        else:
            self.mounted[verdict.place] = verdict

    def _judge(self, wish: Wish) -> _Verdict:
        spot = targets.find_spot(wish.bind.target, self.mounted, self._facts)
        earlier = self.mounted.get(spot.place)
        if earlier is not None:
            return _second(wish, earlier)
        hidden = targets.hides_system(wish, spot, self._policy)
        if hidden is not None:
            return hidden
        if wish.bind.origin == "library":
            return self._against_workdir(wish) or self._at(wish, spot, "directory", "the working directory")
        fact = self._facts.paths.get(wish.source)
        kind = "directory" if fact is not None and fact.kind == "directory" else "file"

        return self._against_source(wish) or self._at(wish, spot, kind, "")

    def _against_workdir(self, wish: Wish) -> Optional[Problem]:
        spellings = self._spellings(wish.source)
        forbidden = (item for item in self._forbidden if item.everybody)

        return sources.shows_forbidden(wish, spellings, forbidden) or sources.against_policy(
            wish, spellings, self._policy, self._facts
        )

    def _against_source(self, wish: Wish) -> Optional[Problem]:
        spellings = self._spellings(wish.source)

        return (
            sources.shows_node(wish, spellings)
            or sources.shows_forbidden(wish, spellings, self._forbidden)
            or sources.against_policy(wish, spellings, self._policy, self._facts)
            or sources.not_there(wish, self._facts.paths.get(wish.source))
            or _inexpressible(wish)
        )

    def _at(self, wish: Wish, spot: Spot, kind: str, reason: str) -> _Verdict:
        why = targets.judge(wish, spot, kind, self._facts, home=self._home, layer=self._layer)
        if isinstance(why, Problem):
            return why
        if wish.bind.origin == "library":
            self._home = spot.place

        return wish.decided("mount", reason or why, kind=kind, place=spot.place)

    def _spellings(self, source: str) -> set[str]:
        return {source, self._facts.resolved(source)}

    def _look_again(self) -> None:
        """
        Refuse what a later bind has moved, which no order can mend.
        """
        for place, bind in tuple(self.mounted.items()):
            now = targets.find_spot(bind.target, self.mounted, self._facts, but=place).place
            if now == place:
                continue
            del self.mounted[place]
            wish = Wish(bind=_asked(bind), source=bind.source)
            why = f"another bind stands in the way of links that lead to {bind.target}"
            self.problems.append(wish.problem("bind-target-impossible", why, "choose another target"))


def _asked(bind: BindDecision) -> Bind:
    return Bind(source=bind.source, target=bind.target, writable=bind.writable, origin=bind.origin)


def _second(wish: Wish, earlier: BindDecision) -> _Verdict:
    """
    Judge a bind at a place that is taken.
    """
    if (earlier.source, earlier.writable) == (wish.source, wish.bind.writable):
        return wish.decided("skip", f"the same bind is wanted by {earlier.origin}")
    target, asked = wish.bind.target, ""
    if earlier.source == wish.source:
        asked = f", {'writable' if earlier.writable else 'read-only'}"
    why = f"{target} is already the target of {earlier.source} ({earlier.origin}){asked}, not {wish.source}"

    return wish.problem("bind-target-duplicate", why, "choose another target")


def _inexpressible(wish: Wish) -> Optional[Problem]:
    """
    Refuse what the runtime's command line cannot carry.
    """
    for path in (wish.source, wish.bind.target):
        fault = utf8_fault(path)
        if fault:
            why = f"the path {path!r} {fault}, which the runtime cannot be told"
            return wish.problem("bind-inexpressible", why, "bind a directory above it")

    return None


def _parents_first(all_wishes: tuple[Wish, ...], facts: HostFacts) -> Iterator[Wish]:
    """
    Sort wishes so that each comes after all that the way to it passes.

    Among those at one place the order stays.
    """
    at: dict[str, list[int]] = {}
    ways: list[set[str]] = []
    ends: list[set[str]] = []
    for i, wish in enumerate(all_wishes):
        fact = targets.target_fact(wish.bind.target, facts)
        own = {wish.bind.target, fact.resolves_to or wish.bind.target}
        passed = {place for place, _ in fact.way}
        passed.update(place for end in own for place, _ in straight_way(end))
        ways.append(passed - own)
        ends.append(own)
        for place in own:
            at.setdefault(place, []).append(i)
    seen: set[int] = set()
    order: list[int] = []

    def visit(i: int) -> None:
        if i in seen:
            return
        seen.add(i)
        before = [j for place in ways[i] for j in at.get(place, ())]
        before += [j for place in ends[i] for j in at[place] if j < i]
        for j in sorted(before):
            visit(j)
        order.append(i)

    # The shortest first, since that is how they are written down.
    for i in sorted(range(len(all_wishes)), key=lambda i: all_wishes[i].bind.target.count("/")):
        visit(i)

    return iter([all_wishes[i] for i in order])

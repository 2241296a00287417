"""
Which binds, in which order, and why one is left out.

Rules:

1. The working directory comes first, at the place that policy names; the
   private ``/tmp`` and ``/var/tmp`` belong to it.
2. Parents come before children: Apptainer up to 1.1 and SingularityCE mount
   in the order of the command line.
3. The first bind on a target wins.  A required one that loses refuses the
   payload, unless it asks for the same thing.
4. Targets are judged inside the image's own root.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Optional, Union

import attrs

from wlcg_isolate._values import SYSTEM_DIRECTORIES, is_below, normal_path
from wlcg_isolate.errors import Problem
from wlcg_isolate.host.facts import HostFacts, PathFact, TargetFact
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Bind, Request

#: File systems of the kernel: nothing may be mounted below them either.
_KERNEL = ("/proc", "/sys", "/.singularity.d")

#: Host directories that show the pilot or the whole node.
_EXPOSING = ("/", "/proc", "/sys", "/dev", "/run", "/var/run")


@attrs.frozen(kw_only=True)
class BindDecision:
    """
    What becomes of one bind.

    Attributes:
        source: Absolute path on the host.

        target: Absolute path in the container.

        writable: Whether the payload may write.

        kind: What the source is: ``"directory"`` or ``"file"`` (anything
            else, as far as mount points go); None when it is not there.

        origin: Who wanted it.

        decision: ``"mount"`` or ``"skip"``.

        reason: Why, for a person.
    """

    source: str
    target: str
    writable: bool
    kind: Optional[str] = None
    origin: str
    decision: str
    reason: str


#: Mounted by every plan, on the working directory's disk.
_PRIVATE_TMP = ("/tmp", "/var/tmp")

#: Who makes a mount point that is missing: in the image, or in the working
#: directory, which is the payload's own.
_MADE = {
    True: "the target is not in the image; the runtime's layer creates it",
    False: "the mount point is made in the working directory and removed again",
}

_Verdict = Union[BindDecision, Problem]


def decide_binds(
    request: Request, policy: Policy, facts: HostFacts, workdir: str
) -> tuple[tuple[BindDecision, ...], list[Problem]]:
    """
    Decide on every bind of *policy* and *request*.

    Args:
        request: What the pilot asks.

        policy: What holds here.

        facts: What was read of the node.

        workdir: Normal absolute path of the working directory.

    Returns:
        The decisions in the order of mounting, those left out at the end,
        and a problem for each required bind that cannot be made.
    """
    mounted: dict[str, BindDecision] = {
        policy.container_workdir: BindDecision(
            source=workdir,
            target=policy.container_workdir,
            writable=True,
            kind="directory",
            origin="library",
            decision="mount",
            reason="the working directory",
        )
    }
    skipped: list[BindDecision] = []
    problems = [*_own_problems(workdir, policy, facts)]
    wanted = sorted(_in_order(request, policy), key=lambda bind: bind.target.count("/"))
    for bind in wanted:
        source = policy.on_node(normal_path(os.path.join(workdir, bind.source)))
        verdict = _judge(bind, source, facts, mounted, policy)
        if isinstance(verdict, Problem) and not bind.required:
            verdict = _decision(bind, source, "skip", verdict.message)
        if isinstance(verdict, Problem):
            problems.append(verdict)
        elif verdict.decision == "skip":
            skipped.append(verdict)
        else:
            mounted[bind.target] = verdict

    return (*mounted.values(), *skipped), problems


def _own_problems(workdir: str, policy: Policy, facts: HostFacts) -> Iterator[Problem]:
    """
    Find what stands against the binds that every plan has.
    """
    own = Bind(source=workdir, target=policy.container_workdir, writable=True, origin="library")
    refused = _against_policy(own, workdir, facts, policy)
    if refused is not None:
        yield refused
    if facts.image is None or policy.runtime_layers:
        return
    for target in (policy.container_workdir, *_PRIVATE_TMP):
        if _in_image(target, facts).kind != "directory":
            yield _no_layer(attrs.evolve(own, target=target), f"{target} is no directory in the image")


def _decision(bind: Bind, source: str, decision: str, reason: str, kind: Optional[str] = None) -> BindDecision:
    return BindDecision(
        source=source,
        target=bind.target,
        writable=bind.writable,
        kind=kind,
        origin=bind.origin,
        decision=decision,
        reason=reason,
    )


def _judge(
    bind: Bind,
    source: str,
    facts: HostFacts,
    mounted: Mapping[str, BindDecision],
    policy: Policy,
) -> _Verdict:
    earlier = mounted.get(bind.target)
    if earlier is not None and (earlier.source, earlier.writable) == (source, bind.writable):
        return _decision(bind, source, "skip", f"the same bind is wanted by {earlier.origin}")
    if earlier is not None:
        return Problem(
            kind="bind-target-duplicate",
            message=f"{bind.target} is already the target of {earlier.source} ({earlier.origin}), not {source}",
            origin=bind.origin,
            advice="choose another target",
        )
    refused = _forbidden(bind, source, facts) or _against_policy(bind, source, facts, policy)
    if refused is not None:
        return refused
    fact = facts.paths.get(source)
    if fact is None or not fact.present:
        return _source_problem(bind, source, fact)

    return _judge_target(bind, source, fact, facts, mounted, policy)


def _forbidden(bind: Bind, source: str, facts: HostFacts) -> Optional[Problem]:
    # A link inside the image may lead to a system directory as well.
    inside = _in_image(bind.target, facts)
    for target in {bind.target, inside.resolves_to or bind.target}:
        if target in SYSTEM_DIRECTORIES or any(is_below(target, kernel) for kernel in _KERNEL):
            return Problem(
                kind="bind-target-forbidden",
                message=f"a bind at {bind.target} would hide a part of the image's system",
                origin=bind.origin,
                advice="choose another target",
            )
    fact = facts.paths.get(source)
    for path in {source, fact.resolved if fact is not None and fact.resolved else source}:
        if path in _EXPOSING or is_below(path, "/proc"):
            return Problem(
                kind="bind-source-forbidden",
                message=f"{source} shows the payload the whole node or its processes",
                origin=bind.origin,
                advice="bind the directory that is needed",
            )

    return None


def _in_order(request: Request, policy: Policy) -> Iterator[Bind]:
    """
    List all binds, those first that win on a common target.
    """
    yield from (bind for bind in policy.bind_default if bind.origin != "built-in")
    yield from request.binds
    yield from (bind for bind in policy.bind_default if bind.origin == "built-in")


def _against_policy(bind: Bind, source: str, facts: HostFacts, policy: Policy) -> Optional[Problem]:
    places = {source, facts.resolved(source)}
    for forbidden in policy.bind_forbidden_sources:
        for root in {forbidden, facts.resolved(forbidden)}:
            if any(is_below(place, root) or is_below(root, place) for place in places):
                return _refused("bind-source-forbidden", bind, f"{source} shows {forbidden}, which policy forbids")
    inside = {bind.target, _in_image(bind.target, facts).resolves_to or bind.target}
    for forbidden in policy.bind_forbidden_targets:
        if any(is_below(target, forbidden) for target in inside):
            return _refused("bind-target-forbidden", bind, f"policy forbids binds at {forbidden} and below")
    for protected in policy.bind_read_only if bind.writable else ():
        for root in {protected, facts.resolved(protected)}:
            if any(is_below(place, root) or is_below(root, place) for place in places):
                return _refused(
                    "bind-source-forbidden", bind, f"policy lets nobody write to {protected} through {source}"
                )

    return None


def _refused(kind: str, bind: Bind, message: str) -> Problem:
    return Problem(kind=kind, message=message, origin=bind.origin, advice="leave it out, or ask the site")


def _source_problem(bind: Bind, source: str, fact: Optional[PathFact]) -> Problem:
    if fact is not None and fact.state == "no-answer":
        return Problem(
            kind="bind-source-no-answer",
            message=f"bind source {source} gives no answer: {fact.reason}",
            origin=bind.origin,
            advice="check the file system that it lies on",
        )
    state = "does not exist on this node"
    if fact is not None and fact.state == "unreadable":
        state = f"cannot be looked at: {fact.reason}"

    return Problem(
        kind="bind-source-missing",
        message=f"bind source {source} {state}",
        origin=bind.origin,
        advice="correct the path, or use --bind-if-present where the payload can do without",
    )


def _judge_target(
    bind: Bind,
    source: str,
    fact: PathFact,
    facts: HostFacts,
    mounted: Mapping[str, BindDecision],
    policy: Policy,
) -> _Verdict:
    kind = "directory" if fact.kind == "directory" else "file"
    parent = _parent_of(bind.target, mounted)
    if parent is None and any(is_below(bind.target, tmp) for tmp in _PRIVATE_TMP):
        return _decision(bind, source, "mount", "the mount point is made in the private directory", kind)
    there, place, fault = _what_is_there(bind.target, parent, facts)
    if fault:
        return _impossible(bind, fault, "remove it, or choose another target")
    if there is None and parent is not None and parent.target != policy.container_workdir:
        # It would be made on the host, in somebody else's directory.
        why = f"{bind.target} does not exist below {parent.source}, which is bound at {parent.target}"
        return _impossible(bind, why, "create it there, or choose a target outside that bind")
    if there is None:
        return _judge_missing(bind, source, kind, policy, in_image=parent is None)
    if (there == "directory") != (kind == "directory"):
        why = f"{source} is a {kind} and {bind.target} is a {there} in {place}"
        return _impossible(bind, why, "choose a target of the same kind")

    return _decision(bind, source, "mount", f"the target exists in {place}", kind)


def _judge_missing(bind: Bind, source: str, kind: str, policy: Policy, *, in_image: bool) -> _Verdict:
    if in_image and not policy.runtime_layers:
        return _no_layer(bind, f"{bind.target} is not in the image")

    return _decision(bind, source, "mount", _MADE[in_image], kind)


def _impossible(bind: Bind, why: str, advice: str) -> Problem:
    return Problem(kind="bind-target-impossible", message=why, origin=bind.origin, advice=advice)


def _no_layer(bind: Bind, why: str) -> Problem:
    return Problem(
        kind="bind-target-no-layer",
        message=f"{why}, and the runtime has no layer here that could create it",
        origin=bind.origin,
        advice="use a target that the image has, or set 'enable overlay = yes' or 'enable underlay = yes' in the "
        "runtime's configuration file",
    )


def _what_is_there(target: str, parent: Optional[BindDecision], facts: HostFacts) -> tuple[Optional[str], str, str]:
    """
    Look where a target lies.

    Returns:
        The kind of what is there or None, the place in words, and what makes
        it unusable or "".
    """
    if parent is None:
        inside = _in_image(target, facts)
        fault = f"{target} cannot be in the image: {inside.reason}" if inside.reason else ""
        return inside.kind, "the image", fault
    under = normal_path(os.path.join(parent.source, os.path.relpath(target, parent.target)))
    fault = f"a link stands at {under} or above it" if _has_links(under, parent.source, facts) else ""

    return _kind_on_host(under, facts), f"the bind at {parent.target}", fault


def _has_links(path: str, source: str, facts: HostFacts) -> bool:
    """
    Tell whether links lie between a bind's source and a path below it.

    The runtime follows them inside the container, to somewhere else than the
    same path leads to on the host.
    """
    fact, root = facts.paths.get(path), facts.paths.get(source)
    if fact is None or root is None or root.resolved is None:
        return False
    straight = normal_path(os.path.join(root.resolved, os.path.relpath(path, source)))

    return fact.is_link or (fact.resolved is not None and fact.resolved != straight)


def _parent_of(target: str, mounted: Mapping[str, BindDecision]) -> Optional[BindDecision]:
    above: Iterator[BindDecision] = (b for b in mounted.values() if is_below(target, b.target))

    return max(above, key=lambda b: len(b.target), default=None)


def _in_image(target: str, facts: HostFacts) -> TargetFact:
    found = facts.image.targets.get(target) if facts.image is not None else None

    return found or TargetFact(path=target)


def _kind_on_host(path: str, facts: HostFacts) -> Optional[str]:
    found = facts.paths.get(path)

    return None if found is None else found.kind

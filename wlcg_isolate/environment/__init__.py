"""
Which variables the payload gets, and why each host variable does or does not.

Rules:

1. Nothing of the host passes but what a rule names.
2. Every variable of the host and of the request gets exactly one decision
   with the rule that made it.
3. Two kinds never pass by any rule: what steers runtime, loader or shell, and
   secrets of the pilot.
4. A path of the host becomes the one under which the payload sees the same
   file.  One that it cannot see does not pass where that would matter.
"""

from __future__ import annotations

from collections.abc import Iterator

from wlcg_isolate.environment.deciding import Decider, dropped, made
from wlcg_isolate.environment.faults import keep_problems, set_problems
from wlcg_isolate.environment.values import RESERVED, SHELL_OWNED, EnvDecision, Place, Surroundings, fits_shell
from wlcg_isolate.errors import Problem
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Request
from wlcg_isolate.variables import family_of

__all__ = ["RESERVED", "SHELL_OWNED", "EnvDecision", "Place", "Surroundings", "decide_environment", "fits_shell"]


def decide_environment(
    request: Request, policy: Policy, around: Surroundings
) -> tuple[tuple[EnvDecision, ...], list[Problem]]:
    """
    Decide on every variable of the host and of the request.

    Returns:
        The decisions sorted by name, and everything in the request that
        cannot be honoured.
    """
    decisions = Decider(request, policy, around).all()
    for name, value in policy.environment_set.items():
        decisions[name] = made("set", name, "policy-set", "policy sets it for every payload", value)
    for name, value in request.env.items():
        decisions[name] = made("set", name, "request", "the request sets it", value)
    for name, value in around.credentials.items():
        decisions[name] = made("set", name, "credential", "the payload's own, in a private copy", value)
    for decision in _settings(policy, around.trace_id):
        # What is not reserved is a default: whoever sets it, or has the host's kept, knows better.
        earlier = decisions.get(decision.name)
        if decision.name in RESERVED or earlier is None or earlier.value is None:
            decisions[decision.name] = decision
    _mend_locale(decisions)
    loader = around.facts.loader_fault is None
    problems = [
        *set_problems(request.env, "--env", policy, loader=loader),
        *set_problems(policy.environment_set, "environment.set", None, loader=loader),
        *keep_problems(request, policy, loader=loader),
    ]

    return tuple(decisions[name] for name in sorted(decisions)), problems


def _settings(policy: Policy, trace_id: str) -> Iterator[EnvDecision]:
    for name, value, reason in (
        ("HOME", policy.container_workdir, "the working directory is the payload's home"),
        ("PWD", policy.container_workdir, "the payload starts there"),
        ("TMPDIR", "/tmp", "a private directory on the working directory's disk"),
        ("LC_ALL", "C", "the one locale that every image has"),
        ("WLCG_ISOLATE_ID", trace_id, "ties every process of the payload to its trace record"),
    ):
        yield made("set", name, "library", reason, value)


def _mend_locale(decisions: dict[str, EnvDecision]) -> None:
    """
    Leave the library's own locale out where others were let pass: it would
    silence them.
    """
    own = decisions["LC_ALL"]
    if own.rule != "library":
        return
    asked = any(
        family_of(decision.name).kind == "locale"
        for decision in decisions.values()
        if decision.value is not None and decision is not own
    )
    if asked:
        decisions["LC_ALL"] = dropped("LC_ALL", "locale", "other variables of the locale are set")

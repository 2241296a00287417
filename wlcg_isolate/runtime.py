"""
Which runtime is used, in which mode, and why not the others.
"""

from __future__ import annotations

from typing import Optional

import attrs

from wlcg_isolate.errors import Problem
from wlcg_isolate.host.facts import HostFacts, RuntimeFact
from wlcg_isolate.host.fitness import form_of, mode_of, probe_of, problem_of
from wlcg_isolate.policy import Policy
from wlcg_isolate.products import Product, parse_banner

__all__ = ["Product", "Runtime", "choose_runtime", "parse_banner", "problems_of", "with_layer"]


@attrs.frozen(kw_only=True)
class Runtime:
    """
    The runtime that a plan uses.

    Attributes:
        path: Absolute path of the program.

        flavour: ``"apptainer"``, ``"singularity-ce"``, ``"singularitypro"``
            or ``"singularity"`` (2.x to 3.8).

        version: As it says itself, packaging included.

        mode: ``"userns"`` or ``"setuid"``.

        reason: Why this one and this mode.

        layer: What creates a target that the image lacks: ``"overlay"``,
            ``"underlay"`` or ``"none"``; None when no probe has told.

        pid: Whether the container gets a PID namespace of its own.

        warnings: What a person should know of it.
    """

    path: str
    flavour: str
    version: str
    mode: str
    reason: str
    layer: Optional[str] = None
    pid: bool = True
    warnings: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """
        What its control variables start with.
        """
        return "APPTAINER" if self.flavour == "apptainer" else "SINGULARITY"


def choose_runtime(facts: HostFacts, policy: Optional[Policy] = None) -> tuple[Optional[Runtime], list[Problem]]:
    """
    Take the first candidate that works and is young enough.

    Args:
        facts: What was read of the node.

        policy: What is allowed; the built-in policy when not given.

    Returns:
        The runtime, or None with a problem for each candidate.
    """
    policy = policy or Policy()
    form = form_of(facts.image.form if facts.image is not None else None)
    problems = []
    for fact in facts.runtimes:
        if fact.verdict == "missing":
            continue
        problem = problem_of(fact, facts.uid, facts.node, policy, form)
        if problem is None:
            return _taken(fact, facts, policy, form), []
        problems.append(problem)
    if not problems:
        tried = ", ".join(fact.path for fact in facts.runtimes)
        problems.append(
            Problem(
                kind="runtime-missing",
                message=f"no container runtime at {tried}" if tried else "no container runtime found",
                origin="this node",
                advice="install apptainer 1.1 or newer, or name one with --runtime",
            )
        )

    return None, problems


def with_layer(policy: Policy, runtime: Optional[Runtime]) -> Policy:
    """
    Let what was seen on the node count more than what its files say.
    """
    if runtime is None or runtime.layer is None:
        return policy

    return attrs.evolve(policy, runtime_layers=() if runtime.layer == "none" else (runtime.layer,))


def problems_of(facts: HostFacts, policy: Policy) -> dict[str, Optional[Problem]]:
    """
    Say of each candidate that is there why it is not taken; None: it would do.
    """
    form = form_of(facts.image.form if facts.image is not None else None)

    return {
        fact.path: problem_of(fact, facts.uid, facts.node, policy, form)
        for fact in facts.runtimes
        if fact.verdict not in ("missing", "unasked")
    }


def _taken(fact: RuntimeFact, facts: HostFacts, policy: Policy, form: str) -> Runtime:
    mode = mode_of(fact, facts.uid, facts.node, policy)
    product = parse_banner(fact.banner) or Product("", fact.banner, (0, 0, 0))
    probe = probe_of(fact, form)
    seen = probe if probe is not None and probe.mode == mode.name and probe.start == "yes" else None
    pid = seen is None or seen.pid_namespace is not False
    warnings = [
        f"{product.flavour} {product.version} with a set-uid starter has a known hole: {risk}"
        for risk in (product.risks_as_setuid() if mode.name == "setuid" else ())
    ]
    if not pid:
        warnings.append("no PID namespace can be made here: the payload sees the pilot's processes")
    if policy.isolation_nesting and seen is not None and seen.nested is False:
        warnings.append("containers inside the container are allowed, and the kernel lets nobody make any there")
    if seen is not None and seen.method == "unpacked":
        warnings.append("the image file is unpacked for each payload: FUSE does not work here")

    return Runtime(
        path=fact.path,
        flavour=product.flavour,
        version=product.version,
        mode=mode.name,
        reason=f"first candidate that works; {mode.reason}",
        layer=_layer(seen.layer if seen is not None else None, policy),
        pid=pid,
        warnings=tuple(warnings),
    )


def _layer(seen: Optional[str], policy: Policy) -> Optional[str]:
    """
    Take the stricter of what was seen and what policy says.
    """
    return "none" if not policy.runtime_layers else seen

"""
Whether a candidate for the runtime will do, and in which mode.

Pure functions over facts: the search for a runtime stops at the first that
will do, and a plan made from dumped facts takes the same one.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from wlcg_isolate._messages import cause_of
from wlcg_isolate.errors import Problem
from wlcg_isolate.host.facts import ProbeFact, RuntimeFact
from wlcg_isolate.host.nodefacts import NodeFacts
from wlcg_isolate.policy import Policy
from wlcg_isolate.products import Product, needed_options, parse_banner

_INSTALL = "install apptainer 1.1 or newer"
_BROKEN = ("runtime-broken", "repair or reinstall it")


class Mode(NamedTuple):
    """
    How a runtime gets its rights.

    Attributes:
        name: ``"userns"`` or ``"setuid"``.

        reason: Why.
    """

    name: str
    reason: str


def form_of(image_form: Optional[str]) -> str:
    """
    Return which probe tells of an image: ``"tree"`` or ``"file"``.
    """
    return "file" if image_form in ("sif", "squashfs", "ext3") else "tree"


def probe_of(fact: RuntimeFact, form: str) -> Optional[ProbeFact]:
    """
    Return the probe of *form*, or None.
    """
    return fact.tree if form == "tree" else fact.file


def mode_of(fact: RuntimeFact, uid: int, node: Optional[NodeFacts], policy: Policy) -> Mode:
    """
    Tell in which mode a runtime is used.

    Where a set-uid starter is installed it is what the site chose; it is
    passed over where it would get no rights, or policy does not want it.
    """
    against = (
        (not fact.setuid, "it has no set-uid starter"),
        (uid == 0, "root needs no set-uid starter"),
        (not policy.runtime_allow_setuid, "policy does not allow its set-uid starter"),
        (not fact.allows("allow setuid"), f"{fact.config_file} has 'allow setuid = no'"),
        (node is not None and node.user_namespace, "inside a user namespace its set-uid starter gets no rights"),
        (
            node is not None and node.no_new_privs,
            "the pilot may gain no rights (no_new_privs), so its set-uid starter gets none",
        ),
    )
    reason = next((reason for holds, reason in against if holds), None)

    return Mode("setuid", "it has a set-uid starter") if reason is None else Mode("userns", reason)


def problem_of(
    fact: RuntimeFact, uid: int, node: Optional[NodeFacts], policy: Policy, form: Optional[str]
) -> Optional[Problem]:
    """
    Say why a candidate that is there will not do, or None when it will.

    A candidate without a probe will do: then the start itself tells.

    Args:
        fact: The candidate.

        uid: The user's number.

        node: What is known of the node, or None.

        policy: What is allowed.

        form: Which probe counts, ``"tree"`` or ``"file"``; None for none.
    """
    if fact.verdict == "unasked":
        return _problem("runtime-broken", f"{fact.path} was not examined", "examine it: wlcg-isolate doctor")
    if fact.verdict == "no-answer":
        return _problem("runtime-no-answer", f"{fact.path} does not answer: {fact.reason}", "see what it waits for")
    product = parse_banner(fact.banner)
    if fact.verdict != "works" or product is None:
        reason = fact.reason or "its version is not readable"
        cause = cause_of(reason)
        # The only cause that is not the program's own: it fails for this user whatever it is asked.
        kind, advice = _BROKEN if cause.kind != "user-unknown" else (cause.kind, cause.advice)
        return _problem(kind, f"{fact.path} does not work: {reason}", advice)
    lacking = product.lacks(needed_options(policy.gpu_use))
    if lacking:
        what = f"{fact.path} is {product.flavour} {product.version}, which lacks options that isolation needs: "
        return _problem("runtime-too-old", what + " ".join(lacking), _INSTALL)

    if form is None:
        return None

    return _problem_of_probe(fact, product, mode_of(fact, uid, node, policy), policy, form)


def _problem_of_probe(fact: RuntimeFact, product: Product, mode: Mode, policy: Policy, form: str) -> Optional[Problem]:
    probe = probe_of(fact, form)
    if probe is None or probe.mode != mode.name:
        return None
    who = f"{fact.path} ({product.flavour} {product.version}, {mode.name} mode)"
    if probe.start != "yes":
        if probe.kind == "runtime-no-answer" and not probe.starts:
            return None
        what = f"{who} starts no container from {_FORMS[form]}: {probe.reason}"
        return _problem(probe.kind or "runtime-broken", what, probe.advice or "run wlcg-isolate doctor")
    if probe.pid_namespace is False and not policy.runtime_allow_shared_pids:
        return _problem(
            "pid-namespace-unavailable",
            f"{who} cannot give a container PIDs of its own here",
            "unmask /proc in the outer container (systempaths=unconfined, procMount: Unmasked), or let policy "
            "have runtime.allow_shared_pids = true",
        )

    return None


_FORMS = {"tree": "an unpacked tree", "file": "an image file"}


def _problem(kind: str, message: str, advice: str) -> Problem:
    return Problem(kind=kind, message=message, origin="this node", advice=advice)

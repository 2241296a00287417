"""
Which runtime is used, in which mode, and why not the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Optional

import attrs

from wlcg_isolate.errors import Problem
from wlcg_isolate.host.facts import HostFacts, RuntimeFact
from wlcg_isolate.policy import Policy

#: First version with every option that a plan uses.  ``--no-eval`` is the
#: youngest of them: Apptainer 1.1.0 and SingularityCE 3.10.0 changelogs;
#: Singularity up to 3.8 never got it.
_FIRST_USABLE: Mapping[str, tuple[int, ...]] = {
    "apptainer": (1, 1, 0),
    "singularity-ce": (3, 10, 0),
    "singularitypro": (3, 11, 0),
}

_BANNER = re.compile(r"(?:(?P<name>[\w.-]+) version )?v?(?P<version>(\d+)\.(\d+)(?:\.(\d+))?\S*)")


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
    """

    path: str
    flavour: str
    version: str
    mode: str
    reason: str

    @property
    def prefix(self) -> str:
        """
        What its control variables start with.
        """
        return "APPTAINER" if self.flavour == "apptainer" else "SINGULARITY"


def parse_banner(banner: str) -> Optional[tuple[str, str, tuple[int, ...]]]:
    """
    Read an answer to ``--version``.

    Returns:
        Flavour, version as text and as numbers; None when it is no runtime's
        answer.  Singularity 2 gives the bare version, the others name
        themselves (``singularity-ce version 4.1.0-noble``).
    """
    match = _BANNER.match(banner)
    if match is None:
        return None
    numbers = tuple(int(n or 0) for n in match.group(3, 4, 5))

    return (match.group("name") or "singularity").lower(), match.group("version"), numbers


def choose_runtime(facts: HostFacts, policy: Policy) -> tuple[Optional[Runtime], list[Problem]]:
    """
    Take the first candidate that works and is young enough.

    Returns:
        The runtime, or None with a problem for each candidate.
    """
    problems = []
    for fact in facts.runtimes:
        runtime, problem = _judge(fact, facts.uid, setuid_allowed=policy.runtime_allow_setuid)
        if runtime is not None:
            return runtime, []
        problems += [problem] if problem else []
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


def _judge(fact: RuntimeFact, uid: int, *, setuid_allowed: bool) -> tuple[Optional[Runtime], Optional[Problem]]:
    if fact.verdict == "missing":
        return None, None
    parsed = parse_banner(fact.banner)
    if fact.verdict != "works" or parsed is None:
        return None, Problem(
            kind="runtime-broken",
            message=f"{fact.path} does not work: {fact.reason or 'its version is not readable'}",
            origin="this node",
            advice="repair or reinstall it",
        )
    flavour, version, numbers = parsed
    first = _FIRST_USABLE.get(flavour)
    if first is None or numbers < first:
        return None, Problem(
            kind="runtime-too-old",
            message=f"{fact.path} is {flavour} {version}, which lacks options that isolation needs",
            origin="this node",
            advice="install apptainer 1.1 or newer",
        )
    mode, why = _mode(fact, uid, setuid_allowed=setuid_allowed)

    return Runtime(path=fact.path, flavour=flavour, version=version, mode=mode, reason=why), None


def _mode(fact: RuntimeFact, uid: int, *, setuid_allowed: bool) -> tuple[str, str]:
    if not fact.setuid:
        return "userns", "first candidate that works; it has no set-uid starter"
    if uid == 0:
        return "userns", "first candidate that works; root needs no set-uid starter"
    if not setuid_allowed:
        return "userns", "first candidate that works; policy does not allow its set-uid starter"

    return "setuid", "first candidate that works; it has a set-uid starter"

"""
Which variables the payload gets, and why each host variable does or does not.

Rules:

1. Nothing of the host passes but what a rule names.
2. Every variable of the host and of the request gets exactly one decision
   with the rule that made it.
3. Some families never pass, whoever asks: they steer the runtime, the loader
   or the shell, and come from the host's system, not the image's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Optional

import attrs

from wlcg_isolate._values import IDENTIFIER
from wlcg_isolate.errors import Problem
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Request

#: Names the library sets and a request may not.
RESERVED = ("HOME", "WLCG_ISOLATE_ID", "PWD", "OLDPWD", "SHLVL", "_")

#: Names that a POSIX shell, which starts the payload, changes or refuses to
#: set: bash 5.2 (as sh) and dash 0.5.12, each tried.
SHELL_OWNED = frozenset(
    "UID EUID PPID GROUPS SHELLOPTS BASHOPTS BASH_VERSINFO OPTIND LINENO RANDOM SECONDS FUNCNAME DIRSTACK "
    "EPOCHSECONDS EPOCHREALTIME BASHPID SRANDOM HISTCMD BASH_COMMAND BASH_SUBSHELL BASH_ARGC BASH_ARGV BASH_LINENO "
    "BASH_SOURCE BASH_ALIASES BASH_CMDS BASH_XTRACEFD PIPESTATUS".split()
)


class _Family(NamedTuple):
    """
    Host variables that never pass.
    """

    rule: str
    pattern: re.Pattern[str]
    reason: str


_NEVER = (
    _Family(
        "runtime-control",
        re.compile(r"(APPTAINER|SINGULARITY)"),
        "acts as an option of the runtime",
    ),
    _Family(
        "loader",
        re.compile(r"LD_|GCONV_PATH\Z|LOCPATH\Z|NLSPATH\Z|GLIBC_TUNABLES\Z"),
        "makes the image's programs load the host's libraries",
    ),
    _Family(
        "shell-function",
        re.compile(r"BASH_FUNC_"),
        "is a shell function of the host",
    ),
    _Family(
        "shell-start",
        re.compile(r"(BASH_ENV|ENV|SHELLOPTS|BASHOPTS|PROMPT_COMMAND|PS[0-4])\Z"),
        "changes how each shell in the container starts",
    ),
)


class Names:
    """
    A set of names, of which some are patterns with ``*``.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        words = tuple(patterns)
        self._exact = frozenset(words)
        starred = [re.escape(word).replace(r"\*", ".*") for word in words if "*" in word]
        self._pattern = re.compile("|".join(starred)) if starred else None

    def __contains__(self, name: str) -> bool:
        """
        Tell whether *name* is one of them.
        """
        return name in self._exact or (self._pattern is not None and self._pattern.fullmatch(name) is not None)


@attrs.frozen(kw_only=True)
class EnvDecision:
    """
    What becomes of one variable.

    Attributes:
        name: Its name.

        decision: ``"keep"``, ``"set"``, ``"translate"`` or ``"drop"``.

        rule: Name of the rule that decided.

        reason: Why, for a person.

        value: What the payload gets; None when dropped.  Never in a repr.
    """

    name: str
    decision: str
    rule: str
    reason: str
    value: Optional[str] = attrs.field(default=None, repr=False)


def decide_environment(
    host: Mapping[str, str], request: Request, policy: Policy, trace_id: str
) -> tuple[tuple[EnvDecision, ...], list[Problem]]:
    """
    Decide on every variable of *host* and *request*.

    Returns:
        The decisions sorted by name, and everything in the request that
        cannot be honoured.
    """
    decisions: dict[str, EnvDecision] = {}
    rules = _rules(request, policy)
    for name, value in host.items():
        decisions[name] = _decide_host(name, value, rules)
    for name, value in policy.environment_set.items():
        decisions[name] = EnvDecision(
            name=name, decision="set", rule="policy-set", reason="policy sets it for every payload", value=value
        )
    for decision in _settings(policy, trace_id):
        # What is not reserved is a default: policy may set it, a request may keep the host's.
        asked = decision.name in policy.environment_set or (decision.name in host and decision.name in request.keep_env)
        if decision.name in RESERVED or not asked:
            decisions[decision.name] = decision
    for name, value in request.env.items():
        decisions[name] = EnvDecision(
            name=name, decision="set", rule="request", reason="the request sets it", value=value
        )

    problems = [*_set_problems(request.env, "--env"), *_set_problems(policy.environment_set, "environment.set")]
    problems += _keep_problems(request, policy)

    return tuple(decisions[name] for name in sorted(decisions)), problems


def _settings(policy: Policy, trace_id: str) -> Iterator[EnvDecision]:
    for name, value, reason in (
        ("HOME", policy.container_workdir, "the working directory is the payload's home"),
        ("TMPDIR", "/tmp", "a private directory on the working directory's disk"),
        ("LC_ALL", "C", "the one locale that every image has"),
        ("WLCG_ISOLATE_ID", trace_id, "ties every process of the payload to its trace record"),
    ):
        yield EnvDecision(name=name, decision="set", rule="library", reason=reason, value=value)


def _rules(request: Request, policy: Policy) -> tuple[tuple[str, str, Names, str], ...]:
    """
    List what decides over a host variable: decision, rule, names, reason.
    """
    return (
        ("drop", "policy-drop", Names(policy.environment_drop), "policy lets it never pass"),
        ("keep", "request-keep", Names(request.keep_env), "the request asks for it"),
        ("keep", "base", Names(policy.environment_keep), "policy lets it pass"),
    )


def _decide_host(name: str, value: str, rules: tuple[tuple[str, str, Names, str], ...]) -> EnvDecision:
    family = _family_of(name)
    if family is not None:
        return EnvDecision(name=name, decision="drop", rule=family.rule, reason=family.reason)
    if not IDENTIFIER.match(name):
        return EnvDecision(name=name, decision="drop", rule="name", reason="its name is not one that a shell can hold")
    if name in SHELL_OWNED:
        return EnvDecision(name=name, decision="drop", rule="shell-owned", reason="a shell changes or refuses it")
    for decision, rule, names, reason in rules:
        if name in names:
            kept = value if decision == "keep" else None
            return EnvDecision(name=name, decision=decision, rule=rule, reason=reason, value=kept)

    return EnvDecision(name=name, decision="drop", rule="default", reason="no rule and no request asks for it")


def _family_of(name: str) -> Optional[_Family]:
    for family in _NEVER:
        if family.pattern.match(name):
            return family

    return None


def _set_problems(names: Iterable[str], origin: str) -> Iterator[Problem]:
    for name in names:
        if name in RESERVED:
            yield Problem(
                kind="variable-reserved",
                message=f"{name} is set by the library itself",
                origin=origin,
                advice="leave it out",
            )
        elif name in SHELL_OWNED:
            yield Problem(
                kind="variable-undeliverable",
                message=f"{name} is a variable that a shell changes or refuses to set",
                origin=origin,
                advice="pass the value under another name",
            )
        elif _NEVER[0].pattern.match(name):
            yield Problem(
                kind="variable-forbidden",
                message=f"{name} {_NEVER[0].reason}",
                origin=origin,
                advice="say what is needed with an option of this library",
            )


def _advice_to_set(name: str) -> str:
    if name in RESERVED or name in SHELL_OWNED or _NEVER[0].pattern.match(name):
        return "leave it out"

    return f"set the payload's own value with --env {name}=VALUE where that is meant"


def _keep_problems(request: Request, policy: Policy) -> Iterator[Problem]:
    dropped = Names(policy.environment_drop)
    for name in request.keep_env:
        family = _family_of(name)
        reason = "policy drops it" if name in dropped else "the library sets it itself"
        if family:
            reason = f"it {family.reason}"
        if family or name in dropped or name in RESERVED:
            yield Problem(
                kind="variable-forbidden",
                message=f"{name} never passes from the host: {reason}",
                origin="--keep-env",
                advice=_advice_to_set(name),
            )
        elif name in SHELL_OWNED:
            yield Problem(
                kind="variable-undeliverable",
                message=f"{name} is a variable that a shell changes or refuses to set",
                origin="--keep-env",
                advice="pass the value under another name with --env",
            )

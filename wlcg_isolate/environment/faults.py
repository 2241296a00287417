"""
What a request, or policy, asks of variables and cannot have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Optional

from wlcg_isolate._values import IDENTIFIER
from wlcg_isolate.environment.values import RESERVED, fits_shell
from wlcg_isolate.errors import Problem
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Request
from wlcg_isolate.variables import family_of, names_of


def set_problems(names: Iterable[str], origin: str, policy: Optional[Policy], *, loader: bool) -> Iterator[Problem]:
    """
    Find what may not be set.

    Args:
        names: Variables that are set.

        origin: Who sets them.

        policy: What lets a request set what never passes; None for policy
            itself, which may.

        loader: Whether the loader starts the payload, and not a shell.
    """
    for name in names:
        kind, why, advice = _set_fault(name, policy, loader=loader)
        if kind:
            yield Problem(kind=kind, message=f"{name} {why}", origin=origin, advice=advice)


def _set_fault(name: str, policy: Optional[Policy], *, loader: bool) -> tuple[str, str, str]:
    family = family_of(name)
    if name in RESERVED:
        return "variable-reserved", "is set by the library itself", "leave it out"
    if not loader and not fits_shell(name):
        return (
            "variable-undeliverable",
            "is a variable that a shell changes, refuses or cannot hold",
            "pass the value under another name",
        )
    if policy is not None and not policy.environment_any_names and not IDENTIFIER.match(name):
        advice = "use letters, digits and underscores, or ask the site for environment.any_names"
        return "variable-forbidden", "is a name that no shell can hold", advice
    if family.rule == "runtime-control":
        return "variable-forbidden", family.reason, "say what is needed with an option of this library"
    if family.kind == "never" and policy is not None and name not in names_of(policy.environment_settable):
        return "variable-forbidden", family.reason, "set it in the payload's own script, or ask the site to allow it"

    return "", "", ""


def keep_problems(request: Request, policy: Policy, *, loader: bool) -> Iterator[Problem]:
    """
    Find host variables that a request asks for and that never pass.
    """
    for name in request.keep_env:
        kind, why, advice = _keep_fault(name, policy, loader=loader)
        if kind:
            yield Problem(kind=kind, message=f"{name} {why}", origin="--keep-env", advice=advice)


def _keep_fault(name: str, policy: Policy, *, loader: bool) -> tuple[str, str, str]:
    family = family_of(name)
    if name in RESERVED:
        return "variable-forbidden", "never passes from the host: the library sets it itself", "leave it out"
    if family.kind == "secret" or name in names_of(policy.environment_secret):
        return (
            "variable-forbidden",
            "never passes from the host: it is a secret",
            f"name it with --credential {name} when it is the payload's own",
        )
    if family.kind == "never" or name in names_of(policy.environment_drop):
        why = "policy drops it" if family.kind != "never" else f"it {family.reason}"
        settable = family.rule != "runtime-control" and (loader or fits_shell(name))
        advice = (
            f"set the payload's own value with --env {name}=VALUE where that is meant" if settable else "leave it out"
        )
        return "variable-forbidden", f"never passes from the host: {why}", advice
    if not IDENTIFIER.match(name):
        return (
            "variable-forbidden",
            "never passes from the host: its name is not one that a shell can hold",
            "set the payload's own value with --env where that is meant",
        )
    if not loader and not fits_shell(name):
        return (
            "variable-undeliverable",
            "is a variable that a shell changes or refuses",
            "pass the value under another name with --env",
        )

    return "", "", ""

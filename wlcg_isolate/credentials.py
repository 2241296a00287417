"""
The payload's own credentials: which files it gets, and which variables name
them.

Rules:

1. Nothing that the pilot has passes by being there: the request names each
   credential of the payload.
2. The payload gets a copy that only its user can read, in a directory that
   goes when it has ended.  The pilot's own file stays out of its sight.
3. A credential that cannot be delivered refuses the payload; no variable is
   left that names nothing.
"""

from __future__ import annotations

import os
from typing import Optional

import attrs

from wlcg_isolate._values import is_below
from wlcg_isolate.errors import Problem
from wlcg_isolate.host.facts import HostFacts, PathFact
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Credential, Request
from wlcg_isolate.variables import file_of

#: Directory of the copies, in the payload's private directory.
DIRECTORY = "credentials"


@attrs.frozen(kw_only=True)
class CredentialCopy:
    """
    One credential of the payload.

    Attributes:
        variable: Variable that names it inside.

        name: Name of the copy in `DIRECTORY`; None when the variable holds
            the content itself.

        source: File on the host, or None when the content is given.

        content: What is written when there is no file.  Never in a repr.

        prefix: What comes before the path in the variable, as ``FILE:``.
    """

    variable: str
    name: Optional[str]
    source: Optional[str] = None
    content: Optional[str] = attrs.field(default=None, repr=False)
    prefix: str = ""


def decide_credentials(
    request: Request, policy: Policy, facts: HostFacts, workdir: str
) -> tuple[tuple[CredentialCopy, ...], list[Problem]]:
    """
    Decide how each credential of the request reaches the payload.

    Args:
        request: What the pilot asks.

        policy: What holds here.

        facts: What was read of the node.

        workdir: The working directory on the host.

    Returns:
        The copies, and a problem for each credential that cannot be had.
    """
    copies: list[CredentialCopy] = []
    problems: list[Problem] = []
    for credential in request.credentials:
        made, why = _decide(credential, policy, facts, workdir)
        if made is None:
            problems.append(
                Problem(
                    kind="credential-missing",
                    message=f"the credential {credential.variable} cannot be handed over: {why}",
                    origin="--credential",
                    advice="name a file that holds it, or leave it out",
                )
            )
        else:
            copies.append(made)

    return tuple(copies), problems


def _decide(
    credential: Credential, policy: Policy, facts: HostFacts, workdir: str
) -> tuple[Optional[CredentialCopy], str]:
    variable = credential.variable
    if variable == "BEARER_TOKEN" and credential.source is None:
        return _token(facts.environ.get(variable), policy)
    path, prefix, why = file_of(credential, facts.environ)
    if path is None:
        return None, why
    fault = _fault_of(path, facts, workdir)
    if fault:
        return None, fault

    return CredentialCopy(variable=variable, name=variable.lower(), source=path, prefix=prefix), ""


def _token(value: Optional[str], policy: Policy) -> tuple[Optional[CredentialCopy], str]:
    if not value:
        return None, "the host has no such variable"
    # A variable is inherited by every child and shows in many logs (WLCG
    # bearer token discovery prefers the file only second, but allows both).
    if not policy.environment_token_file:
        return CredentialCopy(variable="BEARER_TOKEN", name=None, content=value), ""

    return CredentialCopy(variable="BEARER_TOKEN_FILE", name="bearer_token", content=value), ""


def _fault_of(path: str, facts: HostFacts, workdir: str) -> str:
    fact = facts.paths.get(path) or PathFact(path=path, state="missing", reason="nobody looked")
    if not fact.present:
        return f"{path}: {fact.reason}"
    if fact.kind != "file":
        return f"{path} is no plain file"
    if not fact.readable:
        return f"{path} cannot be read"
    inside = facts.resolved(workdir)
    if is_below(path, workdir) and fact.resolved is not None and not is_below(fact.resolved, inside):
        # An earlier payload may have left it there.
        return f"{path} is a link out of the working directory"

    return ""


def variables_of(copies: tuple[CredentialCopy, ...], directory: str) -> dict[str, str]:
    """
    Return the variables that name the copies inside.

    Args:
        copies: The copies.

        directory: Where they are in the container.
    """
    return {
        copy.variable: (copy.content or "") if copy.name is None else copy.prefix + os.path.join(directory, copy.name)
        for copy in copies
    }

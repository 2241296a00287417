"""
The values that decisions on variables are made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Optional

import attrs

from wlcg_isolate._values import IDENTIFIER
from wlcg_isolate.host.facts import HostFacts

#: Names the library sets and a request may not.
RESERVED = ("HOME", "WLCG_ISOLATE_ID", "PWD", "OLDPWD", "SHLVL", "_")

#: Names that a POSIX shell, where one starts the payload, changes or refuses
#: to set: bash 5.2 (as sh) and dash 0.5.12, each tried.
SHELL_OWNED = frozenset(
    "UID EUID PPID GROUPS SHELLOPTS BASHOPTS BASH_VERSINFO OPTIND LINENO RANDOM SECONDS FUNCNAME DIRSTACK "
    "EPOCHSECONDS EPOCHREALTIME BASHPID SRANDOM HISTCMD BASH_COMMAND BASH_SUBSHELL BASH_ARGC BASH_ARGV BASH_LINENO "
    "BASH_SOURCE BASH_ALIASES BASH_CMDS BASH_XTRACEFD PIPESTATUS".split()
)


def fits_shell(name: str) -> bool:
    """
    Tell whether a shell that starts the payload can deliver a variable; the
    loader can deliver all.
    """
    return IDENTIFIER.match(name) is not None and name not in SHELL_OWNED


class Place(NamedTuple):
    """
    A host directory or file, and where the payload sees it.
    """

    source: str
    target: str


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


@attrs.frozen(kw_only=True)
class Surroundings:
    """
    What decisions on variables depend on, other than policy and request.

    Attributes:
        facts: What was read of the node.

        places: What the payload sees of the host, each place in all its
            spellings.

        credentials: Variables of the payload's own credentials, with their
            values inside.

        trace_id: Identity of the payload in the records.
    """

    facts: HostFacts
    places: tuple[Place, ...] = ()
    credentials: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    trace_id: str = ""

"""
The keys of policy that are about trace records.
"""

from __future__ import annotations

import attrs

from wlcg_isolate._values import as_tuple
from wlcg_isolate.policy import checks
from wlcg_isolate.policy.isolation_keys import IsolationKeys
from wlcg_isolate.policy.rules import SITE_MATTER, choice


# Only `Policy` is made; methods made for this class would cost time at every import.
@attrs.frozen(kw_only=True, init=False, repr=False, eq=False)
class TraceKeys(IsolationKeys):
    """
    What is recorded, and where.

    Attributes:
        trace_directories: Where records go when nothing else is asked for;
            the first that the payload cannot see and that can be written.
            ``{state}`` stands for the XDG state directory of the user and
            ``{uid}`` for the user's number.
    """

    trace_directories: tuple[str, ...] = attrs.field(
        default=("{state}/wlcg_isolate/trace", "/var/tmp/wlcg_isolate.{uid}/trace"),
        converter=as_tuple,
        metadata=choice(checks.directories, layers=SITE_MATTER),
    )

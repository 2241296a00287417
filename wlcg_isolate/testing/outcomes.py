"""
Outcomes that a mock returns in the library's place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wlcg_isolate._kinds import KINDS
from wlcg_isolate.outcome import Outcome, of_kind

#: Whose side of the start does not follow from who failed.
_STARTED = ("runtime-lost", "end-unseen")
_NOT_STARTED = ("stopped-before-start",)

#: How payloads end, when nobody says it.
_ENDS: Mapping[str, Mapping[str, int]] = {
    "success": {"exit_code": 0},
    "exit-nonzero": {"exit_code": 1},
    "command-not-executable": {"exit_code": 126},
    "command-not-found": {"exit_code": 127},
    "ended-by-signal": {"signal": 9},
}


def make_outcome(kind: str, **fields: Any) -> Outcome:
    """
    Make an outcome of a kind, for a mock to return.

    Args:
        kind: One of the published kinds.

        fields: Fields of `Outcome` that differ from what the kind implies.

    Raises:
        ValueError: There is no such kind.
    """
    if kind not in KINDS:
        msg = f"there is no kind {kind!r}"
        raise ValueError(msg)
    # Few kinds have others on their side of the start.
    started = kind in _STARTED or (KINDS[kind].failed_by not in ("policy", "runtime") and kind not in _NOT_STARTED)

    return of_kind(kind, **{"started": started, **_ENDS.get(kind, {}), **fields})

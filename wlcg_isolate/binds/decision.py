"""
What becomes of one bind.
"""

from __future__ import annotations

from typing import Optional

import attrs

from wlcg_isolate.errors import Problem
from wlcg_isolate.request import Bind


@attrs.frozen(kw_only=True)
class BindDecision:
    """
    What becomes of one bind.

    Attributes:
        source: Absolute path on the host.

        target: Absolute path in the container, as it was asked for.

        place: Where the target really is: with the image's own links
            followed inside the image.

        writable: Whether the payload may write.

        kind: What the source is: ``"directory"`` or ``"file"`` (anything
            else, as far as mount points go); None when it is not there.

        origin: Who wanted it.

        decision: ``"mount"`` or ``"skip"``.

        reason: Why, for a person.
    """

    source: str
    target: str
    place: str = attrs.field()
    writable: bool
    kind: Optional[str] = None
    origin: str
    decision: str
    reason: str

    @place.default
    def _as_asked(self) -> str:
        return self.target


@attrs.frozen(kw_only=True)
class Wish:
    """
    A bind, and what is settled of it before its target is judged.

    Attributes:
        bind: What was asked for.

        source: Absolute path on the host.

        by_site: Whether the owner of the node wrote it down.
    """

    bind: Bind
    source: str
    by_site: bool = False

    def decided(
        self, decision: str, reason: str, *, kind: Optional[str] = None, place: Optional[str] = None
    ) -> BindDecision:
        """
        Say what becomes of it.
        """
        return BindDecision(
            source=self.source,
            target=self.bind.target,
            place=place or self.bind.target,
            writable=self.bind.writable,
            kind=kind,
            origin=self.bind.origin,
            decision=decision,
            reason=reason,
        )

    def problem(self, kind: str, message: str, advice: str) -> Problem:
        """
        Say what stands against it.
        """
        return Problem(kind=kind, message=message, origin=self.bind.origin, advice=advice)

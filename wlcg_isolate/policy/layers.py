"""
What one source says of policy, before it is merged with others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import attrs

from wlcg_isolate._values import as_frozen, as_mapping


@attrs.frozen(kw_only=True)
class Layer:
    """
    The values of one file, of the node, of a request, or of an operator.

    Attributes:
        name: One of `wlcg_isolate.policy.rules.LAYERS`.

        file: Where the values are from, for a person: a file, a variable of
            the host, an option; None when there is nothing to name.

        values: Dotted key to value.

        remove: Dotted key of a list to the names of items to take out.

        locks: Dotted key to ``"error"`` or ``"warning"``: what it is when a
            later layer disagrees.  Sites only.

        trusted: Whether somebody wrote it for this purpose.  A variable of
            the host may be set by anybody: it speaks last among those of its
            name, sets only what none of them sets, and a lock holds against
            it.
    """

    name: str
    file: Optional[str] = None
    values: Mapping[str, Any] = attrs.field(factory=dict, converter=as_frozen)
    remove: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict, converter=as_mapping)
    locks: Mapping[str, str] = attrs.field(factory=dict, converter=as_mapping)
    trusted: bool = True

    @property
    def label(self) -> str:
        """
        The layer and its source in words.
        """
        return f"{self.name} ({self.file})" if self.file else self.name

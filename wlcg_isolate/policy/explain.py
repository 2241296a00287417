"""
Where every value of policy came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import attrs

from wlcg_isolate.policy.history import History, Said
from wlcg_isolate.policy.merge import histories_of
from wlcg_isolate.policy.model import Policy
from wlcg_isolate.request import Bind


@attrs.frozen(kw_only=True)
class Explained:
    """
    Where one value of policy came from.

    Attributes:
        key: Dotted name.

        value: The value in plain types, ready for JSON.

        layer: The layer that changed it last, or ``"lock"`` when a site made
            it final.

        file: What the layer was read from, or None.

        overrode: What was replaced, removed or refused, lowest layer first,
            each as ``{"layer", "file", "value"}``.

        parts: For lists and mappings, each item or entry as ``{"layer",
            "file", "value"}``.
    """

    key: str
    value: Any
    layer: str
    file: Optional[str] = None
    overrode: tuple[Any, ...] = ()
    parts: tuple[Any, ...] = ()


def explain(policy: Policy) -> list[Explained]:
    """
    List every key of *policy* with its value and origin.
    """
    return [_explained(history) for history in histories_of(policy).values()]


def _explained(history: History) -> Explained:
    by = history.lock or history.by

    return Explained(
        key=history.key,
        value=plain(history.value),
        layer="lock" if history.lock is not None else by.name,
        file=by.file,
        overrode=tuple(_as_row(said) for said in history.overrode),
        parts=tuple(_as_row(said) for said in history.parts),
    )


def _as_row(said: Said) -> dict[str, Any]:
    return {"layer": said.layer.name, "file": said.layer.file, "value": plain(said.value)}


def plain(value: Any) -> Any:
    """
    Turn a value of policy into JSON's types.
    """
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Bind):
        return attrs.asdict(value)

    return value

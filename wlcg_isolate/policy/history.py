"""
What became of one key, while layers are put on each other.

Rules:

1. The rules of the keys are in the model; here they are only carried out.
2. Whatever loses is kept with its layer, for `wlcg_isolate.policy.explain`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Optional

import attrs

from wlcg_isolate._values import FrozenMapping
from wlcg_isolate.policy.layers import Layer
from wlcg_isolate.policy.model import RULES
from wlcg_isolate.policy.rules import FREE, LAYERS, added
from wlcg_isolate.request import Bind

#: Characters of a value that a message shows.
_LONGEST = 160

RANK = {name: rank for rank, name in enumerate(LAYERS)}


class Said(NamedTuple):
    """
    One value and who said it.

    Attributes:
        value: The value, or one item or entry of it.

        layer: The layer.
    """

    value: Any
    layer: Layer


class History:
    """
    One key, while layers are put on each other.

    Attributes:
        key: Dotted name.

        rule: Its rule.

        value: What holds.

        by: The layer that changed it last.

        parts: Items of a list, or entries of a mapping as mappings of one,
            each with its layer; empty for other values.

        overrode: What was replaced, removed or refused.

        lock: The locking layer, or None.

        removed: Names of items that were to be taken out, each with the layer
            that wanted it where there was none, or None.
    """

    def __init__(self, key: str, built_in: Layer) -> None:
        self.key = key
        self.rule = RULES[key]
        self.value: Any = built_in.values[key]
        self.by = built_in
        self.overrode: list[Said] = []
        self.lock: Optional[Layer] = None
        self.removed: dict[str, Optional[Layer]] = {}
        self.parts: list[Said] = [Said(part, built_in) for part in _parts(self.value)]

    def put(self, layer: Layer, wanted: Any, values: Mapping[str, Any]) -> str:
        """
        Take in what *layer* wants.

        Returns:
            What was left out of it, or "".
        """
        if self.rule.kind == "list":
            return self._put_items(layer, wanted)
        value, lost = self._joint(layer, wanted, values)
        if self.holds(layer) and (lost or value != self.value):
            return self._refuse(layer, wanted)
        if not layer.trusted and self.by.name != "built-in":
            self.overrode.append(Said(wanted, layer))
            return ""
        if lost:
            self.overrode.append(Said(wanted, layer))
        if value != self.value:
            self._replace(layer, wanted, value)

        return lost

    def holds(self, layer: Layer) -> bool:
        """
        Tell whether a lock holds against *layer*.
        """
        return self.lock is not None and (not layer.trusted or RANK[layer.name] > RANK["site"])

    def remove(self, layer: Layer, names: Iterable[str]) -> None:
        """
        Take items out of a list, by name.
        """
        for name in names:
            gone = [said for said in self.parts if name_of(said.value) == name]
            self.removed.setdefault(name, None if gone else layer)
            if gone:
                self.overrode += gone
                self.parts = [said for said in self.parts if name_of(said.value) != name]
                self.by = layer
        self.value = tuple(said.value for said in self.parts)

    def _refuse(self, layer: Layer, wanted: Any) -> str:
        self.overrode.append(Said(wanted, layer))

        return f"{shown(wanted)}, and the value is locked by {label(self.lock)}"

    def _joint(self, layer: Layer, wanted: Any, values: Mapping[str, Any]) -> tuple[Any, str]:
        if self.rule.entries:
            return FrozenMapping({**self.value, **wanted}), ""
        if self.rule.meet is None or (layer.name in FREE and self.rule.meet is not added):
            return wanted, ""

        return self.rule.meet(self.value, wanted, values)

    def _replace(self, layer: Layer, wanted: Any, value: Any) -> None:
        if self.rule.entries:
            self.overrode += [said for said in self.parts if wanted.keys() & said.value.keys()]
            kept = [said for said in self.parts if not wanted.keys() & said.value.keys()]
            self.parts = [*kept, *(Said(entry, layer) for entry in _parts(wanted))]
        else:
            if self.rule.kind != "limit" or _loses(self.value, value):
                self.overrode.append(Said(self.value, self.by))
            old = {said.value: said for said in self.parts}
            self.parts = [old.get(part, Said(part, layer)) for part in _parts(value)]
        self.value, self.by = value, layer

    def _put_items(self, layer: Layer, wanted: Any) -> str:
        """
        Add items to a list.

        Returns:
            Those that it did not take, or "".
        """
        taken = {_target(said.value): said for said in self.parts}
        if self.holds(layer) and not all(_covers(taken.get(_target(item)), item) for item in wanted):
            return self._refuse(layer, wanted)
        lost = [self._add(taken, Said(item, layer)) for item in wanted]
        self.parts = sorted(taken.values(), key=lambda said: said.layer.name == "built-in")
        value = tuple(said.value for said in self.parts)
        if value != self.value:
            self.value, self.by = value, layer

        return ", ".join(filter(None, lost))

    def _add(self, taken: dict[Any, Said], new: Said) -> str:
        """
        Add one item to those *taken*, by target, unless another is there.

        Returns:
            Why it was not added, or "".
        """
        item, target = new.value, _target(new.value)
        first = taken.get(target)
        if not new.layer.trusted and name_of(item) in self.removed:
            self.removed[name_of(item)] = None
            self.overrode.append(new)
        elif first is None:
            taken[target] = new
        elif not isinstance(item, Bind):
            pass
        elif first.layer.name == "built-in":
            self.overrode.append(taken.pop(target))
            taken[target] = new
        elif not _same(item, first.value):
            self.overrode.append(new)
            return f"{item.source} at {target}, where {first.value.source} of {first.layer.label} comes first"
        elif item.required and not first.value.required:
            # Both want the same: whoever cannot do without it is heard.
            taken[target] = Said(attrs.evolve(first.value, required=True), first.layer)

        return ""


def _loses(old: Any, new: Any) -> bool:
    """
    Tell whether anything of a limit's old value does not hold any more.
    """
    if isinstance(old, Mapping):
        return any(new.get(name) != item for name, item in old.items())

    return not isinstance(old, tuple) or any(item not in new for item in old)


def _target(item: Any) -> Any:
    """
    Return what an item of a list competes for.
    """
    return item.target if isinstance(item, Bind) else item


def _same(one: Bind, other: Bind) -> bool:
    """
    Tell whether two binds show the same.
    """
    return (one.source, one.target, one.writable) == (other.source, other.target, other.writable)


def _covers(held: Optional[Said], item: Any) -> bool:
    """
    Tell whether what a list holds already does all that *item* asks for.
    """
    if held is None or not isinstance(item, Bind):
        return held is not None

    return _same(held.value, item) and (held.value.required or not item.required)


def name_of(item: Any) -> str:
    """
    Return the name by which an item of a list is removed.
    """
    return item.name or item.target if isinstance(item, Bind) else str(item)


def _parts(value: Any) -> tuple[Any, ...]:
    if isinstance(value, Mapping):
        return tuple(FrozenMapping({name: item}) for name, item in value.items())

    return value if isinstance(value, tuple) else ()


def shown(value: Any) -> str:
    """
    Write a value for a message, cut where it is long.
    """
    words = value if isinstance(value, (tuple, Mapping)) else (value,)
    text = ", ".join(name_of(word) for word in words)

    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def label(layer: Optional[Layer]) -> str:
    """
    Name a layer, if there is one.
    """
    return layer.label if layer is not None else ""

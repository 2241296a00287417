"""
Put layers on each other, lowest first, and keep the history of every key.

Rules:

1. The rules of the keys are in the model; here they are only carried out.
2. Locks come last: what a later layer wants of a locked key is an error or a
   warning, as the lock says.
3. Whatever loses is kept with its layer, for `wlcg_isolate.policy.explain`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import attrs

from wlcg_isolate._values import FrozenMapping
from wlcg_isolate.errors import PolicyError, Problem
from wlcg_isolate.policy.layers import Layer
from wlcg_isolate.policy.model import FIELDS, RULES, Policy
from wlcg_isolate.policy.rules import FREE, LAYERS, added
from wlcg_isolate.request import Bind

#: Characters of a value that a message shows.
_LONGEST = 160

_RANK = {name: rank for rank, name in enumerate(LAYERS)}


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
    """

    def __init__(self, key: str, built_in: Layer) -> None:
        self.key = key
        self.rule = RULES[key]
        self.value: Any = built_in.values[key]
        self.by = built_in
        self.overrode: list[Said] = []
        self.lock: Optional[Layer] = None
        self.parts: list[Said] = [Said(part, built_in) for part in _parts(self.value)]

    def put(self, layer: Layer, wanted: Any, values: Mapping[str, Any]) -> str:
        """
        Take in what *layer* wants.

        Returns:
            What was left out of it, or "".
        """
        value, lost = self._joint(layer, wanted, values)
        locked = self.lock is not None and _RANK[layer.name] > _RANK["site"]
        if locked and (lost or value != self.value):
            self.overrode.append(Said(wanted, layer))
            return f"{_shown(wanted)}, and the value is locked by {_label(self.lock)}"
        if lost:
            self.overrode.append(Said(wanted, layer))
        if self.rule.kind == "list":
            return self._extend(layer, wanted)
        if value != self.value:
            self._replace(layer, wanted, value)

        return lost

    def remove(self, layer: Layer, names: Iterable[str]) -> list[str]:
        """
        Take items out of a list, by name.

        Returns:
            Names that are not in it.
        """
        missing = []
        for name in names:
            gone = [said for said in self.parts if name_of(said.value) == name]
            if not gone:
                missing.append(name)
                continue
            self.overrode += gone
            self.parts = [said for said in self.parts if said not in gone]
            self.by = layer
        self.value = tuple(said.value for said in self.parts)

        return missing

    def _joint(self, layer: Layer, wanted: Any, values: Mapping[str, Any]) -> tuple[Any, str]:
        if self.rule.kind == "list":
            fresh = [item for item in wanted if not any(_same(item, held) for held in self.value)]
            return (*self.value, *fresh), ""
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
            self.overrode.append(Said(self.value, self.by))
            old = {said.value: said for said in self.parts}
            self.parts = [old.get(part, Said(part, layer)) for part in _parts(value)]
        self.value, self.by = value, layer

    def _extend(self, layer: Layer, wanted: Any) -> str:
        """
        Add items to a list.

        Returns:
            Those that it did not take, or "".
        """
        lost = [self._append(Said(item, layer)) for item in wanted]
        self.parts.sort(key=lambda said: said.layer.name == "built-in")
        value = tuple(said.value for said in self.parts)
        if value != self.value:
            self.value, self.by = value, layer

        return ", ".join(filter(None, lost))

    def _append(self, new: Said) -> str:
        """
        Add one item to a list, unless its target is taken.

        Returns:
            Why it was not added, or "".
        """
        rivals = [i for i, said in enumerate(self.parts) if _target(said.value) == _target(new.value)]
        if not rivals:
            self.parts.append(new)
            return ""
        earlier = self.parts[rivals[0]]
        if not isinstance(new.value, Bind):
            return ""
        if earlier.layer.name == "built-in":
            self.overrode.append(self.parts.pop(rivals[0]))
            self.parts.append(new)
            return ""
        bind, first = new.value, earlier.value
        if _same(bind, first):
            # Both want the same: whoever cannot do without it is heard.
            joint = attrs.evolve(first, required=first.required or bind.required)
            self.parts[rivals[0]] = Said(joint, earlier.layer)
            return ""
        self.overrode.append(new)

        return f"{bind.source} at {bind.target}, where {first.source} of {earlier.layer.label} comes first"


def _target(item: Any) -> Any:
    """
    Return what an item of a list competes for.
    """
    return item.target if isinstance(item, Bind) else item


def _same(one: Any, other: Any) -> bool:
    """
    Tell whether two items ask for the same.
    """
    if isinstance(one, Bind) and isinstance(other, Bind):
        return (one.source, one.target, one.writable) == (other.source, other.target, other.writable)

    return bool(one == other)


def name_of(item: Any) -> str:
    """
    Return the name by which an item of a list is removed.
    """
    return item.name or item.target if isinstance(item, Bind) else str(item)


def merge(layers: Iterable[Layer], remarks: Iterable[str] = ()) -> Policy:
    """
    Make the policy that holds when all of *layers* have spoken.

    Args:
        layers: In any order; among those of one name, the order counts.

        remarks: What was left out before, to be kept with the warnings.

    Raises:
        PolicyError: A lock is an error and was not kept, or the result is not
            valid.
    """
    ordered = tuple(sorted(layers, key=lambda layer: _RANK[layer.name]))
    histories, problems, warnings = _run(ordered)
    if problems:
        raise PolicyError(problems)

    return Policy(
        **{FIELDS[key]: history.value for key, history in histories.items()},
        layers=ordered,
        warnings=(*remarks, *warnings),
    )


def histories_of(policy: Policy) -> dict[str, History]:
    """
    Return the history of every key.
    """
    return _run(layers_of(policy))[0]


def layers_of(policy: Policy) -> tuple[Layer, ...]:
    """
    Return what a policy was merged from.

    One that a program made by hand stands for a site's, since whoever made
    it decides what holds.
    """
    if policy.layers is not None:
        return policy.layers
    built_in, values, remove = Policy(), {}, {}
    for key, name in FIELDS.items():
        value, default = getattr(policy, name), getattr(built_in, name)
        if value != default:
            values[key] = value
        if RULES[key].kind == "list":
            remove[key] = tuple(name_of(item) for item in default if item not in value)
    if not values:
        return ()

    return (Layer(name="site", values=values, remove={key: names for key, names in remove.items() if names}),)


def _run(layers: Sequence[Layer]) -> tuple[dict[str, History], list[Problem], list[str]]:
    defaults = Policy()
    built_in = Layer(name="built-in", values={key: getattr(defaults, name) for key, name in FIELDS.items()})
    histories = {key: History(key, built_in) for key in FIELDS}
    problems: list[Problem] = []
    warnings: list[str] = []
    for layer in layers:
        _lock(histories, layer)
        values = {FIELDS[key]: history.value for key, history in histories.items()}
        for key, wanted in layer.values.items():
            lost = histories[key].put(layer, _signed(wanted, layer), values)
            if lost:
                _report(f"{key}: {layer.label} asks for {lost}", layer, histories[key], problems, warnings)
        for key, names in layer.remove.items():
            _remove(histories[key], layer, names, problems, warnings)

    return histories, problems, warnings


def _lock(histories: Mapping[str, History], layer: Layer) -> None:
    for key in layer.locks:
        histories[key].lock = layer


def _remove(
    history: History, layer: Layer, names: tuple[str, ...], problems: list[Problem], warnings: list[str]
) -> None:
    if history.lock is not None and _RANK[layer.name] > _RANK["site"]:
        message = f"{history.key}: {layer.label} removes {_shown(names)}, and the value is locked by"
        _report(f"{message} {_label(history.lock)}", layer, history, problems, warnings)
        return
    missing = history.remove(layer, names)
    warnings += [f"{history.key}: {layer.label} removes {name!r}, which is not there" for name in missing]


def _report(message: str, layer: Layer, history: History, problems: list[Problem], warnings: list[str]) -> None:
    locked = history.lock is not None and _RANK[layer.name] > _RANK["site"]
    if locked and history.lock is not None and history.lock.locks[history.key] == "error":
        problems.append(
            Problem(
                kind="policy-locked",
                message=message,
                origin=layer.file or layer.name,
                advice="leave the key out there, or ask the site",
            )
        )
    else:
        warnings.append(message)


def _label(layer: Optional[Layer]) -> str:
    return layer.label if layer is not None else ""


def _signed(value: Any, layer: Layer) -> Any:
    """
    Note in binds who wants them.
    """
    if isinstance(value, tuple) and value and isinstance(value[0], Bind):
        return tuple(attrs.evolve(bind, origin=layer.label) for bind in value)

    return value


def _parts(value: Any) -> tuple[Any, ...]:
    if isinstance(value, Mapping):
        return tuple(FrozenMapping({name: item}) for name, item in value.items())

    return value if isinstance(value, tuple) else ()


def _shown(value: Any) -> str:
    words = value if isinstance(value, (tuple, Mapping)) else (value,)
    text = ", ".join(name_of(word) for word in words)

    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."

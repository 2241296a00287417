"""
Put layers on each other, lowest first, and keep the history of every key.

Rules:

1. Locks come last: what a later layer wants of a locked key is an error or a
   warning, as the lock says.
2. What was left out is told in a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from wlcg_isolate.errors import PolicyError, Problem
from wlcg_isolate.policy.history import RANK, History, label, name_of, shown
from wlcg_isolate.policy.layers import Layer
from wlcg_isolate.policy.model import FIELDS, RULES, Policy
from wlcg_isolate.request import Bind


def merge(layers: Iterable[Layer], remarks: Iterable[str] = ()) -> Policy:
    """
    Make the policy that holds when all of *layers* have spoken.

    Args:
        layers: In any order; among those of one name, the order counts, those
            that are not trusted being the last.

        remarks: What was left out before, to be kept with the warnings.

    Raises:
        PolicyError: A lock is an error and was not kept, or the result is not
            valid.
    """
    ordered = tuple(sorted(layers, key=lambda layer: (RANK[layer.name], not layer.trusted)))
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

    One that a program made by hand, or changed after it was loaded, stands
    for a site's, since whoever made it decides what holds; locks stay.
    """
    layers = policy.layers or ()
    if layers and all(getattr(policy, FIELDS[key]) == history.value for key, history in _run(layers)[0].items()):
        return layers
    built_in, values, remove = Policy(), {}, {}
    for key, name in FIELDS.items():
        value, default = getattr(policy, name), getattr(built_in, name)
        if value != default:
            values[key] = value
        gone = [item for item in default if item not in value] if RULES[key].kind == "list" else ()
        if gone:
            remove[key] = tuple(name_of(item) for item in gone)
    locks = {key: severity for layer in layers for key, severity in layer.locks.items()}
    if not values and not locks:
        return ()

    return (Layer(name="site", file="a program", values=values, remove=remove, locks=locks),)


def _run(layers: Sequence[Layer]) -> tuple[dict[str, History], list[Problem], list[str]]:
    defaults = Policy()
    built_in = Layer(name="built-in", values={key: getattr(defaults, name) for key, name in FIELDS.items()})
    histories = {key: History(key, built_in) for key in FIELDS}
    problems: list[Problem] = []
    warnings: list[str] = []
    for layer in layers:
        for key in layer.locks:
            histories[key].lock = layer
        values = {FIELDS[key]: history.value for key, history in histories.items()}
        # First, so that a layer can put another item in the place of one.
        for key, names in layer.remove.items():
            _remove(histories[key], layer, names, problems, warnings)
        for key, wanted in layer.values.items():
            lost = histories[key].put(layer, _signed(wanted, layer), values)
            if lost:
                _report(f"{key}: {layer.label} asks for {lost}", layer, histories[key], problems, warnings)
    warnings += [
        f"{key}: {layer.label} removes {name!r}, which is not there"
        for key, history in histories.items()
        for name, layer in history.removed.items()
        if layer is not None
    ]

    return histories, problems, warnings


def _remove(
    history: History, layer: Layer, names: tuple[str, ...], problems: list[Problem], warnings: list[str]
) -> None:
    if history.holds(layer):
        message = f"{history.key}: {layer.label} removes {shown(names)}, and the value is locked by"
        _report(f"{message} {label(history.lock)}", layer, history, problems, warnings)
    else:
        history.remove(layer, names)


def _report(message: str, layer: Layer, history: History, problems: list[Problem], warnings: list[str]) -> None:
    if history.lock is not None and history.holds(layer) and history.lock.locks[history.key] == "error":
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


def _signed(value: Any, layer: Layer) -> Any:
    """
    Note in binds who wants them.
    """
    if isinstance(value, tuple) and value and isinstance(value[0], Bind):
        return tuple(attrs.evolve(bind, origin=layer.label) for bind in value)

    return value

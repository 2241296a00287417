"""
How the values of one key, from several layers, become one.

Rules:

1. There are three kinds of key.  A *limit* belongs to the site: whoever comes
   later may only make it stricter, and what would widen it is left out and
   reported.  A *choice* belongs to whoever speaks last.  A *list* grows; on
   one target the first item wins.
2. A site's lock makes a key final, whatever its kind.
3. Nothing is left out in silence: every function here says what it lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Callable, Optional

import attrs

from wlcg_isolate._values import FrozenMapping, is_below

#: Lowest first.  ``lock`` stands for what a site made final.
LAYERS = ("built-in", "site", "experiment", "experiment-site", "request", "operator", "lock")

#: Those that set a limit freely; all others may only narrow it.
FREE = frozenset({"built-in", "site", "operator"})

EVERYBODY = frozenset(LAYERS) - {"lock"}

#: What an experiment cannot know, or must not decide: it concerns evidence
#: about itself, or the disks of a node.
SITE_MATTER = frozenset({"built-in", "site", "request", "operator"})
NODE_MATTER = frozenset({"built-in", "site", "experiment-site", "operator"})

#: What nobody but the owner of the node can vouch for.
SITE_ONLY = frozenset({"built-in", "site", "operator"})

#: Gives the joint value, and what was asked for in vain or "".
Meet = Callable[[Any, Any, Mapping[str, Any]], tuple[Any, str]]
Check = Callable[[Any], Iterator[str]]


@attrs.frozen(kw_only=True)
class Rule:
    """
    What the model says of one key.

    Attributes:
        kind: ``"limit"``, ``"choice"`` or ``"list"``.

        merging: One sentence for the reference.

        check: Yields what is wrong with a value.

        meet: How a limit becomes stricter; None for the other kinds.

        entries: Whether a choice is made entry by entry.

        layers: Layers that may set the key.
    """

    kind: str
    merging: str
    check: Check
    meet: Optional[Meet] = None
    entries: bool = False
    layers: frozenset[str] = EVERYBODY


def limit(meet: Meet, check: Check, *, layers: frozenset[str] = EVERYBODY) -> dict[str, Rule]:
    """
    Declare a limit, as the metadata of a field.
    """
    return {"rule": Rule(kind="limit", merging=_MERGING[meet], check=check, meet=meet, layers=layers)}


def choice(check: Check, *, entries: bool = False, layers: frozenset[str] = EVERYBODY) -> dict[str, Rule]:
    """
    Declare a choice, as the metadata of a field.
    """
    merging = "the last layer wins, entry by entry" if entries else "the last layer wins"

    return {"rule": Rule(kind="choice", merging=merging, check=check, entries=entries, layers=layers)}


def listing(check: Check, merging: str) -> dict[str, Rule]:
    """
    Declare a list, as the metadata of a field.
    """
    return {"rule": Rule(kind="list", merging=merging, check=check)}


def smaller(held: Any, wanted: Any, _: Mapping[str, Any]) -> tuple[Any, str]:
    """
    Take the smaller number; None is no limit at all.
    """
    if wanted is None or (held is not None and wanted > held):
        asked = "no limit" if wanted is None else f"{wanted:g}"
        return held, "" if held is None else f"{asked}, where {held:g} is the most"

    return wanted, ""


def allowed(held: Any, wanted: Any, _: Mapping[str, Any]) -> tuple[Any, str]:
    """
    Allow what both allow.
    """
    return held and wanted, "true, where it is not allowed" if wanted and not held else ""


def demanded(held: Any, wanted: Any, _: Mapping[str, Any]) -> tuple[Any, str]:
    """
    Demand what either demands.
    """
    return held or wanted, "false, where it is demanded" if held and not wanted else ""


def stricter(held: Any, wanted: Any, _: Mapping[str, Any]) -> tuple[Any, str]:
    """
    Take the stricter of two words.
    """
    if _STRICTNESS.index(wanted) < _STRICTNESS.index(held):
        return held, f"{wanted}, where {held} is held to"

    return wanted, ""


#: The words of all keys that have such, each after those that are less strict.
_STRICTNESS = ("host", "none", "allow", "confine", "warn", "refuse")


def common(held: Any, wanted: Any, _: Mapping[str, Any]) -> tuple[Any, str]:
    """
    Keep the items that both have.
    """
    lost = [item for item in wanted if item not in held]

    return tuple(item for item in held if item in wanted), _not_allowed(lost)


def fewer(held: Any, wanted: Any, _: Mapping[str, Any]) -> tuple[Any, str]:
    """
    Keep the items that both have; where one has none, nothing was asked yet.
    """
    if not held or not wanted:
        return wanted or held, "none at all, where some are asked for" if held else ""
    kept = tuple(item for item in wanted if item in held)

    return kept or held, _not_allowed([item for item in wanted if item not in held])


def inside(held: Any, wanted: Any, _: Mapping[str, Any]) -> tuple[Any, str]:
    """
    Keep the directories that lie below one of both.
    """
    found: dict[str, None] = {}
    lost = []
    for root in wanted:
        if any(is_below(root, other) for other in held):
            found[root] = None
            continue
        below = [other for other in held if is_below(other, root)]
        found.update(dict.fromkeys(below))
        lost.append(root)

    return tuple(found), _not_allowed(lost)


def added(held: Any, wanted: Any, _: Mapping[str, Any]) -> tuple[Any, str]:
    """
    Forbid what either forbids.
    """
    return tuple(dict.fromkeys((*held, *wanted))), ""


def sooner(held: Any, wanted: Any, values: Mapping[str, Any]) -> tuple[Any, str]:
    """
    Take the shorter deadline for each directory.

    A directory that is not listed yet has the deadline of the longest listed
    one above it, or the general one.
    """
    found = dict(held)
    lost = []
    for directory, seconds in wanted.items():
        now = deadline_of(directory, held, values["host_touch_seconds"])
        if seconds > now:
            lost.append(f"{directory}: {seconds:g}, where {now:g} is the most")
        else:
            found[directory] = seconds

    return FrozenMapping(found), ", ".join(lost)


def deadline_of(path: str, listed: Mapping[str, float], general: float) -> float:
    """
    Return the deadline in seconds for one look at *path*.
    """
    above = [directory for directory in listed if is_below(path, directory)]

    return listed[max(above, key=len)] if above else general


def _not_allowed(lost: list[str]) -> str:
    return f"{', '.join(lost)}, not allowed here" if lost else ""


_MERGING: Mapping[Meet, str] = {
    smaller: "the smallest number holds",
    allowed: "false wins",
    demanded: "true wins",
    stricter: "the strictest word holds",
    common: "only what all layers have",
    fewer: "only what all layers have that have any",
    inside: "only directories that lie below one of every layer",
    added: "adds up",
    sooner: "the shortest deadline holds, directory by directory",
}

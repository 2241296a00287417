"""
One field of a record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from wlcg_isolate.trace.record import EVENTS

#: What each event is, and when it is written.
MEANINGS: Mapping[str, str] = {
    "log.genesis": "A file begins.",
    "log.checkpoint": "The state of the chain of a file, now and then.",
    "log.recovered": "A file that a crash had left was found.",
    "log.close": "A file ends in order.",
    "log.purged": "Files that were kept long enough were removed.",
    "pilot.start": "A pilot process begins; its first record of its own.",
    "pilot.end": "It ends in order; one that is killed leaves none.",
    "payload.authorised": "A payload may run; written before it is started, on disk before its first instruction.",
    "payload.refused": "It was not started, with every reason; after `payload.start` when the container ended between "
    "that record and the first instruction.",
    "payload.start": "The container stands; on disk before the payload's first instruction.",
    "payload.running": "It still runs, every `trace.running_seconds` where policy wants that.",
    "payload.killed": "It was told to end, and by whom; before its end.",
    "payload.end": "Everything of it has ended.",
    "identity.resolve": "Somebody opened a sealed identity.",
}

#: Events whose fields belong to the journal.
OPEN = tuple(action for action in EVENTS if action.startswith("log."))

#: Where a name comes from.
ECS, OTEL, OWN = "ECS", "OTel", "wlcg"

_GROUPS: Mapping[str, tuple[str, ...]] = {
    "all": tuple(EVENTS),
    "pilot": ("pilot.start", "pilot.end"),
    "payload": tuple(action for action in EVENTS if action.startswith("payload.")),
    # Once there is a process.
    "live": ("payload.start", "payload.running", "payload.killed", "payload.end"),
    "own": tuple(action for action in EVENTS if action not in OPEN),
    "done": ("payload.refused", "payload.end"),
}


@attrs.frozen(kw_only=True)
class Field:
    """
    One field.

    Attributes:
        name: Its dotted name.

        type: Its type, as annotations have it.

        source: The standard that the name is from: ``ECS``, ``OTel`` or
            ``wlcg``.

        events: Events that may have it.

        always: Those of them that always have it.

        meaning: What it means, and in which unit.
    """

    name: str
    type: Any
    source: str
    events: tuple[str, ...]
    always: tuple[str, ...]
    meaning: str


def row(name: str, type_: Any, source: str, where: str, meaning: str) -> Field:
    """
    Make a field.

    Args:
        name: Its dotted name.

        type_: Its type.

        source: The standard.

        where: Events or groups of them; those with ``!`` always have it.

        meaning: What it means.
    """
    events: list[str] = []
    always: list[str] = []
    for word in where.split():
        members = _members(word.rstrip("!"))
        events += members
        always += members if word.endswith("!") else ()

    return Field(
        name=name,
        type=type_,
        source=source,
        events=tuple(action for action in EVENTS if action in events),
        always=tuple(action for action in EVENTS if action in always),
        meaning=meaning,
    )


def _members(word: str) -> tuple[str, ...]:
    if word in _GROUPS:
        return _GROUPS[word]
    if word not in EVENTS:
        msg = f"there is no event {word!r}"
        raise ValueError(msg)

    return (word,)

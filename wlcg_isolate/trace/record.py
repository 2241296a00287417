"""
One line of evidence about a payload.

Names follow the Elastic Common Schema 9, OpenTelemetry where that has none,
and ``wlcg.*`` for the rest; `wlcg_isolate.trace.model` lists them all.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

import attrs

from wlcg_isolate._values import as_mapping

#: Version of the record's shape.
SCHEMA_VERSION = 1

#: Version of the Elastic Common Schema.
ECS_VERSION = "9.4.0"


class _Event(NamedTuple):
    category: str
    type: str


#: `event.action` to the words that ECS has for what it is.
EVENTS: Mapping[str, _Event] = {
    "log.genesis": _Event("configuration", "creation"),
    "log.checkpoint": _Event("configuration", "info"),
    "log.recovered": _Event("configuration", "info"),
    "log.purged": _Event("configuration", "deletion"),
    "log.close": _Event("configuration", "end"),
    "pilot.start": _Event("session", "start"),
    "pilot.end": _Event("session", "end"),
    "payload.authorised": _Event("iam", "allowed"),
    "payload.refused": _Event("process", "denied"),
    "payload.start": _Event("process", "start"),
    "payload.running": _Event("process", "info"),
    "payload.killed": _Event("process", "change"),
    "payload.end": _Event("process", "end"),
    "identity.resolve": _Event("iam", "access"),
}


def timestamp_of(moment: datetime.datetime) -> str:
    """
    Write a time as records have it: UTC with microseconds (RFC 3339).
    """
    return moment.astimezone(datetime.timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _now() -> str:
    return timestamp_of(datetime.datetime.now(datetime.timezone.utc))


@attrs.frozen(kw_only=True)
class TraceRecord:
    """
    One event in the life of a payload or its pilot.

    Attributes:
        action: What happened, a key of `EVENTS`.

        trace_id: The payload's identity; the same in all of its records and
            in its variable ``WLCG_ISOLATE_ID``.  Empty when the event is
            about no payload.

        fields: What is recorded, by dotted name, in JSON's types.

        timestamp: When, UTC with microseconds (RFC 3339).

        event_id: Identity of this event (a UUID).
    """

    action: str = attrs.field(validator=attrs.validators.in_(tuple(EVENTS)))
    trace_id: str = ""
    fields: Mapping[str, Any] = attrs.field(factory=dict, converter=as_mapping)
    timestamp: str = attrs.field(factory=_now)
    event_id: str = attrs.field(factory=lambda: str(uuid.uuid4()))

    def to_dict(self) -> dict[str, Any]:
        """
        Return the record in plain types; what is not known is left out.
        """
        head = {
            "@timestamp": self.timestamp,
            "event.action": self.action,
            "event.id": self.event_id,
            "event.kind": "event",
            "event.category": [EVENTS[self.action].category],
            "event.type": [EVENTS[self.action].type],
            "event.dataset": "wlcg_isolate",
            "ecs.version": ECS_VERSION,
            "wlcg.schema_version": SCHEMA_VERSION,
        }
        if self.trace_id:
            head["container.id"] = self.trace_id

        return {**head, **{k: v for k, v in self.fields.items() if v is not None}}

"""
Put a payload together from its records.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wlcg_isolate.trace.query.columns import COLUMNS, FACTS, FINAL_EVENTS, KEYS
from wlcg_isolate.trace.query.rows import Row, loads
from wlcg_isolate.trace.query.times import shown

Payload = dict[str, Any]

#: What is known of a payload's end: a record of it; that it was never started; that it is alive; that nobody can
#: record its end any more; or nothing.
STATES = ("ended", "refused", "running", "lost", "open")

#: What all records of a payload must agree on.
_STEADY = (
    "host_name",
    "host_boot_id",
    "process_pid",
    "wlcg_process_start_ticks",
    "user_name",
    "user_hash",
    "wlcg_job_id",
)

#: Columns that an answer needs; ``extra`` only where whole records are shown.
NEEDED = (*dict.fromkeys([*(c.name for c in COLUMNS), "time", "payload_id", "day", "site"]),)

_NAMES = {c.name: c.key for c in FACTS if c.shown}


def payloads_of(rows: Iterable[Row], *, whole: bool = False) -> list[Payload]:
    """
    Merge records into payloads, the earliest first.

    Args:
        rows: Records in any order; one that comes twice counts once.

        whole: Whether the records are shown in full.
    """
    groups: dict[str, dict[str, Row]] = {}
    for row in rows:
        groups.setdefault(row["payload_id"], {})[row["event_id"]] = row
    found = [_payload(sorted(group.values(), key=_order), whole=whole) for group in groups.values()]

    return sorted(found, key=in_order)


def in_order(payload: Payload) -> tuple[str, str]:
    """
    Order payloads by their start.
    """
    return payload["started"] or payload["events"][0]["time"], payload["trace_id"]


def _order(row: Row) -> tuple[int, int, str]:
    return row["time"], row["event_sequence"] or 0, row["event_id"]


def _payload(rows: list[Row], *, whole: bool) -> Payload:
    actions = [row["event_action"] for row in rows]
    started = [row["time"] for row in rows if row["event_action"] == "payload.start"]
    ended = [row["time"] for row in rows if row["event_action"] in FINAL_EVENTS]
    payload: Payload = {
        "trace_id": rows[0]["payload_id"],
        "state": "refused" if "payload.refused" in actions else "ended" if ended else "open",
        "started": shown(min(started)) if started else None,
        "ended": shown(max(ended)) if ended else None,
        "last_seen": shown(rows[-1]["time"]),
        "site": rows[0]["site"],
    }
    for name, key in _NAMES.items():
        # The first record that says it: a later one cannot put another user in its place.
        payload[key] = next((row[name] for row in rows if row[name] is not None), None)
    payload["events"] = [{"time": shown(row["time"]), "action": row["event_action"]} for row in rows]
    payload["conflicts"] = sorted(
        _NAMES[name] for name in _STEADY if len({row[name] for row in rows if row[name] is not None}) > 1
    )
    # One that came later, or was put there: neither may hide that the other is there.
    payload["conflicts"] += ["ended"] if len(set(ended)) > 1 else []
    if whole:
        payload["records"] = [record_of(row) for row in rows]

    return payload


def record_of(row: Row) -> dict[str, Any]:
    """
    Put the fields of a record together again.
    """
    record: dict[str, Any] = loads(row["extra"])
    for column in COLUMNS:
        value = row[column.name]
        # One without its own identity was given the digest of its line.
        if column.whole and value is not None and not any(field in record for field in column.fields):
            record[column.fields[0]] = value

    return record


def schema() -> dict[str, Any]:
    """
    Make the JSON Schema of an answer.
    """
    text: dict[str, Any] = {"type": "string"}
    maybe: dict[str, Any] = {"type": ["string", "null"]}
    kinds = {
        "text": maybe,
        "int": {"type": ["integer", "null"]},
        "list": {"type": ["array", "null"], "items": text},
        "each": {"type": ["array", "null"], "items": text},
    }
    event = {"type": "object", "required": ["time", "action"], "properties": {"time": text, "action": text}}
    own: dict[str, Any] = {
        "trace_id": {**text, "description": "The payload's identity."},
        "state": {"enum": list(STATES), "description": "What is known of its end."},
        "started": {**maybe, "description": "When its first instruction was allowed."},
        "ended": {**maybe, "description": "When it was over, or refused."},
        "last_seen": {**text, "description": "The time of its last record."},
        "site": {**text, "description": "The site."},
    }
    facts = {
        key: {**kinds[c.kind], "description": f"{c.meaning[:1].upper()}{c.meaning[1:]}."} for key, c in KEYS.items()
    }
    tail: dict[str, Any] = {
        "events": {"type": "array", "items": event, "description": "Its records in order."},
        "conflicts": {"type": "array", "items": text, "description": "Fields on which its records do not agree."},
    }
    more: dict[str, Any] = {
        "records": {"type": "array", "items": {"type": "object"}, "description": "Its records, with --full."},
        "state_by": {**text, "description": "What shows that it runs or was lost."},
        "over_by": {**text, "description": "When that showed that it was over, if it was lost."},
        "found_by": {**text, "description": "What led from a living process to it, with --alive."},
    }

    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Payloads, as wlcg-isolate trace find --json gives them",
        "type": "array",
        "items": {
            "type": "object",
            "required": [*own, *facts, *tail],
            "properties": {**own, **facts, **tail, **more},
            "additionalProperties": False,
        },
    }

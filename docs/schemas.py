"""
JSON Schemas (draft 2020-12) of policy files and requests, made from the model.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any, Union

import attrs

from wlcg_isolate.policy.explain import plain
from wlcg_isolate.policy.model import FIELDS, RULES, Policy
from wlcg_isolate.policy.parse import FORMAT, SEVERITIES
from wlcg_isolate.request import Request
from wlcg_isolate.trace.model import FIELDS as RECORDED, OPEN
from wlcg_isolate.trace.record import EVENTS

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_SIMPLE = {str: {"type": "string"}, bool: {"type": "boolean"}, float: {"type": "number"}, int: {"type": "integer"}}


def attributes(docstring: str) -> dict[str, str]:
    """
    Read the attributes' meanings from a class's docstring.
    """
    text = docstring.partition("Attributes:")[2].partition("Raises:")[0]
    entries = (" ".join(block.split()) for block in text.split("\n\n"))

    return {name: meaning.strip() for name, _, meaning in (entry.partition(":") for entry in entries) if name}


def in_json(meaning: str) -> str:
    """
    Write a docstring's sentence for readers who may know no Python.
    """
    words = {"``None``": "null", "``True``": "true", "``False``": "false", "None": "null", "``": "`"}
    for python, json in words.items():
        meaning = meaning.replace(python, json)

    return meaning[:1].upper() + meaning[1:]


def policy_meanings() -> dict[str, str]:
    """
    Read the meanings of all fields of policy, its classes' bases included.
    """
    documented = (cls.__doc__ or "" for cls in reversed(Policy.__mro__[:-1]))

    return {name: meaning for text in documented for name, meaning in attributes(text).items()}


def policy_schema() -> dict[str, Any]:
    """
    Make the schema of a policy file.
    """
    types, meanings = (
        typing.get_type_hints(Policy),
        policy_meanings(),
    )
    sections: dict[str, Any] = {}
    defaults = Policy()
    for key, field in FIELDS.items():
        section, _, name = key.partition(".")
        rule = RULES[key]
        table = sections.setdefault(section, {"type": "object", "additionalProperties": False, "properties": {}})
        table["properties"][name] = {
            **of_type(types[field], leave_out=("origin",)),
            "description": f"{meanings[field]} {rule.kind.capitalize()}: {rule.merging}.",
            "default": plain(getattr(defaults, field)),
        }
    lists = [key for key, rule in RULES.items() if rule.kind == "list"]

    return {
        "$schema": _DRAFT,
        "title": "Policy file of wlcg_isolate",
        "type": "object",
        "required": ["version"],
        "additionalProperties": False,
        "properties": {
            "version": {"const": FORMAT, "description": "Version of the format."},
            **sections,
            "lock": {
                "type": "object",
                "description": "Keys that later layers may not change, and what a conflict is. Sites only.",
                "propertyNames": {"enum": list(RULES)},
                "additionalProperties": {"enum": list(SEVERITIES)},
            },
            "remove": {
                "type": "object",
                "description": "Items to take out of lists again, by name.",
                "propertyNames": {"enum": lists},
                "additionalProperties": {"type": "array", "items": {"type": "string"}},
            },
        },
    }


def request_schema() -> dict[str, Any]:
    """
    Make the schema of a request.
    """
    return {"$schema": _DRAFT, "title": "Request of wlcg_isolate", **_object(Request, ())}


def trace_schema() -> dict[str, Any]:
    """
    Make the schema of a trace record.

    Each event has its own fields, and no others; those of ``log.*`` belong
    to the journal.
    """
    closed = [action for action in EVENTS if action not in OPEN]

    return {
        "$schema": _DRAFT,
        "title": "Trace record of wlcg_isolate",
        "type": "object",
        "required": [field.name for field in RECORDED if len(field.always) == len(EVENTS)],
        "properties": {
            **{field.name: {**of_type(field.type), "description": field.meaning} for field in RECORDED},
            "event.action": {"enum": list(EVENTS)},
        },
        "allOf": [_event(action) for action in closed],
    }


def _event(action: str) -> dict[str, Any]:
    return {
        "if": {"properties": {"event.action": {"const": action}}},
        "then": {
            "required": [field.name for field in RECORDED if action in field.always],
            "propertyNames": {"enum": [field.name for field in RECORDED if action in field.events]},
        },
    }


def of_type(kind: Any, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """
    Make the schema of a type that the model uses.
    """
    if kind in _SIMPLE:
        return dict(_SIMPLE[kind])
    if kind is Any:
        return {}
    if attrs.has(kind):
        return _object(kind, leave_out)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return {"type": "array", "items": of_type(arguments[0], leave_out)}
    if origin is Mapping or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return {"type": "object", "additionalProperties": of_type(arguments[1], leave_out)}
    if origin is Union:
        return {"anyOf": [of_type(one, leave_out) if one is not type(None) else {"type": "null"} for one in arguments]}
    msg = f"no schema is known for {kind}"
    raise TypeError(msg)


def _object(kind: type[Any], leave_out: tuple[str, ...]) -> dict[str, Any]:
    types, meanings = typing.get_type_hints(kind), attributes(kind.__doc__ or "")
    fields = [field for field in attrs.fields(kind) if field.name not in leave_out]

    return {
        "type": "object",
        "additionalProperties": False,
        "required": [field.name for field in fields if field.default is attrs.NOTHING],
        "properties": {
            field.name: {**of_type(types[field.name], leave_out), "description": in_json(meanings.get(field.name, ""))}
            for field in fields
        },
    }

"""
JSON Schemas (draft 2020-12) of what the command line gives: plans and outcomes.

What is listed here keeps its name and its type; more may come beside it.
"""

from __future__ import annotations

from typing import Any

from schemas import attributes, in_json

from wlcg_isolate._kinds import KINDS
from wlcg_isolate.outcome import Outcome, Usage

_DRAFT = "https://json-schema.org/draft/2020-12/schema"

_TEXT: dict[str, Any] = {"type": "string"}
_MAYBE_TEXT: dict[str, Any] = {"type": ["string", "null"]}
_FLAG: dict[str, Any] = {"type": "boolean"}

FAILED_BY = ("payload", "runtime", "policy", "timeout", "signal", "suspension")
RETRIES = ("same-node", "other-node", "never")


def _told(schema: dict[str, Any], meaning: str) -> dict[str, Any]:
    return {**schema, "description": in_json(meaning)}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _words(*words: str) -> dict[str, Any]:
    return {"enum": list(words)}


def _command(meaning: str) -> dict[str, Any]:
    environ = {"type": "object", "additionalProperties": _TEXT}
    parts = _object(
        argv=_told(_list(_TEXT), "Program and arguments; no shell stands between."),
        environ=_told(environ, "The whole environment: nothing else may be in it. It holds values."),
    )

    return _told(parts, meaning)


def outcome_schema() -> dict[str, Any]:
    """
    Make the schema of an outcome.
    """
    meanings, usage = attributes(Outcome.__doc__ or ""), attributes(Usage.__doc__ or "")
    schema = _object(
        started=_FLAG,
        failed_by={"enum": [None, *FAILED_BY]},
        exit_code={"type": ["integer", "null"]},
        signal={"type": ["integer", "null"]},
        # New ones may come, which must not make an answer invalid.
        kind={**_TEXT, "examples": list(KINDS)},
        retry={"enum": [None, *RETRIES]},
        message=_TEXT,
        trace_id=_MAYBE_TEXT,
        usage={"type": ["object", "null"], "properties": {name: _usage(name, usage[name]) for name in usage}},
    )
    schema["properties"] = {name: _told(kind, meanings[name]) for name, kind in schema["properties"].items()}

    return {"$schema": _DRAFT, "title": "Outcome of wlcg_isolate", **schema}


def _usage(name: str, meaning: str) -> dict[str, Any]:
    kind = "number" if name.endswith("_seconds") else "integer"

    return _told({"type": kind if name == "wall_seconds" else [kind, "null"]}, meaning)


def plan_schema() -> dict[str, Any]:
    """
    Make the schema of ``plan --json``.
    """
    schema = _object(
        trace_id=_told(_TEXT, "Identity of this payload in every record (a UUID)."),
        supervised=_command("The command to start where the payload is started without this library's launch."),
        argv=_told(_list(_TEXT), "The runtime's call alone, for inspection: no start marker, no checks."),
        environ=_told({"type": "object", "additionalProperties": _TEXT}, "The whole environment for argv."),
        start=_told(
            {"type": "object", "required": ["version"], "properties": {"version": {"const": 1}}},
            "What is given back to ask for the outcome; its inside is nobody else's.",
        ),
        runtime=_runtime(),
        image=_image(),
        starter=_told(_object(name=_words("loader", "shell"), reason=_TEXT), "What becomes the payload, and why."),
        workdir=_told(_TEXT, "Working directory on the host."),
        isolation=_told({"type": "object"}, "What surrounds the payload beside all this."),
        gpus=_told(_list(_TEXT), "Makers of the GPUs that the payload gets."),
        timeout=_told({"type": ["number", "null"]}, "Time limit in seconds of wall time."),
        binds=_told(_list(_bind()), "Every bind, in the order of mounting."),
        environment=_told(_list(_variable()), "Every variable by its name, never its value."),
        warnings=_told(_list(_TEXT), "What a person should know though nothing is refused."),
    )

    return {"$schema": _DRAFT, "title": "Plan of wlcg_isolate", **schema}


def _runtime() -> dict[str, Any]:
    return _object(
        path=_TEXT,
        flavour=_TEXT,
        version=_TEXT,
        mode=_words("userns", "setuid"),
        layer={"enum": [None, "overlay", "underlay", "none"]},
        pid_namespace=_FLAG,
        reason=_TEXT,
    )


def _image() -> dict[str, Any]:
    return _object(
        requested=_TEXT,
        path=_told(_TEXT, "Where the reference led."),
        resolved_path=_told(_TEXT, "The same with all links followed: what is launched."),
        form=_words("tree", "sif", "squashfs", "uri"),
        architecture=_MAYBE_TEXT,
        digest=_object(kind=_TEXT, value=_MAYBE_TEXT),
        verified_by=_list(_TEXT),
        mount=_TEXT,
        looked_at=_list(_object(path=_TEXT, verdict=_TEXT)),
    )


def _bind() -> dict[str, Any]:
    return _object(
        source=_TEXT, target=_TEXT, writable=_FLAG, origin=_TEXT, decision=_words("mount", "skip"), reason=_TEXT
    )


def _variable() -> dict[str, Any]:
    decisions = _words("keep", "set", "translate", "drop")

    return _object(name=_TEXT, decision=decisions, rule=_TEXT, reason=_TEXT)

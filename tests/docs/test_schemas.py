"""
The shipped JSON Schemas agree with what is read.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from wlcg_isolate import Outcome, Payload, PlanError, Policy, Request, RequestError
from wlcg_isolate._kinds import KINDS
from wlcg_isolate.policy.parse import layer_from_dict
from wlcg_isolate.remains import Start
from wlcg_isolate.structure import request_from_dict
from wlcg_isolate.testing import load_node, make_outcome, node_names

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "examples").rglob("*.toml"), *(ROOT / "wlcg_isolate/policy/profiles").glob("*.toml")])

GOOD = {"payload": {"command": ["true"]}}


def validator(name):
    """Load a shipped schema, which must itself be valid."""
    schema = json.loads(resources.files("wlcg_isolate").joinpath("schemas", name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)

    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_shipped_files(file):
    """Every profile and example is valid by the schema and for the reader."""
    data = tomllib.loads(file.read_text(encoding="utf-8"))
    layer = "site" if file.parent.name == "sites" else "experiment-site"

    assert [] == list(validator("policy.schema.json").iter_errors(data))
    assert [] == layer_from_dict(data, layer, str(file))[1]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"version": 2},
        {"version": 1, "imge": {}},
        {"version": 1, "image": {"name": {}}},
        {"version": 1, "image": {"names": {"a": 7}}},
        {"version": 1, "runtime": {"allow_setuid": "no"}},
        {"version": 1, "runtime": {"start_seconds": "1"}},
        {"version": 1, "bind": {"default": [{"target": "/x"}]}},
        {"version": 1, "bind": {"default": [{"source": "/x", "origin": "me"}]}},
        {"version": 1, "environment": {"keep": "TERM"}},
        {"version": 1, "lock": {"image.name": "error"}},
        {"version": 1, "lock": {"image.names": "never"}},
        {"version": 1, "remove": {"image.names": ["x"]}},
    ],
    ids=str,
)
def test_bad_policy(data):
    """What the schema refuses the reader refuses as well."""
    assert list(validator("policy.schema.json").iter_errors(data))
    assert layer_from_dict(data, "site", "file")[1]


@pytest.mark.parametrize(
    "more",
    [
        {"payload": {}},
        {"payload": None},
        {"imge": "x"},
        {"image": 7},
        {"binds": [{"target": "/x"}]},
        {"env": {"A": 1}},
        {"keep_env": "A"},
        {"timeout": "soon"},
        {"identity": {"name": "x"}},
    ],
    ids=str,
)
def test_bad_request(more):
    """What the schema of requests refuses the reader refuses as well."""
    assert list(validator("request.schema.json").iter_errors({**GOOD, **more}))
    with pytest.raises(RequestError):
        request_from_dict({**GOOD, **more})


def test_documented_request():
    """The request in the reference is valid by the schema and for the reader."""
    page = (ROOT / "docs/reference/request.md").read_text(encoding="utf-8")
    data = json.loads(page.partition("```json\n")[2].partition("```")[0])

    assert [] == list(validator("request.schema.json").iter_errors(data))
    assert request_from_dict(data).settings == {"container.workdir": "/workdir"}


@pytest.mark.parametrize("name", node_names())
def test_plans(name):
    """The plan on every kind of node is valid by the schema, and all of it is in the schema."""
    request = Request(payload=Payload(command=("true",)), image="/cvmfs/images/el9", workdir="/scratch/job")
    try:
        plan = load_node(name, environ={"TERM": "xterm", "BEARER_TOKEN": "x"}).plan(request, Policy())
    except PlanError:
        assert name in REFUSING
        return
    data = {**plan.to_dict(), "start": Start.of(plan).to_dict()}

    assert [] == list(validator("plan.schema.json").iter_errors(data))
    assert [] == unlisted(data, validator("plan.schema.json").schema)
    assert name not in REFUSING


#: On these no payload is started.
REFUSING = ("el7-setuid-singularity-3.8", "ubuntu24-apparmor", "userns-disabled")


def unlisted(value, schema, where=""):
    """List what a value has and its schema does not tell of."""
    if isinstance(value, list):
        return [name for item in value for name in unlisted(item, schema.get("items", {}), where)]
    if not isinstance(value, dict) or "properties" not in schema or where.startswith(".start"):
        return []
    known = schema["properties"]

    return [f"{where}.{name}" for name in value if name not in known] + [
        found
        for name, item in value.items()
        if name in known
        for found in unlisted(item, known[name], f"{where}.{name}")
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_outcomes(kind):
    """An outcome of every kind is valid by the schema, which tells of every field."""
    data = make_outcome(kind).to_dict()
    schema = validator("outcome.schema.json").schema

    assert [] == list(validator("outcome.schema.json").iter_errors(data))
    assert sorted(schema["required"]) == sorted(data)
    # Later versions may have other kinds, and readers of today must take them.
    assert kind in schema["properties"]["kind"]["examples"]
    assert [] == list(validator("outcome.schema.json").iter_errors({**data, "kind": "something-new"}))


@pytest.mark.parametrize(
    "more",
    [{"started": 1}, {"failed_by": "me"}, {"kind": 1}, {"retry": "later"}, {"usage": {"wall_seconds": None}}],
    ids=str,
)
def test_bad_outcome(more):
    """The schema of outcomes refuses what no outcome is."""
    good = Outcome(**{**make_outcome("success").to_dict(), "usage": None}).to_dict()

    assert [] == list(validator("outcome.schema.json").iter_errors(good))
    assert list(validator("outcome.schema.json").iter_errors({**good, **more}))


def test_request_of_the_page():
    """The request that the page for other languages shows is one."""
    page = (ROOT / "docs/how-to/call-from-another-language.md").read_text()
    (block,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    data = json.loads(block)

    assert [] == list(validator("request.schema.json").iter_errors(data))
    assert "analysis.py" == request_from_dict(data).payload.command[1]

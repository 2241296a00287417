"""
Requests that come as plain types or from a file.
"""

from __future__ import annotations

import io
import json
import types

import pytest
from hypothesis import given, strategies as st

from wlcg_isolate import Bind, Identity, Payload, Request, RequestError
from wlcg_isolate.structure import read_request_json, request_from_dict

GOOD = {"payload": {"command": ["true"]}}

FULL = {
    "payload": {"command": ["sh", "-c", ""]},
    "image": "/cvmfs/image",
    "platform": "el9",
    "workdir": "/work",
    "binds": [
        {"source": "/data"},
        {"source": "rel", "target": "/t//", "writable": True, "required": False, "origin": "site"},
    ],
    "env": {"A": "b", "EMPTY": ""},
    "keep_env": ["HOME"],
    "timeout": 60,
    "identity": {"vo": "atlas", "job_id": "7", "user_dn": "/CN=x", "user_sub": "s", "user_iss": "https://i"},
    "runtime": "/usr/bin/apptainer",
    "trace_dir": "/var/trace",
    "settings": {"container.workdir": "/w", "gpu.use": ["amd"]},
}

FIELDS = [*FULL, *FULL["identity"], *FULL["binds"][1], "command", "A", ""]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=30,
)
NEARLY = st.fixed_dictionaries(
    {"payload": st.just(GOOD["payload"]) | JSON}, optional=dict.fromkeys(list(FULL)[1:], JSON)
)


def faults(data):
    """List the messages of the error that *data* raises."""
    with pytest.raises(RequestError) as caught:
        request_from_dict(data)
    problems = caught.value.problems
    assert {("request-invalid", "correct the request")} == {(p.kind, p.advice) for p in problems}

    return [p.message for p in problems]


def test_full_request():
    """Every field arrives where it belongs."""
    expected = Request(
        payload=Payload(command=("sh", "-c", "")),
        image="/cvmfs/image",
        platform="el9",
        workdir="/work",
        binds=(
            Bind(source="/data", target="/data", writable=False, required=True, origin="request"),
            Bind(source="rel", target="/t", writable=True, required=False, origin="site"),
        ),
        env={"A": "b", "EMPTY": ""},
        keep_env=("HOME",),
        timeout=60.0,
        identity=Identity(vo="atlas", job_id="7", user_dn="/CN=x", user_sub="s", user_iss="https://i"),
        runtime="/usr/bin/apptainer",
        trace_dir="/var/trace",
        settings={"container.workdir": "/w", "gpu.use": ("amd",)},
    )

    assert expected == request_from_dict(FULL)


def test_smallest_request():
    """A command is enough, and null means not given."""
    none = dict.fromkeys(["image", "platform", "workdir", "timeout", "runtime", "trace_dir"])

    assert Request(payload=Payload(command=("true",))) == request_from_dict(GOOD)
    assert Request(payload=Payload(command=("true",))) == request_from_dict({**GOOD, **none})


@pytest.mark.parametrize("make", [dict, types.MappingProxyType], ids=["dict", "proxy"])
def test_argument_unchanged(make):
    """Any mapping is taken, and none is changed."""
    data = json.loads(json.dumps(FULL))
    request_from_dict(make(data))

    assert FULL == data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"nope": 1}, ["request has no field 'nope'"]),
        ({"b": 1, "a": 2}, ["request has no field 'a'", "request has no field 'b'"]),
        ({"image": 7}, ["request.image must be text, not int"]),
        ({"timeout": "9"}, ["request.timeout must be a number, not str"]),
        ({"timeout": True}, ["request.timeout must be a number, not bool"]),
        ({"env": {"A": 1}}, ["request.env[A] must be text, not int"]),
        ({"env": {"A": None}}, ["request.env[A] must be text, not NoneType"]),
        ({"keep_env": ["A", 1]}, ["request.keep_env[1] must be text, not int"]),
        ({"payload": {"command": ["a", 1]}}, ["request.payload.command[1] must be text, not int"]),
        ({"payload": {"command": ["a"], "x": 1}}, ["request.payload has no field 'x'"]),
        ({"identity": {"vo": 1}}, ["request.identity.vo must be text, not int"]),
        ({"binds": [{"source": "/a"}, {"source": 7}]}, ["request.binds[1].source must be text, not int"]),
        ({"binds": [{"source": "/", "writable": ""}]}, ["request.binds[0].writable must be true or false, not str"]),
        ({"binds": [{"source": "/a", "required": 1}]}, ["request.binds[0].required must be true or false, not int"]),
        ({"binds": [{"source": "/a", "dest": "/b"}]}, ["request.binds[0] has no field 'dest'"]),
    ],
    ids=repr,
)
def test_wrong_at_depth(data, expected):
    """What is wrong at any depth is told with its path."""
    assert expected == faults({**GOOD, **data})


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"payload": None}, "request.payload"),
        ({"payload": ["true"]}, "request.payload"),
        ({"payload": {"command": None}}, "request.payload.command"),
        ({"payload": {}}, "request.payload"),
        ({"identity": "x"}, "request.identity"),
        ({"env": ["A=b"]}, "request.env"),
        ({"binds": 7}, "request.binds"),
        ({"settings": 7}, "request.settings"),
        ({"binds": ["/a"]}, "request.binds[0]"),
        ({"binds": [{}]}, "request.binds[0]"),
    ],
    ids=repr,
)
def test_wrong_shape(data, path):
    """A value of another shape is refused with its path."""
    (found,) = faults({**GOOD, **data})

    assert path == found[: len(path)]


def test_all_at_once():
    """Faults of several fields come together, each with its path."""
    data = {
        "payload": {"command": [1]},
        "image": [],
        "binds": [{"source": "/a", "zz": 1}, {"source": 2}],
        "identity": {"vo": False},
        "extra": 0,
    }

    assert [
        "request.binds[0] has no field 'zz'",
        "request.binds[1].source must be text, not int",
        "request.identity.vo must be text, not bool",
        "request.image must be text, not list",
        "request.payload.command[0] must be text, not int",
        "request has no field 'extra'",
    ] == sorted(faults(data), key=lambda line: (line.startswith("request has"), line))


def test_wrong_values_with_wrong_types():
    """What the value classes refuse comes together with what has a wrong type."""
    data = {**GOOD, "image": 7, "identity": {"vo": ""}, "binds": [{"source": "/a", "target": "b"}]}

    assert {
        "request.image must be text, not int",
        "request.identity: vo must not be empty",
        "request.binds[0]: target must be an absolute path",
    } == set(faults(data))


@pytest.mark.parametrize(
    "data",
    [
        {"payload": {"command": "true"}},
        {"payload": {"command": {"true": 1}}},
        {**GOOD, "keep_env": "AB"},
        {**GOOD, "binds": ""},
    ],
    ids=repr,
)
def test_text_is_no_list(data):
    """A text where a list belongs is refused, not taken apart into letters."""
    assert 1 == len(faults(data))


@pytest.mark.parametrize("data", [None, [], "x", 7, [["payload", {}]]], ids=repr)
def test_no_mapping(data):
    """What is no mapping is refused as any wrong request."""
    assert 1 == len(faults(data))


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), JSON, max_size=8) | NEARLY)
def test_any_json(data):
    """Any JSON object gives a request or says what is wrong with it, and does nothing else."""
    try:
        found = request_from_dict(data)
    except RequestError as e:
        found = e.problems[0]

    assert isinstance(found, Request) or found.kind == "request-invalid"


@pytest.mark.parametrize("data", [FULL, {}, {"any": [None]}], ids=["full", "empty", "other"])
def test_read(tmp_path, monkeypatch, data):
    """A file or standard input gives the object that it holds."""
    file = tmp_path / "request.json"
    file.write_text(json.dumps(data))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))

    assert data == read_request_json(str(file))
    assert data == read_request_json("-")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "it is not JSON: Expecting value"),
        (b"{", "it is not JSON: Expecting property name"),
        (b"{} {}", "it is not JSON: Extra data"),
        (b'{"a": "\xff"}', "it is not JSON: 'utf-8' codec can't decode"),
        (b"[" * 100_000, "it is not JSON: "),
        (b'{"a":' * 100_000, "it is not JSON: "),
        (b"[]", "it is not a JSON object"),
        (b"null", "it is not a JSON object"),
        (b'"{}"', "it is not a JSON object"),
    ],
    ids=[*"missing empty cut two bytes deep-list deep-object list null text".split()],
)
def test_unreadable(tmp_path, content, reason):
    """A file that holds no JSON object is refused with its name and the reason."""
    file = tmp_path / "request.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        read_request_json(str(file))
    (problem,) = caught.value.problems

    assert ("request-invalid", "--request") == (problem.kind, problem.origin)
    assert problem.message.startswith(f"request {str(file)!r} cannot be read: {reason}")


def test_unreadable_plan(tmp_path):
    """What was named by another option is called so."""
    with pytest.raises(RequestError, match=r"plan '.*/none' cannot be read: No such file or directory \(from --plan\)"):
        read_request_json(str(tmp_path / "none"), "--plan")

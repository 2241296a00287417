"""
The names that users and acceptance checks rely on.
"""

from __future__ import annotations

import inspect

import attrs
import pytest

import wlcg_isolate

PUBLIC = [
    "Bind",
    "Credential",
    "HostError",
    "HostFacts",
    "Identity",
    "IsolateError",
    "LaunchError",
    "Outcome",
    "Payload",
    "Plan",
    "PlanError",
    "Policy",
    "PolicyError",
    "Problem",
    "Request",
    "RequestError",
    "Running",
    "Start",
    "TraceError",
    "TraceRecord",
    "classify",
    "launch_plan",
    "load_policy",
    "make_plan",
    "outcome_of",
    "probe_host",
    "run_isolated",
    "start_plan",
]

FIELDS = {
    "Credential": ["variable", "source"],
    "Bind": ["source", "target", "writable", "required", "origin", "name"],
    "Identity": [
        "vo",
        "job_id",
        "user_dn",
        "user_sub",
        "user_iss",
        "pilot_id",
        "user_proxy",
        "user_token",
        "source",
        "verified",
    ],
    "Outcome": [
        "started",
        "failed_by",
        "exit_code",
        "signal",
        "kind",
        "retry",
        "message",
        "trace_id",
        "usage",
    ],
    "Payload": ["command"],
    "Problem": ["kind", "message", "origin", "advice"],
    "Request": [
        "payload",
        "image",
        "platform",
        "workdir",
        "binds",
        "env",
        "keep_env",
        "credentials",
        "timeout",
        "identity",
        "runtime",
        "trace_dir",
        "settings",
        "image_digest",
    ],
}

PARAMETERS = {
    "classify": [("exit_code", ...), ("stderr", ...), ("started", None)],
    "load_policy": [("site", None), ("experiment", None), ("operator", ())],
    "make_plan": [("request", ...), ("policy", ...), ("facts", None)],
    "probe_host": [("request", ...), ("policy", ...)],
}


def parameters(function):
    """List names and defaults of a function's parameters, ``**more`` left out."""
    found = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]

    return [(p.name, ... if p.default is p.empty else p.default) for p in found]


def test_public_names():
    """The public names are exactly these, and dir() shows them."""
    assert PUBLIC == wlcg_isolate.__all__
    assert PUBLIC == dir(wlcg_isolate)


@pytest.mark.parametrize("name", PUBLIC)
def test_name_loads(name):
    """Every public name leads to the object of that name."""
    value = getattr(wlcg_isolate, name)

    assert name == value.__name__
    assert value.__module__.startswith("wlcg_isolate.")


def test_from_import_of_everything():
    """A star import gives all public names and no other."""
    found = {}
    exec("from wlcg_isolate import *", found)

    assert set(PUBLIC) == set(found) - {"__builtins__"}


@pytest.mark.parametrize("name", ["Nothing", "plans", "_private", ""])
def test_unknown_name(name):
    """An unknown name is refused as by any module, with the name."""
    with pytest.raises(AttributeError, match=f"^module 'wlcg_isolate' has no attribute '{name}'$"):
        getattr(wlcg_isolate, name)


def test_unknown_import():
    """A wrong name in an import statement is an ImportError."""
    with pytest.raises(ImportError, match="Nothing"):
        exec("from wlcg_isolate import Nothing")


@pytest.mark.parametrize(("name", "expected"), FIELDS.items(), ids=list(FIELDS))
def test_fields(name, expected):
    """The value classes have the fields that callers give and read."""
    assert expected == [field.name for field in attrs.fields(getattr(wlcg_isolate, name))]


@pytest.mark.parametrize(("name", "expected"), PARAMETERS.items(), ids=list(PARAMETERS))
def test_parameters(name, expected):
    """The functions take the parameters that callers write."""
    assert expected == parameters(getattr(wlcg_isolate, name))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("run_isolated", ["request", "policy"]), ("launch_plan", ["plan"])],
    ids=["run_isolated", "launch_plan"],
)
def test_first_parameters(name, expected):
    """What else these functions take is optional."""
    found = parameters(getattr(wlcg_isolate, name))

    assert expected == [word for word, default in found if default is ...]
    assert expected == [word for word, _ in found[: len(expected)]]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("Plan", "shell"),
        ("Plan", "explain"),
        ("Plan", "to_dict"),
        ("Outcome", "to_dict"),
        ("TraceRecord", "to_dict"),
    ],
)
def test_methods(owner, name):
    """What is fixed as a method is one, and needs no argument."""
    assert [("self", ...)] == parameters(getattr(getattr(wlcg_isolate, owner), name))


@pytest.mark.parametrize("name", ["argv", "environ"])
def test_plan_attributes(name):
    """What is fixed as an attribute of a plan is no method."""
    assert isinstance(inspect.getattr_static(wlcg_isolate.Plan, name), property)


@pytest.mark.parametrize("name", ["HostError", "LaunchError", "PlanError", "PolicyError", "RequestError", "TraceError"])
def test_errors_have_one_base(name):
    """One except clause catches every error of the library."""
    assert (wlcg_isolate.IsolateError,) == getattr(wlcg_isolate, name).__bases__


def test_base_error():
    """The base is an ordinary exception, not one that passes by `except Exception`."""
    assert (Exception,) == wlcg_isolate.IsolateError.__bases__


def test_outcome_as_dict():
    """An outcome in plain types has exactly the fixed keys."""
    found = wlcg_isolate.classify(3, "", started=True).to_dict()

    assert {
        "started": True,
        "failed_by": "payload",
        "exit_code": 3,
        "signal": None,
        "kind": "exit-nonzero",
        "retry": None,
        "message": "exit status 3",
        "trace_id": None,
        "usage": None,
    } == found


def test_version():
    """The version is text with three numbers."""
    assert isinstance(wlcg_isolate.__version__, str)
    assert 3 == len([int(number) for number in wlcg_isolate.__version__.split(".")])

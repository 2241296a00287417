"""
What a request may hold, and what it makes of it.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import attrs
import pytest

from wlcg_isolate import Bind, Identity, Payload, Request, RequestError

PAYLOAD = Payload(command=("true",))

#: What is wrong as any text, and as any path.
TEXT = [
    ("", "must not be empty"),
    ("a\0", "must not hold a NUL byte"),
    ("/a\ud800", "must not hold a character that no bytes stand for here, such as a lone surrogate"),
    (7, "must be text, not int"),
    (b"/a", "must be text, not bytes"),
    (["/a"], "must be text, not list"),
]
PATH = [*TEXT[:1], *TEXT[2:], ("/a\0", "must not hold a NUL byte"), ("/a\r", "must not hold a carriage return")]
ABSOLUTE = [*PATH, ("a/b", "must be an absolute path"), ("./a", "must be an absolute path")]


def faults(make, **fields):
    """List the messages of the error that *fields* raise."""
    with pytest.raises(RequestError) as caught:
        make(**fields)
    problems = caught.value.problems
    assert {("request-invalid", "correct the request")} == {(p.kind, p.advice) for p in problems}

    return [p.message for p in problems]


SCALARS = [
    *((Identity, {}, field, TEXT) for field in ("vo", "job_id", "user_dn")),
    (Bind, {"target": "/t"}, "source", PATH),
    (Bind, {"source": "/s"}, "target", [*ABSOLUTE, (None, "must be text, not NoneType")]),
    *((Request, {"payload": PAYLOAD}, field, TEXT) for field in ("image", "platform")),
    *((Request, {"payload": PAYLOAD}, field, ABSOLUTE) for field in ("workdir", "runtime", "trace_dir")),
]


@pytest.mark.parametrize(
    ("make", "more", "field", "table"), SCALARS, ids=[f"{m.__name__}.{f}" for m, _, f, _ in SCALARS]
)
def test_bad_scalar(make, more, field, table):
    """Each name is text that is not empty, and each path a clean one that is absolute where it must be."""
    for value, expected in table:
        assert (value, [f"{field} {expected}"]) == (value, faults(make, **more, **{field: value}))


@pytest.mark.parametrize("command", ["true", b"true", None, 7], ids=repr)
def test_command_is_no_list(command):
    """A command given as one text, or as no list at all, is refused."""
    assert ["command must be a list of words, not one text"] == faults(Payload, command=command)


def test_all_faults_of_command():
    """A command names a program, and lists the faults of all its words at once."""
    expected = [
        "command[0] must not be empty",
        "command[1] must be text, not int",
        "command[3] must not hold a NUL byte",
    ]

    assert expected == faults(Payload, command=["", 1, "", "\0"])


@pytest.mark.parametrize("command", [("a",), ("a", ""), ("a", "\n"), ("a", "b\udcff"), ("./a b", "--", "'")], ids=ascii)
def test_good_command(command):
    """Whatever execve takes is a command, and a list becomes a tuple."""
    assert command == Payload(command=list(command)).command


def test_all_faults_of_identity():
    """An identity lists every fault at once, half a token included."""
    expected = ["vo must not be empty", "user_sub must not be empty", "user_sub and user_iss must be given together"]

    assert expected == faults(Identity, vo="", user_sub="")
    assert expected[2:] == faults(Identity, user_iss="x")


def test_good_identity():
    """Nothing of an identity is wanted, and a full one is kept as it is."""
    full = {
        "vo": "atlas",
        "job_id": "7",
        "user_dn": "/CN=é",
        "user_sub": "s",
        "user_iss": "https://i",
        "pilot_id": "p",
        "user_proxy": "/tmp/x509up",
        "user_token": "/tmp/bt",
        "source": "token",
        "verified": True,
    }

    assert full == attrs.asdict(Identity(**full))
    assert {**dict.fromkeys(full), "verified": False} == attrs.asdict(Identity())


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("source", "gossip", "source must be one of x509-proxy, token, wms-asserted"),
        ("verified", "yes", "verified must be true or false"),
        ("user_proxy", "x509up", "user_proxy must be an absolute path"),
        ("user_token", "", "user_token must not be empty"),
        ("pilot_id", 7, "pilot_id must be text, not int"),
    ],
    ids=["source", "verified", "proxy", "token", "pilot"],
)
def test_bad_identity_parts(field, value, fault):
    """Where an identity comes from is one of few words, and its files are named in full."""
    assert [fault] == faults(Identity, **{field: value})


@pytest.mark.parametrize("field", ["writable", "required"])
@pytest.mark.parametrize("value", [0, 1, None, "ro", "true"], ids=repr)
def test_bad_switch(field, value):
    """What is neither true nor false is refused, however it would count."""
    assert [f"{field} must be true or false"] == faults(Bind, source="/s", **{field: value})


@pytest.mark.parametrize("target", ["/..", "/a/..", "/a/../b", "/../etc", "/a/b/../../c"])
def test_target_with_parent(target):
    """A target that names a parent directory is refused, not guessed at."""
    assert ["target must not hold '..'"] == faults(Bind, source="/s", target=target)


@pytest.mark.parametrize("origin", [None, 7, b"x"], ids=repr)
def test_bad_bind_origin(origin):
    """Where a bind came from is text."""
    assert [f"origin must be text, not {type(origin).__name__}"] == faults(Bind, source="/s", origin=origin)


def test_all_faults_of_bind():
    """A bind lists every fault at once and names itself as their origin."""
    with pytest.raises(RequestError) as caught:
        Bind(source="\0", target="t", writable="yes", required=0)

    assert [
        "source must not hold a NUL byte",
        "target must be an absolute path",
        "writable must be true or false",
        "required must be true or false",
    ] == [p.message for p in caught.value.problems]
    assert {"bind '\\x00'"} == {p.origin for p in caught.value.problems}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/a//b/", "/a/b"),
        ("//a", "/a"),
        ("/./a/.", "/a"),
        ("//", "/"),
        ("/..a/b..", "/..a/b.."),
        (PurePosixPath("/a"), "/a"),
    ],
    ids=str,
)
def test_target_normalised(target, expected):
    """A target has one spelling."""
    assert expected == Bind(source="/s", target=target).target


@pytest.mark.parametrize("source", ["/a//b/", PurePosixPath("/a/b")], ids=["text", "path"])
def test_bind_defaults(source):
    """A bind goes to its source's normal path, read-only and required, for the request."""
    assert (str(source), "/a/b", False, True, "request", None) == attrs.astuple(Bind(source=source))


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("payload", None, "payload must be of type Payload"),
        ("identity", None, "identity must be of type Identity"),
        ("binds", 7, "binds must be a list of Bind"),
        ("binds", ["/a"], "binds must be a list of Bind"),
        ("binds", Bind(source="/a"), "binds must be a list of Bind"),
        ("keep_env", "HOME", "keep_env must be a list of names"),
        ("env", None, "env must map names to values"),
        ("env", [("A", "b")], "env must map names to values"),
        ("env", {"A": "\0"}, "env[A] must not hold a NUL byte"),
    ],
    ids=repr,
)
def test_bad_field(field, value, expected):
    """Each wrong field of a request is refused."""
    assert [expected] == faults(Request, **{"payload": PAYLOAD, field: value})


@pytest.mark.parametrize("name", ["", "=", "A=B", "A\0", "\ud800", 7, None], ids=repr)
def test_bad_variable_name(name):
    """What no program takes for a variable's name is refused, to set and to keep."""
    complaint = f"holds {name!r}, which is no name of a variable"

    assert [f"env {complaint}"] == faults(Request, payload=PAYLOAD, env={name: "x"})
    assert [f"keep_env {complaint}"] == faults(Request, payload=PAYLOAD, keep_env=[name])


@pytest.mark.parametrize(
    "timeout", [0, 0.0, -1, float("nan"), float("inf"), float("-inf"), True, False, "9", [9]], ids=repr
)
def test_bad_timeout(timeout):
    """A time limit is a finite number above 0 and no truth value."""
    assert ["timeout must be a number of seconds above 0"] == faults(Request, payload=PAYLOAD, timeout=timeout)


def test_huge_timeout():
    """A time limit that no float holds is refused as any other wrong one."""
    assert ["timeout must be a number of seconds above 0"] == faults(Request, payload=PAYLOAD, timeout=10**400)


def test_all_faults_of_request():
    """A request lists the faults of all its fields at once."""
    fields = {"image": "", "workdir": "w", "binds": 1, "keep_env": ["", "OK", "a=b"], "env": {"A": 1, "=": ""}}

    assert [
        "payload must be of type Payload",
        "image must not be empty",
        "workdir must be an absolute path",
        "binds must be a list of Bind",
        "keep_env holds '', which is no name of a variable",
        "keep_env holds 'a=b', which is no name of a variable",
        "env[A] must be text, not int",
        "env holds '=', which is no name of a variable",
        "timeout must be a number of seconds above 0",
    ] == faults(Request, payload=None, timeout=0, **fields)


def test_request_defaults():
    """A request needs a payload and nothing else."""
    none = dict.fromkeys(["image", "platform", "workdir", "timeout", "runtime", "trace_dir", "image_digest"])
    more = {
        "payload": PAYLOAD,
        "binds": (),
        "env": {},
        "keep_env": (),
        "credentials": (),
        "identity": Identity(),
        "settings": {},
    }

    assert {**none, **more} == attrs.asdict(Request(payload=PAYLOAD), recurse=False)


def test_conversions():
    """Lists become tuples and path objects text, and the mapping is a read-only copy."""
    env, paths = {"A": ""}, dict.fromkeys(["image", "workdir", "runtime", "trace_dir"], PurePosixPath("/p"))
    made = Request(payload=PAYLOAD, binds=[Bind(source="/a")], keep_env=["B"], env=env, timeout=1, **paths)
    env["A"] = "later"

    assert ((Bind(source="/a"),), ("B",), {"A": ""}) == (made.binds, made.keep_env, made.env)
    assert ["/p"] * 4 == [getattr(made, name) for name in paths]
    with pytest.raises(TypeError):
        made.env["A"] = "x"


@pytest.mark.parametrize("value", [PAYLOAD, Identity(), Bind(source="/a"), Request(payload=PAYLOAD)], ids=type)
def test_frozen(value):
    """No value can be changed once it was checked."""
    for field in attrs.fields(type(value)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, field.name, None)


def test_env_not_in_repr():
    """The values of variables, which may be secrets, do not show."""
    shown = repr(Request(payload=PAYLOAD, env={"NAME": "s3cret"}, image="/i"))

    assert "image='/i'" in shown
    assert "s3cret" not in shown

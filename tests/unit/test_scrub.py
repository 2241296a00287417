"""What looks like a credential does not stay in text."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from wlcg_isolate._scrub import scrub, without
from wlcg_isolate.errors import Problem

#: A busy machine is no fault of what is tested.
_QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJqYW5lIn0.c2lnbmF0dXJlc2lnbmF0dXJl"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----"
MACAROON = "MDAxY2xvY2F0aW9uIGh0dHBzOi8vZXhhbXBsZQowMDFhaWRlbnRpZmllciAxCg=="


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (JWT, "<removed>"),
        (f"bad token {JWT} here", "bad token <removed> here"),
        (f"cut {JWT[:30]}", "cut <removed>"),
        (f"cut {JWT[:15]}...", "cut <removed>"),
        (f"five {JWT}.aaa.bbb", "five <removed>"),
        (KEY, "<removed>"),
        (f"a {KEY} b", "a <removed> b"),
        (KEY.replace("\n", "\\n"), "<removed>"),
        ("cut -----BEGIN CERTIFICATE-----\nMIIEvQIBADANBg", "cut <removed>"),
        (f"two {KEY} {KEY}", "two <removed> <removed>"),
        (f"m {MACAROON} n", "m <removed> n"),
        ("AgEOaHR0cHM6Ly9leGFtcGxlAgEOaHR0cHM6Ly9leGFtcGxl", "<removed>"),
        ("docker://jane:pa55@host/x", "docker://<removed>@host/x"),
        ("https://u:p%40@host:80/x?y", "https://<removed>@host:80/x?y"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer <removed>"),
        ("authz=Bearer%20abcdefgh1234", "authz=<removed>"),
        ("Authorization: Basic amFuZTpwYTU1", "Authorization: Basic <removed>"),
        ("GET /x?a=1&access_token=abcdef&b=2", "GET /x?a=1&access_token=<removed>&b=2"),
        ("X-Amz-Signature=0123456789abcdef&x", "X-Amz-Signature=<removed>&x"),
        ("MY_PASSWORD=geheim", "MY_PASSWORD=<removed>"),
    ],
)
def test_credentials_go(text, expected):
    """Each form of a credential is taken out, whole or cut short."""
    assert expected == scrub(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/cvmfs/atlas.cern.ch/repo/sw",
        "https://cvmfs.example:8000/x?y=1",
        "ssh://git@example/x",
        "user_sub and user_iss must be given together",
        "sha256:" + "a" * 64,
        "--token is no option",
        "the token could not be read: no such file",
        "MDAx",
        "average load AgE",
        "a basic problem",
        "begin: -----",
    ],
)
def test_other_text_stays(text):
    """What is no credential is kept as it is."""
    assert text == scrub(text)


@_QUIET
@given(st.text(max_size=60), st.text(max_size=60), st.integers(12, len(JWT)))
def test_no_part_stays(before, after, cut):
    """Wherever a token stands and is cut, nothing of payload and signature is left."""
    left = scrub(f"{before} {JWT[:cut]} {after}")

    assert not any(JWT[i : i + 8] in left for i in range(12, cut - 8) if JWT[i : i + 8] not in before + after)


@_QUIET
@given(st.text(max_size=200))
def test_twice_is_once(text):
    """Text that was cleaned is clean."""
    once = scrub(text)

    assert once == scrub(once)


def test_problems_hold_none():
    """A problem, which goes to log, outcome and record, holds no credential in any of its parts."""
    problem = Problem(kind="usage", message=f"{JWT} is no option", origin=KEY, advice="use https://a:b@c/")

    assert ("<removed> is no option", "<removed>", "use https://<removed>@c/") == (
        problem.message,
        problem.origin,
        problem.advice,
    )


def test_longest_word_first():
    """A name that holds another one is taken out as a whole."""
    assert "* and *" == without("Jane Doe and Jane", ["Jane", "Jane Doe", ""], "*")

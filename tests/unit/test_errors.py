"""
Problems, the errors that carry them, and the list of kinds.
"""

from __future__ import annotations

import pickle
import re

import attrs
import pytest

from wlcg_isolate import (
    HostError,
    IsolateError,
    LaunchError,
    PlanError,
    PolicyError,
    Problem,
    RequestError,
    TraceError,
)
from wlcg_isolate._kinds import KINDS
from wlcg_isolate.errors import gather

ERRORS = [IsolateError, RequestError, PolicyError, HostError, PlanError, LaunchError, TraceError]

FIRST = Problem(kind="usage", message="one", origin="--a", advice="do")
SECOND = Problem(kind="image-missing", message="two")


@pytest.mark.parametrize("kind", ["", "nonsense", "Usage", "usage ", None], ids=repr)
def test_unknown_kind_refused(kind):
    """A problem has a kind from the closed list or does not exist."""
    with pytest.raises(ValueError, match=rf"^{kind!r} is not a kind of problem; see wlcg_isolate\._kinds$"):
        Problem(kind=kind, message="any")


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (Problem(kind="usage", message="bad"), "usage: bad"),
        (Problem(kind="usage", message="bad", origin="--x"), "usage: bad (from --x)"),
        (Problem(kind="usage", message="bad", advice="mend it"), "usage: bad; mend it"),
        (
            Problem(kind="image-missing", message="no /i", origin="--image", advice="name another"),
            "image-missing: no /i (from --image); name another",
        ),
        (Problem(kind="usage", message="a\nb", origin="c\nd", advice="e\nf"), "usage: a\\nb (from c\\nd); e\\nf"),
        (Problem(kind="usage", message="\n\n"), "usage: \\n\\n"),
    ],
    ids=["plain", "origin", "advice", "all", "newlines", "only-newlines"],
)
def test_problem_is_one_line(problem, expected):
    """A problem renders as one line, with origin and advice if there are any."""
    assert expected == str(problem)


@pytest.mark.parametrize(
    "character",
    ["\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"],
    ids=["cr", "vt", "ff", "fs", "nel", "ls", "ps"],
)
def test_no_line_end_in_problem(character):
    """Nothing that a program takes for the end of a line is left in a problem's text."""
    line = str(Problem(kind="usage", message=f"a{character}b"))

    assert 1 == len(line.splitlines())


def test_problem_is_frozen():
    """A problem cannot be changed."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        FIRST.message = "other"


def test_problem_is_a_value():
    """Problems with the same words are equal."""
    assert Problem(kind="image-missing", message="two", origin="", advice="") == SECOND
    assert FIRST != SECOND


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("problems", [[], (), iter([])], ids=["list", "tuple", "iterator"])
def test_error_without_problems(error, problems):
    """An error that names no problem cannot be made."""
    with pytest.raises(ValueError, match=r"^an error without a problem says nothing$"):
        error(problems)


@pytest.mark.parametrize("error", ERRORS)
def test_error_carries_all(error):
    """An error keeps every problem in order and shows one line for each."""
    found = error(problem for problem in [FIRST, SECOND])

    assert (FIRST, SECOND) == found.problems
    assert "usage: one (from --a); do\nimage-missing: two" == str(found)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_error_pickles(error, protocol):
    """An error comes through a process boundary whole."""
    found = pickle.loads(pickle.dumps(error([FIRST, SECOND]), protocol))

    assert error is type(found)
    assert (FIRST, SECOND) == found.problems
    assert "usage: one (from --a); do\nimage-missing: two" == str(found)


@pytest.mark.parametrize("kind", KINDS)
def test_kind_is_a_word(kind):
    """Every kind is made of lower-case words with dashes."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind)


@pytest.mark.parametrize("kind", KINDS)
def test_kind_is_closed(kind):
    """Every kind says who failed and where to retry in the fixed words."""
    meaning = KINDS[kind]

    assert meaning.failed_by in {None, "payload", "runtime", "policy", "timeout", "signal", "suspension"}
    assert meaning.retry in {None, "same-node", "other-node", "never"}
    assert re.fullmatch(r"[A-Z].+\.", meaning.meaning)


@pytest.mark.parametrize(
    ("kind", "failed_by", "retry"),
    [
        ("success", None, None),
        ("image-missing", "policy", "other-node"),
        ("bind-source-missing", "policy", "other-node"),
        ("user-namespaces-disabled", "runtime", "other-node"),
        ("request-invalid", "policy", "never"),
        ("runtime-killed", "runtime", "same-node"),
        ("time-limit", "timeout", None),
        ("stopped", "signal", None),
        ("exit-nonzero", "payload", None),
    ],
)
def test_published_kinds(kind, failed_by, retry):
    """Kinds that callers already decide by keep name and meaning."""
    assert (failed_by, retry) == (KINDS[kind].failed_by, KINDS[kind].retry)


def test_only_success_is_no_failure():
    """One kind alone has nobody who failed."""
    assert ["success"] == [kind for kind, meaning in KINDS.items() if meaning.failed_by is None]


def test_gather():
    """What can be read is read, and every problem of what cannot be is kept."""

    def read(text):
        if text == "bad":
            raise RequestError(
                [Problem(kind="request-invalid", message=f"{text} {number}") for number in (1, 2)],
            )
        return text.upper()

    values, problems = gather(["a", "bad", "b", "bad"], read)

    assert ["A", "B"] == values
    assert ["bad 1", "bad 2", "bad 1", "bad 2"] == [problem.message for problem in problems]

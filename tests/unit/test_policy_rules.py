"""
How two values of a limit become one.
"""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from wlcg_isolate.policy.rules import (
    added,
    allowed,
    common,
    deadline_of,
    demanded,
    inside,
    smaller,
    sooner,
    stricter,
)

GENERAL = {"host_touch_seconds": 20.0}


@pytest.mark.parametrize(
    ("meet", "held", "wanted", "expected", "lost"),
    [
        (smaller, 20.0, 10.0, 10.0, ""),
        (smaller, 20.0, 20.0, 20.0, ""),
        (smaller, 20.0, 30.0, 20.0, "30, where 20 is the most"),
        (smaller, None, 30.0, 30.0, ""),
        (smaller, None, None, None, ""),
        (smaller, 20.0, None, 20.0, "no limit, where 20 is the most"),
        (demanded, True, True, True, ""),
        (demanded, False, True, True, ""),
        (demanded, False, False, False, ""),
        (demanded, True, False, True, "false, where it is demanded"),
        (stricter, "host", "none", "none", ""),
        (stricter, "none", "none", "none", ""),
        (stricter, "none", "host", "none", "host, where none is held to"),
        (stricter, "confine", "refuse", "refuse", ""),
        (stricter, "confine", "allow", "confine", "allow, where confine is held to"),
        (stricter, "refuse", "warn", "refuse", "warn, where refuse is held to"),
        (allowed, True, True, True, ""),
        (allowed, True, False, False, ""),
        (allowed, False, False, False, ""),
        (allowed, False, True, False, "true, where it is not allowed"),
        (common, ("a", "b"), ("b", "a"), ("a", "b"), ""),
        (common, ("a", "b"), ("b",), ("b",), ""),
        (common, ("a",), ("b", "a", "c"), ("a",), "b, c, not allowed here"),
        (common, ("a",), (), (), ""),
        (inside, ("/",), ("/cvmfs", "/data"), ("/cvmfs", "/data"), ""),
        (inside, ("/cvmfs",), ("/cvmfs/a", "/cvmfs"), ("/cvmfs/a", "/cvmfs"), ""),
        (inside, ("/cvmfs/a", "/cvmfs/b"), ("/cvmfs",), ("/cvmfs/a", "/cvmfs/b"), "/cvmfs, not allowed here"),
        (inside, ("/cvmfs",), ("/cvmfs2",), (), "/cvmfs2, not allowed here"),
        (inside, ("/cvmfs",), ("/nowhere",), (), "/nowhere, not allowed here"),
        (inside, ("/a",), (), (), ""),
        (added, ("/a",), ("/b", "/a"), ("/a", "/b"), ""),
        (added, (), (), (), ""),
        (sooner, {"/cvmfs": 60.0}, {"/cvmfs": 30.0}, {"/cvmfs": 30.0}, ""),
        (sooner, {"/cvmfs": 60.0}, {"/cvmfs": 90.0}, {"/cvmfs": 60.0}, "/cvmfs: 90, where 60 is the most"),
        (sooner, {"/cvmfs": 60.0}, {"/cvmfs/a": 40.0}, {"/cvmfs": 60.0, "/cvmfs/a": 40.0}, ""),
        (sooner, {"/cvmfs": 60.0}, {"/eos": 40.0}, {"/cvmfs": 60.0}, "/eos: 40, where 20 is the most"),
        (sooner, {}, {"/eos": 5.0}, {"/eos": 5.0}, ""),
    ],
)
def test_meet(meet, held, wanted, expected, lost):
    """The stricter value holds, and what would have widened it is named."""
    assert (expected, lost) == meet(held, wanted, GENERAL)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/cvmfs", 60.0), ("/cvmfs/a/b", 30.0), ("/cvmfs/ab", 60.0), ("/cvmfs2", 20.0), ("/", 20.0)],
)
def test_deadline(path, expected):
    """The longest directory above a path gives its deadline."""
    assert expected == deadline_of(path, {"/cvmfs": 60.0, "/cvmfs/a": 30.0}, 20.0)


ROOTS = st.lists(st.sampled_from(["/", "/a", "/a/b", "/a/b/c", "/ab", "/d"]), unique=True, max_size=4).map(tuple)
SECONDS = st.none() | st.floats(min_value=0.1, max_value=1e6)


@given(ROOTS, ROOTS, st.sampled_from(["/a", "/a/b", "/a/b/c/d", "/ab/x", "/d", "/e"]))
def test_inside_allows_what_both_allow(held, wanted, path):
    """A path is allowed by the joint roots exactly when both sides allow it."""
    joint, _ = inside(held, wanted, GENERAL)

    def within(roots):
        return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)

    assert (within(held) and within(wanted)) == within(joint)


@given(SECONDS, SECONDS, SECONDS)
def test_smaller_never_widens(first, second, third):
    """However many speak, nobody gets more than any of them allows."""
    joint = first
    for wanted in (second, third):
        joint, _ = smaller(joint, wanted, GENERAL)
    numbers = [number for number in (first, second, third) if number is not None]

    assert joint == (min(numbers) if numbers else None)

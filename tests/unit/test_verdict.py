"""What is known of an end becomes one outcome."""

from __future__ import annotations

import types

import pytest

from wlcg_isolate.launch.process import Ended
from wlcg_isolate.launch.verdict import End, judge, usage_of

KILL, TERM, USR1, CONT = 9, 15, 10, 18


@pytest.fixture
def verdict():
    """Judge an end from how the runtime and the payload's process ended."""

    def make(runtime, inner, *, reaped=None, **known):
        plan = types.SimpleNamespace(trace_id="t", timeout=5.0)
        launcher = types.SimpleNamespace(ended=Ended(*runtime), usage=None, has_reaped=lambda: reaped)
        outcome = judge(End(plan=plan, **known), launcher, inner and Ended(*inner))
        return outcome.kind, outcome.exit_code, outcome.signal

    return make


@pytest.mark.parametrize(
    ("runtime", "inner", "known", "expected"),
    [
        ((0, None), (0, None), {}, ("success", 0, None)),
        ((143, None), (143, None), {}, ("exit-nonzero", 143, None)),
        ((143, None), None, {}, ("ended-by-signal", None, TERM)),
        ((137, None), (None, KILL), {}, ("ended-by-signal", None, KILL)),
        # The runtime was killed, and its container with it.
        ((None, KILL), (None, KILL), {}, ("runtime-lost", None, KILL)),
        ((None, KILL), None, {}, ("runtime-lost", None, KILL)),
        ((None, KILL), (None, KILL), {"passed_on": {USR1}}, ("runtime-lost", None, KILL)),
        # It ended by the signal that ended the payload, or process 1.
        ((None, KILL), (None, KILL), {"reaped": True}, ("ended-by-signal", None, KILL)),
        ((None, KILL), (None, KILL), {"reaped": False}, ("runtime-lost", None, KILL)),
        # The payload had ended by itself before.
        ((None, KILL), (3, None), {}, ("exit-nonzero", 3, None)),
        # What the pilot did is no failure of anybody.
        ((143, None), (None, TERM), {"passed_on": {TERM}}, ("stopped", None, TERM)),
        ((143, None), (None, TERM), {"passed_on": {USR1, TERM, CONT}}, ("stopped", None, TERM)),
        ((139, None), (None, 11), {"passed_on": {TERM}}, ("ended-by-signal", None, 11)),
        ((7, None), (7, None), {"passed_on": {TERM}}, ("exit-nonzero", 7, None)),
        ((7, None), (7, None), {"cause": "stop"}, ("stopped", 7, None)),
        ((None, KILL), (None, KILL), {"cause": "stop", "killed": True}, ("stopped", None, KILL)),
        ((None, KILL), (None, KILL), {"cause": "time-limit", "killed": True}, ("time-limit", None, KILL)),
        ((0, None), (0, None), {"cause": "time-limit"}, ("time-limit", 0, None)),
        # Somebody else in the pilot's process reaped the runtime.
        ((None, None), None, {}, ("end-unseen", None, None)),
        ((None, None), (4, None), {}, ("exit-nonzero", 4, None)),
    ],
)
def test_verdict(verdict, runtime, inner, known, expected):
    """Each end has one kind, and keeps what is known of its status."""
    assert expected == verdict(runtime, inner, **known)


def test_usage_that_nobody_saw():
    """What the kernel told somebody else is not known, and no zero."""
    usage = usage_of(None, 1.5, 4096)

    assert (1.5, None, None, 4096) == (
        usage.wall_seconds,
        usage.cpu_seconds,
        usage.max_rss_bytes,
        usage.tree_peak_bytes,
    )

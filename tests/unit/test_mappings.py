"""
What an outcome is called by pilots and batch systems, against tables copied from their sources.
"""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from wlcg_isolate import PlanError, Problem, mappings
from wlcg_isolate._codes import CONDOR, GLIDEINWMS, IMAGE_NOT_IN_CVMFS, PANDA, STAND_INS, SYSEXITS, TABLE
from wlcg_isolate._kinds import KINDS
from wlcg_isolate.outcome import of_kind, of_payload, of_refusal

PEERS = json.loads((Path(__file__).parent / "peers.json").read_text())

#: Kinds of a payload that did start.
RAN = ("success", "exit-nonzero", "ended-by-signal", "time-limit", "stopped", "end-unseen", "runtime-lost")
COMMAND = ("command-not-found", "command-not-executable")

#: What an end of each kind has beside.
ENDS = {
    "success": {"exit_code": 0}, "exit-nonzero": {"exit_code": 3}, "ended-by-signal": {"signal": 6},
    "time-limit": {"signal": 15}, "stopped": {"signal": 15}, "runtime-lost": {"signal": 9},
    "command-not-found": {"exit_code": 127}, "command-not-executable": {"exit_code": 126},
}  # fmt: skip


def outcome_of(kind):
    """Make an outcome of a kind."""
    return of_kind(kind, started=kind in (*RAN, *COMMAND), **ENDS.get(kind, {}))


def test_every_kind_has_every_mapping():
    """No kind is forgotten, and none is made up."""
    assert set(KINDS) == set(TABLE)


@pytest.mark.parametrize(
    ("peer", "own"),
    [("PanDA", PANDA), ("HTCondor", CONDOR), ("sysexits", SYSEXITS)],
    ids=["panda", "condor", "sysexits"],
)
def test_numbers(peer, own):
    """Names and numbers are those of the peer's source, and each is used."""
    theirs = {**PEERS[peer]["codes"], **({"SUCCESS": 0} if peer == "PanDA" else {})}
    used = {
        getattr(codes, {"PanDA": "panda", "HTCondor": "condor", "sysexits": "sysexit"}[peer])
        for codes in TABLE.values()
    }

    assert {name: theirs.get(name) for name in own} == dict(own)
    assert used - {None} <= set(own)
    # The rest of PanDA's are for signals.
    assert {name for name in own if not name.startswith(("SIG", "PAYLOADSIG"))} <= used


def test_types_of_glideinwms():
    """The error types are GlideinWMS's own."""
    assert PEERS["GlideinWMS"]["codes"] == list(GLIDEINWMS)
    assert {codes.glideinwms for codes in TABLE.values()} - {None} == set(GLIDEINWMS)


def test_classes_of_osg():
    """Each hook status is in a class that says the same as the retry advice."""
    classes = PEERS["OSG"]["classes"]
    found = {
        kind: next((name for name, (low, high) in classes.items() if low <= codes.osg <= high), "none")
        for kind, codes in TABLE.items()
    }

    assert PEERS["OSG"]["codes"]["image missing below /cvmfs"] == IMAGE_NOT_IN_CVMFS
    for kind, name in found.items():
        held = KINDS[kind].retry == "never"
        by_itself = kind in (*RAN[:-2], *COMMAND)
        assert ("hold" if held else "none" if by_itself else name) == name, kind
        assert held == (name == "hold"), kind
        assert by_itself == (name == "none"), kind


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_else_is_blamed(kind):
    """A node's failure is nowhere the payload's, a payload's is nowhere the node's, and success is success."""
    outcome = outcome_of(kind)
    code, text = mappings.panda(outcome)
    answer = mappings.dirac(outcome)
    condor = mappings.htcondor(outcome)
    payload = outcome.failed_by == "payload"
    elsewhere = outcome.retry in ("same-node", "other-node") or kind == "end-unseen"

    assert (kind == "success") == (code == 0) == (text == "")
    assert payload == (code in (1305, 1328, 1346))
    assert elsewhere == (not answer["OK"]) == (condor.wrapper_error is not None)
    assert (kind == "success") == (answer == {"OK": True, "Value": 0}) == (mappings.sysexit(outcome) == 0)
    assert (outcome.failed_by in ("runtime", "policy")) == (mappings.glideinwms(outcome) is not None)
    if elsewhere:
        assert condor.code >= 1000
    if outcome.retry == "never":
        assert (19, True) == (condor.code, 64 <= condor.subcode <= 78)
        assert mappings.osg_hook(outcome).status == condor.subcode == mappings.sysexit(outcome)


@pytest.mark.parametrize("kind", KINDS)
def test_plain_types(kind):
    """What is given can be written as JSON, in one line where the peer takes no more."""
    outcome = attrs.evolve(outcome_of(kind), message="one\ntwo \x1b[31mthree")
    hook, condor = mappings.osg_hook(outcome), mappings.htcondor(outcome)
    lines = [mappings.one_line(outcome), hook.message, condor.wrapper_error or "", mappings.panda(outcome)[1]]

    assert json.loads(json.dumps(mappings.dirac(outcome))) == mappings.dirac(outcome)
    assert all(line.isprintable() for line in lines)
    assert mappings.one_line(outcome) == f"{kind}: one | two \\x1b[31mthree"
    assert PEERS["DIRAC"]["keys"]["S_OK" if mappings.dirac(outcome)["OK"] else "S_ERROR"] == list(
        mappings.dirac(outcome)
    )
    assert (hook.status == 0) == (hook.exit_code == 0) == (hook.message == "")
    assert 0 <= hook.exit_code <= 100


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (of_payload(255, None), 1305),
        (of_payload(None, 11), 1328),
        (of_payload(None, 9), 1305),
        (of_payload(None, 34), 1305),
        (of_kind("stopped", started=True, signal=15), 1201),
        (of_kind("stopped", started=True, signal=24), 1204),
        (of_kind("stopped", started=True, signal=9), 1200),
        (of_kind("stopped", started=True, signal=99), 1200),
        (of_kind("time-limit", started=True, exit_code=0), 1213),
        (of_kind("user-namespaces-disabled", started=False), 1345),
        (of_kind("runtime-lost", started=True, signal=9), 1306),
    ],
    ids=["255", "segv", "kill", "real-time", "term", "xcpu", "killed", "no-signal", "limit", "userns", "lost"],
)
def test_panda(outcome, expected):
    """PanDA has codes of its own for some signals."""
    assert expected == mappings.panda(outcome)[0]


def test_one_of_several_problems_is_wrong_everywhere():
    """What is wrong everywhere is held and not tried again, also when another problem gave the kind."""
    problems = [Problem(kind="image-missing", message="gone"), Problem(kind="usage", message="wrong")]
    outcome = of_refusal(PlanError(problems))

    assert "image-missing" == outcome.kind
    assert {"OK": True, "Value": 125} == mappings.dirac(outcome)
    assert (19, 66, None) == tuple(mappings.htcondor(outcome))
    assert (66, "image-missing: gone | usage: wrong", 66) == tuple(mappings.osg_hook(outcome))


def test_hook_says_what_osg_says():
    """An image that is missing has the number that OSG's hook gives it, and the same exit status."""
    assert (307, 7) == mappings.osg_hook(outcome_of("image-missing"))[::2]
    assert (300, 100) == mappings.osg_hook(outcome_of("runtime-missing"))[::2]


def test_hook_of_a_pool():
    """A pool's hook holds a job whose image is missing, and is OSG's otherwise; what began is never held."""
    missing = outcome_of("image-missing")
    other = [outcome_of(kind) for kind in KINDS if kind != "image-missing"]

    assert (66, 66) == mappings.htcondor_hook(missing)[::2]
    assert [mappings.osg_hook(outcome) for outcome in other] == [mappings.htcondor_hook(outcome) for outcome in other]


def test_nearest_words_are_explained():
    """Where a peer has no word for a kind, it is said which one stands in."""
    nearest = {codes.panda for codes in TABLE.values() if not codes.exact}

    assert {"PanDA", "HTCondor", "DIRAC", "OSG"} == set(STAND_INS)
    assert {"INTERNALPILOTPROBLEM", "SETUPFAILURE"} <= nearest
    assert all(
        name in STAND_INS["PanDA"] for name in ("INTERNALPILOTPROBLEM", "SETUPFAILURE", "SINGULARITYGENERALFAILURE")
    )


def test_public():
    """The functions are those that the documentation names."""
    assert all(callable(getattr(mappings, name)) for name in mappings.__all__)

"""
Nodes as sites have them: each dump leads to the plan or the refusal that it should.
"""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from wlcg_isolate import PlanError, Policy, make_plan
from wlcg_isolate.cli.findings import findings_of
from wlcg_isolate.host import ImageFact
from wlcg_isolate.host.dump import _structured, dump, load, read
from wlcg_isolate.structure import request_from_dict

NODES = Path(__file__).resolve().parents[2] / "wlcg_isolate" / "testing" / "nodes"
CASES = [
    pytest.param(path, case, id=f"{path.stem}-{i}")
    for path in sorted(NODES.glob("*.json"))
    for i, case in enumerate(json.loads(path.read_text())["cases"])
]


def facts_for(path, case):
    """Read a node; a case may have another image than the dump."""
    facts = read(path)
    if "image" not in case:
        return facts
    image = _structured(case["image"], ImageFact, "image")

    return attrs.evolve(facts, image=image, paths={**facts.paths, image.root.path: image.root})


def decided(path, case):
    """Plan for a node, and tell what came of it in the words of the fixtures."""
    request = request_from_dict(case["request"])
    try:
        plan = make_plan(request, Policy(**case.get("policy", {})), facts_for(path, case))
    except PlanError as error:
        return {"refused": sorted({problem.kind for problem in error.problems} - {"image-form-unsupported"})}

    return {
        "runtime": plan.runtime.path,
        "mode": plan.runtime.mode,
        "layer": plan.runtime.layer,
        "pid": plan.runtime.pid,
        "mounts": [bind.target for bind in plan.binds if bind.decision == "mount"],
        "skips": [bind.target for bind in plan.binds if bind.decision == "skip"],
        "warnings": len(plan.runtime.warnings),
    }


@pytest.mark.parametrize(("path", "case"), CASES)
def test_decision(path, case):
    """The node gets the plan, or the refusal, that its fixture names."""
    assert case["expected"] == decided(path, case)


@pytest.mark.parametrize(("path", "case"), CASES)
def test_options_follow(path, case):
    """The command has the options that fit the node, and no others."""
    if "refused" in case["expected"]:
        return
    plan = make_plan(request_from_dict(case["request"]), Policy(**case.get("policy", {})), read(path))

    assert (case["expected"]["mode"] == "userns", case["expected"]["pid"]) == (
        "--userns" in plan.argv,
        "--pid" in plan.argv,
    )


@pytest.mark.parametrize("path", sorted(NODES.glob("*.json")), ids=lambda path: path.stem)
def test_findings(path):
    """Whether the doctor lets payloads run agrees with the first case; what is missing has a cure."""
    case = json.loads(path.read_text())["cases"][0]
    findings = findings_of(read(path), Policy(**case.get("policy", {})))
    vital = [finding for finding in findings if finding.vital]

    assert ("refused" not in case["expected"]) == all(finding.verdict == "yes" for finding in vital)
    assert [] == [finding for finding in vital if finding.verdict != "yes" and not finding.mend]


def contained(part, whole):
    """Tell whether all of *part* is in *whole*, which may know more fields."""
    if isinstance(part, dict):
        return set(part) <= set(whole) and all(contained(value, whole[key]) for key, value in part.items())
    if isinstance(part, list):
        return len(part) == len(whole) and all(map(contained, part, whole))

    return part == whole


@pytest.mark.parametrize("path", sorted(NODES.glob("*.json")), ids=lambda path: path.stem)
def test_round_trip(path):
    """A dump read back and dumped again is the same; nothing was lost or guessed."""
    dumped = json.loads(json.dumps(dump(read(path))))

    assert contained(json.loads(path.read_text())["facts"], dumped)
    assert dumped == dump(load(dumped))


def test_enough_nodes():
    """The kinds of nodes that the grid has are there."""
    assert 8 <= len({param.values[0] for param in CASES})

"""
The doctor's screen, and plans for nodes that are elsewhere.
"""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from wlcg_isolate import Policy
from wlcg_isolate.cli import doctor, plan
from wlcg_isolate.cli.findings import findings_of
from wlcg_isolate.host import PathFact, ProbeFact, RuntimeFact
from wlcg_isolate.host.nodefacts import NodeFacts, RepositoryFact

NODES = Path(__file__).resolve().parents[2] / "wlcg_isolate" / "testing" / "nodes"
IMAGE = "/cvmfs/unpacked.cern.ch/registry.hub.docker.com/cmssw/el9:x86_64"
ALL = sorted(NODES.glob("*.json"))
ABLE = {path.stem: "refused" not in json.loads(path.read_text())["cases"][0]["expected"] for path in ALL}


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_screen(path, capsys):
    """One screen for each node; the exit status and the last line say whether payloads can run."""
    status = doctor.main(["--facts", str(path)])
    lines = capsys.readouterr().out.splitlines()

    assert (0 if ABLE[path.stem] else 1) == status
    assert f"payloads can run here: {'yes' if ABLE[path.stem] else 'no'}" == lines[-1]
    assert len(lines) <= 48
    assert [] == [line for line in lines if len(line) > 150 and not line.startswith("  ")]


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_json(path, capsys):
    """The same in JSON, with the runtime that payloads would get, and facts that can be planned against."""
    doctor.main(["--facts", str(path), "--json"])
    report = json.loads(capsys.readouterr().out)

    assert {"able", "runtime", "findings", "facts"} == set(report)
    assert (ABLE[path.stem], ABLE[path.stem]) == (report["able"], report["runtime"] is not None)
    assert {"name", "verdict", "how", "meaning", "mend", "vital"} == set(report["findings"][0])
    assert {"yes", "no", "no answer"} >= {finding["verdict"] for finding in report["findings"]}


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("el9-userns-apptainer", 0, "apptainer 1.4.1-1.el9, userns mode"),
        ("userns-disabled", 125, "user-namespaces-disabled"),
        ("docker-nested-pilot", 0, "no PID namespace can be made here"),
    ],
)
def test_plan_elsewhere(name, status, words, capsys):
    """A plan, or its refusal, is that of the node in the file."""
    workdir = json.loads((NODES / f"{name}.json").read_text())["facts"]["cwd"]
    facts = str(NODES / f"{name}.json")
    actual = plan.main(["--facts", facts, "--image", IMAGE, "--workdir", workdir, "--", "true"])
    shown = capsys.readouterr()

    assert (status, True) == (actual, words in shown.out + shown.err)


@pytest.mark.parametrize(("main", "status"), [(plan.main, 125), (doctor.main, 1)], ids=["plan", "doctor"])
def test_no_facts(main, status, tmp_path, capsys):
    """A file that is no dump is one line on standard error."""
    file = tmp_path / "facts.json"
    file.write_text("{}")

    assert status == main(["--facts", str(file), "--image", "/x", "--", "true"])
    assert capsys.readouterr().err.startswith("wlcg-isolate: facts-invalid: ")


def test_wrong_options(capsys):
    """What the doctor cannot understand is said, and nothing is looked at."""
    assert 1 == doctor.main(["--nosuch"])
    assert "usage" in capsys.readouterr().err


def found(facts, name, policy=None):
    """Find one line of the doctor's."""
    return next((f for f in findings_of(facts, policy or Policy()) if f.name.strip() == name), None)


def works(**more):
    """Make a runtime that answers."""
    return RuntimeFact(
        **{"path": "/usr/bin/apptainer", "verdict": "works", "banner": "apptainer version 1.4.5", **more}
    )


@pytest.mark.parametrize(
    ("node", "name", "verdict", "words"),
    [
        (NodeFacts(user_known=None), "user's entry", "no answer", "getent"),
        (NodeFacts(user_known=False), "user's entry", "no", "getent"),
        (NodeFacts(chroot=True), "mounted root", "no", "pivot_root"),
        (NodeFacts(proc_masked=True), "whole /proc", "no", "systempaths"),
        (NodeFacts(user_namespace=True), "no container yet", "no", "a user namespace"),
        (NodeFacts(cpu_level=1), "processor", "yes", "EL8"),
        (NodeFacts(cpu_level=3), "processor", "yes", "EL10"),
        (NodeFacts(vsyscall="none"), "vsyscall", "no", "vsyscall=emulate"),
        (NodeFacts(cgroup="v2", cgroup_delegated=True), "cgroup delegation", "yes", "memory"),
        (NodeFacts(free={"/tmp": None}), "space in /tmp", "no answer", ""),
        (NodeFacts(free={"/tmp": 5}), "space in /tmp", "no", "free space"),
        (
            NodeFacts(repositories=[RepositoryFact(name="a.b", path="/cvmfs/a.b", reason="no answer")]),
            "/cvmfs/a.b",
            "no answer",
            "cvmfs_config",
        ),
    ],
)
def test_node_findings(facts, node, name, verdict, words):
    """Each fact has its verdict, and its cure where there is one."""
    actual = found(facts(node=node), name)

    assert (verdict, True) == (actual.verdict, words in actual.meaning + actual.mend)


@pytest.mark.parametrize(
    ("fact", "verdict"),
    [
        (PathFact(path="/dev/fuse", state="no-answer", reason="no answer within 1 s"), "no answer"),
        (PathFact(path="/dev/fuse", state="missing", reason="No such file or directory"), "no"),
        (PathFact(path="/dev/fuse", state="present", kind="other", writable=True), "yes"),
    ],
)
def test_fuse(facts, fact, verdict):
    """Three states, for what is not there and what does not answer are mended differently."""
    assert verdict == found(facts(paths={"/dev/fuse": fact}), "/dev/fuse").verdict


def test_candidates(facts):
    """Which runtime is taken and why not the others; the set-uid starter's use; what a probe could not see."""
    probe = ProbeFact(mode="setuid", start="yes", starts=1)
    runtimes = [
        RuntimeFact(path="/a", verdict="missing", reason="no such file"),
        RuntimeFact(path="/b", verdict="broken", reason="garbage"),
        works(setuid=True, tree=probe),
        works(path="/later"),
    ]
    node = facts(runtimes=runtimes, node=NodeFacts())
    reasons = [f.meaning for f in findings_of(node, Policy()) if f.name == "  not taken"]

    assert ["/b does not work: garbage", "/later would do, but comes later"] == reasons
    assert ("yes", "no answer") == (found(node, "set-uid starter").verdict, found(node, "missing target").verdict)


@pytest.mark.parametrize(("method", "words"), [("fuse", "FUSE"), ("kernel", "kernel"), ("unpacked", "each time")])
def test_image_file(facts, method, words):
    """How image files are opened is told, since it costs so differently."""
    probe = ProbeFact(mode="userns", start="yes", method=method, starts=1, seconds=0.1)
    node = facts(runtimes=[works(tree=attrs.evolve(probe, method=None), file=probe)])

    assert words in found(node, "image file").meaning

"""
The example files of sites, each through a plan on a node of its kind.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from wlcg_isolate import PlanError, load_policy, make_plan
from wlcg_isolate.host import PathFact, RuntimeFact

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SITES = EXAMPLES / "sites"


ATLAS = "/cvmfs/atlas.cern.ch/repo/containers/fs/singularity/x86_64-almalinux9"
CERTIFICATES = "/etc/grid-security/certificates"


@pytest.fixture
def planned(facts, request_for, image_fact, present):
    """Plan with a site's file, on the good node with the *paths* that site has."""

    def make(site, experiment=None, image=ATLAS, paths=(), looked=None, given_image=None, **given):
        policy = load_policy(SITES / f"{site}.toml", experiment or ())
        known = {path: present(path) for path in (*paths, *(f"/cvmfs/{name}" for name in policy.cvmfs_repositories))}
        values = {
            "image": given_image or image_fact(requested="el9", root=present(image, writable=False)),
            **given,
            "paths": {**known, **(looked or {})},
        }
        return make_plan(request_for(image=None, platform="el9", trace_dir=None), policy, facts(**values))

    return make


def test_el9_grid(planned):
    """On a grid site ATLAS gets its image from CVMFS, the site's binds, and the site's limits."""
    plan = planned("el9-grid", "atlas", paths=[CERTIFICATES])
    binds = {bind.target: (bind.decision, bind.writable) for bind in plan.binds}

    assert (ATLAS, "userns", 259200.0) == (plan.image.resolved_path, plan.runtime.mode, plan.timeout)
    assert [("mount", False), ("mount", False)] == [binds[CERTIFICATES], binds["/cvmfs"]]
    assert ("skip", False) == binds["/cephfs/grid"]
    assert ["/var/log/wlcg_isolate/1000"] == list(plan.trace_dirs)


def test_el9_grid_needs_its_certificates(planned):
    """What the site requires refuses where it is missing."""
    with pytest.raises(PlanError) as caught:
        planned("el9-grid", "atlas")

    assert ["bind-source-missing"] == [problem.kind for problem in caught.value.problems]


def test_el9_grid_with_the_experiments_file(planned):
    """The experiment's file for the site chooses another image; what the site locked stays, and that is told."""
    image = "/cvmfs/unpacked.cern.ch/registry.hub.docker.com/atlasadc/atlas-grid-almalinux9:latest"
    experiment = ["atlas", EXAMPLES / "experiments" / "atlas-at-el9-grid.toml"]
    plan = planned("el9-grid", experiment, image, paths=[CERTIFICATES])
    policy = load_policy(SITES / "el9-grid.toml", experiment)

    assert image == plan.image.resolved_path == policy.image_names["el9"]
    assert ("/usr/bin/apptainer",) == policy.runtime_search
    assert 2 == len([text for text in plan.warnings if text.startswith("runtime.search: experiment")])


def test_setuid_automount(planned):
    """Where the set-uid starter is installed it is used, and automounted storage is bound when it answers."""
    runtime = RuntimeFact(path="/usr/bin/apptainer", verdict="works", banner="apptainer version 1.4.5", setuid=True)
    plan = planned("setuid-automount", "atlas", paths=["/nfs/grid/data"], runtimes=(runtime,))
    binds = {bind.target: bind.decision for bind in plan.binds}

    assert "setuid" == plan.runtime.mode
    assert {"/data": "mount", "/fast": "skip"}.items() <= binds.items()


def test_setuid_automount_silent(planned):
    """Automounted storage that does not answer refuses the payload with that reason."""
    silent = {"/nfs/grid/data": PathFact(path="/nfs/grid/data", state="no-answer", reason="no answer within 5 s")}
    with pytest.raises(PlanError) as caught:
        planned("setuid-automount", looked=silent)

    assert ["bind-source-no-answer"] == [problem.kind for problem in caught.value.problems]


def test_nested_pilot(planned):
    """In a container only unprivileged mode is used, and CVMFS is required."""
    plan = planned("nested-pilot")

    assert "userns" == plan.runtime.mode
    assert {"/srv", "/cvmfs"} == {bind.target for bind in plan.mounts}


def test_nested_pilot_without_cvmfs(planned):
    """Without CVMFS the pod is of no use, and says so."""
    gone = PathFact(path="/cvmfs", state="missing", reason="No such file or directory")
    with pytest.raises(PlanError) as caught:
        planned("nested-pilot", looked={"/cvmfs": gone})

    assert ["bind-source-missing"] == [problem.kind for problem in caught.value.problems]


def test_hpc_names_single_files():
    """Without CVMFS names lead to single files, whatever the experiment's profile says, and none is required."""
    policy = load_policy(SITES / "hpc-single-files.toml", "atlas")

    assert "/lustre/software/images/x86_64/el9-2026.03.sif" == policy.image_names["el9"]["x86_64"]
    assert ((), ("/lustre/software/images",)) == (policy.cvmfs_repositories, policy.image_allowed_roots)


def test_hpc(planned, image_fact, present):
    """On a supercomputer without CVMFS the image is one file, unpacked on the site's disk where FUSE is missing."""
    path = "/lustre/software/images/x86_64/el9-2026.03.sif"
    plan = planned(
        "hpc-single-files",
        "atlas",
        paths=["/lustre/software/conditions"],
        looked={"/dev/fuse": PathFact(path="/dev/fuse", state="missing", reason="No such file or directory")},
        image=path,
        given_image=image_fact(
            requested="el9",
            root=present(path, kind="file", writable=False),
            form="sif",
            size=100_000_000,
            unsquashfs="/usr/bin/unsquashfs",
            room=10**12,
        ),
    )
    binds = {bind.target: bind.decision for bind in plan.binds}

    assert (path, "sif") == (plan.image.resolved_path, plan.image.form)
    assert "--unsquash" in plan.argv
    assert {"/conditions": "mount"}.items() <= binds.items()

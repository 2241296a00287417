"""
What the runtime is told of an image file, and what happens when the file changes meanwhile.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import attrs
import pytest

from wlcg_isolate import Policy, launch_plan, make_plan, probe_host
from wlcg_isolate.host import PathFact


@pytest.fixture
def sif(tmp_path):
    """Make a SIF that passes for a system; the fake uses the host's files."""
    place = Path(__file__).resolve().parents[1] / "unit" / "images" / "conftest.py"
    spec = importlib.util.spec_from_file_location("images_by_hand", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    system = {**module.SYSTEM, "lib64": {}, "usr": {"bin": {"sh": b"#!"}}}
    system[".singularity.d"] = {"env": {"99-base.sh": b"# delivers variables\n"}}
    path = tmp_path / "image.sif"
    path.write_bytes(module.make_sif(module.SquashfsWriter().write(system)))

    return path


@pytest.fixture
def plan_for(request_for, sif, tmp_path):
    """Plan for the SIF, with FUSE or without."""

    def make(runtime, *, fuse):
        policy = Policy(image_verified_directory=str(tmp_path / "verified"), runtime_probe_starts=False)
        request = request_for(runtime, "true", image=str(sif))
        facts = probe_host(request, policy)
        device = PathFact(path="/dev/fuse", state="present", kind="other", readable=fuse, writable=fuse)
        return make_plan(request, policy, attrs.evolve(facts, paths={**facts.paths, "/dev/fuse": device}))

    return make


@pytest.mark.parametrize("fuse", [True, False])
def test_what_the_runtime_gets(fake, isolate, plan_for, tmp_path, fuse):
    """The runtime unpacks only where it must, and does so in the payload's private directory."""
    seen = tmp_path / "seen"
    runtime = fake(f'echo "$APPTAINER_TMPDIR" >"{seen}"; {isolate}')
    plan = plan_for(runtime, fuse=fuse)
    outcome = launch_plan(plan)

    assert "success" == outcome.kind, outcome.message
    assert fuse == ("--unsquash" not in plan.argv)
    assert plan.scratch == seen.read_text().strip()
    assert plan.workdir == plan.environ["APPTAINER_TMPDIR"]


def test_setting_of_the_site(fake, request_for, sif, tmp_path):
    """Where the site says where to unpack, that holds."""
    policy = Policy(
        runtime_tmpdir=str(tmp_path), image_verified_directory=str(tmp_path / "verified"), runtime_probe_starts=False
    )
    plan = make_plan(request_for(fake(), "true", image=str(sif)), policy)

    assert str(tmp_path) == plan.environ["APPTAINER_TMPDIR"]


@pytest.mark.parametrize(
    "change",
    ['cp "{0}" "{0}.new" && mv "{0}.new" "{0}"', 'touch "{0}"', 'mv "{0}" "{0}.x" && mv "{0}.x" "{0}"', 'rm "{0}"'],
    ids=["replaced", "written", "moved away and back", "removed"],
)
def test_changed_while_the_container_was_made(fake, isolate, plan_for, sif, tmp_path, change):
    """Whatever happens to the verified file before the first instruction is noticed."""
    plan = plan_for(fake(f"{change.format(sif)}; {isolate}"), fuse=True)
    outcome = launch_plan(plan)

    assert (False, "image-changed", "same-node") == (outcome.started, outcome.kind, outcome.retry)
    assert [] == os.listdir(tmp_path / "work")

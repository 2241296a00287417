"""
Binds are what the plan says, seen from inside.
"""

from __future__ import annotations

import json
import os

import pytest

from wlcg_isolate import Bind, make_plan, run_isolated


@pytest.fixture
def data(tmp_path):
    """A host directory with a file."""
    directory = tmp_path / "data"
    (directory / "sub").mkdir(parents=True)
    (directory / "file").write_text("content")

    return directory


@pytest.mark.parametrize("name", ["tiny", "tiny-bare", "debian11"])
@pytest.mark.parametrize(
    "target",
    ["/data", "/nosuch", "/nosuch/three/levels", "/srv/below", "/srv/below/two", "/tmp/x", "/var/tmp/x/y", "/opt/x"],
)
def test_target(cli, image, data, name, target):
    """A bind arrives wherever its target is, and nothing stays on the host."""
    ran = cli.run("--image", image(name), "--bind", f"{data}:{target}", command=("cat", f"{target}/file"))

    assert (0, b"content") == (ran.status, ran.stdout), ran.stderr
    assert [] == os.listdir(cli.workdir)
    assert ["file", "sub"] == sorted(os.listdir(data))


@pytest.mark.parametrize("target", ["/data/file", "/nosuch", "/srv/file", "/tmp/file", "/etc/hosts"])
def test_file(cli, image, data, target):
    """A single file can be bound."""
    ran = cli.run("--image", image("tiny"), "--bind", f"{data}/file:{target}", command=("cat", target))

    assert (0, b"content") == (ran.status, ran.stdout), ran.stderr
    assert [] == os.listdir(cli.workdir)


@pytest.mark.parametrize(("access", "writable"), [("", False), (":ro", False), (":rw", True)])
def test_access(cli, image, data, access, writable):
    """A bind is read-only unless it says rw."""
    ran = cli.run("--image", image("tiny"), "--bind", f"{data}:/data{access}", command=("touch", "/data/new"))

    assert writable == (ran.status == 0)
    assert writable == (data / "new").exists()


@pytest.mark.parametrize(
    "odd", ["a b", "a,b", "a:b", 'a"b', "a'b", "a\nb", "a\\b", "ä€", "$(x)", "-x", "a=b", "#", "*"]
)
def test_odd_names(cli, image, tmp_path, odd):
    """Any name that is UTF-8 can be a source and a target."""
    source = tmp_path / odd
    source.mkdir()
    (source / "file").write_text("content")
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"binds": [{"source": str(source), "target": f"/opt/{odd}"}]}))
    ran = cli.run("--image", image("tiny"), "--request", request, command=("cat", f"/opt/{odd}/file"))

    assert (0, b"content") == (ran.status, ran.stdout), ran.stderr


@pytest.mark.parametrize("odd", ["a b", "a,b", "a:b", 'a"b', "a\nb", "ä€"])
def test_odd_working_directory(cli, image, odd):
    """Any name that is UTF-8 can be the working directory."""
    cli.workdir = cli.workdir / odd
    cli.workdir.mkdir()
    ran = cli.run("--image", image("tiny"), command=("sh", "-c", "pwd; touch /srv/x /tmp/y"))

    assert (0, b"/srv\n") == (ran.status, ran.stdout), ran.stderr
    assert ["x"] == os.listdir(cli.workdir)


def test_missing_if_present(cli, image):
    """An optional bind without a source is left out, and the plan says so."""
    ran = cli.run("--image", image("tiny"), "--bind-if-present", "/nosuch/data:/data", command=("ls", "/data"))

    assert (0, b"") == (ran.status, ran.stdout)


def test_plan_says_what_is_skipped(request_for, policy):
    """Every decision on a bind has its reason."""
    binds = (Bind(source="/nosuch/data", required=False), Bind(source="/etc", target="/opt/etc"))
    plan = make_plan(request_for("true", binds=binds), policy)
    decided = {bind.target: (bind.decision, bind.reason) for bind in plan.binds}

    assert ("skip", "bind source /nosuch/data does not exist on this node") == decided["/nosuch/data"]
    assert ("mount", "the target is not in the image; the runtime's layer creates it") == decided["/opt/etc"]


def test_parent_and_child(cli, image, data):
    """A bind inside another one works whichever is named first."""
    other = data.parent / "other"
    other.mkdir()
    (other / "inner").write_text("inner")
    ran = cli.run(
        "--image", image("tiny"), "--bind", f"{other}:/data/sub", "--bind", f"{data}:/data",
        command=("cat", "/data/file", "/data/sub/inner"),
    )  # fmt: skip

    assert (0, b"contentinner") == (ran.status, ran.stdout), ran.stderr


def test_bind_that_would_soil_the_host(cli, image, data):
    """A mount point is not made in somebody else's directory."""
    ran = cli.run("--image", image("tiny"), "--bind", f"{data}:/data:rw", "--bind", "/etc:/data/made")

    assert "bind-target-impossible" == ran.outcome["kind"]
    assert ["file", "sub"] == sorted(os.listdir(data))


def test_link_in_image_does_not_lead_to_host(request_for, policy, image, tmp_path):
    """An absolute link inside an image means the image, also for a target."""
    import shutil

    copy = tmp_path / "image"
    shutil.copytree(image("tiny"), copy, symlinks=True)
    (copy / "link").symlink_to("/etc/linked")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("content")
    with open(tmp_path / "out", "wb") as out:
        outcome = run_isolated(
            request_for(
                "cat", "/link/file", image=str(copy), binds=(Bind(source=str(tmp_path / "data"), target="/link"),)
            ),
            policy,
            stdout=out,
        )

    assert "success" == outcome.kind, outcome.message
    assert "content" == (tmp_path / "out").read_text()
    assert not os.path.exists("/etc/linked")

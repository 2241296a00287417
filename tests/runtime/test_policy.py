"""
What site and experiment say holds in real containers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

SITES = Path(__file__).resolve().parents[2] / "examples" / "sites"


@pytest.fixture
def write(tmp_path):
    """Write a policy file and return its path."""

    def make(name, text):
        path = tmp_path / name
        path.write_text(f"version = 1\n{text}")
        path.chmod(0o644)
        return path

    return make


@pytest.fixture
def run(command_line, runtime):
    """Run a payload, with the runtime in PATH."""
    return command_line(runtime).run


def test_site_and_experiment(run, image, write):
    """A payload gets the site's bind and variable, and the experiment's image and working directory."""
    site = write(
        "site.toml",
        """
        [environment.set]
        SITE_NAME = "here"
        [[bind.default]]
        source = "/etc"
        target = "/host-etc"
        """,
    )
    experiment = write(
        "vo.toml",
        f"""
        [image.names]
        el9 = "{image("tiny")}"
        [container]
        workdir = "/workdir"
        """,
    )
    command = ("sh", "-c", "echo $SITE_NAME; pwd; echo $HOME; test -r /host-etc/passwd && echo bound")
    ran = run("--site", site, "--experiment", experiment, "--platform", "x86_64-el9-gcc13-opt", command=command)

    assert (0, b"here\n/workdir\n/workdir\nbound\n") == (ran.status, ran.stdout), ran.stderr
    assert str(image("tiny")) == ran.records[0]["wlcg.image.path"]


def test_input_of_the_node(run, image, tmp_path):
    """The host's own binds are made and can be written, those without source are left out, the runtime sees none."""
    for name in ("data", "more"):
        (tmp_path / name).mkdir()
    environ = {
        "SINGULARITY_BINDPATH": f"{tmp_path}/data:/data,/no/such/storage",
        "APPTAINER_BIND": f"{tmp_path}/more:/more:ro",
        "SINGULARITY_NV": "1",
    }
    command = ("sh", "-c", "touch /data/x; touch /more/x 2>/dev/null || echo read-only; ls -d /no; env")
    ran = run("--image", image("tiny"), command=command, environ=environ)
    binds = {bind["target"]: bind["origin"] for bind in ran.records[0]["wlcg.isolation.binds"]}

    assert b"read-only" in ran.stdout, ran.stderr
    assert ["x"] == os.listdir(tmp_path / "data")
    assert [] == os.listdir(tmp_path / "more")
    assert {
        "/data": "site (variable SINGULARITY_BINDPATH)",
        "/more": "site (variable APPTAINER_BIND)",
    }.items() <= binds.items()
    assert b"SINGULARITY" not in ran.stdout
    assert b"APPTAINER" not in ran.stdout


@pytest.mark.parametrize("severity", ["error", "warning"])
def test_lock(run, image, write, severity):
    """A request against a lock is refused or overruled, as the lock says."""
    site = write("site.toml", f'[container]\nworkdir = "/site"\n[lock]\n"container.workdir" = "{severity}"\n')
    request = write("request.json", "")
    request.write_text(json.dumps({"payload": {"command": ["pwd"]}, "settings": {"container.workdir": "/mine"}}))
    ran = run("--site", site, "--image", image("tiny"), "--request", request, command=())

    if severity == "warning":
        assert (0, b"/site\n") == (ran.status, ran.stdout)
    else:
        assert (125, False, "policy", "policy-locked") == (
            ran.status,
            ran.outcome["started"],
            ran.outcome["failed_by"],
            ran.outcome["kind"],
        )
        assert ["payload.refused"] == ran.actions()
        assert 1 == ran.stderr.count("\n")


def test_operator(run, image):
    """An operator's word holds for the real payload, time limits included."""
    ran = run("--image", image("tiny"), "--set", "payload.limit_seconds=1", command=("sleep", "60"))

    assert ("timeout", "time-limit") == (ran.outcome["failed_by"], ran.outcome["kind"])


def test_wrong_file(run, image, write):
    """A file with mistakes refuses the payload, one line for each, and leaves a record."""
    site = write("site.toml", '[image]\nnames = 7\n[containr]\nworkdir = "/x"\n')
    ran = run("--site", site, "--image", image("tiny"))

    assert (125, "policy-invalid") == (ran.status, ran.outcome["kind"])
    assert 2 == ran.stderr.count("\n")
    assert "did you mean container?" in ran.stderr
    assert ["payload.refused"] == ran.actions()


def test_outside_the_allowed_directories(run, image, tmp_path):
    """An image that a link makes look allowed is refused by where it is."""
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "image").symlink_to(image("tiny"))
    ran = run("--image", tmp_path / "allowed" / "image", "--set", f'image.allowed_roots=["{tmp_path}/allowed"]')

    assert (125, "image-not-allowed") == (ran.status, ran.outcome["kind"])


def test_link_out_of_the_allowed_directories(run, image, tmp_path, write):
    """A link below the site's directory does not let an experiment take images from elsewhere."""
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "link").symlink_to(Path(image("tiny")).parent)
    site = write("site.toml", f'[image]\nallowed_roots = ["{tmp_path}/allowed"]\n')
    experiment = write("vo.toml", f'[image]\nallowed_roots = ["{tmp_path}/allowed/link"]\n')
    ran = run("--image", image("tiny"), "--site", site, "--experiment", experiment)

    assert (125, "image-not-allowed") == (ran.status, ran.outcome["kind"])


@pytest.mark.parametrize("place", ["/", "forbidden"])
def test_image_shows_what_is_forbidden(run, image, place):
    """Neither the node itself nor a directory that the site forbids is an image."""
    wanted = image("tiny") if place == "forbidden" else place
    ran = run("--image", wanted, "--set", f'bind.forbidden_sources=["{image("tiny")}/etc"]')

    assert (125, "image-not-allowed") == (ran.status, ran.outcome["kind"])


@pytest.mark.parametrize("maker", ["nvidia", "amd"])
def test_gpus(run, image, maker):
    """A payload that asks for GPUs runs on a node without one, too."""
    ran = run("--image", image("tiny"), "--set", f'gpu.use=["{maker}"]')

    assert (0, True) == (ran.status, ran.outcome["started"]), ran.stderr


def test_explain(command_line, runtime, write):
    """The command line explains every key as JSON, what the node says included."""
    line = command_line(runtime)
    site = write("site.toml", '[runtime]\ntmpdir = "/scratch"\n')
    done = subprocess.run(
        [*line.program, "explain", "--json", "--site", site],
        env={**line.environ, "APPTAINER_TMPDIR": "/env", "APPTAINER_CACHEDIR": "/cache"},
        capture_output=True,
        check=True,
    )
    rows = {row["key"]: row for row in json.loads(done.stdout)}

    assert ("/scratch", "site", str(site)) == tuple(rows["runtime.tmpdir"][key] for key in ("value", "layer", "file"))
    assert {"layer": "site", "file": "variable APPTAINER_TMPDIR", "value": "/env"} in rows["runtime.tmpdir"]["overrode"]
    assert ("/cache", "variable APPTAINER_CACHEDIR") == (
        rows["runtime.cachedir"]["value"],
        rows["runtime.cachedir"]["file"],
    )


@pytest.mark.parametrize("site", ["el9-grid", "setuid-automount", "nested-pilot"])
def test_example_sites(command_line, runtime, image, tmp_path, site):
    """Each example gives a plan on this node, when its paths are made to exist here."""
    text = (SITES / f"{site}.toml").read_text()
    for path in ("/etc/grid-security/certificates", "/nfs/grid/data", "/cvmfs"):
        here = tmp_path / path.strip("/").replace("/", "-")
        here.mkdir()
        text = text.replace(f'source = "{path}"', f'source = "{here}"')
    images = os.path.dirname(image("tiny"))
    text = re.sub(r"^allowed_roots = \[[^]]*\]", f'allowed_roots = ["{images}"]', text, flags=re.MULTILINE)
    text = re.sub(r"^search = \[[^]]*\]", f'search = ["{runtime}"]', text, flags=re.MULTILINE)
    file = tmp_path / "site.toml"
    file.write_text(text)
    file.chmod(0o644)
    line = command_line(runtime)
    options = ["--site", file, "--image", image("tiny"), "--workdir", line.workdir]
    done = subprocess.run(
        [*line.program, "plan", "--json", *options, "--", "true"],
        env=line.environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert "/srv" in [bind["target"] for bind in json.loads(done.stdout)["binds"]]

"""
What the container module of PanDA's pilot gives to bash, in real Apptainer.
"""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from wlcg_isolate.pilots import panda


@pytest.fixture
def run(tmp_path, monkeypatch, runtime):
    """Start a line as the pilot does, with its working directory beside others."""
    workdir = tmp_path / "job"
    workdir.mkdir()
    (tmp_path / "proxy").write_text("proxy of the pilot")
    monkeypatch.setenv("PATH", f"{runtime.rpartition('/')[0]}:/usr/bin:/bin")
    monkeypatch.setenv("X509_USER_PROXY", str(tmp_path / "proxy"))
    monkeypatch.setenv("HOME", str(tmp_path))

    def start(line):
        argv = ["/bin/bash", "-c", line]
        done = subprocess.run(argv, cwd=workdir, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout

    return start


@pytest.fixture
def job(tmp_path, image):
    """A job of the pilot."""
    queue = SimpleNamespace(container_options="", container_type={"pilot": "apptainer"}, catchall="", environ="")

    return SimpleNamespace(
        workdir=str(tmp_path / "job"),
        jobid="4711",
        imagename=image("debian11"),
        infosys=SimpleNamespace(queuedata=queue),
    )


@pytest.mark.serves("panda", "set-up of software for transfers (lsetup)")
def test_transfer(job, run, tmp_path, image, monkeypatch):
    """A transfer runs in the middleware's image, with the pilot's proxy."""
    site = tmp_path / "site.toml"
    site.write_text(f'version = 1\n[image.names]\nel9 = "{image("debian13")}"\n')
    site.chmod(0o600)
    monkeypatch.setenv("WLCG_ISOLATE_SITE", str(site))
    line = panda.create_middleware_container_command(
        job, 'cat "$X509_USER_PROXY"; . /etc/os-release; echo " $VERSION_ID $SET"', setup="SET=up"
    )

    assert (0, "proxy of the pilot 13 up\n") == run(line)
    assert [] == list(tmp_path.glob(".wlcg-isolate-*"))


def test_payload_has_no_proxy(job, run):
    """A payload does not get what a transfer gets; quotes, blanks and line ends pass."""
    line = panda.wrapper("echo \"${X509_USER_PROXY-none} 'x'  $HOME\"\nexit 7", job=job)

    assert (7, "none 'x'  /srv\n") == run(line)
    assert ("exit-nonzero", 7) == (panda.outcome_for(job).kind, panda.outcome_for(job).exit_code)
    assert 1305 == panda.resolve_transform_error(7, "Failed to create user namespace", job)


def test_setup_in_the_image_of_the_job(job, run):
    """It runs in an image that a user has made, so the pilot's proxy is not handed over."""
    line = panda.create_middleware_container_command(job, 'echo "${X509_USER_PROXY-none}"', label="setup")

    assert (0, "none\n") == run(line)


def test_no_value_is_in_an_argument(job, run):
    """The line that others can see with ps has no value of a variable in it."""
    job.infosys.queuedata.environ = "SECRET=hunter2"
    line = panda.wrapper('echo "$SECRET"', job=job)

    assert "hunter2" not in line
    assert (0, "hunter2\n") == run(line)

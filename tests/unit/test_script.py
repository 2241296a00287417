"""Where a payload finds the script whose first line is the command line."""

from __future__ import annotations

import pytest

from wlcg_isolate.cli import options
from wlcg_isolate.cli.script import script_of


def parse(*words):
    """Read the command line of a script's first line."""
    return options.parse(options.parser_for("run", ""), ["--image", "/i", "--workdir", "/w", "--script", *words])


@pytest.mark.parametrize(
    ("path", "seen", "binds"),
    [
        ("/w/job.sh", "./job.sh", []),
        ("/w/a/../b/job.sh", "./b/job.sh", []),
        ("/w/..job.sh", "./..job.sh", []),
        ("/spool/job7/slurm_script", "/script/slurm_script", [("/spool/job7/slurm_script", "/script/slurm_script")]),
        ("/w/../job:1", "/script/job:1", [("/job:1", "/script/job:1")]),
    ],
)
def test_script(path, seen, binds):
    """A script below the working directory is seen there, another one by a bind that cannot be written to."""
    request = parse("--", "bash", path, "a", "b c").request

    assert ("bash", seen, "a", "b c") == request.payload.command
    assert binds == [(bind.source, bind.target) for bind in request.binds]
    assert all(bind.required and not bind.writable and bind.origin == "--script" for bind in request.binds)


@pytest.mark.parametrize(
    ("called", "command", "source"),
    [
        ("work/a/job.sh", "./a/job.sh", None),
        ("logical/a/job.sh", "./a/job.sh", None),
        ("work/link.sh", "/script/link.sh", "sw/run.sh"),
        ("work/inner.sh", "./a/job.sh", None),
        ("work/sw/run.sh", "/script/run.sh", "sw/run.sh"),
        ("work/sw/../run.sh", "/script/run.sh", "run.sh"),
    ],
)
def test_links(tmp_path, called, command, source):
    """Links are followed as the kernel does, so no other file is run, and none is missing in the container."""
    for name in ("work/a/job.sh", "work/run.sh", "sw/run.sh", "run.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "logical").symlink_to("work")
    (tmp_path / "work/link.sh").symlink_to("../sw/run.sh")
    (tmp_path / "work/inner.sh").symlink_to(tmp_path / "work/a/job.sh")
    (tmp_path / "work/sw").symlink_to("../sw")
    words = ["--image", "/i", "--workdir", str(tmp_path / "logical"), "--script", "--", "sh", str(tmp_path / called)]
    request = options.parse(options.parser_for("run", ""), words).request

    assert ("sh", command) == request.payload.command
    assert ([str(tmp_path / source)] if source else []) == [bind.source for bind in request.binds]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ([], "--script needs an interpreter and a script behind --"),
        (["bash"], "--script needs an interpreter and a script behind --"),
        (["bash", ""], "--script needs an interpreter and a script behind --"),
        (["python3", "-u", "x.py"], "--script needs the script as second word behind --, and '-u' is an option"),
    ],
)
def test_no_script(command, reason):
    """Without a script where one must be the command line is refused."""
    assert reason in [problem.message for problem in parse("--", *command).problems]


def test_no_current_directory(tmp_path, monkeypatch):
    """A current directory that is gone is left for the check that names it."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert (["sh", "/script/job.sh"], "job.sh") == (
        script_of(["sh", "job.sh"], None)[0],
        script_of(["sh", "job.sh"], None)[1][0]["source"],
    )

"""Where a payload finds the script whose first line is the command line."""

from __future__ import annotations

import pytest

from wlcg_isolate.cli import options


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


@pytest.mark.parametrize("command", [[], ["bash"], ["bash", ""]])
def test_no_script(command):
    """Without a script the command line is refused."""
    assert "--script needs an interpreter and a script behind --" in [
        problem.message for problem in parse("--", *command).problems
    ]

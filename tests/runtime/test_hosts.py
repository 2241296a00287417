"""
Hosts of many kinds around real containers: what arrives is what is written down, and nothing else.
"""

from __future__ import annotations

import json
import os

import pytest

from wlcg_isolate import load_policy

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture
def arrived(cli, image, tmp_path):
    """Run a payload on a host; return its identity and its whole environment."""

    def run(host, name):
        # A profile asks for what only a node of its experiment has: repositories, and some binds where they are there.
        policy = load_policy(None, host["experiment"])
        local = tmp_path / "local.toml"
        local.write_text(
            f'version = 1\n[remove]\n"cvmfs.repositories" = {json.dumps(list(policy.cvmfs_repositories))}\n'
            f'"bind.default" = {json.dumps([bind.name or bind.target for bind in policy.bind_default])}\n'
        )
        for file in host["files"]:
            (cli.workdir / file).touch()
        for directory in host["directories"]:
            (cli.workdir / directory).mkdir(parents=True)
        ran = cli.run(
            "--image", image(name),
            *(("--experiment", host["experiment"]) if host["experiment"] else ()), "--experiment", local,
            *(word for kept in host["keep_env"] for word in ("--keep-env", kept)),
            command=("cat", "/proc/self/environ"),
            environ={n: v.replace(host["workdir"], str(cli.workdir)) for n, v in host["environ"].items()}
            # The pilot's own: where it finds the runtime, and what it cannot start without.
            | {n: cli.environ[n] for n in cli.environ},
        )  # fmt: skip
        assert 0 == ran.status, ran.stderr
        entries = [os.fsdecode(entry).split("=", 1) for entry in ran.stdout.split(b"\0")[:-1]]
        found = dict(entries)
        assert len(found) == len(entries)

        return ran.outcome["trace_id"], found

    return run


@pytest.mark.parametrize("name", ["debian11", "tiny"])
def test_whole_environment(arrived, batch_host, name):
    """Exactly what is written down arrives, to the byte, and not one variable more."""
    trace_id, found = arrived(batch_host, name)

    assert {**batch_host["arrives"], "PATH": PATH, "WLCG_ISOLATE_ID": trace_id} == found

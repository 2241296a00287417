"""
Every form of a plan runs the same payload in the same way.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from wlcg_isolate import Bind, PlanError, make_plan, run_isolated
from wlcg_isolate.trace import read_records

SHOW = "pwd; ls -d /evil; env | grep -v -e SHLVL -e WLCG_ISOLATE_ID -e ^_= | sort; exit 9"


def _launched(request, policy, out):
    with open(out, "wb") as f:
        return run_isolated(request, policy, stdout=f).status, out.read_bytes()


@pytest.mark.parametrize("name", ["tiny", "debian11"])
def test_argv_and_shell(request_for, policy, tmp_path, monkeypatch, name):
    """Argv with environ, and the shell line, do what a launch does."""
    monkeypatch.setenv("APPTAINERENV_EVIL", "1")
    monkeypatch.setenv("SINGULARITY_BIND", "/etc:/evil")
    monkeypatch.setenv("TERM", "xterm")
    request = request_for(
        "sh", "-c", SHOW, name=name, env={"A": "x $(id) `q` \"'\\", "LD_LIBRARY_PATH": "/l"},
        binds=(Bind(source="/etc", target="/tmp/etc"), Bind(source="/etc/passwd", target="/var/tmp/pw")),
    )  # fmt: skip
    plan = make_plan(request, policy)
    line = subprocess.run(["sh", "-c", plan.shell()], capture_output=True, check=False)
    bare = subprocess.run(plan.argv, env=plan.environ, stdout=subprocess.PIPE, check=False)
    launched = _launched(request, policy, tmp_path / "out")

    assert launched == (line.returncode, line.stdout), line.stderr
    assert launched == (bare.returncode, bare.stdout)
    assert 9 == launched[0]


def test_shell_leaves_nothing(request_for, policy, tmp_path):
    """The shell line removes what it made."""
    plan = make_plan(request_for("touch", "/tmp/x", "/srv/y"), policy)
    subprocess.run(["sh", "-c", plan.shell()], check=True)

    assert ["y"] == os.listdir(tmp_path / "work")


def test_bytes_that_argv_cannot_carry(request_for, policy, tmp_path):
    """What the runtime would change is refused in argv, and exact in a launch."""
    request = request_for("printf", "%s", "\udcff", env={"A": "\udcfe"})
    plan = make_plan(request, policy)
    with pytest.raises(PlanError) as caught:
        _ = plan.argv

    assert ["argument-undeliverable", "variable-undeliverable"] == [p.kind for p in caught.value.problems]
    assert (0, b"\xff") == _launched(request, policy, tmp_path / "out")


def test_plan_json(cli, image):
    """The JSON has the keys that others rely on, and starts nothing."""
    argv = [
        *cli.program,
        "plan",
        "--image",
        image("debian11"),
        "--workdir",
        str(cli.workdir),
        "--json",
        "--env",
        "A=geheim",
    ]
    done = subprocess.run([*argv, "--", "touch", "x"], env=cli.environ, check=True, capture_output=True, text=True)
    plan = json.loads(done.stdout)

    assert {
        "argv", "binds", "environ", "environment", "gpus", "image", "isolation", "runtime", "start", "starter",
        "supervised", "timeout", "trace_id", "warnings", "workdir",
    } == set(plan)  # fmt: skip
    assert {"path", "flavour", "version", "mode", "reason", "layer", "pid_namespace"} == set(plan["runtime"])
    assert {
        "requested",
        "path",
        "resolved_path",
        "form",
        "architecture",
        "digest",
        "verified_by",
        "mount",
        "looked_at",
    } == set(plan["image"])
    assert "geheim" not in json.dumps([plan["environment"], plan["argv"]])
    assert [] == os.listdir(cli.workdir)


def test_explain_and_doctor(cli, image):
    """Policy and node explain themselves."""
    explain = subprocess.run(
        [*cli.program, "explain", "--json"], env=cli.environ, check=True, capture_output=True, text=True
    )
    doctor = subprocess.run(
        [*cli.program, "doctor", "--json", "--image", image("tiny")],
        env=cli.environ, cwd=cli.workdir, check=True, capture_output=True, text=True,
    )  # fmt: skip
    rows = json.loads(explain.stdout)

    assert {"key", "value", "layer", "file", "overrode", "parts"} == set(rows[0])
    assert {"built-in"} == {row["layer"] for row in rows}
    assert json.loads(doctor.stdout)["able"] is True
    assert [] == os.listdir(cli.workdir)


@pytest.mark.parametrize(
    "stream", [subprocess.PIPE, subprocess.DEVNULL, io.BytesIO(), None, "out"], ids=lambda s: type(s).__name__
)
def test_streams_that_are_none(request_for, policy, tmp_path, stream):
    """What has no descriptor is refused aloud, and not replaced by the null device."""
    with pytest.raises(TypeError, match="must be a descriptor or a file that has one"):
        run_isolated(request_for("touch", "/srv/started"), policy, stdout=stream)

    assert [] == os.listdir(tmp_path / "work")


def test_many_at_once(request_for, policy, tmp_path):
    """Many payloads from many threads: every outcome right, nothing left."""
    before = sorted(os.listdir("/proc/self/fd"))
    statuses = {}

    def pilot(thread):
        for i in range(4):
            place = tmp_path / f"work-{thread}-{i}"
            place.mkdir()
            code = (thread * 4 + i) % 256
            request = request_for("sh", "-c", f"echo {code} > out; exit {code}", workdir=place)
            statuses[thread, i] = (run_isolated(request, policy).status, (place / "out").read_text(), os.listdir(place))

    threads = [threading.Thread(target=pilot, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records, _ = read_records(str(tmp_path / "trace"))

    assert {(t, i): (t * 4 + i, f"{t * 4 + i}\n", ["out"]) for t in range(8) for i in range(4)} == statuses
    assert [32, 32] == [[r["event.action"] for r in records].count(a) for a in ("payload.start", "payload.end")]
    assert 1 >= len(set(os.listdir("/proc/self/fd")) - set(before)), "only the journal stays open"
    assert "" == Path(f"/proc/self/task/{os.getpid()}/children").read_text()

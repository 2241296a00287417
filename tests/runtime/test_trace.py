"""
The evidence is there, in time, and out of the payload's reach.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess

import attrs
import pytest

from wlcg_isolate import Identity, launch_plan, make_plan, run_isolated
from wlcg_isolate.trace import read_records


def test_start_record_comes_first(cli, image):
    """The start is on disk before the payload's first instruction."""
    fifo = cli.workdir / "fifo"
    os.mkfifo(fifo)
    # A command of the shell's own: while a program is exchanged for another, its environment cannot be read.
    script = "echo started >fifo; read -r line <fifo"
    process = cli.start("--image", image("tiny"), "--job-id", "42", command=("sh", "-c", script))
    assert "started\n" == fifo.read_text()
    (record,) = cli.records()
    with open(f"/proc/{record['process.pid']}/environ", "rb") as f:
        marked = f"WLCG_ISOLATE_ID={record['container.id']}".encode() in f.read().split(b"\0")
    inside = {n: int(os.readlink(f"/proc/{record['process.pid']}/ns/{n}").split("[")[1][:-1]) for n in ("pid", "mnt")}
    fifo.write_text("go on\n")
    process.communicate(timeout=60)

    assert "payload.start" == record["event.action"]
    assert marked
    assert inside == {n: record[f"wlcg.ns.{n}"] for n in inside}
    assert "42" == record["wlcg.job.id"]


def test_records(cli, image):
    """The records name user, payload, image and end; no argument is shown."""
    ran = cli.run(
        "--image", image("tiny"), "--vo", "atlas", "--job-id", "7", "--user-dn", "/DC=ch/CN=jane", "--user-sub", "s-1",
        "--user-iss", "https://iss.example", command=("sh", "-c", "exit 3", "geheim"),
    )  # fmt: skip
    start, end = ran.records

    assert ("atlas", "7", "CN=jane,DC=ch") == (start["wlcg.vo"], start["wlcg.job.id"], start["user.name"])
    assert ("s-1", "https://iss.example") == (end["wlcg.token.sub"], end["wlcg.token.iss"])
    assert hashlib.sha256(b"sh\0-c\0exit 3\0geheim\0").hexdigest() == start["wlcg.process.args_sha256"]
    assert (image("tiny"), "tree", "apptainer") == (
        start["wlcg.image.resolved_path"],
        start["wlcg.image.form"],
        start["container.runtime"],
    )
    assert (3, "payload", "exit-nonzero") == (
        end["process.exit_code"],
        end["wlcg.outcome.failed_by"],
        end["wlcg.outcome.kind"],
    )
    assert start["process.pid"] == end["process.pid"]
    assert "geheim" not in str(ran.records)


def test_files(cli, image):
    """One file for a pilot process, readable by its owner alone."""
    cli.run("--image", image("tiny"))
    cli.run("--image", image("tiny"))
    files = list(cli.trace_dir.iterdir())

    assert 2 == len(files)
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in files}
    assert 0o700 == stat.S_IMODE(cli.trace_dir.stat().st_mode)


def test_one_file_for_many_payloads(request_for, policy, tmp_path):
    """A pilot that runs many payloads writes one file."""
    for _ in range(3):
        run_isolated(request_for("true"), policy)

    assert 1 == len(list((tmp_path / "trace").iterdir()))


def test_start_that_fails_is_recorded(request_for, policy, tmp_path):
    """A payload that the runtime cannot start leaves a refusal with the cause."""
    plan = make_plan(request_for("true", identity=Identity(job_id="9")), policy)
    broken = attrs.evolve(plan, image=attrs.evolve(plan.image, resolved_path="/nosuch/image"))
    outcome = launch_plan(broken)
    (file,) = (tmp_path / "trace").iterdir()

    assert (False, "runtime", "image-unusable") == (outcome.started, outcome.failed_by, outcome.kind)
    assert '"event.action":"payload.refused"' in file.read_text()
    assert '"wlcg.job.id":"9"' in file.read_text()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_pilot_that_fails(request_for, policy, tmp_path, error):
    """A payload that ends because its pilot's own code fails has a record of its end."""

    def fail(_):
        raise error

    with pytest.raises(error):
        run_isolated(request_for("sleep", "60"), policy, on_start=fail)
    found, _ = read_records(str(tmp_path / "trace"))
    records = [record for record in found if record["event.action"].startswith("payload.")]

    assert ["payload.authorised", "payload.start", "payload.killed", "payload.end"] == [
        record["event.action"] for record in records
    ]
    assert ("stop", 9) == (records[2]["wlcg.kill.reason"], records[2]["wlcg.kill.signal"])
    assert ("signal", 9) == (records[3]["wlcg.outcome.failed_by"], records[3]["wlcg.process.term_signal"])


def test_default_directory(cli, image, tmp_path):
    """Without any option the records go to the user's state directory."""
    argv = [*cli.program, "run", "--workdir", str(cli.workdir), "--image", image("tiny"), "--", "true"]
    subprocess.run(argv, env=cli.environ, check=True, stdin=subprocess.DEVNULL)

    assert 1 == len(list((tmp_path / ".local/state/wlcg_isolate/trace").iterdir()))


@pytest.mark.parametrize("form", ["directory", "option", "json"])
def test_show(cli, image, form):
    """Records can be read by a person and by a program."""
    trace_id = cli.run("--image", image("tiny"), "--job-id", "77").outcome["trace_id"]
    place = [str(cli.trace_dir)] if form == "directory" else ["--trace-dir", str(cli.trace_dir)]
    argv = [*cli.program, "trace", "show", *place, "--trace-id", trace_id, *(["--json"] if form == "json" else [])]
    text = subprocess.run(argv, env=cli.environ, check=True, capture_output=True, text=True).stdout

    if form == "json":
        assert [trace_id] * 3 == [record["container.id"] for record in json.loads(text)]
        assert ["77"] * 3 == [record["wlcg.job.id"] for record in json.loads(text)]
    else:
        assert [["payload.authorised", "77"], ["payload.start", "77"], ["payload.end", "77"]] == [
            [words[1], words[6]] for words in map(str.split, text.splitlines()[1:]) if words[2] == trace_id[:8]
        ]

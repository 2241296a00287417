"""
What cannot run isolated does not run, and everybody is told why.
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest


def _one_line(text):
    return text.startswith("wlcg-isolate: ") and text.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (["--image", "/nosuch/image"], "image-missing"),
        (["--runtime", "/nosuch/apptainer"], "runtime-missing"),
        (["--bind", "/nosuch/data"], "bind-source-missing"),
        (["--nosuch-option"], "usage"),
        (["--request", "/nosuch/request.json"], "request-invalid"),
        (["--image", "docker://alpine"], "image-pull-refused"),
        (["--image", "el9"], "image-unknown"),
        (["--image", "/etc/passwd"], "image-form-unsupported"),
        (["--bind", "/opt:/usr"], "bind-target-forbidden"),
        (["--bind", "/:/host"], "bind-source-forbidden"),
        (["--env", "HOME=/x"], "variable-reserved"),
        (["--keep-env", "LD_PRELOAD"], "variable-forbidden"),
        (["--site", "/etc/site.toml"], "policy-invalid"),
        (["--timeout", "soon"], "usage"),
        (["--outcome"], "usage"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(cli, image, options, kind):
    """One clear line, an outcome and a record; the payload never starts."""
    ran = cli.run("--image", image("tiny"), *options, command=("touch", "/srv/started"))

    assert 125 == ran.status
    assert _one_line(ran.stderr), ran.stderr
    assert f"wlcg-isolate: {kind}: " == ran.stderr[: len(kind) + 16]
    assert (False, "policy", kind) == tuple(ran.outcome[k] for k in ("started", "failed_by", "kind"))
    assert ["payload.refused"] == ran.actions()
    assert [kind] == [reason["kind"] for reason in ran.records[0]["event.reason"]]
    assert ran.outcome["trace_id"] == ran.records[0]["container.id"]
    assert not (cli.workdir / "started").exists()


def test_no_runtime_in_path(cli, image):
    """A node without a runtime refuses; nothing runs unisolated instead."""
    cli.environ["PATH"] = "/nosuch"
    cli.program[0:1] = ["/bin/sh", cli.program[0]] if len(cli.program) == 1 else cli.program[:1]
    ran = cli.run("--image", image("tiny"), command=("touch", "/srv/started"))

    assert (125, "runtime-missing") == (ran.status, ran.outcome["kind"])
    assert not (cli.workdir / "started").exists()


def test_no_payload(cli, image):
    """A command line without a payload says where to put it."""
    ran = cli.run("--image", image("tiny"), command=())

    assert (125, "usage") == (ran.status, ran.outcome["kind"])
    assert "there is no payload: put its command behind --" in ran.stderr
    assert _one_line(ran.stderr)


@pytest.mark.parametrize("text", ["{", "[]", '{"payload": 5}', '{"nosuch": 1}', "\x00", ""])
def test_unreadable_request(cli, image, tmp_path, text):
    """A request that is no request is refused with its reasons."""
    file = tmp_path / "request.json"
    file.write_text(text)
    ran = cli.run("--image", image("tiny"), "--request", file, command=())

    assert (125, "request-invalid") == (ran.status, ran.outcome["kind"])
    assert ["payload.refused"] == ran.actions()


def test_all_problems_at_once(cli):
    """Nobody has to try again to see the next problem."""
    ran = cli.run(
        "--image", "/nosuch/image", "--bind", "/nosuch/a", "--bind", "/nosuch/b:/usr", "--env", "HOME=/", "--runtime",
        "/nosuch/runtime",
    )  # fmt: skip
    kinds = [reason["kind"] for reason in ran.records[0]["event.reason"]]

    assert sorted(
        ["runtime-missing", "image-missing", "variable-reserved", "bind-source-missing", "bind-target-forbidden"]
    ) == sorted(kinds)
    assert 5 == ran.stderr.count("\n")


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"env": {"A": "x" * 200_000}}, "variable-undeliverable"),
        ({"payload": {"command": ["true", "x" * 200_000]}}, "argument-undeliverable"),
        ({"payload": {"command": ["true", *(["x" * 1000] * 10_000)]}}, "argument-undeliverable"),
        ({"env": {f"V{i}": "x" * 1000 for i in range(10_000)}}, "argument-undeliverable"),
        ({"env": {"A": "\ud800"}}, "request-invalid"),
        ({"payload": {"command": ["true", "\ud800"]}}, "request-invalid"),
    ],
    ids=["variable", "argument", "arguments", "variables", "surrogate-variable", "surrogate-argument"],
)
def test_what_no_kernel_passes_on(cli, image, tmp_path, more, kind):
    """What cannot be delivered is refused, and not the payload's failure."""
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"payload": {"command": ["true"]}, "image": image("debian11"), **more}))
    ran = cli.run("--request", file, command=())

    assert (125, kind, "policy", "never") == (ran.status, *(ran.outcome[k] for k in ("kind", "failed_by", "retry")))
    assert (["payload.refused"], True) == (ran.actions(), _one_line(ran.stderr))


def test_much_is_delivered(cli, image, tmp_path):
    """What the kernel passes on arrives, also where it is nearly all that fits."""
    words = ["x" * 1000] * 1900
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"payload": {"command": ["sh", "-c", "echo $#", "sh", *words]}, "image": image("tiny")}))
    ran = cli.run("--request", file, command=())

    assert (0, b"1900\n") == (ran.status, ran.stdout)


def test_trace_dir_in_sight(cli, image):
    """A trace directory that the payload would see is refused, and nothing is written there."""
    ran = cli.run("--image", image("tiny"), "--trace-dir", cli.workdir / "trace")

    assert (125, "trace-visible") == (ran.status, ran.outcome["kind"])
    assert [] == os.listdir(cli.workdir)


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
def test_bind_through_a_planted_link(cli, image, tmp_path, inside):
    """A link that an earlier payload left shows the next one nothing outside of their directory."""
    there = (cli.workdir if inside else tmp_path) / "there"
    there.mkdir()
    (there / "key").write_text("key")
    cli.run("--image", image("tiny"), command=("ln", "-s", there, "/srv/input"))
    ran = cli.run("--image", image("tiny"), "--bind", "input:/input", command=("cat", "/input/key"))

    assert ((0, b"key") if inside else (125, b"")) == (ran.status, ran.stdout)
    assert ("success" if inside else "workdir-unsafe") == ran.outcome["kind"]


def test_outcome_through_a_planted_link(cli, image, tmp_path):
    """A link that an earlier payload left leads the next one's outcome nowhere."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "outcome.json").write_text("stays")
    (cli.workdir / "results").symlink_to(tmp_path / "there")
    cli.outcome = cli.workdir / "results" / "outcome.json"
    argv = cli.argv("--image", image("tiny"), command=("true",))
    done = subprocess.run(argv, env=cli.environ, capture_output=True, check=False)

    assert (125, "stays") == (done.returncode, cli.outcome.read_text())
    assert b"a link in the working directory leads to" in done.stderr


def test_trace_cannot_be_written(cli, image, tmp_path):
    """Without a trace no payload starts."""
    (tmp_path / "file").write_text("")
    ran = cli.run("--image", image("tiny"), "--trace-dir", tmp_path / "file", command=("touch", "/srv/started"))

    assert (125, "trace-unwritable") == (ran.status, ran.outcome["kind"])
    assert not (cli.workdir / "started").exists()


def test_request_from_standard_input(cli, image):
    """A request in JSON runs, and options override it."""
    request = {
        "payload": {"command": ["sh", "-c", 'echo "$A $B"']},
        "image": "/nosuch",
        "env": {"A": "1", "B": "2"},
        "identity": {"vo": "atlas", "job_id": "42"},
    }
    ran = cli.run(
        "--request", "-", "--image", image("tiny"), "--env", "B=3", "--vo", "cms", command=(),
        input=json.dumps(request).encode(), stdin=None,
    )  # fmt: skip

    assert (0, b"1 3\n") == (ran.status, ran.stdout)
    assert ("cms", "42") == (ran.records[0]["wlcg.vo"], ran.records[0]["wlcg.job.id"])

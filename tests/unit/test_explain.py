"""
``wlcg-isolate explain``, as a person reads it.
"""

from __future__ import annotations

import json

import pytest

from wlcg_isolate.cli import explain as command
from wlcg_isolate.cli.output import visible

SITE = """\
version = 1
[image]
allowed_roots = ["/cvmfs/unpacked.cern.ch"]
[container]
workdir = "/scratch"
[[bind.default]]
source = "/a/rather/long/path/to/the/storage/of/a/site/that/has/much/of/it/and/more"
required = false
[lock]
"container.workdir" = "warning"
"""

EXPERIMENT = """\
version = 1
[image]
allowed_roots = ["/cvmfs"]
[image.names]
el8 = "/cvmfs/a"
[image.names.el9]
x86_64 = "/cvmfs/b"
[container]
workdir = "/work"
"""


@pytest.fixture
def explain(tmp_path, capsys, monkeypatch):
    """Run the subcommand with a site's and an experiment's file; return its status, lines and complaints."""
    for name, text in (("site", SITE), ("vo", EXPERIMENT)):
        (tmp_path / f"{name}.toml").write_text(text)
        (tmp_path / f"{name}.toml").chmod(0o644)
    monkeypatch.setenv("PATH", "/nowhere")
    # The path of a test is no part of what is tested.
    monkeypatch.chdir(tmp_path)
    files = ["--site", "site.toml", "--experiment", "vo.toml"]

    def run(*words):
        status = command.main([*words, *files])
        out, err = capsys.readouterr()
        return status, out.splitlines(), err.splitlines()

    return run


def test_fits(explain):
    """Every line fits in 100 columns, and every key has one with its layer."""
    status, lines, _ = explain()
    keys = [line.split()[:2] for line in lines if line[:1].isalpha() and "." in line.split()[0]]

    assert 0 == status
    assert max(map(len, lines)) <= 100
    assert ["image.names", "experiment"] in keys
    assert ["container.workdir", "lock"] in keys
    assert ["gpu.use", "built-in"] in keys


def test_one_key(explain):
    """For one key all that it overrode is shown, what is built in as well, and where each is from."""
    _, lines, _ = explain("container.workdir")

    assert [
        "KEY                LAYER           VALUE",
        "container.workdir  lock [1]        /scratch",
        "                   built-in        not /srv",
        "                   experiment [2]  not /work",
        "[1] site.toml",
        "[2] vo.toml",
    ] == lines


def test_limit(explain):
    """A limit shows the site's value, and what was asked for in vain."""
    _, lines, _ = explain("image.allowed_roots")

    assert "image.allowed_roots  site [1]        /cvmfs/unpacked.cern.ch" == lines[1]
    assert "                     experiment [2]  not /cvmfs" in lines


def test_section(explain):
    """The name of a section shows its keys."""
    _, lines, _ = explain("payload")

    assert ["KEY", "payload.grace_seconds", "payload.limit_seconds"] == [line.split()[0] for line in lines]


def test_entries(explain):
    """Images show with their architecture."""
    _, lines, _ = explain("image.names")

    assert "image.names  experiment [1]  el8 = /cvmfs/a, el9 (x86_64) = /cvmfs/b" == lines[1]


def test_warnings(explain):
    """What was left out goes to standard error."""
    _, _, complaints = explain()
    locked = "and the value is locked by site (site.toml)"

    assert [
        "wlcg-isolate: warning: image.allowed_roots: experiment (vo.toml) asks for /cvmfs, not allowed here",
        f"wlcg-isolate: warning: container.workdir: experiment (vo.toml) asks for /work, {locked}",
    ] == complaints


def test_json(explain):
    """JSON has the fixed keys, and layers with the fixed names."""
    _, lines, _ = explain("--json")
    rows = json.loads("\n".join(lines))

    assert {"key", "value", "layer", "file", "overrode"} <= set(rows[0])
    assert {"built-in", "site", "experiment", "lock"} == {row["layer"] for row in rows}
    assert [list] * len(rows) == [type(row["overrode"]) for row in rows]


@pytest.mark.parametrize(("tty", "no_color", "coloured"), [(False, "", False), (True, "", True), (True, "1", False)])
def test_colour(explain, monkeypatch, tty, no_color, coloured):
    """Colour is for terminals, and for those that want it."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr("sys.stdout.isatty", lambda: tty, raising=False)
    _, lines, _ = explain()

    assert coloured == any("\x1b[" in line for line in lines)


def test_nothing_steers_the_terminal(explain, tmp_path, monkeypatch):
    """Control characters in what others wrote are written out, in the table and in warnings."""
    experiment = tmp_path / "red.toml"
    experiment.write_text(f'{EXPERIMENT}[environment.set]\nX = "\\u001b[31m\\u0007\\u202e"\n')
    experiment.chmod(0o644)
    monkeypatch.setenv("SINGULARITY_BIND", "\x1b]0;x\x07")
    _, lines, complaints = explain("--experiment", "red.toml")
    text = "\n".join([*lines, *complaints])

    assert r"X = \x1b[31m\x07\u202e" in text
    assert text.isprintable() or {"\n"} == {sign for sign in text if not sign.isprintable()}


def test_other_encodings(mocker):
    """What standard output cannot say is written out."""
    mocker.patch("wlcg_isolate.cli.output.sys.stdout", mocker.Mock(encoding="ascii"))

    assert r"\xe4 = /x" == visible("\u00e4 = /x")


def test_closed_output(mocker):
    """With standard output closed nothing is printed, and nothing breaks."""
    mocker.patch("sys.stdout", None)

    assert 0 == command.main(["gpu"])


def test_node(explain, monkeypatch):
    """What was read from the node is listed with what became of it."""
    monkeypatch.setenv("SINGULARITY_BINDPATH", "/data,rel")
    _, lines, complaints = explain()

    assert [
        "read from the environment:",
        "  SINGULARITY_BINDPATH = /data  -> bind.default",
        "  SINGULARITY_BINDPATH = rel  left out: its source is no absolute path",
    ] == lines[-3:]
    assert any("SINGULARITY_BINDPATH = rel" in line for line in complaints)


def test_request(explain, tmp_path):
    """A request's settings are explained as well."""
    (tmp_path / "request.json").write_text('{"settings": {"gpu.use": ["amd"]}}')
    _, lines, _ = explain("gpu.use", "--request", "request.json")

    assert "gpu.use  request [1]  amd" == lines[1]
    assert "[1] request.settings" == lines[-1]

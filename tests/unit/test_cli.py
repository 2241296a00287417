"""The command line: what is read, what is said, and what is written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

from wlcg_isolate import RequestError
from wlcg_isolate.cli import main, options
from wlcg_isolate.cli.output import OutcomeFile, table
from wlcg_isolate.outcome import of_payload

GOOD = ("--image", "/i", "--workdir", "/w")


def parse(*words):
    """Read a command line as ``run`` does."""
    return options.parse(options.parser_for("run", ""), words)


def bind(source, target, origin="--bind", *, writable=False):
    """Describe a bind as five plain values."""
    return (source, target, writable, origin == "--bind", origin)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--bind", "/a"], bind("/a", "/a")),
        (["--bind", "/a:/b"], bind("/a", "/b")),
        (["--bind", "/a:/b:rw"], bind("/a", "/b", writable=True)),
        (["--bind", "/a::rw"], bind("/a", "/a", writable=True)),
        (["--bind-if-present", "/a:/b:rw"], bind("/a", "/b", "--bind-if-present", writable=True)),
    ],
    ids=["source", "target", "rw", "empty-target", "if-present"],
)
def test_bind_forms(words, expected):
    """A bind has three parts and is read-only unless it says otherwise."""
    parsed = parse(*GOOD, *words, "--", "true")

    assert () == parsed.problems
    assert [expected] == [(b.source, b.target, b.writable, b.required, b.origin) for b in parsed.request.binds]


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        ([*GOOD], ["there is no payload: put its command behind --"]),
        (
            [*GOOD, "true"],
            ["unknown option or word 'true' before --", "there is no payload: put its command behind --"],
        ),
        ([*GOOD, "--image", "--", "true"], ["argument --image: expected one argument"]),
        ([*GOOD, "--bind", "/a:/b:wr", "--", "true"], ["--bind '/a:/b:wr' is not SRC[:DST[:ro|rw]]"]),
        ([*GOOD, "--bind", ":/b", "--", "true"], ["--bind ':/b' is not SRC[:DST[:ro|rw]]"]),
        ([*GOOD, "--bind", "/a:b", "--", "true"], ["target must be an absolute path"]),
        ([*GOOD, "--env", "A", "--", "true"], ["--env 'A' is not NAME=VALUE"]),
        ([*GOOD, "--env", "=x", "--", "true"], ["env holds '', which is no name of a variable"]),
        ([*GOOD, "--timeout", "soon", "--", "true"], ["--timeout 'soon' is no number of seconds"]),
        (["--workdir", "", "--", "true"], ["workdir must not be empty"]),
        (
            "--timeout x --env A --bind : --keep-env = -- true".split(),
            [
                "--timeout 'x' is no number of seconds",
                "--env 'A' is not NAME=VALUE",
                "--bind ':' is not SRC[:DST[:ro|rw]]",
                "keep_env holds '=', which is no name of a variable",
            ],
        ),
    ],
    ids=str,
)
def test_what_is_wrong_is_all_said(words, messages):
    """One call shows everything that is wrong, and gives no request."""
    parsed = parse(*words)

    assert messages == [problem.message for problem in parsed.problems]
    assert parsed.request is None


def test_unknown_options_are_all_said():
    """Options are not abbreviated, and what is unknown is named, not dropped."""
    problems = parse(*GOOD, "--imag", "x", "--", "true").problems

    assert [f"unknown option or word {word!r} before --" for word in ("--imag", "x")] == [p.message for p in problems]


def test_request_from_options(tmp_path, monkeypatch):
    """Each option has its place in the request; relative paths are of this directory."""
    monkeypatch.chdir(tmp_path)
    words = "--image el9 --platform p --workdir w --runtime r --trace-dir t --timeout 1.5 --outcome o --vo v".split()
    words += "--job-id 7 --user-dn dn --user-sub s --user-iss i --pilot-id p --user-proxy x --user-token y".split()
    words += "--env A=1 --env B=x=y --env A=2 --keep-env K".split()
    parsed = parse(*words, "--", "tool", "--", "--image")
    asked = parsed.request

    assert () == parsed.problems
    assert ("el9", "p", 1.5, "o", "t") == (asked.image, asked.platform, asked.timeout, parsed.outcome, parsed.trace_dir)
    assert ("tool", "--", "--image") == asked.payload.command
    assert [f"{tmp_path}/{n}" for n in "wrt"] == [asked.workdir, asked.runtime, asked.trace_dir]
    assert ({"A": "2", "B": "x=y"}, ("K",)) == (asked.env, asked.keep_env)
    assert ["v", "7", "dn", "s", "i", "p", f"{tmp_path}/x", f"{tmp_path}/y"] == [
        getattr(asked.identity, name) for name in options._IDENTITY
    ]


@pytest.mark.parametrize("words", ["--image --outcome o --trace-dir t", "--outcome=o --trace-dir=t --image"])
def test_refusal_finds_its_file(words):
    """An unreadable command line still tells where its outcome and record go."""
    parsed = parse(*words.split())

    assert ["usage"] == [problem.kind for problem in parsed.problems]
    assert ("o", "t", None) == (parsed.outcome, parsed.trace_dir, parsed.request)


@pytest.fixture
def request_file(tmp_path):
    """Write a request file."""

    def make(data):
        (tmp_path / "request.json").write_text(data if isinstance(data, str) else json.dumps(data))
        return str(tmp_path / "request.json")

    return make


def test_options_override_the_request_file(request_file):
    """Single values of options win, mappings and lists add up."""
    data = {"payload": {"command": ["file"]}, "image": "/file", "workdir": "/file", "keep_env": ["FILE"]}
    data.update(env={"A": "file", "B": "file"}, binds=[{"source": "/file"}], identity={"vo": "file", "job_id": "file"})
    file = request_file(data)
    more = ("--env", "A=option", "--bind", "/option", "--keep-env", "OPTION", "--vo", "option")
    parsed = parse("--request", file, "--image", "/option", *more)
    asked = parsed.request

    assert () == parsed.problems
    assert ("/option", "/file", ("file",)) == (asked.image, asked.workdir, asked.payload.command)
    assert ({"A": "option", "B": "file"}, ("OPTION", "FILE")) == (asked.env, asked.keep_env)
    assert ["/option", "/file"] == [b.source for b in asked.binds]
    assert ("option", "file") == (asked.identity.vo, asked.identity.job_id)
    assert ("tool",) == parse("--request", file, "--", "tool").request.payload.command


@pytest.mark.parametrize(
    ("data", "origin"),
    [
        ({"payload": {"command": ["x"]}, "env": [1]}, "request.env"),
        ({"payload": {"command": ["x"]}, "identity": "me"}, "request.identity"),
        ({"payload": {"command": ["x"]}, "timeout": "5"}, "request.timeout"),
        ({"payload": {"command": ["x"]}, "unknown": 1}, "request"),
        ({}, "request.payload"),
        ("[]", "--request"),
        ("{", "--request"),
        ("[" * 100_000, "--request"),
    ],
    ids=["env", "identity", "timeout", "unknown", "no-payload", "list", "torn", "deep"],
)
def test_wrong_request_file(request_file, data, origin):
    """What is wrong in a file is named by its place."""
    parsed = parse("--request", request_file(data))

    assert parsed.request is None
    assert {origin} == {problem.origin for problem in parsed.problems}
    assert {"request-invalid"} == {problem.kind for problem in parsed.problems}


def test_outcome_file_replaces_what_the_payload_plants(tmp_path):
    """A link planted meanwhile is replaced, and its target untouched."""
    (tmp_path / "other").write_text("keep")
    file = OutcomeFile(str(tmp_path / "outcome"))
    (tmp_path / "outcome").symlink_to("other")
    file.write(of_payload(3, None))

    assert 3 == json.loads((tmp_path / "outcome").read_text())["exit_code"]
    assert ("keep", False) == ((tmp_path / "other").read_text(), (tmp_path / "outcome").is_symlink())
    assert ["other", "outcome"] == sorted(os.listdir(tmp_path))


def test_outcome_file_replaces_a_directory(tmp_path):
    """A full directory of that name, which nothing can replace, is moved aside."""
    file = OutcomeFile(str(tmp_path / "outcome"))
    (tmp_path / "outcome" / "x").mkdir(parents=True)
    file.write(of_payload(3, None))

    assert 3 == json.loads((tmp_path / "outcome").read_text())["exit_code"]
    assert [["x"]] == [os.listdir(path) for path in tmp_path.glob(".outcome.*.replaced")]


@pytest.mark.parametrize(
    "prepare", [os.mkdir, os.mkfifo, lambda p: os.symlink("other", p)], ids=["directory", "fifo", "link"]
)
def test_outcome_file_must_be_plain(tmp_path, prepare):
    """What is no plain file is refused before anything starts, and stays."""
    prepare(str(tmp_path / "outcome"))

    with pytest.raises(RequestError, match="something else than a plain file has that name"):
        OutcomeFile(str(tmp_path / "outcome"))
    assert ["outcome"] == os.listdir(tmp_path)


@pytest.mark.parametrize("path", ["/", "/dev/null", "none/outcome", "file/outcome"])
def test_outcome_file_in_no_place(tmp_path, monkeypatch, path):
    """A device, a missing directory and a file's inside are refused, by name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()

    with pytest.raises(RequestError, match=f"the outcome cannot be written to {path}: "):
        OutcomeFile(path)


def test_outcome_of_an_earlier_payload_does_not_stay(tmp_path):
    """Where the pilot is killed there is no outcome, and not another payload's."""
    (tmp_path / "outcome").write_text("{}")
    OutcomeFile(str(tmp_path / "outcome"))

    assert [] == os.listdir(tmp_path)


def test_outcome_that_cannot_be_written(tmp_path, capsys, mocker):
    """What became of a payload is not lost when the disk is full, and nothing half stays."""
    file = OutcomeFile(str(tmp_path / "outcome"))
    mocker.patch("os.rename", side_effect=OSError(28, "No space left on device"))
    file.write(of_payload(3, None))
    error = capsys.readouterr().err
    begin = f"wlcg-isolate: the outcome cannot be written to {tmp_path}/outcome: No space left on device: "

    assert [] == os.listdir(tmp_path)
    assert (1, begin) == (error.count("\n"), error[: len(begin)])
    assert 3 == json.loads(error[len(begin) :])["exit_code"]


FULL = """
import json, sys
from wlcg_isolate.cli.output import OutcomeFile
from wlcg_isolate.outcome import of_payload
file = OutcomeFile(sys.argv[1] + "/outcome")
try:
    with open(sys.argv[1] + "/big", "wb", buffering=0) as f:
        while f.write(bytes(1024)):
            pass
except OSError as e:
    print(e.errno)
file.write(of_payload(3, None))
print(json.load(open(sys.argv[1] + "/outcome"))["exit_code"])
"""


def test_outcome_on_a_disk_that_the_payload_fills(tmp_path):
    """The room for the outcome is taken before the payload starts."""
    script = 'mount -t tmpfs -o size=64k tmpfs "$2" && exec "$0" -c "$1" "$2"'
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, sys.executable, FULL, tmp_path]
    done = subprocess.run(argv, capture_output=True, check=False, text=True)

    assert (f"{errno.ENOSPC}\n3\n", "") == (done.stdout, done.stderr)


def test_outcome_without_nameless_files(tmp_path, mocker):
    """A file system that has no nameless files does as well."""
    mocker.patch.object(os, "O_TMPFILE", 0)
    file = OutcomeFile(str(tmp_path / "outcome"))
    file.write(of_payload(3, None))

    assert (["outcome"], 3) == (os.listdir(tmp_path), json.loads((tmp_path / "outcome").read_text())["exit_code"])


def test_table():
    """Columns are aligned, and no line has blanks at its end."""
    assert ("A     B\nlong  x\ny", "") == (table([("A", "B"), ("long", "x"), ("y", "")]), table([]))


def test_names_forge_no_line():
    """What somebody chose as a name ends no line of a table and moves no cursor."""
    assert "A\\n2026  \\x1b[31m\\x9b  \\udcff" == table([("A\n2026", "\x1b[31m\x9b", "\udcff")])


@pytest.mark.parametrize(
    ("words", "status", "begin", "errors"),
    [
        ([], 2, "usage: wlcg-isolate COMMAND", ""),
        (["--help"], 0, "usage: wlcg-isolate COMMAND", ""),
        (["--version"], 0, "wlcg-isolate 0", ""),
        (["rum"], 125, "", "wlcg-isolate: usage: there is no command 'rum'; see wlcg-isolate --help\n"),
        (["explain"], 0, "KEY ", ""),
        (["explain", "no.key"], 1, "", "wlcg-isolate: policy-invalid: there is no key 'no.key'"),
        (["explain", "--json", "container.workdir"], 0, '[\n  {\n    "key": "container.workdir"', ""),
        (["trace", "show", "/no/such"], 1, "", "wlcg-isolate: trace-unwritable: trace records cannot be read from "),
    ],
    ids=["nothing", "help", "version", "unknown", "explain", "no-key", "key", "no-trace"],
)
def test_main(capsys, words, status, begin, errors):
    """Answers go to standard output, complaints to standard error."""
    answer = (main(words), *capsys.readouterr())

    assert (status, begin, errors) == (answer[0], answer[1][: len(begin) or None], answer[2][: len(errors) or None])


@pytest.mark.parametrize("form", [["--json"], ["--shell"], []], ids=["json", "shell", "text"])
def test_refused_plan(tmp_path, capsys, form):
    """A plan that is refused prints nothing that could be run, and writes the outcome."""
    words = f"--image {tmp_path}/none --workdir {tmp_path} --outcome {tmp_path}/o --trace-dir /t -- true".split()
    status = main(["plan", *form, *words])
    output, errors = capsys.readouterr()

    assert (125, "") == (status, output)
    assert any(line.startswith("wlcg-isolate: image-missing: ") for line in errors.splitlines())
    assert "policy" == json.loads((tmp_path / "o").read_text())["failed_by"]


def test_trace_show(tmp_path, capsys):
    """Records are shown in order, of one payload if wanted; torn lines are told."""
    lines = [{"event.action": "payload.end", "container.id": name, "@timestamp": name} for name in "ba"]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{")
    statuses = [main(["trace", "show", str(tmp_path), *more]) for more in (["--json"], ["--trace-id", "a"])]
    output, errors = capsys.readouterr()
    shown, end = json.JSONDecoder().raw_decode(output)

    assert ([0, 0], ["a", "b"]) == (statuses, [record["container.id"] for record in shown])
    assert ["TIME", "aZ"] == [line.split()[0] for line in output[end:].strip().splitlines()]
    assert 2 * f"wlcg-isolate: {tmp_path}/x.jsonl:3: not a record\n" == errors

"""What the commands for records print, and how they end."""

from __future__ import annotations

import json

import pytest

from wlcg_isolate import TraceRecord
from wlcg_isolate.cli import main
from wlcg_isolate.trace import Journal


@pytest.fixture
def written(tmp_path):
    """Write one closed file."""
    journal = Journal(str(tmp_path / "d"))
    journal.write(TraceRecord(action="payload.end", trace_id="t", fields={"n": 1}))
    journal.close()

    return tmp_path / "d", journal.path


def run(capsys, *words):
    """Run a command; give status, output and errors."""
    status = main(["trace", *map(str, words)])
    output, errors = capsys.readouterr()

    return status, output, errors


def test_verify_never_says_just_ok(written, capsys):
    """What was compared, the level, and why it is not more are said."""
    status, output, _ = run(capsys, "verify", written[0])

    assert 0 == status
    assert "not altered, closed, level 0" in output
    assert "not more than level 0: no copy of its records that left the node was given" in output
    assert "Compared: each record with the hash that follows from the one before; the files of the directory" in output


def test_verify_names_an_edit(written, capsys):
    """An edit is named with its place, and ends the command with 1."""
    with open(written[1], "r+b") as f:
        content = f.read()
        f.seek(0)
        f.write(content.replace(b'"n":1', b'"n":2'))
    status, output, _ = run(capsys, "verify", "--trace-dir", written[0])

    assert 1 == status
    assert (
        f"! altered: line 2, byte {content.index(bytes([10])) + 1}: record 1 is not the one that was written" in output
    )
    assert "ALTERED OR INCOMPLETE" in output
    assert "Something was altered or lost: 1 of 1 files, 1 findings." in output


def test_verify_json(written, capsys):
    """A program gets the same."""
    status, output, _ = run(capsys, "verify", written[0], "--json")
    shown = json.loads(output)

    assert (0, False, [3], ["closed"]) == (
        status,
        shown["harmed"],
        [file["records"] for file in shown["files"]],
        [file["state"] for file in shown["files"]],
    )
    assert {"path", "harmed", "files", "findings", "unreadable", "compared"} == set(shown)


@pytest.mark.parametrize(
    "words", [["verify", "/no/such"], ["verify", "{d}", "--key", "/no/such"], ["verify", "{d}", "--received", "/no"]]
)
def test_cannot_be_read(written, capsys, words):
    """To be unable to look is neither 0 nor 1."""
    status, _, errors = run(capsys, *(word.format(d=written[0]) for word in words))

    assert 2 == status
    assert "wlcg-isolate: trace-unwritable: " in errors


def test_nothing_there(tmp_path, capsys):
    """An empty directory proves nothing."""
    status, output, _ = run(capsys, "verify", tmp_path)

    assert 2 == status
    assert "There is nothing to verify." in output


def test_file_that_cannot_be_read(written, capsys, mocker):
    """A file that fails while it is read is told."""
    mocker.patch("wlcg_isolate.trace.examine.open_plain", side_effect=OSError(5, "Input/output error"))
    status, output, _ = run(capsys, "verify", written[0])

    assert 2 == status
    assert f"{written[1]}: CANNOT BE READ: Input/output error" in output


def test_names_cannot_forge_lines(tmp_path, capsys):
    """What a file says of itself does not steer the terminal."""
    journal = Journal(str(tmp_path))
    journal.close()
    with open(journal.path, "r+b") as f:
        content = f.read().replace(b'"host.name":"', b'"host.name":"\\u001b[2J\\n')
        f.seek(0)
        f.write(content)
    _, output, _ = run(capsys, "verify", tmp_path)

    assert "\x1b" not in output
    assert "\\x1b[2J\\n" in output


def test_show_the_journal_itself(written, capsys):
    """What the journal wrote about itself shows when asked for."""
    _, short, _ = run(capsys, "show", written[0], "--json")
    _, long, _ = run(capsys, "show", written[0], "--json", "--journal")
    _, text, _ = run(capsys, "show", written[0], "--journal")

    assert ["payload.end"] == [r["event.action"] for r in json.loads(short)]
    assert ["log.genesis", "payload.end", "log.close"] == [r["event.action"] for r in json.loads(long)]
    assert 4 == len(text.splitlines())


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [([], 2, "commands:"), (["--help"], 0, "commands:"), (["nosuch"], 125, "there is no command 'trace nosuch'")],
)
def test_subcommands(capsys, words, status, text):
    """Help lists the commands, and another word is refused."""
    found, output, errors = run(capsys, *words)

    assert status == found
    assert text in output + errors

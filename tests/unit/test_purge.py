"""Old records go, and what is left can still be checked."""

from __future__ import annotations

import datetime
import json
import os
import time

import pytest

from wlcg_isolate import TraceError, TraceRecord
from wlcg_isolate.cli import main
from wlcg_isolate.policy.journal import JournalSettings
from wlcg_isolate.trace import Journal
from wlcg_isolate.trace.export.progress import Progress
from wlcg_isolate.trace.purge import purge, retention_warning
from wlcg_isolate.trace.verify import verify

NOW = datetime.datetime.now(datetime.timezone.utc)


def later(days):
    """Give the time in so many days."""
    return NOW + datetime.timedelta(days=days)


def write(place, count=1, *, close=True, **more):
    """Write the files of a process; give the name of the last."""
    journal = Journal(str(place), JournalSettings(**more))
    for _ in range(count):
        journal.write(TraceRecord(action="payload.end", trace_id="t", fields={"fill": "x" * 10_000}))
    if close:
        journal.close()

    return os.path.basename(journal.path)


def kinds(place):
    """List the kinds of findings, and the status."""
    report = verify(str(place))

    return report.status, sorted({f.kind for f in (*report.findings, *(f for r in report.files for f in r.findings))})


def test_young_files_stay(tmp_path):
    """Nothing goes before its time."""
    write(tmp_path)
    done = purge(str(tmp_path), days=180, now=later(179))

    assert ((), (), "", 1) == (done.removed, done.kept, done.record, len(os.listdir(tmp_path)))


def test_chain_stays_checkable(tmp_path):
    """What was purged is not missed; what goes besides is."""
    old = [write(tmp_path) for _ in range(2)]
    # Their process is alive, so that they stay.
    young = [write(tmp_path, close=False) for _ in range(2)]
    done = purge(str(tmp_path), days=1, now=later(2))
    after = kinds(tmp_path)
    os.remove(tmp_path / young[0])

    assert old == [os.path.basename(f.file) for f in done.removed]
    assert [(str(tmp_path / name), "its process is alive") for name in young] == list(done.kept)
    assert (0, ["still-written"]) == after
    assert (1, ["missing-file", "still-written"]) == kinds(tmp_path)


def test_purge_of_a_purge(tmp_path):
    """What an old purge removed is told again when its own record goes, as long as a file speaks of it."""
    gone = write(tmp_path)
    # Its process lives, so it stays, and it names the file that goes.
    holder = write(tmp_path, close=False)
    first = purge(str(tmp_path), days=1, now=later(2))
    second = purge(str(tmp_path), days=1, now=later(2))
    said = [json.loads(line).get("wlcg.journal.purged") for line in _lines(second.record)]

    assert [gone] == [os.path.basename(f.file) for f in first.removed]
    assert [os.path.basename(first.record)] == [os.path.basename(f.file) for f in second.removed]
    assert [gone, os.path.basename(first.record)] == [one["name"] for one in said if one]
    assert [holder] == [os.path.basename(file) for file, _ in second.kept]
    assert (0, ["still-written"]) == kinds(tmp_path)


def test_link_is_not_removed(tmp_path):
    """A link under the name of a file of records stays, and so does what it leads to."""
    other = tmp_path / "other"
    name = write(other)
    os.symlink(other / name, tmp_path / name)
    done = purge(str(tmp_path), days=1, now=later(2))

    assert [(str(tmp_path / name), "it is a link")] == list(done.kept)
    assert (other / name).exists()


@pytest.mark.parametrize("call", ["read", "unlink"])
def test_purge_that_fails(tmp_path, mocker, call):
    """What cannot be read or removed is an error."""
    write(tmp_path)
    where = "examine.open_plain" if call == "read" else "purge.os.unlink"
    mocker.patch(f"wlcg_isolate.trace.{where}", side_effect=OSError(5, "Input/output error"))
    with pytest.raises(TraceError, match="Input/output error"):
        purge(str(tmp_path), days=1, now=later(2))


def _lines(path):
    with open(path, "rb") as f:
        return f.read().splitlines()


def test_files_of_a_rotation_go(tmp_path):
    """All files of a process go, and the purge's record is enough for what names them."""
    write(tmp_path, 15, rotate_bytes=65536)
    before = len(os.listdir(tmp_path))
    done = purge(str(tmp_path), days=1, now=later(2))

    assert 3 == before == len(done.removed)
    assert (0, []) == kinds(tmp_path)


def test_evidence_of_an_alteration_stays(tmp_path):
    """A file that does not verify stays, unless that is asked for; the record says what it was."""
    path = tmp_path / write(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"xxx", b"yyy"))
    kept = purge(str(tmp_path), days=1, now=later(2))
    gone = purge(str(tmp_path), days=1, now=later(2), altered=True)
    (said,) = [json.loads(line)["wlcg.journal.purged"] for line in _lines(gone.record) if b"journal.purged" in line]

    assert ((), [(str(path), "it does not verify: altered")]) == (kept.removed, list(kept.kept))
    assert (["altered"], path.name) == (said["findings"], said["name"])


def test_record_comes_before_the_file_goes(tmp_path, mocker):
    """A file whose end cannot be recorded stays."""
    write(tmp_path)
    mocker.patch("wlcg_isolate.trace.file.os.fdatasync", side_effect=OSError(28, "No space left on device"))
    with pytest.raises(TraceError):
        purge(str(tmp_path), days=1, now=later(2))

    assert 1 == len(os.listdir(tmp_path))


@pytest.mark.parametrize(("days", "word"), [(89, "less than"), (90, ""), (540, ""), (541, "more than")])
def test_unusual_retention(days, word):
    """What is shorter or longer than sites are asked to keep is told."""
    assert word in retention_warning(days)
    assert bool(word) == bool(retention_warning(days))


def test_command(tmp_path, capsys):
    """The command shows what would go, removes it, and warns."""
    name = write(tmp_path)
    # What ended within this second is not older than no days.
    os.utime(tmp_path / name)
    mains = [["purge", str(tmp_path), "--days", "0", "--dry-run"], ["purge", str(tmp_path), "--days", "0", "--json"]]
    statuses = [main(["trace", *words]) for words in mains]
    output, errors = capsys.readouterr()

    assert [0, 0] == statuses
    assert 2 == errors.count("0 days are less than the 90 that sites are asked to keep")
    assert "removed" in output


@pytest.mark.parametrize(("words", "status"), [(["--days", "-1"], 2), (["/no/such"], 2)], ids=["days", "path"])
def test_command_refuses(words, status, capsys):
    """What cannot be is refused."""
    try:
        found = main(["trace", "purge", *words])
    except SystemExit as e:
        found = e.code

    assert status == found
    assert "" != capsys.readouterr().err


def test_unsent_files_stay(tmp_path):
    """What a receiver has not taken stays; when it goes, what was noted of it goes, too."""
    one, other = [write(tmp_path) for _ in range(2)]
    for receiver, name in (("a", one), ("b", one), ("a", other)):
        Progress(str(tmp_path), receiver).write(name, (tmp_path / name).stat().st_size)
    some = purge(str(tmp_path), days=1, now=later(2), receivers=("a", "b"))
    noted = sorted(os.listdir(tmp_path / "sent"))
    rest = purge(str(tmp_path), days=1, now=later(2))

    assert [one] == [os.path.basename(file.file) for file in some.removed]
    assert [(str(tmp_path / other), "not sent yet: b")] == list(some.kept)
    assert [f"{other}@a"] == noted
    assert other in [os.path.basename(file.file) for file in rest.removed]
    assert [] == os.listdir(tmp_path / "sent")


def test_command_asks_policy_for_receivers(tmp_path, capsys):
    """The command keeps what the site's receivers have not taken, until it is told otherwise."""
    (tmp_path / "site.toml").write_text('version = 1\n[trace]\nreceivers = { es = "http://127.0.0.1:1/_bulk" }\n')
    name = write(tmp_path / "trace")
    # Ages are counted in whole seconds.
    time.sleep(1.1)
    argv = ["trace", "purge", str(tmp_path / "trace"), "--days", "0", "--site", str(tmp_path / "site.toml")]

    assert 1 == main(argv)
    assert f"{name}: kept: not sent yet: es" in capsys.readouterr().out
    assert 0 == main([*argv, "--unsent"])
    assert name not in os.listdir(tmp_path / "trace")

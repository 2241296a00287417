"""Parquet by day and site: once, whole, in order, and small to read."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from wlcg_isolate import TraceError
from wlcg_isolate.trace.query import Question, find
from wlcg_isolate.trace.query.columns import COLUMNS, DERIVED
from wlcg_isolate.trace.query.duck import connect
from wlcg_isolate.trace.query.export import export_parquet
from wlcg_isolate.trace.query.question import User


def read(text, **values):
    """Ask DuckDB."""
    connection, place = connect()
    try:
        return connection.execute(text, values).fetchall()
    finally:
        connection.close()
        shutil.rmtree(place)


def names(place):
    """List the files below a directory."""
    return sorted(str(path.relative_to(place)) for path in Path(place).rglob("*.parquet"))


def test_partitions(parquet, site):
    """Each day and site has two files with the same rows, ordered by node and by user."""
    found = names(parquet)
    days = {record["@timestamp"][:10] for record in site.records}

    assert days == {name[4:14] for name in found}
    assert {"site=CERN-PROD", "site=T2%2F%C3%84%20b", "site=unknown"} == {name.split("/")[1] for name in found}
    text = "SELECT {} FROM read_parquet($f, hive_partitioning = false)"
    for name in found:
        rows = read(text.format("host_name, time, owner, event_id"), f=f"{parquet}/{name}")
        key = (lambda r: r[2]) if "by-user" in name else (lambda r: r[:2])
        assert rows == sorted(rows, key=key) or [key(r) for r in rows] == sorted(key(r) for r in rows)
        assert 0o600 == stat.S_IMODE(os.stat(f"{parquet}/{name}").st_mode)
    both = [[f for f in found if ("by-user" in f) == by] for by in (False, True)]
    one, two = ({f"{parquet}/{f}" for f in some} for some in both)
    assert len(one) == len(two)
    ids = [sorted(i for f in some for (i,) in read(text.format("event_id"), f=f)) for some in (one, two)]
    assert sorted(record["event.id"] for record in site.records) == ids[0] == ids[1]


def test_columns(parquet):
    """Columns and their order are those that are documented."""
    (first, *_) = names(parquet)
    found = read(
        "SELECT column_name FROM (DESCRIBE SELECT * FROM read_parquet($f, hive_partitioning = false))",
        f=f"{parquet}/{first}",
    )

    assert [c.name for c in COLUMNS] + [name for name, _, _ in DERIVED] == [name for (name,) in found]


def test_export_again(tmp_path, lines):
    """What is there is not added again, also when a crash left something half."""
    first = export_parquet([lines], str(tmp_path))
    half = Path(first.files[0]).parent / ".records.parquet.new"
    half.write_bytes(b"half")
    before = {name: os.stat(tmp_path / name).st_mtime_ns for name in names(tmp_path)}
    again = export_parquet([lines, lines], str(tmp_path))

    assert (first.read, 0, ()) == (again.read, again.new, again.files)
    assert before == {name: os.stat(tmp_path / name).st_mtime_ns for name in names(tmp_path)}
    assert find([lines], Question(), whole=True) == find([str(tmp_path)], Question(), whole=True)


def test_export_in_pieces(tmp_path, lines):
    """Files that come one after the other give the same as all at once."""
    files = [str(file) for file in sorted(Path(lines).iterdir())]
    done = [export_parquet(some, str(tmp_path)) for some in (files[3:], files[:3])]

    assert sum(one.new for one in done) == sum(one.read for one in done)
    assert find([lines], Question(), whole=True) == find([str(tmp_path)], Question(), whole=True)


def test_crash_between_the_two_files(tmp_path, lines, mocker):
    """An export that dies in the middle of a day is made good by the next one."""
    real, calls = os.rename, []

    def rename(old, new):
        calls.append(new)
        if len(calls) == 4:
            raise KeyboardInterrupt
        real(old, new)

    mocker.patch("os.rename", side_effect=rename)
    with pytest.raises(KeyboardInterrupt):
        export_parquet([lines], str(tmp_path))
    mocker.stopall()
    export_parquet([lines], str(tmp_path))
    user = Question(users=[User(names=["/DC=ch/DC=cern/OU=Users/CN=user 2"])])

    assert find([lines], Question(), whole=True) == find([str(tmp_path)], Question(), whole=True)
    assert find([lines], user) == find([str(tmp_path)], user)


def test_site_of_records_that_name_none(tmp_path, site):
    """The exporter's own site stands for records that say nothing."""
    (tmp_path / "a.jsonl").write_text(json.dumps({**site.records[0], "wlcg.site": None}) + "\n")
    export_parquet([str(tmp_path / "a.jsonl")], str(tmp_path / "p"), site="../up")

    assert ["site=..%2Fup"] == [path.name for path in (tmp_path / "p").glob("day=*/*")]
    assert ["../up"] == [one["site"] for one in find([str(tmp_path / "p")], Question()).payloads]


def test_old_days_go(tmp_path, lines):
    """Days before the last N are removed, and no other directory."""
    (tmp_path / "other").mkdir()
    done = export_parquet([lines], str(tmp_path), keep_days=1)

    assert sorted(set(done.removed)) == list(done.removed)
    assert done.removed
    assert ["other"] == sorted(name for name in os.listdir(tmp_path) if name != ".lock")


def test_hostile_lines_are_exported_as_found(tmp_path):
    """Bytes that are no text, and records without identity, are there once."""
    line = '{"@timestamp":"2026-03-01T00:00:00Z","event.action":"payload.start","process.executable":"\\udcff"}\n'
    (tmp_path / "a.jsonl").write_text(line + "torn")
    for _ in range(2):
        done = export_parquet([str(tmp_path / "a.jsonl")], str(tmp_path / "p"))

    assert (1, 0, 1) == (done.read, done.new, len(done.remarks))
    answers = [find([str(tmp_path / name)], Question(), whole=True).payloads for name in ("a.jsonl", "p")]
    assert answers[0] == answers[1]


def test_place_that_cannot_be_written(tmp_path, lines):
    """A place that takes no Parquet is refused by name."""
    (tmp_path / "file").touch()

    with pytest.raises(TraceError, match="Parquet cannot be written to"):
        export_parquet([lines], str(tmp_path / "file" / "below"))

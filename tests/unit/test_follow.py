"""Reading files that grow, as an exporter does."""

from __future__ import annotations

import json
import os

import pytest

from wlcg_isolate import TraceError, TraceRecord
from wlcg_isolate.policy.journal import JournalSettings
from wlcg_isolate.trace import Journal, Position, follow, iter_records, read_records
from wlcg_isolate.trace.chain import MAX_LINE


def record(number, fill=""):
    """Make a small record."""
    return TraceRecord(action="payload.end", trace_id="t", fields={"n": number, "fill": fill})


def taken(place, position):
    """Take what is new; give the numbers of the payloads' records and the position behind."""
    entries = list(follow(str(place), position))

    return [e.record["n"] for e in entries if e.record and "n" in e.record], position.after(*entries)


def test_nothing_twice_and_nothing_missed(tmp_path):
    """A reader that goes on from where it stopped sees every record once, through rotation and many writers."""
    journals = [Journal(str(tmp_path), JournalSettings(rotate_bytes=65536)) for _ in range(2)]
    position, seen = Position(), []
    for number in range(30):
        journals[number % 2].write(record(number, "x" * 10_000))
        if number % 3 == 0:
            new, position = taken(tmp_path, Position.from_text(position.to_text()))
            seen += new
    for journal in journals:
        journal.close()
    new, position = taken(tmp_path, position)

    assert list(range(30)) == sorted(seen + new)
    assert ([], 6) == (taken(tmp_path, position)[0], len(position.offsets))


def test_stop_in_the_middle(tmp_path):
    """A reader that took some entries only goes on behind these."""
    journal = Journal(str(tmp_path))
    for number in range(5):
        journal.write(record(number))
    journal.close()
    first = []
    for entry in follow(str(tmp_path)):
        first.append(entry)
        if len(first) == 3:
            break
    rest, _ = taken(tmp_path, Position().after(*first))

    assert [2, 3, 4] == rest


def test_line_that_is_being_written(tmp_path):
    """A line comes when it is whole."""
    path = tmp_path / "a.jsonl"
    line = json.dumps({"event.action": "x", "n": 1}).encode() + b"\n"
    path.write_bytes(line[:10])
    before = taken(tmp_path, Position())
    path.write_bytes(line)

    assert ([], [1]) == (before[0], taken(tmp_path, before[1])[0])


def test_unknown_lines(tmp_path):
    """What is no record is given as such, and what comes behind is read."""
    line = json.dumps({"event.action": "x", "n": 1}).encode() + b"\n"
    with open(tmp_path / "a.jsonl", "wb") as f:
        f.writelines((b"[]\n", b"\xff\0\n", b"[" * 100_000 + b"\n", b"x" * (MAX_LINE + 10) + b"\n", line))
    entries = list(follow(str(tmp_path)))

    assert [None] * 4 == [e.record for e in entries[:4]]
    assert [1] == [e.record["n"] for e in entries[4:]]
    assert [e.end for e in entries[:-1]] == [e.offset for e in entries[1:]]
    assert [1] == [r["n"] for r in iter_records(str(tmp_path))]
    assert 4 == len(read_records(str(tmp_path))[1])


def test_file_that_was_purged(tmp_path):
    """A file that goes while the directory is read is passed over."""
    journals = [Journal(str(tmp_path)) for _ in range(2)]
    for number, journal in enumerate(journals):
        journal.write(record(number))
        journal.close()
    reading = follow(str(tmp_path))
    next(reading)
    os.remove(journals[1].path)

    assert 2 == len(list(reading))


def test_shorter_file(tmp_path):
    """A file that is shorter than the position gives nothing."""
    (tmp_path / "a.jsonl").write_text("{}\n")

    assert [] == list(follow(str(tmp_path), Position(offsets={"a.jsonl": 99})))


def test_no_directory(tmp_path):
    """Nothing and no directory are different things."""
    with pytest.raises(TraceError):
        list(follow(str(tmp_path / "none")))


@pytest.mark.parametrize("text", ["[]", "{", '{"a": -1}', '{"a": true}', '{"a": "1"}'])
def test_no_position(text):
    """What is no position is refused, not taken for the beginning."""
    with pytest.raises(ValueError, match=r".+"):
        Position.from_text(text)

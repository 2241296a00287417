"""Evidence: what a record holds, where it is kept, and how it is read back."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
import types

import pytest

from wlcg_isolate import TraceError, TraceRecord
from wlcg_isolate.trace import Journal, journal, journal_for, read_records

HEAD_KEYS = set(
    "@timestamp event.action event.id event.kind event.category event.type event.dataset ecs.version "
    "wlcg.schema_version container.id".split()
)


def record(trace_id="t-1", **fields):
    """Make a small record."""
    return TraceRecord(action="payload.start", trace_id=trace_id, fields=fields)


@pytest.mark.parametrize(
    ("action", "kind"),
    [("payload.start", "start"), ("payload.end", "end"), ("payload.refused", "denied")],
    ids=["start", "end", "refused"],
)
def test_record_in_plain_types(action, kind):
    """Each record has the same head, and what is not known is left out."""
    shown = TraceRecord(action=action, trace_id="t-1", fields={"a": 1, "b": None, "c": 0}).to_dict()

    assert HEAD_KEYS | {"a", "c"} == set(shown)
    assert (action, [kind], "t-1") == (shown["event.action"], shown["event.type"], shown["container.id"])
    assert "Z" == shown["@timestamp"][26:]


def test_unknown_action_is_refused():
    """There is no record of something else."""
    with pytest.raises(ValueError, match=r"payload\.began"):
        TraceRecord(action="payload.began", trace_id="t-1")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777], ids=["open", "usual", "closed"])
def test_journal_file_is_private(tmp_path, umask):
    """The file is for its owner alone, whatever the umask."""
    before = os.umask(umask)
    try:
        made = Journal(str(tmp_path))
    finally:
        os.umask(before)

    assert 0o600 == stat.S_IMODE(os.stat(made.path).st_mode)


def test_journal_makes_private_directories(tmp_path):
    """A directory that is made, and its missing parents, take records of the owner alone."""
    Journal(str(tmp_path / "a" / "b")).write(record(n=1))

    assert 0o700 == stat.S_IMODE(os.stat(tmp_path / "a" / "b").st_mode)
    assert [1] == [r["n"] for r in read_records(str(tmp_path / "a" / "b"))[0]]


def test_one_file_for_process_and_directory(tmp_path):
    """A process has one file in each directory."""
    one, two = str(tmp_path / "one"), str(tmp_path / "two")

    assert journal_for([one]) is journal_for([one])
    assert journal_for([two]) is not journal_for([one])
    assert [1, 1] == [len(os.listdir(one)), len(os.listdir(two))]


def test_fork_gets_a_file_of_its_own(tmp_path):
    """Two processes never share a file."""
    place = str(tmp_path)
    journal_for([place]).write(record(who="parent"))
    pid = os.fork()
    if pid == 0:
        try:
            journal_for([place]).write(record(who="child"))
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    journal_for([place]).write(record(who="parent"))

    assert 0 == status
    assert [["child"], ["parent", "parent"]] == sorted(
        [r["who"] for r in read_records(str(file))[0]] for file in tmp_path.iterdir()
    )


def test_threads_write_whole_lines(tmp_path):
    """Lines of many threads are not mixed."""
    made = journal_for([str(tmp_path)])

    def work(number):
        for i in range(100):
            made.write(record(n=number, i=i, fill="x" * 3000))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for step in (threading.Thread.start, threading.Thread.join):
        list(map(step, threads))
    records, remarks = read_records(str(tmp_path))

    assert not remarks
    assert [(n, i) for n in range(8) for i in range(100)] == sorted((r["n"], r["i"]) for r in records)


def test_full_disk_is_an_error(tmp_path, mocker):
    """A record that is not on disk is not passed over."""
    made = Journal(str(tmp_path))
    mocker.patch.object(journal.os, "write", side_effect=OSError(errno.ENOSPC, "No space left on device"))

    with pytest.raises(TraceError, match="No space left on device"):
        made.write(record())


def test_short_write_is_completed(tmp_path, mocker):
    """A disk that takes a line in pieces still gets all of it."""
    made, write = Journal(str(tmp_path)), os.write
    mocker.patch.object(journal.os, "write", side_effect=lambda fd, line: write(fd, line[:7]))
    made.write(record(n=1))

    assert [1] == [r["n"] for r in read_records(made.path)[0]]


def test_directory_of_somebody_else_is_refused(tmp_path, mocker):
    """A directory that another user prepared where all may write is not used."""
    (tmp_path / "trace").mkdir()
    tmp_path.chmod(0o1777)
    mocker.patch.object(journal.os, "geteuid", return_value=4711)
    real = os.stat
    mocker.patch.object(
        journal.os,
        "stat",
        side_effect=lambda path: types.SimpleNamespace(st_uid=4712, st_mode=real(path).st_mode),
    )

    with pytest.raises(TraceError, match=f"{tmp_path}/trace belongs to user 4712"):
        Journal(str(tmp_path / "trace"))
    assert [] == os.listdir(tmp_path / "trace")


def test_next_directory_is_tried(tmp_path):
    """The first directory that takes a journal gets it; when none does, each is named."""
    bad, good = str(tmp_path / "file"), str(tmp_path / "good")
    (tmp_path / "file").write_text("")

    assert good == os.path.dirname(journal_for([bad, good]).path)
    with pytest.raises(TraceError) as caught:
        journal_for([bad, f"{bad}/below"])
    assert [bad, f"{bad}/below"] == [p.message.split(" to ")[1].split(":")[0] for p in caught.value.problems]
    with pytest.raises(TraceError, match="no directory"):
        journal_for([])


def test_records_are_read_in_order_and_torn_lines_remarked(tmp_path):
    """All files of a directory are read as one; what is no record is told."""
    late, early = (json.dumps({"event.action": "x", "@timestamp": t}) for t in ("2026-01-02", "2026-01-01"))
    (tmp_path / "a.jsonl").write_text(late + "\n" + late[:20])
    (tmp_path / "b.jsonl").write_text(early + "\n[1]\n\n")
    (tmp_path / "c.txt").write_text(early)
    records, remarks = read_records(str(tmp_path))

    assert ["2026-01-01", "2026-01-02"] == [r["@timestamp"] for r in records]
    assert [f"{tmp_path}/a.jsonl:2: not a record", f"{tmp_path}/b.jsonl:2: not a record"] == remarks


def test_missing_path_is_an_error(tmp_path):
    """To find nothing and to be unable to look are different things."""
    with pytest.raises(TraceError, match="No such file or directory"):
        read_records(str(tmp_path / "none"))


def test_deeply_nested_line_is_remarked(tmp_path):
    """A line that no parser takes is one remark, not the end of reading."""
    (tmp_path / "a.jsonl").write_text("[" * 100_000)

    assert ([], [f"{tmp_path}/a.jsonl:1: not a record"]) == read_records(str(tmp_path))


def test_no_plain_file(tmp_path):
    """Something that never ends is refused, not waited for."""
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(TraceError) as caught:
        read_records(str(tmp_path))

    assert "it is no plain file" in str(caught.value)

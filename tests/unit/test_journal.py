"""Writing the journal: what happens to it, and what it does about that."""

from __future__ import annotations

import datetime
import errno
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import types

import pytest

from wlcg_isolate import TraceError, TraceRecord
from wlcg_isolate.policy.journal import JournalSettings
from wlcg_isolate.trace import Journal, close_journals, ends, file as journal_file, iter_records, journal_for
from wlcg_isolate.trace.chain import MAX_LINE
from wlcg_isolate.trace.verify import verify


def record(number, **fields):
    """Make a small record."""
    return TraceRecord(action="payload.start", trace_id="t-1", fields={"n": number, **fields})


def numbers(place):
    """List the numbers of the payloads' records in all files."""
    return sorted(r["n"] for r in iter_records(str(place)))


def own(place, action):
    """List the records of the journal about itself."""
    return [r for r in iter_records(str(place), journal=True) if r["event.action"] == action]


def findings(place):
    """List the kinds of all findings, and the status."""
    report = verify(str(place))
    kinds = {f.kind for f in (*report.findings, *(f for file in report.files for f in file.findings))}

    return report.status, sorted(kinds)


def in_child(function):
    """Run a function in a child process that ends at once behind it; give its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)

    return os.waitpid(pid, 0)[1]


def write_and_die(place, count=3, torn=b""):
    """Write some records, and some bytes of another one, and die of it."""
    journal = Journal(str(place))
    for number in range(count):
        journal.write(record(number))
    with open(journal.path, "ab") as f:
        f.write(torn)
    os.kill(os.getpid(), signal.SIGKILL)


def test_first_and_last_record(tmp_path):
    """A file begins with who writes it and ends with that nothing follows."""
    journal = Journal(str(tmp_path))
    journal.write(record(1))
    journal.close()
    first, one, last = list(iter_records(journal.path, journal=True))

    assert ("log.genesis", "payload.start", "log.close") == tuple(r["event.action"] for r in (first, one, last))
    assert (os.getpid(), os.uname().nodename, os.path.basename(journal.path)) == (
        first["process.pid"],
        first["host.name"],
        first["wlcg.journal.name"],
    )
    assert [0, 1, 2] == [r["event.sequence"] for r in (first, one, last)]
    assert "wlcg.integrity" == list(one)[-1]


def test_record_after_the_end(tmp_path):
    """A record that comes after the end gets a file that follows."""
    journal = Journal(str(tmp_path))
    journal.close()
    journal.write(record(1))
    journal.close()

    assert ([1], 2) == (numbers(tmp_path), len(os.listdir(tmp_path)))
    assert (0, []) == findings(tmp_path)


def test_keys_of_the_journal_cannot_be_forged(tmp_path):
    """What a record brings under the journal's own names does not count."""
    journal = Journal(str(tmp_path))
    journal.write(record(1, **{"event.sequence": 99, "wlcg.integrity": {"hash": "x"}}))
    journal.close()

    assert [1] == [r["event.sequence"] for r in iter_records(str(tmp_path))]
    assert (0, []) == findings(tmp_path)


@pytest.mark.parametrize(
    "fields", [{"x": float("nan")}, {"x": object()}, {"x": "y" * MAX_LINE}], ids=["nan", "object", "long"]
)
def test_record_that_is_none(tmp_path, fields):
    """What cannot be written is an error, and the next record follows."""
    journal = Journal(str(tmp_path))
    with pytest.raises(TraceError):
        journal.write(record(1, **fields))
    journal.write(record(2))
    journal.close()

    assert [2] == numbers(tmp_path)
    assert (0, []) == findings(tmp_path)


def test_checkpoints_are_counted(tmp_path):
    """After so many records comes one that says where the file stands."""
    journal = Journal(str(tmp_path), JournalSettings(checkpoint_records=2))
    for number in range(5):
        journal.write(record(number))
    journal.close()

    assert [2, 5] == [r["wlcg.journal.checkpoint"]["sequence"] for r in own(tmp_path, "log.checkpoint")]
    assert (0, []) == findings(tmp_path)


@pytest.mark.parametrize("torn", [b"", b'{"@timest'], ids=["between", "within"])
def test_file_of_a_dead_process(tmp_path, torn):
    """The next process says which file it found open and where it was cut, once, and does not touch it."""
    assert signal.SIGKILL == in_child(lambda: write_and_die(tmp_path, torn=torn))
    (dead,) = tmp_path.iterdir()
    content = dead.read_bytes()
    for _ in range(2):
        Journal(str(tmp_path)).close()
    (found,) = own(tmp_path, "log.recovered")

    assert content == dead.read_bytes()
    assert {"name": dead.name, "sequence": 3, "torn_bytes": len(torn), "bytes": len(content) - len(torn)}.items() <= (
        found["wlcg.journal.recovered"].items()
    )
    assert (0, ["left-open", *(["torn"] if torn else [])]) == findings(tmp_path)


def test_cut_after_recovery_is_seen(tmp_path):
    """What was there when the next process looked cannot go unseen."""
    in_child(lambda: write_and_die(tmp_path))
    (dead,) = tmp_path.iterdir()
    Journal(str(tmp_path)).close()
    dead.write_bytes(b"".join(dead.read_bytes().splitlines(keepends=True)[:-1]))

    assert (1, ["left-open", "truncated"]) == findings(tmp_path)


def test_file_of_a_process_that_lives(tmp_path):
    """A file that is still written is not taken for left."""
    journal = Journal(str(tmp_path))
    in_child(lambda: Journal(str(tmp_path)).close())

    assert [] == own(tmp_path, "log.recovered")
    assert (0, ["still-written"]) == findings(tmp_path)
    journal.close()


def test_files_of_other_hosts_are_not_judged(tmp_path):
    """In a directory of many hosts nobody is taken for dead from afar."""
    (tmp_path / "20260101T000000.000000Z-elsewhere-1.jsonl").write_text("")
    Journal(str(tmp_path)).close()

    assert [] == own(tmp_path, "log.recovered")


def test_start_looks_at_few_files(tmp_path, mocker):
    """What a new file looks at does not grow with the directory."""
    for number in range(100):
        (tmp_path / f"20200101T000000.{number:06}Z-nowhere-1.jsonl").write_text("")
    look = mocker.spy(ends, "look")
    journal = Journal(str(tmp_path))
    journal.close()

    assert 64 == look.call_count
    assert 16 == len(own(journal.path, "log.genesis")[0]["wlcg.journal.neighbours"])


def take_directory(path):
    """Remove the whole directory."""
    shutil.rmtree(os.path.dirname(path))


def take_file(path):
    """Remove the file."""
    os.remove(path)


def move_directory(path):
    """Give the directory another name."""
    os.rename(os.path.dirname(path), os.path.dirname(path) + ".old")


def plant_link(path):
    """Put a link in the file's place."""
    os.rename(path, path + ".kept")
    os.symlink("/etc/passwd", path)


def write_into(path):
    """Write into the file."""
    with open(path, "ab") as f:
        f.write(b'{"event.action":"payload.start"}\n')


def cut_off(path):
    """Cut the file's end off."""
    os.truncate(path, os.path.getsize(path) - 5)


@pytest.mark.parametrize("harm", [take_directory, take_file, move_directory, plant_link, write_into, cut_off])
def test_file_that_is_tampered_with(tmp_path, harm):
    """Whatever is done to the file or its directory, the next record is safe, in a file that tells of it."""
    place = tmp_path / "d"
    journal = Journal(str(place))
    journal.write(record(1))
    passwd = os.stat("/etc/passwd").st_size
    harm(journal.path)
    journal.write(record(2))
    journal.close()
    (last,) = [r for r in own(journal.path, "log.genesis") if "wlcg.journal.previous" in r]

    assert [2] == numbers(journal.path)
    assert 1 == last["wlcg.journal.previous"]["sequence"]
    assert last["wlcg.journal.previous"]["reason"] in ("the file was taken away", "somebody else wrote to the file")
    assert passwd == os.stat("/etc/passwd").st_size
    assert 1 == findings(place)[0]


def test_directory_replaced_by_a_link(tmp_path):
    """A link in the place of the directory is not followed."""
    journal = Journal(str(tmp_path / "d"))
    move_directory(journal.path)
    (tmp_path / "other").mkdir()
    os.symlink(tmp_path / "other", tmp_path / "d")
    with pytest.raises(TraceError):
        journal.write(record(1))

    assert [] == os.listdir(tmp_path / "other")


def test_directory_for_everybody(tmp_path):
    """A directory whose files everybody may exchange takes no evidence; with the sticky bit it does."""
    place = tmp_path / "d"
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(TraceError, match="every user of the node"):
        Journal(str(place))
    place.chmod(0o1777)
    Journal(str(place)).close()

    assert 1 == len(list(place.iterdir()))


@pytest.mark.parametrize("umask", [0o277, 0o777], ids=oct)
def test_umask_of_the_caller(tmp_path, umask):
    """Directories and files can be used whatever the caller's umask."""
    before = os.umask(umask)
    try:
        journal = Journal(str(tmp_path / "a" / "b"))
    finally:
        os.umask(before)

    assert [0o700, 0o700, 0o600] == [
        stat.S_IMODE(os.stat(path).st_mode) for path in (tmp_path / "a", tmp_path / "a" / "b", journal.path)
    ]


def test_disk_that_is_full_at_every_byte(tmp_path):
    """Wherever the disk ends, the record that does not fit is refused, and no half of it is left."""
    journal = Journal(str(tmp_path))
    journal.write(record(0))
    size = os.path.getsize(journal.path)
    with open(journal.path, "rb") as f:
        length = len(f.read().splitlines(keepends=True)[-1])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    refused = 0
    try:
        for room in range(0, length, 7):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, hard))
            with pytest.raises(TraceError, match="File too large"):
                journal.write(record(1))
            refused += 1
            assert size == os.path.getsize(journal.path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.write(record(2))
    journal.close()

    assert 50 < refused
    assert [0, 2] == numbers(tmp_path)
    assert (0, []) == findings(tmp_path)


def test_disk_that_is_full_from_the_start(tmp_path, mocker):
    """A file whose first record does not fit is not left behind, however often it is tried."""
    mocker.patch.object(journal_file.os, "write", side_effect=OSError(errno.ENOSPC, "No space left on device"))
    for _ in range(3):
        with pytest.raises(TraceError, match="No space left"):
            journal_for([str(tmp_path)])

    assert [] == os.listdir(tmp_path)


def test_half_a_record_that_cannot_be_cut_off(tmp_path, mocker):
    """Where half a record has to stay (an append-only file), the next one goes into a file of its own."""
    journal = Journal(str(tmp_path))
    write = os.write
    mocker.patch.object(journal_file.os, "ftruncate", side_effect=PermissionError(errno.EPERM, "not permitted"))
    torn = mocker.patch.object(
        journal_file.os, "write", side_effect=lambda fd, line: write(fd, line[:9]) and 1 / 0 if len(line) else 0
    )
    with pytest.raises(ZeroDivisionError):
        journal.write(record(1))
    mocker.stop(torn)
    journal.write(record(2))
    journal.close()

    assert ([2], 2) == (numbers(tmp_path), len(os.listdir(tmp_path)))
    # The file's process is this one, which lives.
    assert (0, ["still-written", "torn"]) == findings(tmp_path)


@pytest.mark.parametrize("call", ["write", "fdatasync"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.EIO, "I/O error")], ids=["interrupt", "error"])
def test_interrupted_write(tmp_path, mocker, call, error):
    """A write that ends in an exception, whenever, leaves a file that goes on."""
    journal = Journal(str(tmp_path))
    real = getattr(os, call)

    def then_fail(*arguments):
        real(*arguments)
        raise error

    patch = mocker.patch.object(journal_file.os, call, side_effect=then_fail)
    with pytest.raises((KeyboardInterrupt, TraceError)):
        journal.write(record(1))
    mocker.stop(patch)
    journal.write(record(2))
    journal.close()

    assert [2] == numbers(tmp_path)
    assert (0, []) == findings(tmp_path)


def test_rotation_that_fails(tmp_path, mocker):
    """A next file that cannot be made leaves the records in the present one."""
    journal = Journal(str(tmp_path), JournalSettings(rotate_bytes=65536))
    patch = mocker.patch("wlcg_isolate.trace.journal.JournalFile", side_effect=OSError(errno.ENOSPC, "full"))
    for number in range(3):
        journal.write(record(number, fill="x" * 40_000))
    mocker.stop(patch)
    journal.write(record(3))
    journal.close()

    assert ([0, 1, 2, 3], 2) == (numbers(tmp_path), len(os.listdir(tmp_path)))
    assert (0, []) == findings(tmp_path)


def test_threads_and_rotation(tmp_path):
    """Records of many threads go through many files, none lost and each at its place."""
    journal = Journal(str(tmp_path), JournalSettings(rotate_bytes=65536, checkpoint_records=7))

    def work(thread):
        for i in range(30):
            journal.write(record(thread * 30 + i, fill="x" * 2000))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for step in (threading.Thread.start, threading.Thread.join):
        list(map(step, threads))
    journal.close()

    assert list(range(180)) == numbers(tmp_path)
    assert 5 < len(os.listdir(tmp_path))
    assert (0, []) == findings(tmp_path)


def test_fork_while_a_thread_writes(tmp_path):
    """A child that is forked in the middle of a record writes its own file, and the parent goes on."""
    journal = journal_for([str(tmp_path)])
    held = journal._lock.acquire()
    status = in_child(lambda: (journal.write(record(1)), close_journals()))
    journal._lock.release()
    journal.write(record(2))
    close_journals()

    assert (True, 0) == (held, status)
    assert ([1, 2], 2) == (numbers(tmp_path), len(os.listdir(tmp_path)))
    assert (0, []) == findings(tmp_path)


def test_python_closes_at_its_end(tmp_path):
    """A process that ends as usual leaves a file that is closed."""
    code = (
        "import sys; from wlcg_isolate.trace import journal_for, TraceRecord\n"
        "journal_for([sys.argv[1]]).write(TraceRecord(action='payload.end', trace_id='t', fields={'n': 1}))\n"
        "sys.exit(3)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "d"], check=False)

    assert 3 == done.returncode
    assert (0, []) == findings(tmp_path / "d")


def test_name_is_taken(tmp_path, mocker):
    """A clock that stands still does not make two files one."""
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    clock = types.SimpleNamespace(
        datetime=types.SimpleNamespace(now=lambda _: now), timezone=datetime.timezone, timedelta=datetime.timedelta
    )
    mocker.patch("wlcg_isolate.trace.place.datetime", clock)
    for _ in range(3):
        Journal(str(tmp_path)).close()

    assert ["000000", "000001", "000002"] == sorted(name[16:22] for name in os.listdir(tmp_path))


def test_first_record_says_how_to_check(tmp_path):
    """Without any key the first record says that there is none."""
    journal = Journal(str(tmp_path))
    journal.close()
    with open(journal.path, encoding="utf-8") as f:
        first = json.loads(f.readline())

    assert ("none", "sha256", "") == (
        first["wlcg.journal.key.kind"],
        first["wlcg.integrity"]["alg"],
        first["wlcg.integrity"]["kid"],
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"host.boot.id": "another"}, False),
        ({"host.name": "elsewhere"}, False),
        ({"process.pid": 1 << 23}, False),
        ({"wlcg.process.start_ticks": 1}, False),
    ],
    ids=["this", "boot", "host", "none", "number-given-again"],
)
def test_writer_that_lives(change, expected):
    """A process is known by its host, its boot and its start, not by its number alone."""
    assert expected == ends.is_alive({**ends.writer_fields(), **change})


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_record_of_a_signal_handler(tmp_path, mocker, call):
    """A handler that interrupts a record writes behind it, and waits for nobody."""
    journal = Journal(str(tmp_path))
    real = getattr(os, call)
    handled = []

    def interrupted(*arguments):
        if not handled:
            handled.append(signal.raise_signal(signal.SIGUSR1))
        return real(*arguments)

    before = signal.signal(signal.SIGUSR1, lambda *_: journal.write(record(2)))
    try:
        mocker.patch.object(journal_file.os, call, side_effect=interrupted)
        journal.write(record(1))
    finally:
        signal.signal(signal.SIGUSR1, before)
    mocker.stopall()
    journal.close()

    assert [1, 2] == [r["n"] for r in iter_records(str(tmp_path))]
    assert (0, []) == findings(tmp_path)

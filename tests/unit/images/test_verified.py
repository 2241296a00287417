"""
A checksum is made once, and never believed when it could be somebody else's.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wlcg_isolate
from wlcg_isolate.images.digests import hash_open, identity_of, is_same
from wlcg_isolate.images.fault import ImageFault
from wlcg_isolate.images.verified import checksum, once

CONTENT = b"content" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path):
    """Make a file."""
    path = tmp_path / "image.sif"
    path.write_bytes(CONTENT)

    return path


@pytest.fixture
def place(tmp_path):
    """Name a directory for what is remembered."""
    return str(tmp_path / "cache" / "verified")


def records(place):
    """List the records."""
    return [p for p in Path(place).iterdir() if p.suffix != ".lock"]


def test_once(file, place):
    """The second time it is remembered."""
    first, second = checksum(str(file), place, 10), checksum(str(file), place, 10)

    assert (SHA256, False, SHA256, True) == (first.value, first.remembered, second.value, second.remembered)
    assert identity_of(file.stat()) == first.identity == second.identity


def test_no_place(file):
    """Without a place to remember, it is made each time."""
    assert [(SHA256, False)] * 2 == [(k.value, k.remembered) for k in (checksum(str(file), None, 10) for _ in range(2))]
    assert SHA256 == checksum(str(file), "/dev/null/nowhere", 10).value


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: f.write_bytes(b"Content" * 1000), id="written"),
        pytest.param(lambda f: os.utime(f, ns=(1, 1)), id="time"),
        pytest.param(
            lambda f: (f.with_suffix(".new").write_bytes(b"Content" * 1000), f.with_suffix(".new").replace(f)),
            id="replaced",
        ),
        pytest.param(
            # With the old size and time of content.
            lambda f: (
                (ns := f.stat().st_mtime_ns),
                f.write_bytes(b"Content" * 1000),
                os.utime(f, ns=(ns, ns)),
            ),
            id="written, time put back",
        ),
    ],
)
def test_changed(file, place, change):
    """What has become another file is hashed again."""
    before = checksum(str(file), place, 10)
    change(file)
    after = checksum(str(file), place, 10)

    assert not is_same(str(file), before.identity)
    assert is_same(str(file), after.identity)
    assert (False, hashlib.sha256(file.read_bytes()).hexdigest()) == (after.remembered, after.value)


def test_renamed(file, place):
    """A rename moves the time of the inode: the file is hashed again, and right."""
    checksum(str(file), place, 10)
    moved = file.rename(file.with_suffix(".x"))

    assert SHA256 == checksum(str(moved), place, 10).value


def test_changes_while_it_is_hashed(file, place):
    """A file that is written while it is read has no checksum."""
    with pytest.raises(ImageFault, match="it changed") as caught:
        once(str(file), place, 10, "sha256", lambda fd: str(file.write_bytes(b"x")))

    assert "image-changed" == caught.value.kind
    assert [] == records(place)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_place_that_others_write(file, place, mode):
    """A place that others can write is not used."""
    checksum(str(file), place, 10)
    os.chmod(place, mode)

    assert not checksum(str(file), place, 10).remembered


def test_place_that_is_a_link(file, place, tmp_path):
    """A link in the place of the directory is not followed."""
    (tmp_path / "theirs").mkdir(mode=0o700)
    Path(place).parent.mkdir()
    Path(place).symlink_to(tmp_path / "theirs")
    checksum(str(file), place, 10)

    assert [] == list((tmp_path / "theirs").iterdir())


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda p: os.chmod(p, 0o666), id="writable"),
        pytest.param(lambda p: p.write_text("{"), id="cut"),
        pytest.param(lambda p: p.write_text("[]"), id="other shape"),
        pytest.param(lambda p: p.write_text(json.dumps({"identity": [1, 2, 3, 4, 5], "value": "0" * 64})), id="other"),
        pytest.param(lambda p: (p.unlink(), p.mkdir()), id="directory"),
        pytest.param(lambda p: (p.unlink(), os.mkfifo(p)), id="pipe"),
        pytest.param(lambda p: (p.rename(f"{p}.x"), p.symlink_to(f"{p}.x")), id="link"),
    ],
)
def test_record_that_is_not_ours(file, place, forge):
    """A record that could be forged or is damaged is not believed."""
    checksum(str(file), place, 10)
    (record,) = records(place)
    forge(record)
    found = checksum(str(file), place, 10)

    assert (SHA256, False) == (found.value, found.remembered)


def test_record_of_another_user(file, place, mocker):
    """Another user's directory and records are not believed."""
    checksum(str(file), place, 10)
    mocker.patch("os.geteuid", return_value=os.geteuid() + 1)

    assert not checksum(str(file), place, 10).remembered


def test_full_disk(file, place, mocker):
    """Where nothing can be remembered, the checksum is right all the same."""
    mocker.patch("wlcg_isolate.images.verified._remember", side_effect=OSError(28, "No space left on device"))

    assert SHA256 == checksum(str(file), place, 10).value


def test_deadline(file):
    """Hashing ends with its deadline."""
    fd = os.open(file, os.O_RDONLY)
    try:
        with pytest.raises(ImageFault, match="not made within"):
            hash_open(fd, -1)
    finally:
        os.close(fd)


HOLD = """
import sys, time
from wlcg_isolate.images.verified import once
def make(fd):
    print("made", flush=True)
    time.sleep(float(sys.argv[3]))
    return "value"
kept = once(sys.argv[1], sys.argv[2], 30, "x", make)
print(kept.value, kept.remembered, flush=True)
"""


def start(file, place, seconds):
    """Start a process that makes something in so many seconds."""
    root = Path(wlcg_isolate.__file__).parent.parent
    argv = [sys.executable, "-c", HOLD, str(file), place, str(seconds)]

    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=root)


def test_one_makes_it(file, place):
    """Of many at the same moment, one makes it and the others wait."""
    children = [start(file, place, 0.5) for _ in range(8)]
    out = [child.communicate(timeout=60)[0].split() for child in children]

    assert [["made", "value", "False"]] == [words for words in out if "made" in words]
    assert [["value", "True"]] * 7 == [words for words in out if "made" not in words]


def test_no_stale_lock(file, place):
    """Who was killed holds nobody up."""
    child = start(file, place, 60)
    assert "made\n" == child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.communicate()
    begin = time.monotonic()

    assert "new" == once(str(file), place, 10, "x", lambda fd: "new").value
    assert time.monotonic() - begin < 5


def test_waiting_has_a_deadline(file, place):
    """Who waits for another that hangs gives up, and says so."""
    child = start(file, place, 60)
    try:
        assert "made\n" == child.stdout.readline()
        with pytest.raises(ImageFault, match="another process has not made") as caught:
            once(str(file), place, 0.2, "x", lambda fd: "never")
        assert "image-unverified" == caught.value.kind
    finally:
        child.kill()
        child.communicate()


@pytest.mark.soak
def test_256_processes(tmp_path, place):
    """256 processes that start at the same moment hash a large file once."""
    large = tmp_path / "large"
    with large.open("wb") as f:
        for i in range(256):
            f.write(bytes([i]) * (1 << 20))
    children = [start(large, place, 1) for _ in range(256)]
    out = [child.communicate(timeout=300)[0].split() for child in children]

    assert 1 == sum("made" in words for words in out)
    assert 255 == sum(words == ["value", "True"] for words in out)

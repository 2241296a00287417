"""
A look at a path answers in time, whatever the file system does.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time

import pytest

from wlcg_isolate.host import PathFact
from wlcg_isolate.host.touch import look_at, look_at_all, within

NUL = "embedded null byte" if sys.version_info < (3, 13) else "lstat: embedded null character in path"


@pytest.fixture
def place(tmp_path):
    """Make one of each kind."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")

    return os.path.realpath(tmp_path)


@pytest.fixture
def hang(mocker):
    """Let looks at some paths not return before the test is over."""
    over = threading.Event()

    def start(*paths):
        def look(path, *_, **__):
            if path in paths:
                over.wait()
            return PathFact(path=path, state="present")

        mocker.patch("wlcg_isolate.host.touch.look_at", side_effect=look)

    yield start
    over.set()


@pytest.mark.parametrize(
    ("name", "kind", "target", "is_link"),
    [
        ("directory", "directory", "directory", False),
        ("file", "file", "file", False),
        ("fifo", "other", "fifo", False),
        ("link", "file", "file", True),
    ],
)
def test_present(place, name, kind, target, is_link):
    """What is there is told with its kind, its rights and where it really is."""
    expected = PathFact(
        path=f"{place}/{name}",
        state="present",
        kind=kind,
        resolved=f"{place}/{target}",
        is_link=is_link,
        readable=True,
        writable=True,
    )

    assert expected == look_at(f"{place}/{name}")


@pytest.mark.parametrize(
    ("name", "target", "is_link", "reason"),
    [
        pytest.param("nothing", "nothing", False, "No such file or directory", id="nothing"),
        pytest.param("nothing/more", "nothing/more", False, "No such file or directory", id="below nothing"),
        pytest.param("dangling", "nothing", True, "No such file or directory", id="dangling link"),
        pytest.param("file/more", "file/more", False, "Not a directory", id="below a file"),
    ],
)
def test_missing(place, name, target, is_link, reason):
    """What is not there is told as such, with where it would be."""
    expected = PathFact(
        path=f"{place}/{name}",
        state="missing",
        resolved=f"{place}/{target}",
        is_link=is_link,
        reason=reason,
    )

    assert expected == look_at(f"{place}/{name}")


@pytest.mark.parametrize(
    ("name", "is_link", "reason"),
    [
        pytest.param("loop", True, "Too many levels of symbolic links", id="loop"),
        pytest.param("x" * 300, False, "File name too long", id="long name"),
        pytest.param("nul\0byte", False, NUL, id="NUL byte"),
    ],
)
def test_unreadable(place, name, is_link, reason):
    """What cannot be told is not missing."""
    expected = PathFact(path=f"{place}/{name}", state="unreadable", is_link=is_link, reason=reason)

    assert expected == look_at(f"{place}/{name}")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_unreadable_by_error(place, mocker, number):
    """An error of the file system is not taken for an absence."""
    mocker.patch("os.lstat", side_effect=OSError(number, "what the system says"))

    actual = look_at(f"{place}/file")

    assert ("unreadable", "what the system says") == (actual.state, actual.reason)


@pytest.mark.parametrize(
    ("denied", "readable", "writable"),
    [
        pytest.param(os.R_OK, False, True, id="no reading"),
        pytest.param(os.W_OK, True, False, id="no writing"),
        pytest.param(os.X_OK, False, False, id="no entering"),
    ],
)
def test_rights_of_a_directory(place, mocker, denied, readable, writable):
    """A directory that cannot be entered can neither be read nor written."""
    mocker.patch("os.access", side_effect=lambda path, mode, **more: not mode & denied)

    actual = look_at(f"{place}/directory")

    assert (readable, writable) == (actual.readable, actual.writable)


def test_rights_of_a_file(place, mocker):
    """A file need not be executable to be read."""
    mocker.patch("os.access", side_effect=lambda path, mode, **more: not mode & os.X_OK)

    actual = look_at(f"{place}/file")

    assert (True, True) == (actual.readable, actual.writable)


def test_within_answers():
    """An answer in time is handed on."""
    assert 42 == within(10, lambda: 42)


def test_within_hands_on_errors():
    """An error in time is handed on."""

    def fail():
        raise LookupError("what it said")

    with pytest.raises(LookupError, match="what it said"):
        within(10, fail)


def test_within_stops_waiting():
    """No answer in time is None, soon after that time."""
    over = threading.Event()
    before = time.monotonic()

    actual = within(0.1, over.wait)
    passed = time.monotonic() - before
    over.set()

    assert None is actual
    assert 0.1 <= passed < 5


def test_all(place):
    """Each path is looked at once, in the order of asking."""
    paths = [f"{place}/{name}" for name in ("file", "nothing", "file", "directory")]

    actual = look_at_all(paths, lambda _: 10)

    assert [f"{place}/file", f"{place}/nothing", f"{place}/directory"] == list(actual)
    assert ["present", "missing", "present"] == [fact.state for fact in actual.values()]


def test_all_of_none():
    """No paths give no facts."""
    assert {} == look_at_all([], lambda _: 10)


@pytest.mark.parametrize("dead", [("/a",), ("/b",), ("/c",), ("/a", "/c"), ("/a", "/b", "/c")], ids=str)
def test_all_but_the_silent(hang, dead):
    """A look that never returns hides no other."""
    hang(*dead)
    silent = {path: PathFact(path=path, state="no-answer", reason="no answer within 0.2 s") for path in dead}

    actual = look_at_all(["/a", "/b", "/c"], lambda _: 0.2)

    assert {path: PathFact(path=path, state="present") for path in ("/a", "/b", "/c")} | silent == actual


def test_all_hands_on_errors(mocker):
    """An error that nobody foresaw is not swallowed."""
    mocker.patch("wlcg_isolate.host.touch.look_at", side_effect=MemoryError)

    with pytest.raises(MemoryError):
        look_at_all(["/a"], lambda _: 10)

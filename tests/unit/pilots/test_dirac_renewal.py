"""
The renewal of a job's proxy: DIRAC is given a copy, and the job what came of it.
"""

from __future__ import annotations

import os
import select
import threading
import time

import pytest

from wlcg_isolate.pilots.dirac import ending, renewal


class Log:
    """A logger of DIRAC's form, which remembers."""

    def __init__(self) -> None:
        self.said = []

    def warn(self, message, about=""):
        """Remember a warning."""
        self.said.append((message, about))


class Renewals:
    """A renewal that was called, and what it is to do next."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.seen = []
        self.done = threading.Event()

    def __call__(self, file):
        """Do the next thing, and remember what was in the file."""
        with open(file, encoding="utf-8") as f:
            self.seen.append(f.read())
        if not self.answers:
            self.done.set()
            return {"OK": True, "Value": None}
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, dict):
            return answer
        os.unlink(file)
        with open(file, "w", encoding="utf-8") as f:
            f.write(answer)

        return {"OK": True, "Value": file}


@pytest.fixture
def renew(tmp_path, monkeypatch):
    """Renew a proxy until all answers were given."""
    monkeypatch.setattr(renewal, "_LEAST_PERIOD", 0.01)
    (tmp_path / "job").mkdir()
    place = tmp_path / "job" / "proxy"
    place.write_text("first")
    log = Log()

    def make(renewals, before=lambda place: None):
        before(place)
        (tmp_path / "proxy").unlink(missing_ok=True)
        with renewal.renewing("first", str(place), area=str(tmp_path), renew=renewals, period=0.01, log=log):
            assert renewals.done.wait(10)
        return place, log.said

    return make


def _link(place):
    place.unlink()
    place.symlink_to("/etc/hostname")


def _pipe(place):
    place.unlink()
    os.mkfifo(place)


@pytest.mark.parametrize(
    "before", [lambda place: None, lambda place: place.write_text("forged"), _link, _pipe],
    ids=["nothing", "another", "link", "pipe"],
)  # fmt: skip
def test_what_the_job_put_there(renew, before):
    """Whatever the job has put in the place of its proxy, DIRAC sees the one it gave, and the new one comes there."""
    renewals = Renewals("second")

    place, said = renew(renewals, before)

    assert ["first", "second"] == renewals.seen[:2]
    assert ("second", 0o600) == (place.read_text(), place.lstat().st_mode & 0o777)
    assert not place.is_symlink()
    assert [] == said


def test_failures(renew):
    """A renewal that fails or raises is told, and tried again; the job keeps what it has."""
    renewals = Renewals({"OK": False, "Message": "no"}, RuntimeError("odd"), "second", "")

    place, said = renew(renewals)

    assert "second" == place.read_text()
    assert [("The proxy was not renewed", "no"), ("The proxy was not renewed", "RuntimeError('odd')")] == said


def test_occupied(renew):
    """A directory in the place of the proxy is told, and harms the job alone."""

    def occupy(place):
        place.unlink()
        (place / "x").mkdir(parents=True)

    place, said = renew(Renewals("second"), occupy)

    assert place.is_dir()
    assert "IsADirectoryError" in said[0][1]


def test_unchanged(renew, tmp_path):
    """A proxy that need not be renewed stays as the job has it."""
    place, _ = renew(Renewals(), lambda place: place.write_text("the job's own"))

    assert "the job's own" == place.read_text()
    assert ["job", "proxy"] == sorted(os.listdir(tmp_path))


def test_does_not_end(renew, monkeypatch):
    """A renewal that hangs is not waited for longer than a moment, and the next job's proxy is renewed."""
    monkeypatch.setattr(renewal, "_PATIENCE", 0.05)
    over, renewals = threading.Event(), Renewals()

    def hang(file):
        renewals(file)
        over.wait(30)

    hang.done = renewals.done
    begin = time.monotonic()

    renew(hang)

    assert time.monotonic() - begin < 5
    place, _ = renew(Renewals("second"), lambda place: place.write_text("first"))
    over.set()
    assert "second" == place.read_text()


def test_lifeline_is_not_inherited(tmp_path):
    """A child that the pilot forks does not hold the lifeline."""
    life = ending.Lifeline(str(tmp_path))
    reader = os.open(life.path, os.O_RDONLY | os.O_NONBLOCK)
    go, stop = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(stop)
        os.read(go, 1)
        os.kill(os.getpid(), 9)

    life.cut()
    life.cut()

    # The end, while the child lives: nobody has it open for writing.
    assert [reader] == select.select([reader], [], [], 10)[0]
    assert b"" == os.read(reader, 1)
    assert (0, 0) == os.waitpid(child, os.WNOHANG)
    os.close(stop)
    os.waitpid(child, 0)
    for fd in (reader, go):
        os.close(fd)

"""What names a node, its processes and its repositories."""

from __future__ import annotations

import os
import subprocess
import threading
import time

import pytest

from wlcg_isolate.host import evidence, repositories
from wlcg_isolate.host.plainfile import read_plain, read_plain_within

FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.17
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
        |-- 169.254.0.9
           /32 host LOCAL
Local:
        |-- 192.0.2.17
           /32 host LOCAL
"""

IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000011 02 40 00 80     eth0
fe80000000000000025056fffe000001 02 40 20 80     eth0
"""


def test_addresses():
    """A node's addresses are those that others can reach."""
    assert ("192.0.2.17", "2001:db8::11") == evidence.parse_addresses(FIB_TRIE, IF_INET6)
    assert () == evidence.parse_addresses("", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0::/system.slice/condor.service\n", "/system.slice/condor.service"),
        ("12:memory:/htcondor/slot1\n1:name=systemd:/x\n", "/htcondor/slot1"),
        ("12:memory:/htcondor/slot1\n0::/\n", "/htcondor/slot1"),
        ("12:memory:/\n0::/\n", "/"),
        ("12:memory:/a\n0::/b:c\n", "/b:c"),
        ("", None),
        ("nonsense", None),
    ],
)
def test_cgroup(text, expected):
    """The cgroup is that of version 2, or of version 1 where only that says something."""
    assert expected == evidence.parse_cgroup(text)


def test_own_process():
    """A process is read as the kernel and Python know it."""
    seen = evidence.process(os.getpid())

    assert (os.getppid(), os.getpgid(0), os.getsid(0)) == (seen.parent, seen.group, seen.session)
    assert os.path.realpath(f"/proc/{os.getpid()}/exe") == evidence.executable(os.getpid())


def test_process_that_has_gone():
    """What is not there any more is not known, and no error."""
    gone = subprocess.Popen(["true"])
    gone.wait()

    assert evidence.Process() == evidence.process(gone.pid)
    assert evidence.executable(gone.pid) is None
    assert evidence.owner_of("/nosuch") is None


def test_machine():
    """The node is read once for a process."""
    assert os.uname().nodename == evidence.machine().name
    assert evidence.machine() is evidence.machine()
    with open("/proc/sys/kernel/random/boot_id") as f:
        assert f.read().strip() == evidence.machine().boot_id


def test_repositories_of_paths():
    """The repositories are those that paths are in, each once."""
    paths = ["/cvmfs/a.cern.ch/x", "/cvmfs/b.cern.ch", "/cvmfs", "/cvmfs/", "/x/cvmfs/c", "/cvmfs/a.cern.ch/y"]

    assert ["a.cern.ch", "b.cern.ch"] == repositories.repositories_of(paths)
    assert ["z"] == repositories.repositories_of(["/mnt/cvmfs/z/x"], "/mnt/cvmfs")


def test_state_of_repositories(mocker):
    """Revision and root hash are asked of the client."""
    answers = {"user.fqrn": b"a.cern.ch", "user.revision": b"4711\n", "user.root_hash": b"abc\0"}
    mocker.patch.object(repositories.os, "getxattr", side_effect=lambda path, name: answers[name])
    look = repositories.RepositoryLook(["a.cern.ch"], 5.0)

    assert [{"fqrn": "a.cern.ch", "revision": 4711, "root_hash": "abc"}] == look.result()


def test_hidden_attributes(tmp_path):
    """A client that tells nothing is recorded with the reason."""
    (tmp_path / "a.cern.ch").mkdir()
    look = repositories.RepositoryLook(["a.cern.ch", "none.cern.ch"], 5.0, str(tmp_path))
    first, second = look.result()

    assert ("a.cern.ch", True) == (first["fqrn"], first["error"].startswith("unavailable: user.root_hash: "))
    assert "No such file or directory" in second["error"]


def test_silent_client(mocker):
    """A client that never answers is waited for no longer than the deadline, and that is recorded."""
    silent = threading.Event()

    def wait(*_):
        silent.wait(30)
        raise OSError(5, "Input/output error")

    mocker.patch.object(repositories.os, "getxattr", side_effect=wait)
    look = repositories.RepositoryLook(["a.cern.ch"], 0.05)
    begin = time.monotonic()
    found = look.result()
    silent.set()

    assert [{"fqrn": "a.cern.ch", "error": "unavailable: no answer within 0.05 s"}] == found
    assert time.monotonic() - begin < 5


def test_nothing_to_ask():
    """Where nothing is in CVMFS no thread is started."""
    before = threading.active_count()

    assert [] == repositories.RepositoryLook([], 5.0).result()
    assert before == threading.active_count()


def test_plain_files(tmp_path):
    """Only small plain files are read; secret ones only where nobody else could change them."""
    (tmp_path / "file").write_text("abc")
    (tmp_path / "file").chmod(0o640)
    os.mkfifo(tmp_path / "fifo")

    assert b"abc" == read_plain(str(tmp_path / "file"), 3, secret=True)
    with pytest.raises(OSError, match="more than 2 bytes"):
        read_plain(str(tmp_path / "file"), 2)
    with pytest.raises(OSError, match="no plain file"):
        read_plain(str(tmp_path / "fifo"), 2)
    (tmp_path / "file").chmod(0o604)
    with pytest.raises(OSError, match="others may read"):
        read_plain(str(tmp_path / "file"), 3, secret=True)


def test_file_that_does_not_answer(mocker):
    """A file on a dead disk is waited for no longer than the deadline."""
    silent = threading.Event()
    mocker.patch("wlcg_isolate.host.plainfile.read_plain", side_effect=lambda *_, **__: silent.wait(30))
    with pytest.raises(OSError, match=r"no answer within 0\.05 s"):
        read_plain_within(0.05, "/x", 1)
    silent.set()

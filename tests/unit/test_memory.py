"""The peak of a tree's memory comes from a cgroup of its own, or from nowhere."""

from __future__ import annotations

import os

import pytest

from wlcg_isolate.launch import memory
from wlcg_isolate.launch.memory import Peak
from wlcg_isolate.launch.mounts import Mounts


@pytest.fixture
def peak(tmp_path, mocker):
    """Ask for the peak of a payload in a made-up tree of cgroups."""

    def make(payload, pilot, content="123456\n"):
        mount = f"30 1 0:26 /outer {tmp_path} rw shared:4 - cgroup2 cgroup2 rw"
        mocker.patch.object(memory, "mounts_of", return_value=Mounts(mount))
        mocker.patch.object(memory, "_group_of", side_effect=lambda pid: pilot if pid == "self" else payload)
        (tmp_path / "slot" / "payload").mkdir(parents=True)
        for place in ("", "slot", "slot/payload"):
            (tmp_path / place / "memory.peak").write_text(content)
        found = Peak(1)
        value = found.read()
        found.close()
        return value

    return make


@pytest.mark.parametrize(
    ("payload", "pilot", "expected"),
    [
        ("/outer/slot/payload", "/outer/slot", 123456),
        ("/outer/slot/payload", "/outer/slot/pilot", 123456),
        ("/outer/slot", "/outer/slot", None),
        ("/outer", "/outer/slot", None),
        ("/", "/outer/slot", None),
        (None, "/outer/slot", None),
        ("/outer/slot/payload", None, None),
        ("/outer/slot/gone", "/outer/slot", None),
    ],
)
def test_peak(peak, payload, pilot, expected):
    """Only a cgroup that the pilot is not in counts the payload alone."""
    assert expected == peak(payload, pilot)


def test_peak_that_is_no_number(peak):
    """What cannot be read as a number is not known."""
    assert peak("/outer/slot/payload", "/outer/slot", "max\n") is None


def test_group_of_a_process():
    """This process is in a cgroup where the kernel has them, and one that is not there in none."""
    with open("/proc/self/cgroup") as f:
        has_one = any(line.startswith("0::") for line in f)

    assert has_one == (memory._group_of(os.getpid()) is not None)
    assert memory._group_of(2**31 - 1) is None

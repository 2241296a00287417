"""What dead pilots left is removed, and nothing else, whatever a payload has made of its directory."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from wlcg_isolate.host import procfs
from wlcg_isolate.launch import leftovers
from wlcg_isolate.launch.claims import DIRECTORY, claim, notes_in

NAME = ".wlcg-isolate-1234"


@pytest.fixture(autouse=True)
def _look_always():
    """Let each test look anew."""
    leftovers.forget()


@pytest.fixture
def place(tmp_path):
    """Make a working directory with what a payload left, and a note of a dead process."""
    work, trace = tmp_path / "work", tmp_path / "trace"
    (work / NAME / "tmp" / "deep").mkdir(parents=True)
    (work / NAME / "tmp" / "deep" / "file").write_text("x")
    (work / "made" / "point").mkdir(parents=True)
    (work / "data").write_text("kept")
    (trace / DIRECTORY).mkdir(parents=True)
    (trace / DIRECTORY).chmod(0o700)
    with subprocess.Popen(["true"]) as gone:
        writer = f"{gone.pid}-{procfs.start_ticks(gone.pid) or 1}"

    def note(file=f"{writer}-{NAME}", **more):
        found = work.stat()
        content = {
            "boot": procfs.boot_id(),
            "pid_namespace": procfs.namespaces()["pid"],
            "workdir": str(work),
            "device": found.st_dev,
            "inode": found.st_ino,
            "name": NAME,
            "made": ["made", "made/point"],
            **more,
        }
        (trace / DIRECTORY / file).write_text(json.dumps(content))

    note()
    return work, trace, note


def names(directory):
    """List a directory."""
    return sorted(os.listdir(directory))


def test_dead_pilots_tree_goes(place):
    """Tree, mount points and note go; what else is there stays."""
    work, trace, _ = place
    leftovers.clean([str(trace)])

    assert (["data"], []) == (names(work), names(trace / DIRECTORY))


def test_now_and_then_only(place):
    """A pilot that starts many payloads does not look each time."""
    work, trace, note = place
    leftovers.clean([str(trace)])
    (work / NAME).mkdir()
    note()
    leftovers.clean([str(trace)])

    assert [NAME, "data"] == names(work)


@pytest.mark.parametrize(
    "more",
    [
        {"name": "data"},
        {"name": ".wlcg-isolate-/../data"},
        {"pid_namespace": 1},
        {"boot": ""},
        {"inode": 1},
        {"device": 1},
        {"workdir": "/"},
        {"workdir": 7},
        {"made": "made"},
        {"more": 1},
    ],
    ids=str,
)
def test_not_proven(place, more):
    """What is not proven to be a dead pilot's stays: another namespace, another directory, a note that was not ours."""
    work, trace, note = place
    note(**more)
    leftovers.clean([str(trace)])

    assert [NAME, "data", "made"] == names(work)


def test_zombie(place):
    """A pilot that has ended is dead, also where its parent has not asked for it."""
    work, trace, note = place
    (trace / DIRECTORY / names(trace / DIRECTORY)[0]).unlink()
    with subprocess.Popen(["sleep", "60"]) as writer:
        note(f"{writer.pid}-{procfs.start_ticks(writer.pid)}-{NAME}")
        leftovers.clean([str(trace)])
        before = names(work)
        writer.kill()
        os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)
        leftovers.forget()
        leftovers.clean([str(trace)])

        assert ([NAME, "data", "made"], ["data"]) == (before, names(work))


def test_living_pilot(place):
    """A living pilot's tree stays."""
    work, trace, note = place
    (trace / DIRECTORY / names(trace / DIRECTORY)[0]).unlink()
    note(f"{os.getpid()}-{procfs.start_ticks(os.getpid())}-{NAME}")
    leftovers.clean([str(trace)])

    assert [NAME, "data", "made"] == names(work)


@pytest.mark.parametrize(("fs_type", "left"), [("ext4", ["data"]), ("nfs4", [NAME, "data", "made"])])
def test_earlier_boot(place, mocker, fs_type, left):
    """What is of an earlier boot goes from a local disk, and stays where another node may have it."""
    work, trace, note = place
    note(boot="earlier", device=1)
    mount = mocker.Mock(fs_type=fs_type)
    mocker.patch("wlcg_isolate.launch.mounts.mounts_of", return_value=mocker.Mock(at=lambda _: mount))
    leftovers.clean([str(trace)])

    assert left == names(work)


def test_note_that_other_nodes_see(place, mocker):
    """A note of another boot on a disk that nodes share may be another node's, whose own disk has the same path."""
    work, trace, note = place
    note(boot="another", device=1)
    mocker.patch(
        "wlcg_isolate.launch.mounts.mounts_of",
        return_value=mocker.Mock(at=lambda path: mocker.Mock(fs_type="nfs4" if path.startswith(str(trace)) else "xfs")),
    )
    leftovers.clean([str(trace)])

    assert ([NAME, "data", "made"], 1) == (names(work), len(names(trace / DIRECTORY)))


def test_note_that_is_held(place):
    """A pilot in a container with a boot id of its own holds its note, and keeps its tree."""
    work, trace, _ = place
    (trace / DIRECTORY / names(trace / DIRECTORY)[0]).unlink()
    directory = os.open(work, os.O_RDONLY)
    held = claim([str(trace)], directory, NAME, ())
    os.close(directory)
    (name,) = names(trace / DIRECTORY)
    # As it looks from elsewhere: no process here has that number.
    other = trace / DIRECTORY / f"1-1-{NAME}"
    (trace / DIRECTORY / name).rename(other)
    content = json.loads(other.read_text())
    other.write_text(json.dumps({**content, "boot": "another"}))
    leftovers.clean([str(trace)])
    living = names(work)
    leftovers.forget()
    held.release()
    leftovers.clean([str(trace)])

    assert ([NAME, "data", "made"], ["data", "made"]) == (living, names(work))


@pytest.mark.parametrize("what", ["tree", "workdir", "point", "note", "notes"])
def test_links_are_not_followed(place, tmp_path, what):
    """A link in the place of anything leads to no removal elsewhere."""
    work, trace, _ = place
    victim = tmp_path / "victim"
    (victim / NAME / "tmp").mkdir(parents=True)
    (victim / "point").mkdir()
    if what == "tree":
        (work / NAME).rename(tmp_path / "old")
        (work / NAME).symlink_to(victim)
    elif what == "workdir":
        work.rename(tmp_path / "old")
        work.symlink_to(victim)
    elif what == "point":
        (work / "made" / "point").rmdir()
        (work / "made").rmdir()
        (work / "made").symlink_to(victim)
    elif what == "note":
        name = names(trace / DIRECTORY)[0]
        (trace / DIRECTORY / name).rename(tmp_path / "old")
        (trace / DIRECTORY / name).symlink_to(tmp_path / "old")
    else:
        (trace / DIRECTORY).rename(tmp_path / "old")
        (trace / DIRECTORY).symlink_to(tmp_path / "old")
    leftovers.clean([str(trace)])

    assert [NAME, "point"] == names(victim)
    assert ["tmp"] == names(victim / NAME)


def test_directory_open_to_others(place):
    """Notes that others could have written are not believed."""
    work, trace, _ = place
    (trace / DIRECTORY).chmod(0o777)
    leftovers.clean([str(trace)])

    assert [NAME, "data", "made"] == names(work)


def test_what_cannot_be_removed_is_tried_again(place, mocker):
    """A tree that cannot be emptied keeps its note, and stops no start."""
    work, trace, _ = place
    mocker.patch("wlcg_isolate.launch.leftovers.empty", side_effect=OSError)
    leftovers.clean([str(trace)])
    before = names(trace / DIRECTORY)
    mocker.stopall()
    leftovers.forget()
    leftovers.clean([str(trace)])

    assert (1, ["data"], []) == (len(before), names(work), names(trace / DIRECTORY))


def test_claim(tmp_path):
    """A note names who made it and what will be made, and goes when it is released."""
    (tmp_path / "there").mkdir()
    work = os.open(tmp_path, os.O_RDONLY)
    made = claim([str(tmp_path / "trace")], work, NAME, ["there/a/b", "there"])
    os.close(work)
    (found,) = notes_in(str(tmp_path / "trace"))

    assert (True, NAME, str(tmp_path)) == (found.living, found.note.name, found.note.workdir)
    assert ["there/a", "there/a/b"] == found.note.made
    made.release()
    assert [] == notes_in(str(tmp_path / "trace"))


def test_no_place_for_notes(tmp_path):
    """Where no note can be made a payload runs all the same."""
    (tmp_path / "file").write_text("")
    work = os.open(tmp_path, os.O_RDONLY)
    try:
        assert claim([str(tmp_path / "file")], work, NAME, ()) is None
    finally:
        os.close(work)

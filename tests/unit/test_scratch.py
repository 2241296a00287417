"""Private directories: made, and removed again from under a hostile payload."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import types

import pytest

from wlcg_isolate.launch import scratch
from wlcg_isolate.launch.scratch import Scratch, empty

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


def empty_path(path):
    """Empty a directory by its path."""
    fd = os.open(path, DIRECTORY)
    try:
        empty(fd)
    finally:
        os.close(fd)


def chain(path, depth, name="d"):
    """Make directories in each other, deeper than any path can be long."""
    here = os.open(path, DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def locked(path, modes=(0o000,)):
    """Make directories in each other that nobody may enter."""
    made = [path.joinpath(*["locked"] * (i + 1)) for i in range(len(modes))]
    for place in made:
        place.mkdir()
        (place / "file").write_text("x")
    for place, mode in reversed(list(zip(made, modes))):
        place.chmod(mode)


def own_names(path):
    """Take the names that the removal itself would use."""
    for name in (".up-1", ".up-2", ".up-1_"):
        (path / name).mkdir()
        (path / name / "x").mkdir()
        (path / name / "x" / ".up-1").write_text("x")


def no_files(path):
    """Make what is neither file nor directory."""
    os.mkfifo(path / "fifo")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
        s.bind(str(path / "s"))


def many(path):
    """Make many files and odd names."""
    for i in range(1000):
        (path / f"file-{i}").write_text("")
    for name in ("-rf", "new\nline", " ", "\udcff", "x" * 255):
        (path / name).mkdir()
        (path / name / name).write_text("")


TREES = {
    "deep": lambda path: chain(path, 3000),
    "deep-long-names": lambda path: chain(path, 60, "n" * 255),
    "locked": locked,
    "locked-in-locked": lambda path: locked(path, (0o000, 0o500, 0o000, 0o200)),
    "own-names": own_names,
    "no-files": no_files,
    "many": many,
}


@pytest.mark.parametrize("make", TREES.values(), ids=TREES)
def test_hostile_tree_is_removed(tmp_path, make):
    """Whatever a payload leaves goes, and costs no descriptor."""
    make(tmp_path)
    before = os.listdir("/proc/self/fd")
    empty_path(tmp_path)

    assert ([], len(before)) == (os.listdir(tmp_path), len(os.listdir("/proc/self/fd")))


def test_links_are_removed_and_not_followed(tmp_path):
    """What links lead to survives, unchanged in mode."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "below").mkdir(parents=True)
    outside.mkdir(mode=0o750)
    (outside / "keep").write_text("x")
    for place in (inside, inside / "below"):
        (place / "directory").symlink_to(outside)
        (place / "file").symlink_to(outside / "keep")
        (place / "dangling").symlink_to("nowhere")
        (place / "loop").symlink_to("loop")
        os.link(outside / "keep", place / "hard")
    empty_path(inside)

    assert [] == os.listdir(inside)
    assert ["keep"] == os.listdir(outside)
    assert ("x", 0o750) == ((outside / "keep").read_text(), stat.S_IMODE(outside.stat().st_mode))


def test_own_names_of_every_length_do_not_stop_the_removal(tmp_path, mocker):
    """A payload cannot keep its leftovers by taking each name that the removal would use."""
    (tmp_path / "d" / "x").mkdir(parents=True)
    for i in range(251):
        (tmp_path / (".up-1" + "_" * i)).touch()
        (tmp_path / f".up-{i}").touch()
    listdir = os.listdir
    mocker.patch.object(scratch.os, "listdir", side_effect=lambda fd: sorted(listdir(fd), reverse=True))
    empty_path(tmp_path)

    assert [] == listdir(tmp_path)


def test_directory_exchanged_for_a_link_is_not_followed(tmp_path, mocker):
    """A directory that becomes a link between two looks is an error, not a way out."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "inside" / "d").symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / "keep").touch()
    mocker.patch.object(scratch, "_is_directory", return_value=True)

    with pytest.raises(NotADirectoryError):
        empty_path(tmp_path / "inside")
    assert ["keep"] == os.listdir(tmp_path / "outside")


def bind(target, kind="directory"):
    """Make the decision on one bind."""
    return types.SimpleNamespace(target=target, place=target, kind=kind)


@pytest.fixture
def plan(tmp_path):
    """Make a stand-in for a plan with these binds."""

    def make(*binds):
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        mounts = (bind("/srv"), *binds)
        return types.SimpleNamespace(
            workdir=str(work), scratch=f"{work}/.wlcg-1", mounts=mounts, home_place="/srv", trace_dirs=()
        )

    return make


def tree(path):
    """List everything below a directory, directories with a slash."""
    found = []
    for place, directories, files in os.walk(path):
        found += [os.path.relpath(f"{place}/{name}", path) for name in files]
        found += [os.path.relpath(f"{place}/{name}", path) + "/" for name in directories]

    return sorted(found)


PRIVATE = [".wlcg-1/", ".wlcg-1/tmp/", ".wlcg-1/var_tmp/"]


def test_private_directories(tmp_path, plan):
    """The payload gets a private /tmp, which is open to all inside only."""
    with Scratch(plan()):
        modes = [stat.S_IMODE((tmp_path / "work" / name).stat().st_mode) for name in PRIVATE]

        assert PRIVATE == tree(tmp_path / "work")
        assert [0o700, 0o1777, 0o1777] == modes
    assert [] == tree(tmp_path / "work")


@pytest.mark.parametrize(
    ("target", "kind", "made"),
    [
        ("/srv/in", "directory", ["in/"]),
        ("/srv/a/b/file", "file", ["a/", "a/b/", "a/b/file"]),
        ("/srv/unknown", None, ["unknown"]),
        ("/tmp/x/y", "directory", [".wlcg-1/tmp/x/", ".wlcg-1/tmp/x/y/"]),
        ("/var/tmp/f", "file", [".wlcg-1/var_tmp/f"]),
        ("/srvx", "directory", []),
    ],
    ids=["in-workdir", "nested-file", "kind-unknown", "in-tmp", "in-var-tmp", "similar-name"],
)
def test_mount_points(tmp_path, plan, target, kind, made):
    """Mount points in directories of the host are made before and removed after."""
    with Scratch(plan(bind(target, kind))):
        assert sorted(PRIVATE + made) == tree(tmp_path / "work")
    assert [] == tree(tmp_path / "work")


def test_what_was_there_stays(tmp_path, plan):
    """Existing mount points stay, and so does what the payload wrote into new ones."""
    asked = plan(bind("/srv/old/in"), bind("/srv/file", "file"), bind("/srv/new/in"), bind("/srv/out", "file"))
    (tmp_path / "work" / "old" / "in").mkdir(parents=True)
    (tmp_path / "work" / "file").write_text("")
    with Scratch(asked):
        (tmp_path / "work" / "new" / "result").write_text("x")
        (tmp_path / "work" / "out").write_text("x")

    assert ["file", "new/", "new/result", "old/", "old/in/", "out"] == tree(tmp_path / "work")


def test_payload_cannot_divert_the_removal(tmp_path, plan):
    """Links in place of the private directory and mount points lead nowhere."""
    outside, work = tmp_path / "outside", tmp_path / "work"
    (outside / "in").mkdir(parents=True)
    (outside / "tmp").mkdir()
    with Scratch(plan(bind("/srv/new/in"))):
        (work / ".wlcg-1" / "tmp" / "rubbish").write_text("x")
        (work / ".wlcg-1").rename(work / "moved")
        (work / ".wlcg-1").symlink_to(outside)
        (work / "new" / "in").rmdir()
        (work / "new").rmdir()
        (work / "new").symlink_to(outside)

    assert ["in/", "tmp/"] == tree(outside)
    assert [".wlcg-1/", "moved/", "new/"] == tree(work)


def test_failure_half_way_leaves_nothing(tmp_path, plan):
    """When a mount point cannot be made, what was made before goes."""
    asked = plan(bind("/srv/new/in"), bind("/srv/file/in"))
    (tmp_path / "work" / "file").write_text("keep")
    before = os.listdir("/proc/self/fd")

    with pytest.raises(NotADirectoryError), Scratch(asked):
        pytest.fail("it was entered")
    assert ["file"] == tree(tmp_path / "work")
    assert len(before) == len(os.listdir("/proc/self/fd"))


def test_planted_parent_is_refused(tmp_path, plan):
    """A mount point is not made behind a link of an earlier payload."""
    asked = plan(bind("/srv/link/in"))
    (tmp_path / "outside").mkdir()
    (tmp_path / "work" / "link").symlink_to(tmp_path / "outside")

    with pytest.raises(OSError, match="link"), Scratch(asked):
        pytest.fail("it was entered")
    assert [] == tree(tmp_path / "outside")

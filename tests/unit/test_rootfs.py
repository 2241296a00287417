"""
Paths are looked up inside the image's root, as the kernel would with that root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

import pytest
from hypothesis import given, settings, strategies as st

from wlcg_isolate.host import TargetFact
from wlcg_isolate.host.rootfs import look_inside
from wlcg_isolate.images.contents import read_contents
from wlcg_isolate.images.tree import Tree

LINKS = {
    "absolute": "/data/file",
    "relative": "data/file",
    "up": "../../../../data/file",
    "dot": "./data/./file",
    "chain": "/absolute",
    "to_directory": "/data",
    "into_itself": "/into_itself",
    "ping": "pong",
    "pong": "/ping",
    "dangling": "/nowhere/at/all",
    "host": "/usr/bin",
    "through_file": "data/file/more",
    "data/deep/back": "../file",
    "data/deep/out": "../../../../../data",
}


@pytest.fixture
def root(tmp_path):
    """Make a tree with links of every sort."""
    place = tmp_path / "image"
    (place / "data" / "deep").mkdir(parents=True)
    (place / "data" / "file").write_text("")
    os.mkfifo(place / "data" / "fifo")
    for name, goal in LINKS.items():
        (place / name).symlink_to(goal)

    return str(place)


@pytest.mark.parametrize(
    ("path", "kind", "resolved"),
    [
        pytest.param("/", "directory", "/", id="root"),
        pytest.param("/data", "directory", "/data", id="directory"),
        pytest.param("/data/file", "file", "/data/file", id="file"),
        pytest.param("/data/fifo", "other", "/data/fifo", id="fifo"),
        pytest.param("//data/./deep/", "directory", "/data/deep", id="not normal"),
        pytest.param("/absolute", "file", "/data/file", id="absolute link"),
        pytest.param("/relative", "file", "/data/file", id="relative link"),
        pytest.param("/up", "file", "/data/file", id="link above the root"),
        pytest.param("/dot", "file", "/data/file", id="link with dots"),
        pytest.param("/chain", "file", "/data/file", id="link to a link"),
        pytest.param("/to_directory/deep/back", "file", "/data/file", id="through a link"),
        pytest.param("/data/deep/out/file", "file", "/data/file", id="through a link above the root"),
        pytest.param("/to_directory/deep/..", "directory", "/data", id="up again"),
        pytest.param("/../../data", "directory", "/data", id="above the root"),
        pytest.param("/..", "directory", "/", id="above the root alone"),
        pytest.param("/nowhere/at/all", None, "/nowhere/at/all", id="missing"),
        pytest.param("/data/missing", None, "/data/missing", id="missing in a directory"),
        pytest.param("/dangling", None, "/nowhere/at/all", id="dangling link"),
        pytest.param("/dangling/more", None, "/nowhere/at/all/more", id="below a dangling link"),
    ],
)
def test_look_inside(root, path, kind, resolved):
    """A path leads where it would lead with the tree as the root directory."""
    actual = look_inside(root, path)

    assert TargetFact(path=path, kind=kind, resolves_to=resolved) == actual


@pytest.mark.parametrize("path", ["/into_itself", "/ping", "/pong/more"])
def test_look_inside_loop(root, path):
    """A loop of links ends, with words."""
    actual = look_inside(root, path)

    assert TargetFact(path=path, reason="too many levels of symbolic links") == actual


@pytest.mark.parametrize(("count", "kind"), [(40, "directory"), (41, None)])
def test_look_inside_many_links(tmp_path, count, kind):
    """As many links are followed as the kernel follows."""
    (tmp_path / "0").mkdir()
    for i in range(count):
        (tmp_path / f"{i + 1}").symlink_to(f"{i}")

    actual = look_inside(str(tmp_path), f"/{count}")

    assert kind == actual.kind


@pytest.mark.parametrize("path", ["/host", "/host/env"])
def test_look_inside_never_follows_to_the_host(root, path):
    """A link to what only the host has leads nowhere."""
    actual = look_inside(root, path)

    assert os.path.exists(root + path)
    assert None is actual.kind


@pytest.mark.parametrize("path", ["/missing/..", "/missing/more/..", "/data/file/..", "/data/file/../deep"])
def test_look_inside_up_from_no_directory(root, path):
    """There is no way up from what is no directory."""
    actual = look_inside(root, path)

    assert None is actual.kind


def test_look_inside_permission(root, mocker):
    """What may not be looked at is told with the system's words."""
    mocker.patch("os.lstat", side_effect=PermissionError(errno.EACCES, "Permission denied"))

    actual = look_inside(root, "/data")

    assert TargetFact(path="/data", reason="Permission denied") == actual


def machine_of(root):
    """Read the architecture of a tree's shell."""
    return read_contents(Tree(root)).machine


def elf(machine, *, order="little", length=64):
    """Make the start of an ELF file."""
    ident = b"\x7fELF\x02" + (b"\x01" if order == "little" else b"\x02") + bytes(10)

    return (ident + (3).to_bytes(2, order) + machine.to_bytes(2, order) + bytes(44))[:length]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(elf(62), "x86_64", id="x86_64"),
        pytest.param(elf(183), "aarch64", id="aarch64"),
        pytest.param(elf(21), "ppc64le", id="ppc64le"),
        pytest.param(elf(3), "i686", id="i686"),
        pytest.param(elf(22, order="big"), "s390x", id="s390x, big-endian"),
        pytest.param(elf(62, order="big"), "x86_64", id="big-endian number"),
        pytest.param(elf(0x3E00), "unknown", id="number of other byte order"),
        pytest.param(elf(62, length=20), "x86_64", id="just long enough"),
        pytest.param(elf(62, length=19), None, id="truncated"),
        pytest.param(b"#!/bin/busybox sh\nexit 0\n", None, id="script"),
        pytest.param(b"", None, id="empty"),
    ],
)
def test_machine_of(tmp_path, content, expected):
    """The architecture is read from the ELF header."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").write_bytes(content)

    assert expected == machine_of(str(tmp_path))


@pytest.mark.parametrize("path", ["/data/file/more", "/data/file/..", "/through_file"])
def test_below_a_file(root, path):
    """Nothing can be, or be made, below a file."""
    fact = look_inside(root, path)

    assert (None, "Not a directory") == (fact.kind, fact.reason)


def test_machine_of_link(tmp_path):
    """The shell's links are followed inside the tree."""
    (tmp_path / "usr" / "bin").mkdir(parents=True)
    (tmp_path / "usr" / "bin" / "dash").write_bytes(elf(183))
    (tmp_path / "usr" / "bin" / "sh").symlink_to("/usr/bin/dash")
    (tmp_path / "bin").symlink_to("usr/bin")

    assert "aarch64" == machine_of(str(tmp_path))


@pytest.mark.parametrize("goal", [None, "/usr/bin/env", "/"], ids=["missing", "host", "directory"])
def test_machine_of_nothing(tmp_path, goal):
    """Where no file is inside the tree, there is no architecture."""
    (tmp_path / "bin").mkdir()
    if goal:
        (tmp_path / "bin" / "sh").symlink_to(goal)

    assert None is machine_of(str(tmp_path))


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def ask_kernel(root, path):
    """Look *path* up with openat2(2) and RESOLVE_IN_ROOT: kind and place, or an error's number."""
    directory = os.open(root, os.O_PATH)
    try:
        how = _How(os.O_PATH | os.O_CLOEXEC, 0, 0x10)
        libc = ctypes.CDLL(None, use_errno=True)
        # openat2(2): EAGAIN when anything on the machine was mounted or renamed meanwhile, and ".." would not be safe.
        while True:
            found = libc.syscall(437, directory, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
            if found >= 0 or ctypes.get_errno() != errno.EAGAIN:
                break
    finally:
        os.close(directory)
    if found < 0:
        return ctypes.get_errno()
    try:
        kind = "directory" if stat.S_ISDIR(os.fstat(found).st_mode) else "file"
        return kind, "/" + os.path.relpath(os.readlink(f"/proc/self/fd/{found}"), os.path.realpath(root)).lstrip(".")
    finally:
        os.close(found)


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(st.one_of(NAMES, st.just("..")), min_size=1, max_size=5).map("/".join)
ENTRIES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=2).map("/".join),
    st.one_of(st.none(), st.just(""), PATHS, PATHS.map("/{}".format)),
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(entries=ENTRIES, path=PATHS)
def test_look_inside_as_the_kernel(tmp_path_factory, entries, path):
    """In any tree, the answer is the kernel's own."""
    root = tmp_path_factory.mktemp("tree")
    assert errno.ENOSYS != ask_kernel(root, "/"), "this test needs openat2 (Linux 5.6)"
    for name, what in sorted(entries.items()):
        place = root / name
        if not place.parent.is_dir() or place.parent.is_symlink():
            continue
        if what is None:
            place.mkdir()
        elif what == "":
            place.write_text("")
        else:
            place.symlink_to(what)

    actual = look_inside(str(root), path)
    expected = ask_kernel(root, path)

    if isinstance(expected, int):
        assert None is actual.kind
        assert (expected in (errno.ELOOP, errno.ENOTDIR)) == bool(actual.reason)
    else:
        assert expected == (actual.kind, actual.resolves_to)

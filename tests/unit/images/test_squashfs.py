"""
A squashfs is read as the kernel reads it, and no further than needed.
"""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given, settings, strategies as st

from wlcg_isolate.host.rootfs import look_inside
from wlcg_isolate.images.fault import ImageFault
from wlcg_isolate.images.rootfs import list_names, look_up, read_file
from wlcg_isolate.images.source import Source
from wlcg_isolate.images.squashfs import Squashfs


@pytest.fixture
def opened(tmp_path):
    """Open bytes as a squashfs."""
    fds = []

    def make(data, name="image"):
        (tmp_path / name).write_bytes(data)
        fds.append(os.open(tmp_path / name, os.O_RDONLY))
        return Squashfs(Source(fds[-1]))

    yield make
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("compress", [True, False])
def test_content(opened, squashfs_of, compress):
    """Files, links, pipes and directories are what was put in."""
    tree = {"a": {"b": b"content", "link": "/a/b", "pipe": None, "empty": b"", "none": {}}}
    image = opened(squashfs_of(tree, compress))

    assert b"content" == read_file(image, "/a/link", 100)
    assert b"cont" == read_file(image, "/a/b", 4)
    assert b"" == read_file(image, "/a/empty", 100)
    assert sorted(tree["a"]) == list_names(image, "/a")
    assert [] == list_names(image, "/a/none")
    assert ["directory", "file", "other", None] == [
        look_up(image, p).kind for p in ("/a", "/a/b", "/a/pipe", "/a/nothing")
    ]
    assert (True, False) == (look_up(image, "/a/link").link, look_up(image, "/a/b").link)


@pytest.mark.parametrize("compress", [True, False])
def test_long_file(opened, squashfs_of, compress):
    """A file of many blocks is read at any place."""
    content = bytes(i * i % 251 for i in range(400_000))
    image = opened(squashfs_of({"f": content}, compress))
    node = look_up(image, "/f").node

    for at, size in ((0, 10), (131_070, 4), (262_144, 131_072), (399_999, 100), (400_000, 1), (500_000, 1)):
        assert content[at : at + size] == image.read(node, at, size)


def test_large_directory(opened, squashfs_of):
    """An index leads to the right part of a directory with many names."""
    names = {f"file-{i:05}": b"" for i in range(5000)}
    image = opened(squashfs_of({"d": names}))
    node = look_up(image, "/d").node

    assert 5 < node.indexed
    assert all(look_up(image, f"/d/{name}").kind == "file" for name in list(names)[::97])
    assert [None] * 3 == [look_up(image, f"/d/{name}").kind for name in ("file-", "file-99999", "a")]
    assert 5000 == len(list_names(image, "/d", 10_000))


def test_index_saves_reading(opened, squashfs_of, mocker):
    """Only the blocks on the way to a path are read."""
    image = opened(squashfs_of({"d": {f"file-{i:05}": b"" for i in range(20_000)}}))
    blocks = mocker.spy(image.metadata, "block")
    look_up(image, "/d/file-19990")

    assert len({call.args[0] for call in blocks.call_args_list}) < 12


NAMES = st.sampled_from(["a", "b", "c", "d"])
GOALS = st.lists(st.sampled_from(["a", "b", "..", ".", "", "c"]), min_size=1, max_size=4).map("/".join).filter(bool)
TREES = st.recursive(
    st.binary(max_size=3) | GOALS,
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
).filter(lambda tree: isinstance(tree, dict))


@settings(max_examples=150, deadline=None)
@given(tree=TREES, paths=st.lists(GOALS.map(lambda goal: "/" + goal), min_size=1, max_size=6))
def test_same_as_a_tree(tmp_path_factory, squashfs_of, tree, paths):
    """A squashfs and a tree with the same content give the same answers."""
    place = tmp_path_factory.mktemp("pair")
    _unpack(place / "tree", tree)
    (place / "image").write_bytes(squashfs_of(tree))
    fd = os.open(place / "image", os.O_RDONLY)
    try:
        image = Squashfs(Source(fd))
        for path in paths:
            assert look_inside(str(place / "tree"), path) == look_inside(image, path)
    finally:
        os.close(fd)


def _unpack(place, tree):
    place.mkdir()
    for name, value in tree.items():
        if isinstance(value, dict):
            _unpack(place / name, value)
        elif isinstance(value, str):
            (place / name).symlink_to(value)
        else:
            (place / name).write_bytes(value)


@pytest.mark.parametrize(
    ("offset", "layout", "value", "kind", "words"),
    [
        pytest.param(0, "<4s", b"nope", "image-corrupt", "no squashfs superblock", id="magic"),
        pytest.param(28, "<H", 3, "image-form-unsupported", "squashfs 3.0 is not known", id="version"),
        pytest.param(20, "<H", 99, "image-corrupt", "no compression number 99", id="compression"),
        pytest.param(22, "<H", 40, "image-corrupt", "the block size", id="block log"),
        pytest.param(12, "<I", 12345, "image-corrupt", "the block size 12345", id="block size"),
        pytest.param(40, "<Q", 1 << 60, "image-corrupt", "truncated", id="size"),
    ],
)
def test_superblock_faults(opened, squashfs_of, offset, layout, value, kind, words):
    """A superblock that cannot be is refused with the reason."""
    data = bytearray(squashfs_of({"a": b""}))
    struct.pack_into(layout, data, offset, value)
    with pytest.raises(ImageFault, match=words) as caught:
        opened(bytes(data))

    assert kind == caught.value.kind


@pytest.mark.parametrize(
    ("offset", "value"),
    [(32, 1 << 59), (32, 0xFFFF), (64, 1 << 60), (64, 0), (72, 1 << 60), (72, 10), (32, 7)],
    ids=["root far", "root behind block", "inodes far", "inodes at 0", "directories far", "directories at 10", "mid"],
)
def test_hostile_places(opened, squashfs_of, offset, value):
    """Places that lead nowhere are faults or nothing, never a crash."""
    data = bytearray(squashfs_of({"a": {"b": b"x"}}))
    struct.pack_into("<Q", data, offset, value)
    image = opened(bytes(data))
    fact = look_inside(image, "/a/b")

    assert fact.reason or fact.kind is None


def test_directory_in_itself(opened, squashfs_of):
    """A directory that holds itself ends with the path."""
    data = bytearray(squashfs_of({"a": {"b": {}}}))
    (root,) = struct.unpack_from("<Q", data, 32)
    (inodes,) = struct.unpack_from("<Q", data, 64)
    (directories,) = struct.unpack_from("<Q", data, 72)
    # The first listing has the entry "b"; its inode becomes that of the root.
    struct.pack_into("<H", data, directories + 2 + 12, root & 0xFFFF)
    image = opened(bytes(data))

    assert inodes
    assert "directory" == look_inside(image, "/a/b/a/b/a/b").kind
    assert "directory" == look_inside(image, "/a/b" * 1000).kind


def test_endless_listing(opened, squashfs_of):
    """A directory that claims to be huge costs a limited number of blocks."""
    data = bytearray(squashfs_of({"a": b""}))
    (root,) = struct.unpack_from("<Q", data, 32)
    (inodes,) = struct.unpack_from("<Q", data, 64)
    struct.pack_into("<H", data, inodes + 2 + (root & 0xFFFF) + 24, 0xFFFF)
    image = opened(bytes(data))
    fact = look_inside(image, "/zzz")

    assert fact.reason


@pytest.mark.parametrize("size", [0, 1, 50, 95, 96, 97, 150, 300])
def test_truncated(opened, squashfs_of, size):
    """A file that was cut short is refused."""
    with pytest.raises(ImageFault):
        opened(squashfs_of({"a": b"x" * 500})[:size])

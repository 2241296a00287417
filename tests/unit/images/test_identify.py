"""
What an image is, is told by its content.
"""

from __future__ import annotations

import os
import struct

import attrs
import pytest

from wlcg_isolate.images.contents import Contents, describe, is_enterprise_linux_6, read_contents
from wlcg_isolate.images.identify import open_image
from wlcg_isolate.images.rootfs import look_up


def ext3(features=4, start=0):
    """Make the begin of an ext file system."""
    data = bytearray(4096)
    data[start + 1080 : start + 1082] = b"\x53\xef"
    data[start + 1024 + 92] = features

    return bytes(data)


@pytest.fixture
def identify(tmp_path):
    """Write a file under a misleading name and say what it is."""

    def make(data):
        (tmp_path / "image.sif").write_bytes(data)
        with open_image(str(tmp_path / "image.sif")) as opened:
            return opened

    return make


@pytest.mark.parametrize(
    ("make", "form", "note", "kind"),
    [
        pytest.param(lambda sq, sif: sq, "squashfs", "compressed with gzip", None, id="squashfs"),
        pytest.param(
            lambda sq, sif: b"#!/usr/bin/env run-singularity\n" + sq, "squashfs", "compressed with gzip", None,
            id="squashfs behind a line",
        ),
        pytest.param(lambda sq, sif: sif(sq), "sif", "compressed with gzip", None, id="sif"),
        pytest.param(lambda sq, sif: ext3(), "ext3", "ext3", "image-form-unsupported", id="ext3"),
        pytest.param(
            lambda sq, sif: ext3(0), "ext3", "ext without a journal, which ext3 has", "image-form-unsupported", id="e2"
        ),
        pytest.param(
            lambda sq, sif: b"#" * 31 + ext3(), "ext3", "ext3", "image-form-unsupported", id="ext3 behind a line"
        ),
        pytest.param(lambda sq, sif: b"", "unknown", "it is empty", "image-corrupt", id="empty"),
        pytest.param(lambda sq, sif: b"x", "unknown", "it is no image", "image-form-unsupported", id="other"),
        pytest.param(lambda sq, sif: b"\x1f\x8b" * 9, "unknown", "it is gzip data", "image-form-unsupported", id="gz"),
        pytest.param(lambda sq, sif: b"#!/bin/sh", "unknown", "it is a script", "image-form-unsupported", id="script"),
        pytest.param(
            lambda sq, sif: bytes(257) + b"ustar", "unknown", "it is a tar archive", "image-form-unsupported", id="tar"
        ),
        pytest.param(lambda sq, sif: sq[:200], "squashfs", "truncated: it says", "image-corrupt", id="cut squashfs"),
        pytest.param(lambda sq, sif: sif(sq)[:-1], "sif", "truncated: bytes", "image-corrupt", id="cut sif"),
        pytest.param(lambda sq, sif: sif(sq)[:200], "sif", "truncated: byte", "image-corrupt", id="header alone"),
        pytest.param(
            lambda sq, sif: sif(sq, total=0), "sif", "a SIF with 0 descriptors", "image-corrupt", id="no descriptors"
        ),
        pytest.param(
            lambda sq, sif: sif(sq, version=b"09\0"), "sif", "version b'09", "image-form-unsupported", id="version"
        ),
        pytest.param(
            lambda sq, sif: sif(sq, part=3), "sif", "it holds no root", "image-form-unsupported", id="data alone"
        ),
        pytest.param(
            lambda sq, sif: sif(sq, used=False), "sif", "it holds no root", "image-form-unsupported", id="unused"
        ),
        pytest.param(
            lambda sq, sif: sif(sq, kind=0x400A), "sif", "it is an OCI-SIF", "image-form-unsupported", id="oci-sif"
        ),
        pytest.param(
            lambda sq, sif: sif(sq, file_system=5), "sif", "its root is encrypted squashfs", "image-form-unsupported",
            id="encrypted",
        ),
        pytest.param(
            lambda sq, sif: sif(sq, file_system=2), "sif", "its root is ext3", "image-form-unsupported", id="ext3sif"
        ),
    ],
)  # fmt: skip
def test_form(identify, squashfs_of, sif_of, system, make, form, note, kind):
    """Forms, and what is wrong with one, are told apart."""
    opened = identify(make(squashfs_of(system), sif_of))

    assert (form, kind) == (opened.form, opened.fault and opened.fault.kind)
    assert opened.note.startswith(note)
    assert (opened.root is None) == (kind is not None)


def test_huge_descriptor(identify, squashfs_of, sif_of):
    """A partition of any claimed size is no reason to read it."""
    data = bytearray(sif_of(squashfs_of({})))
    struct.pack_into("<q", data, 4096 + 4 + 1 + 12 + 8, 1 << 62)

    assert "image-corrupt" == identify(bytes(data)).fault.kind


@pytest.mark.parametrize("compressor", [2, 3, 4, 5, 6])
def test_other_compressions(identify, squashfs_of, compressor):
    """Data that is of another compression than it says is damaged."""
    data = bytearray(squashfs_of({"a": b""}))
    struct.pack_into("<H", data, 20, compressor)
    (inodes,) = struct.unpack_from("<Q", data, 64)
    # Not stored, but compressed.
    data[inodes + 1] &= 0x7F
    opened = identify(bytes(data))

    assert opened.fault.kind in ("image-corrupt", "image-form-unsupported")


def test_missing_library(identify, squashfs_of, mocker):
    """Where a library is missing, the image is refused by its name."""
    mocker.patch("ctypes.CDLL", side_effect=OSError)
    mocker.patch("wlcg_isolate.images.compression._load", return_value=None)
    data = bytearray(squashfs_of({"a": b""}))
    struct.pack_into("<H", data, 20, 6)
    opened = identify(bytes(data))

    assert "it is compressed with zstd, and this node has no zstd library" == opened.note


def test_special_files(tmp_path):
    """Pipes and devices are never read."""
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/null"):
        with open_image(path) as opened:
            assert ("unknown", "it is neither a directory nor a plain file") == (opened.form, opened.note)


def test_oci_layout(tmp_path):
    """A directory as registries have it is no root of a system."""
    (tmp_path / "oci-layout").write_text("{}")
    with open_image(str(tmp_path)) as opened:
        assert "unknown" == opened.form


@pytest.fixture(params=["tree", "squashfs", "sif"])
def root_of(request, tmp_path, squashfs_of, sif_of, unpack):
    """Open a tree of dicts in each form."""
    opened = []

    def make(tree):
        path = tmp_path / f"image-{len(opened)}"
        if request.param == "tree":
            unpack(path, tree)
        else:
            data = squashfs_of(tree, compress=True)
            path.write_bytes(data if request.param == "squashfs" else sif_of(data))
        manager = open_image(str(path))
        opened.append(manager)
        return manager.__enter__().root

    yield make
    for manager in opened:
        manager.__exit__(None, None, None)


def test_contents(root_of, system):
    """What a plan needs is the same in every form."""
    expected = Contents(
        shell=True,
        machine="x86_64",
        kernel=(3, 10, 0),
        level=2,
        system={"NAME": "Rocky Linux", "ID": "rocky", "ID_LIKE": "rhel centos", "VERSION_ID": "9.4"},
        own_files=True,
    )

    assert expected == read_contents(root_of(system))


def test_empty(root_of):
    """An empty image has nothing."""
    assert Contents() == read_contents(root_of({"a": {}}))


@pytest.mark.parametrize(
    ("release", "level", "expected"),
    [
        (b"ID=rocky\nVERSION_ID=9.1", None, 2),
        (b'ID="rhel"\nVERSION_ID="10.0"', None, 3),
        (b"ID=almalinux\nVERSION_ID=10.0", 2, 2),
        (b"ID=almalinux\nVERSION_ID=10.0", 1, 3),
        (b"ID=rhel\nVERSION_ID=8.9", None, None),
        (b"ID=debian\nVERSION_ID=12", 1, 1),
        (b"ID=debian\nVERSION_ID=12", None, None),
        (b"", None, None),
    ],
    ids=repr,
)
def test_level(root_of, elf_of, release, level, expected):
    """The level is that of the programs; where they bear no mark, that of the system."""
    tree = {"bin": {"sh": elf_of(level=level)}, "etc": {"os-release": release}}

    assert expected == read_contents(root_of(tree)).level


def test_enterprise_linux_6(root_of, elf_of):
    """Enterprise Linux 6 is known by its release file."""
    tree = {"bin": {"sh": elf_of()}, "etc": {"redhat-release": b"Scientific Linux release 6.10 (Carbon)\n"}}
    contents = read_contents(root_of(tree))

    assert {"ID": "rhel", "VERSION_ID": "6", "PRETTY_NAME": "Scientific Linux release 6.10 (Carbon)"} == dict(
        contents.system
    )
    assert is_enterprise_linux_6(contents.system)
    assert not is_enterprise_linux_6({"ID": "rocky", "VERSION_ID": "9"})


def test_describe(root_of, system):
    """What a person wants to know is found."""
    libc = b"\0" * 300_000 + b"GNU C Library (GNU libc) stable release version 2.34.\n" + b"\0" * 10
    archive = b"\0en_US.utf8\0xx\0de_DE@euro\0C\0"
    tree = {
        **system,
        "lib64": {**system["lib64"], "libc.so.6": "libc-2.34.so", "libc-2.34.so": libc},
        "usr": {**system["usr"], "lib": {"locale": {"C.utf8": {}, "locale-archive": archive}}},
    }

    assert {
        "glibc": "2.34",
        "locales": ["C.utf8", "de_DE@euro", "en_US.utf8"],
        "environment": {"A": "1"},
        "labels": {"x": "y"},
    } == describe(root_of(tree))


@pytest.mark.parametrize("labels", [b"[]", b"{", b"", b"[" * 100_000])
def test_broken_labels(root_of, labels):
    """Labels that are none do no harm."""
    assert {} == describe(root_of({".singularity.d": {"labels.json": labels}}))["labels"]


@pytest.mark.parametrize("goal", ["/dev/zero", "/etc/shadow", "../../../../../../etc/hostname"])
def test_links_to_the_host(root_of, goal):
    """A link in an image leads to nothing of the host."""
    root = root_of({"etc": {"os-release": goal}, "lib64": {"libc.so.6": goal}})

    assert {} == dict(read_contents(root).system)
    assert None is describe(root)["glibc"]


def test_pipe_instead_of_a_file(tmp_path, unpack):
    """A pipe in the place of a file is not read, and blocks nobody."""
    with open_image(str(unpack(tmp_path / "i", {"etc": {"os-release": None}, "bin": {"sh": None}}))) as opened:
        assert Contents() == read_contents(opened.root)


def test_replaced_by_a_link(tmp_path, unpack):
    """What becomes a link after it was found is not followed."""
    place = unpack(tmp_path / "image", {"etc": {"secret": b"inside"}})
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"outside")
    with open_image(str(place)) as opened:
        node = look_up(opened.root, "/etc/secret").node
        (place / "etc").rename(place / "old")
        (place / "etc").symlink_to(tmp_path / "outside")
        with pytest.raises(OSError, match=r"Not a directory|Too many"):
            opened.root.read(node, 0, 10)


def test_values_are_frozen(identify):
    """An opened image is a value."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        identify(b"x").form = "sif"

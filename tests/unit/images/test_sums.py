"""
Lists of checksums are read as they are written, and not one line short.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest
from hypothesis import given, strategies as st

from wlcg_isolate.images.digests import Digest, digest_of_path
from wlcg_isolate.images.fault import ImageFault
from wlcg_isolate.images.sums import (
    Descriptor,
    forms_of,
    listed_in,
    of_descriptor,
    parse_descriptor,
    parse_list,
)

A, B = "a1" * 32, "b2" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{A}  x.sif\n", {"x.sif": {A}}),
        (f"{A} *x.sif\n", {"x.sif": {A}}),
        (f"SHA256 (x y.sif) = {A}\n", {"x y.sif": {A}}),
        (f"{A.upper()}  x\r\n{B}  y", {"x": {A}, "y": {B}}),
        (f"# a comment\n\n{A}  x\n", {"x": {A}}),
        (f"\\{A}  a\\nb\\\\c\n", {"a\nb\\c": {A}}),
        (f"{A}  x\n{B}  x\n", {"x": {A, B}}),
        ("", {}),
    ],
    ids=repr,
)
def test_list(text, expected):
    """All forms that sha256sum writes are read."""
    assert expected == parse_list(text.encode())


@pytest.mark.parametrize(
    "text",
    ["x", f"{A}", f"{A} x", f"{A[:-1]}  x", f"{A}  ", f"{A}  x\nrubbish\n", "d41d8cd98f00b204e9800998ecf8427e  x"],
)
def test_no_list(text):
    """A line that is none makes the list none."""
    with pytest.raises(ImageFault, match="is no line of a list") as caught:
        parse_list(text.encode())

    assert "image-list-invalid" == caught.value.kind


@given(st.binary(max_size=200))
def test_any_bytes(data):
    """Any bytes are a list or a fault."""
    try:
        parse_list(data)
    except ImageFault as fault:
        assert fault.kind == "image-list-invalid"


@pytest.mark.parametrize("name", ["plain.sif", "a b.sif", "a\nb", "a\\b", "\udcff"])
@pytest.mark.parametrize("options", [[], ["--tag"], ["-b"]], ids=["plain", "tag", "binary"])
def test_as_sha256sum_writes_it(tmp_path, name, options):
    """What the real program writes is read, whatever the name."""
    (tmp_path / name).write_bytes(b"content")
    out = subprocess.run([shutil.which("sha256sum"), *options, name], cwd=tmp_path, capture_output=True, check=True)
    (found,) = parse_list(out.stdout).items()

    assert (name, {"ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"}) == found


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ({"x.sif": {A}}, {A}),
        ({"./x.sif": {A}}, {A}),
        ({"/images/x.sif": {A}, "x.sif": {B}}, {A, B}),
        ({"../images/x.sif": {A}}, {A}),
        ({"/other/x.sif": {A}}, set()),
        ({"y.sif": {A}}, set()),
        ({"sub/x.sif": {A}}, set()),
    ],
    ids=repr,
)
def test_listed_in(listed, expected):
    """A list beside the image means its own paths."""
    assert expected == listed_in("/images/x.sif", "/images", listed)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [({"x.sif": {A}}, {A}), ({"/images/x.sif": {A}, "x.sif": {B}}, {A}), ({"a/x.sif": {A}}, set())],
)
def test_listed_elsewhere(listed, expected):
    """In a list from elsewhere, a bare name is enough; a path means that path."""
    assert expected == listed_in("/images/x.sif", "/etc/site", listed)


FULL = {
    "reference": "cmssw/el9:x86_64",
    "architecture": "x86_64",
    "manifest_digest": "sha256:" + A,
    "config_digest": "sha256:" + B,
    "tree": {"path": "../tree"},
    "file": {"name": "x.sif", "sha256": A, "size": 7},
    "later": 1,
}


def test_descriptor():
    """A descriptor names both forms of an image."""
    read = parse_descriptor(json.dumps(FULL).encode())

    assert ("cmssw/el9:x86_64", "../tree", "x.sif", A, 7) == (
        read.reference,
        read.tree,
        read.file,
        read.sha256,
        read.size,
    )
    assert {A} == of_descriptor("/i/x.sif", "/i", read)
    assert set() == of_descriptor("/i/y.sif", "/i", read)
    assert set() == of_descriptor("/i/y.sif", "/i", Descriptor())
    assert ["/tree", "/i/x.sif"] == list(forms_of("/i", read, ("tree", "file")))
    assert ["/i/x.sif", "/tree"] == list(forms_of("/i", read, ("file", "tree")))
    assert ["/i/x.sif"] == list(forms_of("/i", Descriptor(file="x.sif"), ("tree", "file")))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{", b'{"file": []}', b'{"tree": "x"}', b'{"file": {"name": 1}}', b'{"file": {"sha256": "ab"}}',
        b'{"file": {"size": "7"}}', b'{"file": {"size": true}}', b'{"reference": ""}', b'{"reference": "a\\u0000"}',
        b"[" * 100_000,
    ],
    ids=lambda data: data[:20],
)  # fmt: skip
def test_no_descriptor(data):
    """What is none is refused."""
    with pytest.raises(ImageFault) as caught:
        parse_descriptor(data)

    assert "image-list-invalid" == caught.value.kind


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/cvmfs/unpacked.cern.ch/.flat/a1/{A}", Digest(kind="config", value=A)),
        (f"/cvmfs/singularity.opensciencegrid.org/.images/b2/{B[2:]}", Digest(kind="layers", value=B)),
        ("/cvmfs/x/el9", Digest()),
        (f"/cvmfs/x/.flat/{A}", Digest()),
        (f"/cvmfs/x/.flat/a1/{A}/more", Digest()),
    ],
)
def test_digest_of_path(path, expected):
    """Each publisher's digest is known for what it is."""
    assert expected == digest_of_path(path)
    assert os.path.isabs(path)

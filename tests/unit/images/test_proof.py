"""
An image file runs when all that is known of it holds.
"""

from __future__ import annotations

import hashlib
import json

import pytest

from wlcg_isolate import Policy
from wlcg_isolate.images.fault import ImageFault
from wlcg_isolate.images.proof import Known, known_checksums, prove

GOOD = hashlib.sha256(b"image").hexdigest()
BAD = "0" * 64


@pytest.fixture
def file(tmp_path):
    """Make an image file, or what passes for one."""
    (tmp_path / "i").mkdir()
    (tmp_path / "i" / "x.sif").write_bytes(b"image")

    return tmp_path / "i" / "x.sif"


@pytest.fixture
def policy(tmp_path):
    """Make a policy that remembers nothing."""
    return lambda **more: Policy(**{"image_verified_directory": "/dev/null/x", **more})


def trust(place, data):
    """Take any list for signed."""


def known(file, policy, wanted=None, names=()):
    """Ask everybody for the checksum of a file."""
    return known_checksums(str(file), names, policy, trust, wanted)


def test_nobody(file, policy):
    """Without a checksum a file is unlisted."""
    assert () == known(file, policy())
    assert "unlisted" == prove(str(file), (), policy(), 0).verdict


def test_everybody(file, policy, tmp_path):
    """Request, policy, lists and neighbours are asked, and all of them told."""
    (file.parent / "x.sif.image.json").write_text(json.dumps({"file": {"name": "x.sif", "sha256": GOOD}}))
    (file.parent / "x.sif.sha256").write_text(f"{GOOD}  x.sif\n")
    (file.parent / "SHA256SUMS").write_text(f"{BAD}  other\n{GOOD}  x.sif\n")
    (tmp_path / "list").write_text(f"{GOOD}  {file}\n")
    found = known(
        file,
        policy(image_checksums={"name": f"sha256:{GOOD}"}, image_checksum_files=(str(tmp_path / "list"),)),
        f"sha256:{GOOD}",
        ("name",),
    )
    proof = prove(str(file), found, policy(), 0)
    beside = [str(file.parent / name) for name in ("x.sif.image.json", "x.sif.sha256", "SHA256SUMS")]

    assert ["the request", "image.checksums[name]", str(tmp_path / "list"), *beside] == [item.source for item in found]
    assert ("verified", "file", GOOD) == (proof.verdict, proof.digest.kind, proof.digest.value)
    assert tuple(item.source for item in found) == proof.sources


def test_one_that_differs(file, policy):
    """One checksum that does not hold is enough."""
    proof = prove(str(file), (Known(GOOD, "a"), Known(BAD, "b")), policy(), 0)

    assert ("mismatch", f"its SHA-256 is {GOOD}; b has {BAD}") == (proof.verdict, proof.reason)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("SHA256SUMS", "rubbish", "line 1 is no line"),
        ("x.sif.image.json", "{", "it is not JSON"),
        ("SHA256SUMS", f"{GOOD}  x.sif\n{BAD}  x.sif\n", "2 checksums"),
    ],
)
def test_broken_neighbour(file, policy, name, content, words):
    """A list that is there and cannot be read is no list that is not there."""
    (file.parent / name).write_text(content)
    with pytest.raises(ImageFault, match=words) as caught:
        known(file, policy())

    assert "image-list-invalid" == caught.value.kind


def test_list_that_is_missing(file, policy):
    """A list that policy names must be there."""
    with pytest.raises(ImageFault, match="/nosuch does not exist"):
        known(file, policy(image_checksum_files=("/nosuch",)))


def test_list_that_is_a_directory(file, policy, tmp_path):
    """What is no file is no list."""
    with pytest.raises(ImageFault, match="Is a directory"):
        known(file, policy(image_checksum_files=(str(tmp_path),)))


def test_huge_list(file, policy, tmp_path, mocker):
    """No list is read beyond what a list can be."""
    mocker.patch("wlcg_isolate.images.sums.MOST_LIST", 100)
    (tmp_path / "list").write_text("x" * 200)
    with pytest.raises(ImageFault, match="larger than any list"):
        known(file, policy(image_checksum_files=(str(tmp_path / "list"),)))


def test_signature_is_asked_for(file, policy):
    """A list counts when its signature is good, and only for what it lists."""
    (file.parent / "SHA256SUMS").write_text(f"{GOOD}  x.sif\n")

    def refuse(place, data):
        raise ImageFault("image-list-invalid", "bad signature")

    with pytest.raises(ImageFault, match="bad signature"):
        known_checksums(str(file), (), policy(), refuse)


def test_on_cvmfs(file, policy, tmp_path):
    """What CVMFS checks itself is not hashed for a list beside it, unless policy wants a checksum."""
    (file.parent / "SHA256SUMS").write_text(f"{BAD}  x.sif\n")

    assert () == known(file, policy(cvmfs_root=str(tmp_path)))
    assert 1 == len(known(file, policy(cvmfs_root=str(tmp_path), image_unlisted=False)))


def test_unreadable(policy):
    """A file that is gone cannot be verified."""
    proof = prove("/nosuch", (Known(GOOD, "a"),), policy(), 0)

    assert ("failed", "image-unreadable") == (proof.verdict, proof.kind)

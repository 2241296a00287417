"""
Whatever bytes an image has, it is read or refused, soon and in little memory.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import time

import pytest

from wlcg_isolate.host.inspection import inspect_image
from wlcg_isolate.images.contents import describe, read_contents
from wlcg_isolate.images.fault import ImageFault
from wlcg_isolate.images.identify import open_image
from wlcg_isolate.images.rootfs import look_up

SECONDS = 1.0
MEGABYTES = 200

PATHS = ("/bin/sh", "/etc/os-release", "/srv", "/a/b/c/d", "/../..", "/var/run/x", "/usr/lib/os-release", "/zz")

#: Numbers that are at some border.
BORDERS = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62, 2**64 - 1)


def mutate(data, chance):
    """Change some of the bytes, mostly in headers and metadata."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 12)):
        place = chance.choice((128, 5000, 8192, len(data)))
        at = chance.randrange(min(place, len(data)))
        if chance.random() < 0.5:
            data[at] = chance.randrange(256)
        else:
            width = chance.choice((1, 2, 4, 8))
            value = chance.choice(BORDERS) % (1 << 8 * width)
            data[at : at + width] = value.to_bytes(width, "little")
    if chance.random() < 0.1:
        del data[chance.randrange(len(data)) :]

    return bytes(data)


def look(path):
    """Look into an image in every way; return whether it could be read."""
    try:
        with open_image(path) as opened:
            if opened.root is None:
                return opened.fault is None
            describe(opened.root)
            for wanted in PATHS:
                with contextlib.suppress(OSError, ImageFault):
                    look_up(opened.root, wanted)
            read_contents(opened.root)
    except (OSError, ImageFault):
        return False

    return True


def fuzz(place, images, rounds, seed):
    """Look into *rounds* mutated images; return how many could be read, and the longest time."""
    chance = random.Random(seed)
    good, longest = 0, 0.0
    for number in range(rounds):
        (place / "image").write_bytes(mutate(images[number % len(images)], chance))
        begin = time.monotonic()
        good += look(str(place / "image"))
        longest = max(longest, time.monotonic() - begin)

    return good, longest


@pytest.fixture(scope="module")
def images(squashfs_of, sif_of, system):
    """Make good images to start from."""
    large = {**system, "d": {f"name-{i}": b"" for i in range(700)}}
    plain, packed = squashfs_of(large), squashfs_of(large, compress=True)

    return [plain, packed, sif_of(plain), sif_of(packed)]


def _memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_mutated(tmp_path, images):
    """Mutated images give typed faults (the long version: make soak)."""
    before = _memory()
    good, longest = fuzz(tmp_path, images, 400, 1)

    assert 0 < good < 400
    assert longest < SECONDS
    assert _memory() - before < MEGABYTES


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
def test_mutated_long(tmp_path, images, seed):
    """10,000 mutated images for each seed give typed faults, each within a second."""
    before = _memory()
    good, longest = fuzz(tmp_path, images, 10_000, seed + 100)

    assert 0 < good < 10_000
    assert longest < SECONDS
    assert _memory() - before < MEGABYTES


def test_random_bytes(tmp_path):
    """Bytes without any form, behind each magic number, are refused."""
    chance = random.Random(7)
    for head in (b"", b"hsqs", b"\0" * 32 + b"SIF_MAGIC\0" + b"01\0", b"\0" * 1080 + b"\x53\xef"):
        for size in (1, 50, 500, 5000, 50_000):
            (tmp_path / "image").write_bytes(head + chance.randbytes(size))
            assert not look(str(tmp_path / "image"))


def test_sparse_giant(tmp_path, images):
    """A file of a terabyte is no more work than a small one."""
    path = tmp_path / "image"
    path.write_bytes(images[0])
    os.truncate(path, 1 << 40)
    begin = time.monotonic()

    assert "squashfs" == inspect_image(str(path), ("/bin/sh",), 10)["form"]
    assert time.monotonic() - begin < SECONDS

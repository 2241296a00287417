"""
What it costs to look into an image file and to make its checksum.

Two claims, each against the usual program in the same run:

* 20 paths in a SIF of 2 GB with 200,000 entries, against ``unsquashfs -l``;
* the checksum of that file, against ``sha256sum``.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, Callable

from wlcg_isolate.images.identify import open_image
from wlcg_isolate.images.rootfs import look_up
from wlcg_isolate.images.verified import checksum

DIRECTORIES, FILES = 200, 1000
BULK = 2 << 30
TARGETS = 20
ROUNDS = 15
LIMIT_MS = 20.0

_AT, _OFFSET = 4096, 32768


def _make_tree(place: str) -> None:
    """
    Make 200,000 small files, and one of 2 GB that no compression shrinks.
    """
    for i in range(DIRECTORIES):
        directory = os.path.join(place, "usr", "share", f"package-{i:03}")
        os.makedirs(directory)
        for j in range(FILES):
            with open(os.path.join(directory, f"file-{j:04}.py"), "wb") as f:
                f.write(b"%d\n" % (i * j))
    chance = random.Random(1)  # noqa: S311 - for data that does not shrink
    with open(os.path.join(place, "bulk"), "wb") as f:
        f.writelines(chance.randbytes(1 << 20) for _ in range(BULK >> 20))


def _wrap(squashfs: str, sif: str) -> None:
    """
    Wrap a squashfs into a SIF, as ``apptainer build`` lays it out.
    """
    size = os.path.getsize(squashfs)
    header = struct.pack(
        "<32s10s3s3s16s8q", b"", b"SIF_MAGIC\0", b"01\0", b"02\0", bytes(16), 0, 0, 47, 48, _AT, 585 * 48, _OFFSET, size
    )
    extra = struct.pack("<ii3s", 1, 2, b"02\0")
    descriptor = struct.pack(
        "<i?IIIqqqqqqq128s384s", 0x4004, True, 1, 0xF0000001, 0, _OFFSET, size, size, 0, 0, 0, 0, b"", extra
    )
    with open(sif, "wb") as out, open(squashfs, "rb") as data:
        out.write((header.ljust(_AT, b"\0") + descriptor).ljust(_OFFSET, b"\0"))
        shutil.copyfileobj(data, out, 1 << 20)


def _make_sif(place: str) -> str:
    tree, squashfs, sif = (os.path.join(place, name) for name in ("tree", "image.sqfs", "image.sif"))
    _make_tree(tree)
    _run(["mksquashfs", tree, squashfs, "-quiet", "-no-progress", "-noD", "-noF"])
    shutil.rmtree(tree)
    _wrap(squashfs, sif)
    os.unlink(squashfs)

    return sif


def _run(argv: Sequence[str]) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - programs of the system


def _seconds(function: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    function()

    return time.perf_counter() - begin


def _look(sif: str, targets: Sequence[str]) -> None:
    with open_image(sif) as opened:
        if opened.root is None:
            raise SystemExit(opened.note)
        kinds = [look_up(opened.root, target).kind for target in targets]
    if kinds != ["file"] * len(targets):
        raise SystemExit(f"not found: {kinds}")


def _forget(path: str) -> None:
    """
    Have the kernel read a file from the disk again.
    """
    fd = os.open(path, os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.fdatasync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def _look_ups(sif: str) -> float:
    chance = random.Random(2)  # noqa: S311 - for a choice of paths
    times, cold = [], []
    for _ in range(ROUNDS):
        targets = [
            f"/usr/share/package-{chance.randrange(DIRECTORIES):03}/file-{chance.randrange(FILES):04}.py"
            for _ in range(TARGETS)
        ]
        _forget(sif)
        cold.append(_seconds(lambda: _look(sif, targets)) * 1000)  # noqa: B023 - called at once
        times.append(_seconds(lambda: _look(sif, targets)) * 1000)  # noqa: B023
    listing = min(_seconds(lambda: _run(["unsquashfs", "-l", "-o", str(_OFFSET), sif])) for _ in range(3)) * 1000
    warm = statistics.median(times)
    print(f"{TARGETS} look-ups in {os.path.getsize(sif) / 1e9:.1f} GB, {DIRECTORIES * FILES} entries")
    print(f"  pages in memory:   {warm:8.1f} ms (median of {ROUNDS}), worst {max(times):.1f} ms")
    print(f"  pages forgotten:   {statistics.median(cold):8.1f} ms (median of {ROUNDS})")
    print(f"  unsquashfs -l:     {listing:8.1f} ms, ratio {listing / warm:.0f}")

    return warm


def _checksums(sif: str, place: str) -> float:
    remembered = os.path.join(place, "verified")
    _run(["sha256sum", sif])
    ours, theirs = [], []
    for _ in range(3):
        ours.append(_seconds(lambda: checksum(sif, None, 600)))
        theirs.append(_seconds(lambda: _run(["sha256sum", sif])))
    checksum(sif, remembered, 600)
    again = _seconds(lambda: checksum(sif, remembered, 600))
    size, ratio = os.path.getsize(sif) / 1e6, min(ours) / min(theirs)
    print("checksum of the same file")
    print(f"  here:              {min(ours):8.2f} s ({size / min(ours):.0f} MB/s)")
    print(f"  sha256sum:         {min(theirs):8.2f} s ({size / min(theirs):.0f} MB/s), ratio {ratio:.2f}")
    print(f"  remembered:        {again * 1000:8.2f} ms")

    return ratio


def main() -> int:
    """
    Print the times and ratios.
    """
    with tempfile.TemporaryDirectory(prefix="wlcg-isolate-bench-", dir=os.environ.get("TMPDIR")) as place:
        sif = _make_sif(place)
        warm = _look_ups(sif)
        ratio = _checksums(sif, place)

    return int(warm > LIMIT_MS or ratio > 1.5)


if __name__ == "__main__":
    sys.exit(main())

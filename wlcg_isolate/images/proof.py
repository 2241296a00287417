"""
Whether an image file is the one whose checksum was known before.

Rules:

1. Whoever knows a checksum is asked: the request, policy, the lists that
   policy names, and what lies next to the image.  All that is known must hold.
2. Where policy names keys, a list counts only with a signature by one of them.
3. A file on CVMFS is not compared with lists next to it unless policy asks
   for a checksum: CVMFS itself checks all that it reads, and making the
   checksum would fetch the whole file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Callable, NamedTuple, Optional

from wlcg_isolate._values import is_below
from wlcg_isolate.images import sums, verified
from wlcg_isolate.images.digests import Digest, Progress, Proof, identity_of
from wlcg_isolate.images.fault import ImageFault
from wlcg_isolate.policy import Policy

#: Checks the signature of a list: its path and content; raises ImageFault.
CheckSignature = Callable[[str, bytes], None]


class Known(NamedTuple):
    """
    A checksum that somebody knows.

    Attributes:
        value: SHA-256 in hexadecimal digits.

        source: Who knows it.
    """

    value: str
    source: str


def prove(
    path: str,
    known: tuple[Known, ...],
    policy: Policy,
    uid: int,
    progress: Optional[Progress] = None,
) -> Proof:
    """
    Compare the file at *path* with all checksums that are known.

    Args:
        path: The file, links resolved.

        known: From `known_checksums`.

        policy: What holds here.

        uid: The user's number.

        progress: Called with numbers of bytes while the checksum is made.
    """
    place = policy.image_verified_directory.replace("{uid}", str(uid))
    try:
        if not known:
            return Proof(verdict="unlisted", identity=identity_of(os.stat(path)), reason="no checksum of it is known")
        found = verified.checksum(path, place, policy.image_verify_seconds, progress)
    except ImageFault as fault:
        return Proof(verdict="failed", reason=fault.reason, kind=fault.kind)
    except OSError as e:
        return Proof(verdict="failed", reason=e.strerror or str(e), kind="image-unreadable")
    wrong = [item for item in known if item.value != found.value]
    reason = f"its SHA-256 is {found.value}; {wrong[0].source} has {wrong[0].value}" if wrong else ""

    return Proof(
        verdict="mismatch" if wrong else "verified",
        digest=Digest(kind="file", value=found.value),
        identity=found.identity,
        sources=tuple(dict.fromkeys(item.source for item in known)),
        reason=reason,
        remembered=found.remembered,
    )


def known_checksums(
    path: str, names: tuple[str, ...], policy: Policy, check: CheckSignature, wanted: Optional[str] = None
) -> tuple[Known, ...]:
    """
    Ask everybody who may know the checksum of a file.

    Args:
        path: The file, links resolved.

        names: Other names of it: the reference, and the path before links
            were followed.

        policy: What holds here.

        check: Checks the signature of a list.

        wanted: Checksum in the request, or None.

    Raises:
        ImageFault: A list that there is cannot be read or trusted, or has
            two checksums for one file.
    """
    found = [] if wanted is None else [Known(_bare(wanted), "the request")]
    listed = policy.image_checksums
    found += [Known(_bare(listed[name]), f"image.checksums[{name}]") for name in (path, *names) if name in listed]
    for place in policy.image_checksum_files:
        found += of_list(path, place, check, required=True)
    if not policy.image_unlisted or not is_below(path, policy.cvmfs_root):
        for place in _beside(path):
            found += of_list(path, place, check, required=False)

    return tuple(found)


def of_list(path: str, place: str, check: CheckSignature, *, required: bool) -> Iterator[Known]:
    """
    Look a file up in one list.

    Raises:
        ImageFault: See `known_checksums`.
    """
    try:
        with open(place, "rb") as f:
            data = f.read(sums.MOST_LIST + 1)
    except FileNotFoundError as e:
        if required:
            raise ImageFault("image-list-invalid", f"{place} does not exist") from e
        return
    except OSError as e:
        raise ImageFault("image-list-invalid", f"{place} cannot be read: {e.strerror}") from e
    if len(data) > sums.MOST_LIST:
        raise ImageFault("image-list-invalid", f"{place} is larger than any list of checksums")
    directory = os.path.dirname(os.path.abspath(place))
    try:
        if place.endswith(sums.DESCRIPTOR):
            values = sums.of_descriptor(path, directory, sums.parse_descriptor(data))
        else:
            values = sums.listed_in(path, directory, sums.parse_list(data))
        if values:
            check(place, data)
    except ImageFault as fault:
        raise ImageFault(fault.kind, f"{place}: {fault.reason}") from fault
    if len(values) > 1:
        raise ImageFault("image-list-invalid", f"{place} has {len(values)} checksums for {path}")
    yield from (Known(value, place) for value in values)


def _beside(path: str) -> Iterator[str]:
    directory, name = os.path.split(path)
    for pattern in sums.BESIDE:
        yield os.path.join(directory, pattern.replace("{}", name))


def _bare(value: str) -> str:
    return value.partition(":")[2]

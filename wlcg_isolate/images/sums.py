"""
Lists of checksums that were made elsewhere, before.

Two forms are read: what ``sha256sum`` writes (``--tag`` included), and this
project's own descriptor of an image, a JSON file that names one image in
both its forms.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional, Union

import attrs

from wlcg_isolate.images.digests import SHA256
from wlcg_isolate.images.fault import ImageFault

#: A line for each of 50,000 images.
MOST_LIST = 8 << 20

#: Names of what may lie next to an image; ``{}`` is the image's own.
BESIDE = ("{}.image.json", "{}.sha256", "SHA256SUMS")
DESCRIPTOR = ".image.json"

_PLAIN = re.compile(r"(?P<escaped>\\?)(?P<digest>[0-9A-Fa-f]{64}) [ *](?P<name>.+)\Z", re.DOTALL)
_TAGGED = re.compile(r"(?P<escaped>\\?)SHA256 \((?P<name>.+)\) = (?P<digest>[0-9A-Fa-f]{64})\Z", re.DOTALL)
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


@attrs.frozen(kw_only=True)
class Descriptor:
    """
    One image in both its forms.

    Attributes:
        reference: Its name in a registry, or None.

        architecture: As `os.uname` spells it, or None.

        tree: Path of the unpacked tree, or None.

        file: Path of the file, relative to the descriptor's directory; or
            None.

        sha256: Checksum of the file, or None.

        size: Bytes of the file, or None.

        manifest_digest: Digest of the manifest that both were made from.

        config_digest: Digest of its configuration.
    """

    reference: Optional[str] = None
    architecture: Optional[str] = None
    tree: Optional[str] = None
    file: Optional[str] = None
    sha256: Optional[str] = None
    size: Optional[int] = None
    manifest_digest: Optional[str] = None
    config_digest: Optional[str] = None


def parse_list(data: bytes) -> dict[str, frozenset[str]]:
    """
    Read a list as ``sha256sum`` writes it: names to checksums.

    A line that is none is a fault: a list that was cut short must not pass
    for a shorter list.

    Raises:
        ImageFault: It is no such list.
    """
    found: dict[str, frozenset[str]] = {}
    # surrogateescape: names may hold any bytes.
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        line = line.removesuffix("\r")  # noqa: PLW2901 - files that went through Windows
        if not line or line.startswith("#"):
            continue
        match = _PLAIN.match(line) or _TAGGED.match(line)
        if match is None:
            raise ImageFault("image-list-invalid", f"line {number} is no line of a list of SHA-256 checksums")
        name = match["name"]
        if match["escaped"]:
            name = re.sub(r"\\[\\nr]", lambda m: _ESCAPES[m[0]], name)
        found[name] = found.get(name, frozenset()) | {match["digest"].lower()}

    return found


def parse_descriptor(data: bytes) -> Descriptor:
    """
    Read a descriptor.

    Raises:
        ImageFault: It is none.
    """
    try:
        read = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise ImageFault("image-list-invalid", f"it is not JSON: {e}") from e
    if not isinstance(read, dict):
        raise ImageFault("image-list-invalid", "it is not a JSON object")
    for key, kind in (("tree", dict), ("file", dict)):
        if not isinstance(read.get(key, {}), kind):
            raise ImageFault("image-list-invalid", f"{key} is no object")
    file, tree = read.get("file", {}), read.get("tree", {})
    values = {
        **{name: read.get(name) for name in ("reference", "architecture", "manifest_digest", "config_digest")},
        "tree": tree.get("path"),
        "file": file.get("name"),
        "sha256": file.get("sha256"),
    }
    for name, value in values.items():
        if value is not None and (not isinstance(value, str) or not value or "\0" in value):
            raise ImageFault("image-list-invalid", f"{name} is no text")
    size = file.get("size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool)):
        raise ImageFault("image-list-invalid", "file.size is no number")
    if values["sha256"] is not None and not SHA256.match(str(values["sha256"])):
        raise ImageFault("image-list-invalid", "file.sha256 is no SHA-256 in hexadecimal digits")

    return Descriptor(size=size, **values)


def listed_in(path: str, place: str, listed: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """
    Find the checksums that a list has for a file.

    Args:
        path: The file.

        place: Directory of the list.

        listed: Names to checksums.

    Returns:
        Those of entries that mean this path; when there are none, those of
        entries that are just its last part.
    """
    exact = [listed[name] for name in listed if os.path.normpath(os.path.join(place, name)) == path]
    loose = [listed[name] for name in (os.path.basename(path),) if name in listed]

    return frozenset(value for values in exact or loose for value in values)


def of_descriptor(path: str, place: str, read: Descriptor) -> frozenset[str]:
    """
    Find the checksum that a descriptor has for a file.
    """
    if read.file is None or read.sha256 is None or os.path.normpath(os.path.join(place, read.file)) != path:
        return frozenset()

    return frozenset({read.sha256})


def forms_of(place: str, read: Descriptor, prefer: Iterable[str]) -> Iterator[str]:
    """
    List the paths of a descriptor's image, the preferred form first.
    """
    paths: Mapping[str, Union[str, Any]] = {
        "tree": read.tree and os.path.join(place, read.tree),
        "file": read.file and os.path.join(place, read.file),
    }
    for form in prefer:
        if paths.get(form):
            yield os.path.normpath(str(paths[form]))

"""
As much of OpenPGP (RFC 4880) as it takes to hand keys to a program.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator

from wlcg_isolate.images.fault import ImageFault

_ARMOUR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[!-9;-~]+: [^\n]*\n)*\r?\n(.*?)\r?\n(?:=[A-Za-z0-9+/]{4}\r?\n)?"
    rb"-----END PGP PUBLIC KEY BLOCK-----",
    re.DOTALL,
)
_PUBLIC_KEY = 6


def binary_keys(data: bytes) -> bytes:
    """
    Take the armour from public keys.

    Raises:
        ImageFault: They are none.
    """
    if data.lstrip().startswith(b"-----"):
        try:
            data = b"".join(base64.b64decode(block) for block in _ARMOUR.findall(data))
        except binascii.Error as e:
            raise _invalid() from e
    if not fingerprints(data):
        raise _invalid()

    return data


def fingerprints(data: bytes) -> list[str]:
    """
    List the fingerprints of the primary keys.
    """
    found = []
    for tag, body in _packets(data):
        if tag != _PUBLIC_KEY:
            continue
        if body[:1] == b"\x04":
            prefixed = b"\x99" + len(body).to_bytes(2, "big") + body
            # SHA-1 is what version 4 of keys is defined by; it proves nothing here.
            found.append(hashlib.sha1(prefixed, usedforsecurity=False).hexdigest())
        elif body[:1] == b"\x06":
            found.append(hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest())

    return found


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        head = data[at]
        if not head & 0x80:
            raise _invalid()
        if head & 0x40:
            tag, (size, at) = head & 0x3F, _new_length(data, at + 1)
        else:
            octets = 1 << (head & 3)
            if octets == 8:
                raise _invalid()
            tag, size, at = head >> 2 & 0xF, int.from_bytes(data[at + 1 : at + 1 + octets], "big"), at + 1 + octets
        if at + size > len(data):
            raise _invalid()
        yield tag, data[at : at + size]
        at += size


def _new_length(data: bytes, at: int) -> tuple[int, int]:
    first = data[at] if at < len(data) else 255
    if first < 192:
        return first, at + 1
    if first < 224:
        return (first - 192 << 8) + int.from_bytes(data[at + 1 : at + 2], "big") + 192, at + 2
    if first == 255:
        return int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
    # Keys have no parts of a length that is not known.
    raise _invalid()


def _invalid() -> ImageFault:
    return ImageFault("image-list-invalid", "there are no OpenPGP keys")

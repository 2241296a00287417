"""
Signatures of minisign: Ed25519 over a file, or over its BLAKE2b.

The format is that of minisign's manual.  The arithmetic is left to the
package ``cryptography``, an extra that only who uses such keys needs.
"""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

from wlcg_isolate.images.fault import ImageFault

_KEY_SIZE = 2 + 8 + 32
_SIGNATURE_SIZE = 2 + 8 + 64
_TRUSTED = b"trusted comment: "
_COMMENT = b"untrusted comment: "

#: How it is signed: the file itself, or (since 0.8) its BLAKE2b-512.
_PLAIN, _HASHED = b"Ed", b"ED"


class PublicKey(NamedTuple):
    """
    A public key: its number, and the key.
    """

    number: bytes
    key: bytes


def is_key(data: bytes) -> bool:
    """
    Tell whether a file holds a public key of minisign.
    """
    return data.startswith(_COMMENT) and data.count(b"\n") <= 2


def parse_key(data: bytes) -> PublicKey:
    """
    Read a public key.

    Raises:
        ImageFault: It is none.
    """
    lines = data.splitlines()
    raw = _decoded(lines[1] if len(lines) > 1 else b"")
    if len(raw) != _KEY_SIZE or raw[:2] != _PLAIN:
        raise _invalid("there is no minisign key")

    return PublicKey(raw[2:10], raw[10:])


def check(data: bytes, signature: bytes, keys: list[PublicKey]) -> None:
    """
    Check that one of *keys* signed *data*.

    Raises:
        ImageFault: None did, or this node lacks the package for it.
    """
    lines = signature.splitlines()
    if len(lines) < 4 or not lines[0].startswith(_COMMENT) or not lines[2].startswith(_TRUSTED):
        raise _invalid("the signature is none of minisign")
    raw = _decoded(lines[1])
    if len(raw) != _SIGNATURE_SIZE or raw[:2] not in (_PLAIN, _HASHED):
        raise _invalid("the signature is none of minisign")
    key = next((key for key in keys if key.number == raw[2:10]), None)
    if key is None:
        raise _invalid("the signature is by none of the keys that policy names")
    message = hashlib.blake2b(data).digest() if raw[:2] == _HASHED else data
    _verify(key.key, raw[10:], message)
    # The comment carries the file's name and time, and has a signature of its own.
    _verify(key.key, _decoded(lines[3]), raw[10:] + lines[2][len(_TRUSTED) :])


def _verify(key: bytes, signature: bytes, message: bytes) -> None:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as e:
        raise _invalid("the package cryptography is missing (pip install 'wlcg_isolate[minisign]')") from e
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError) as e:
        raise _invalid("the signature is not valid") from e


def _decoded(line: bytes) -> bytes:
    try:
        return base64.b64decode(line, validate=True)
    except ValueError as e:
        raise _invalid("a line is no base64") from e


def _invalid(reason: str) -> ImageFault:
    return ImageFault("image-list-invalid", reason)

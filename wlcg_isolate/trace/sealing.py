"""
Seal a text so that only the owner of a private key can open it.

The form is HPKE in its base mode (RFC 9180: X25519, HKDF-SHA256,
ChaCha20-Poly1305), as the package ``cryptography`` has it; keys are those
that ``openssl genpkey -algorithm X25519`` makes.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

#: Binds a sealed text to its purpose and to one payload, so that it cannot be
#: moved to the record of another.
_INFO = "wlcg_isolate identity 1 "


def seal(text: str, public_pem: bytes, about: str) -> tuple[bytes, str]:
    """
    Seal *text*.

    Args:
        text: The text.

        public_pem: The public key.

        about: The trace id that the text belongs to.

    Returns:
        The sealed text, and the name of the key.

    Raises:
        ValueError: The key is none, or the package is missing.
    """
    suite, serialization = _tools()
    try:
        key = serialization.load_pem_public_key(public_pem)
        sealed = suite.encrypt(text.encode(), key, info=_info(about))
    except (ValueError, TypeError) as e:
        msg = "it is no X25519 public key in PEM"
        raise ValueError(msg) from e

    return sealed, _name_of(key)


def unseal(sealed: bytes, private_pem: bytes, about: str) -> str:
    """
    Open what `seal` made.

    Raises:
        ValueError: It is not for this key or not about this payload, or was
            changed, or the package is missing.
    """
    suite, serialization = _tools()
    from cryptography.exceptions import InvalidTag

    try:
        key = serialization.load_pem_private_key(private_pem, password=None)
        opened: bytes = suite.decrypt(sealed, key, info=_info(about))
    except (InvalidTag, ValueError, TypeError) as e:
        msg = "it is not sealed for this key and this payload"
        raise ValueError(msg) from e

    return opened.decode()


class KeyPair(NamedTuple):
    """
    A new pair of keys.

    Attributes:
        private: The private key in PEM.

        public: The public key in PEM.

        raw: The 32 bytes of the public key.
    """

    private: bytes
    public: bytes
    raw: bytes


def key_pair() -> KeyPair:
    """
    Make a pair of keys, for users and for files of records alike: what is
    sealed says which of both it is, and cannot be taken for the other.

    Raises:
        ValueError: The package is missing.
    """
    _, form = _tools()
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    key = X25519PrivateKey.generate()
    public = key.public_key()

    return KeyPair(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()),
        public.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes_raw(),
    )


def name_of_private(private_pem: bytes) -> str:
    """
    Name the key pair of a private key.

    Raises:
        ValueError: It is none, or the package is missing.
    """
    _, serialization = _tools()
    try:
        return _name_of(serialization.load_pem_private_key(private_pem, password=None).public_key())
    except (TypeError, AttributeError) as e:
        msg = "it is no X25519 private key in PEM"
        raise ValueError(msg) from e


def _name_of(key: Any) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _info(about: str) -> bytes:
    return (_INFO + about).encode()


def _tools() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import hpke, serialization
    except ImportError as e:
        msg = "the package cryptography, 47 or newer, is missing (pip install 'wlcg_isolate[crypto]')"
        raise ValueError(msg) from e

    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305), serialization

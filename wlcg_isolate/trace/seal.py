"""
The first key of a file: made, sealed, opened.

Rules:

1. What seals a key is HPKE (RFC 9180) from a library; nothing of it is made
   here.
2. A key is never written as it is.  Where it cannot be sealed there is none,
   unless the pilot takes it away itself, and the file says so.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

from wlcg_isolate.errors import Problem, TraceError
from wlcg_isolate.trace.chain import new_file_key

#: Takes the identity of a file, the name of its first key, and the key, to
#: where no payload can reach it; raises when it could not.
Export = Callable[[str, str, bytes], None]

_INFO = b"wlcg_isolate journal v1"

#: Where the first key of each file goes, when the pilot has a place for it.
_export: list[Optional[Export]] = [None]


def export_keys(export: Optional[Export]) -> None:
    """
    Hand the first key of each file that this process begins from now on to
    *export*, which takes it to where no payload can reach it.

    Args:
        export: Called with the identity of the file, the name of the key, and
            the key; None to stop.
    """
    _export[0] = export


class FirstKey(NamedTuple):
    """
    The first key of a file.

    Attributes:
        key: The key, or None where nobody could check it.

        fields: What the file's first record says of it.
    """

    key: Optional[bytes]
    fields: Mapping[str, Any]


def first_key(file_id: str, public_key: Optional[str]) -> FirstKey:
    """
    Make the first key of a file.

    Args:
        file_id: Identity of the file.

        public_key: To whom it is sealed when nobody takes it away, or None.
    """
    key = os.urandom(32)
    kid = new_file_key(key)[1]
    reason = ""
    export = _export[0]
    if export is not None:
        try:
            export(file_id, kid, key)
        except Exception as e:  # noqa: BLE001 - the pilot's own code; the file says that it failed
            reason = f"the key could not be exported: {type(e).__name__}"
        else:
            return FirstKey(key, {"wlcg.journal.key.kind": "exported"})
    if public_key is not None:
        try:
            sealed = _seal(key, public_key, file_id)
        except (ImportError, ValueError) as e:
            reason = f"the key could not be sealed: {e}"
        else:
            return FirstKey(
                key,
                {
                    "wlcg.journal.key.kind": "sealed",
                    "wlcg.journal.key.sealed": sealed,
                    "wlcg.journal.key.to": public_key,
                },
            )

    return FirstKey(None, {"wlcg.journal.key.kind": "none", "wlcg.journal.key.reason": reason or None})


class Keys:
    """
    What a verifier has to check keyed digests with.
    """

    def __init__(self, path: str) -> None:
        """
        Read a file of keys.

        It is an X25519 private key (PEM), which opens what was sealed to it,
        or exported keys, a JSON object with ``kid`` and ``key`` (hexadecimal)
        on each line.

        Raises:
            TraceError: It is neither.
        """
        self._private: Any = None
        self._known: dict[str, bytes] = {}
        try:
            with open(path, "rb") as f:
                content = f.read(1 << 26)
            if b"-----BEGIN" in content:
                self._private = _private(content)
            else:
                self._known = dict(_exported(line) for line in content.splitlines() if line.strip())
        except (OSError, ImportError, ValueError, TypeError, KeyError) as e:
            raise _unusable(path, str(e) or type(e).__name__) from e
        if self._private is None and not self._known:
            raise _unusable(path, "it holds no key")

    def first_key(self, file_id: str, genesis: Mapping[str, Any]) -> Optional[bytes]:
        """
        Return the first key of a file; None where this is not its key.
        """
        kid = str(genesis.get("wlcg.integrity", {}).get("kid"))
        key = self._known.get(kid)
        if key is None and self._private is not None:
            key = _open(str(genesis.get("wlcg.journal.key.sealed", "")), self._private, file_id)

        return key if key is not None and new_file_key(key)[1] == kid else None


def _suite() -> Any:
    from cryptography.hazmat.primitives import hpke

    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


def _seal(key: bytes, public_key: str, file_id: str) -> str:
    suite = _suite()
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    to = X25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))

    return base64.b64encode(suite.encrypt(key, to, info=_INFO + file_id.encode())).decode()


def _open(sealed: str, private: Any, file_id: str) -> Optional[bytes]:
    from cryptography.exceptions import InvalidTag

    try:
        return bytes(_suite().decrypt(base64.b64decode(sealed), private, info=_INFO + file_id.encode()))
    except (InvalidTag, ValueError, binascii.Error):
        return None


def _private(content: bytes) -> Any:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(content, None)
    if not isinstance(key, X25519PrivateKey):
        msg = "it holds a private key that is not one of X25519"
        raise TypeError(msg)

    return key


def _exported(line: bytes) -> tuple[str, bytes]:
    entry = json.loads(line)
    key = bytes.fromhex(entry["key"])
    if len(key) != 32:
        msg = "it holds a key that has not 32 bytes"
        raise ValueError(msg)

    return str(entry["kid"]), key


def _unusable(path: str, reason: str) -> TraceError:
    return TraceError(
        [
            Problem(
                kind="trace-unwritable",
                message=f"keys cannot be read from {path}: {reason}",
                origin="--key",
                advice="name an X25519 private key in PEM (needs the extra [crypto]), or a file of exported keys",
            )
        ]
    )

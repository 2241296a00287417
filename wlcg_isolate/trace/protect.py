"""
Record an identity as the site wants it.

Rules:

1. In the modes ``hashed`` and ``sealed`` no word of a record names a person;
   where that cannot be kept, the identity is left out (``withheld``).
2. Equal people have equal hashes, in whatever notation they were named: what
   is hashed is the canonical form.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any, NamedTuple, Optional

from wlcg_isolate.trace.identity import Who

#: How an identity may be recorded.  The last is no choice: it is what is done
#: where policy cannot be read or kept.
MODES = ("clear", "hashed", "sealed")
WITHHELD = "withheld"

#: What is put where the name of a person stood.
PERSON = "<user>"

#: The fewest bytes of a key for hashing (RFC 2104, 3: as long as the hash).
LEAST_KEY = 32


class Keys(NamedTuple):
    """
    The site's keys.

    Attributes:
        hashing: Secret key of the hashes, or None.

        sealing: Public key in PEM, or None.
    """

    hashing: Optional[bytes] = None
    sealing: Optional[bytes] = None


class Protected(NamedTuple):
    """
    An identity as it is recorded.

    Attributes:
        fields: By dotted name.

        hidden: Texts that may stand in no other field.
    """

    fields: dict[str, Any]
    hidden: tuple[str, ...] = ()


def hash_of(text: str, key: bytes) -> str:
    """
    Hash a canonical text: ``hmac-sha256:KEY:HEX``.

    Args:
        text: A name as `dn.canonical_dn` gives it, or ``ISSUER#SUBJECT``.

        key: The site's secret key.
    """
    return (
        f"hmac-sha256:{key_id(key)}:{hmac.new(key, text.encode(errors='surrogateescape'), hashlib.sha256).hexdigest()}"
    )


def key_id(key: bytes) -> str:
    """
    Name a secret key, which says nothing about it.
    """
    return hmac.new(key, b"wlcg_isolate key id", hashlib.sha256).hexdigest()[:8]


def protected(who: Who, mode: str, keys: Keys, trace_id: str) -> Protected:
    """
    Turn an identity into fields of a record.

    Args:
        who: The identity.

        mode: One of `MODES`, or `WITHHELD`.

        keys: The site's keys.

        trace_id: The payload's.

    Raises:
        ValueError: The mode needs a key that is missing or is none.
    """
    fields: dict[str, Any] = {
        "wlcg.identity.mode": mode,
        "wlcg.identity.source": who.source,
        "wlcg.identity.verified": who.verified if who.source != "none" else None,
    }
    if mode == WITHHELD:
        return Protected(fields, who.spellings)
    fields.update(_open_fields(who))
    if mode == "clear":
        fields.update(_clear_fields(who))
        return Protected(fields)
    if mode == "hashed" and keys.hashing is None:
        msg = "there is no key to hash identities with"
        raise ValueError(msg)
    if keys.hashing is not None:
        fields.update(_hashes(who, keys.hashing))
    if mode == "sealed" and who.keys:
        fields.update(_sealed(who, keys, trace_id))

    return Protected(fields, who.spellings)


def _open_fields(who: Who) -> dict[str, Any]:
    """
    List what names no person.
    """
    fields: dict[str, Any] = {
        "wlcg.identity.issuer_dn": who.issuer,
        "wlcg.identity.canonical": who.notation,
        "wlcg.token.iss": who.iss,
    }
    claims = who.claims
    if claims is not None:
        fields["user.roles"] = list(claims.groups) or None
        fields["wlcg.token.aud"] = list(claims.aud) or None
        for name in ("jti", "iat", "exp", "alg", "kid", "input_sha256"):
            fields[f"wlcg.token.{name}"] = getattr(claims, name)
        fields["wlcg.token.verified"] = False

    return fields


def _clear_fields(who: Who) -> dict[str, Any]:
    fields: dict[str, Any] = {"user.name": who.name, "wlcg.token.sub": who.sub}
    related = dict.fromkeys((*who.keys, *who.spellings[:1], *([who.sub] if who.sub else [])))
    fields["related.user"] = list(related) or None

    return fields


def _hashes(who: Who, key: bytes) -> dict[str, Any]:
    hashes = [hash_of(text, key) for text in who.keys]

    return {
        "user.hash": hashes[0] if hashes else None,
        "wlcg.token.sub_hash": None if who.sub is None else hash_of(f"{who.iss}#{who.sub}", key),
        "related.user": hashes or None,
    }


def _sealed(who: Who, keys: Keys, trace_id: str) -> dict[str, Any]:
    from wlcg_isolate.trace.sealing import seal

    if keys.sealing is None:
        msg = "there is no public key to seal identities with"
        raise ValueError(msg)
    content = {"user.name": who.name, "wlcg.token.iss": who.iss, "wlcg.token.sub": who.sub}
    text = json.dumps({name: value for name, value in content.items() if value is not None})
    sealed, kid = seal(text, keys.sealing, trace_id)

    return {"wlcg.identity.sealed": base64.b64encode(sealed).decode(), "wlcg.identity.sealed_kid": kid}

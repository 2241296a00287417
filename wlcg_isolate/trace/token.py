"""
What a token says of itself.

A token is decoded, not verified: to know that it is good one must ask its
issuer, and a worker node may not reach that.  Neither the token nor its
signature is kept.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any, Optional

import attrs


@attrs.frozen(kw_only=True)
class Claims:
    """
    The claims of a token that matter for traces (WLCG token profile 1.3).

    Attributes:
        iss: Issuer.

        sub: Subject, which means something within its issuer only.

        jti: The token's own identity.

        aud: For whom it is.

        iat: When it was issued, in seconds since 1970.

        exp: When it ends.

        groups: Groups of the subject.

        alg: How it is signed.

        kid: With which key.

        input_sha256: Digest of what is signed, by which a token that is
            found elsewhere can be recognised.
    """

    iss: str
    sub: str
    jti: Optional[str] = None
    aud: tuple[str, ...] = ()
    iat: Optional[int] = None
    exp: Optional[int] = None
    groups: tuple[str, ...] = ()
    alg: Optional[str] = None
    kid: Optional[str] = None
    input_sha256: str


def decode(content: bytes) -> Claims:
    """
    Read a token.

    Args:
        content: The content of its file.

    Raises:
        ValueError: It is no token that names a subject and its issuer.
    """
    header, _, rest = content.strip().partition(b".")
    payload, dot, signature = rest.partition(b".")
    if not dot or b"." in signature:
        msg = "it is no signed token (three parts with dots between them)"
        raise ValueError(msg)
    head, body = _object(header), _object(payload)
    iss, sub = _text(body.get("iss")), _text(body.get("sub"))
    if not iss or not sub:
        msg = "it names no subject and issuer"
        raise ValueError(msg)

    return Claims(
        iss=iss,
        sub=sub,
        jti=_text(body.get("jti")),
        aud=_texts(body.get("aud")),
        iat=_number(body.get("iat")),
        exp=_number(body.get("exp")),
        groups=_texts(body.get("wlcg.groups", body.get("groups"))),
        alg=_text(head.get("alg")),
        kid=_text(head.get("kid")),
        input_sha256=hashlib.sha256(header + b"." + payload).hexdigest(),
    )


def _object(part: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))))
    except (ValueError, TypeError, RecursionError):
        # Whatever it is, it may be secret: no word of it goes into the message.
        msg = "a part of it is no JSON object"
        raise ValueError(msg) from None


def _text(value: Any) -> Optional[str]:
    return value if isinstance(value, str) and value else None


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]

    return tuple(word for word in values if isinstance(word, str))


def _number(value: Any) -> Optional[int]:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

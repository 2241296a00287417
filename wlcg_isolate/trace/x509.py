"""
Who a proxy or a certificate belongs to.

Subject and issuer are read here, of DER (X.690) no more than that needs.
Whether the signatures hold is left to the package ``cryptography``, an extra.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Optional

from wlcg_isolate.trace.dn import Name, Part, attribute, user_part

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----")

#: Tag of the version, the one field that may be missing.
_VERSION = 0xA0

#: DER of the extension's number: 1.3.6.1.5.5.7.1.14, and Globus's 1.3.6.1.4.1.3536.1.222.
_PROXY_INFO = (bytes.fromhex("06082b0601050507010e"), bytes.fromhex("060a2b060104019b5001815e"))

#: Names that proxies had before they had an extension.
_OLD_PROXIES = ("proxy", "limited proxy")

#: String types of DER to their encodings.  Nobody's T.61 is T.61.
_TEXTS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}


class Certificate(NamedTuple):
    """
    One certificate.

    Attributes:
        subject: Whose it is.

        issuer: Who says so.

        der: The whole of it.
    """

    subject: Name
    issuer: Name
    der: bytes

    @property
    def is_proxy(self) -> bool:
        """
        Whether it is a proxy: its subject is its issuer's with one more
        common name, and it says so by its extension (RFC 3820, 3.4 and 3.8,
        and the draft before it) or by that name, as the oldest ones.

        The names alone do not tell: an authority may issue names below its
        own.
        """
        if not self.subject or self.subject[:-1] != self.issuer:
            return False
        ((kind, value), *more) = self.subject[-1]

        return kind == "CN" and not more and (value in _OLD_PROXIES or any(oid in self.der for oid in _PROXY_INFO))


def certificates(pem: bytes) -> tuple[Certificate, ...]:
    """
    Read the certificates of a file, in their order.

    Raises:
        ValueError: One of them is none, or there is none at all.
    """
    found = tuple(_certificate(base64.b64decode(match[1])) for match in _PEM.finditer(pem))
    if not found:
        msg = "it holds no certificate"
        raise ValueError(msg)

    return found


def owner_of(chain: Sequence[Certificate]) -> tuple[Name, Optional[Name]]:
    """
    Tell whose proxy it is.

    Args:
        chain: The certificates of the file, its own first.

    Returns:
        The user's name, and the name of the authority that issued the
        user's certificate; None when that certificate is not in the file.
    """
    for certificate in chain:
        if not certificate.is_proxy:
            return certificate.subject, certificate.issuer

    return user_part(chain[-1].issuer), None


def how_far_verified(chain: Sequence[Certificate], authorities: Iterable[Certificate]) -> str:
    """
    Check signatures and dates.

    Args:
        chain: The certificates of the file, its own first.

        authorities: Certificates of those whom this node trusts.

    Returns:
        ``"ca"`` when one of *authorities* signed the user's certificate and
        all proxies follow from it, ``"chain"`` when they follow from a
        certificate that nobody vouches for, or ``"no"``.
    """
    try:
        from cryptography import x509
    except ImportError:
        return "no"
    own = _up_to_owner(chain)
    loaded = [x509.load_der_x509_certificate(certificate.der) for certificate in own]
    if own[-1].is_proxy or not all(map(_is_in_time, loaded)):
        return "no"
    if not all(_signed(lower, upper) for lower, upper in zip(loaded, loaded[1:])):
        return "no"
    trusted = (x509.load_der_x509_certificate(a.der) for a in authorities if a.subject == own[-1].issuer)

    return "ca" if any(_signed(loaded[-1], authority) for authority in trusted) else "chain"


def _up_to_owner(chain: Sequence[Certificate]) -> Sequence[Certificate]:
    last = next((i for i, certificate in enumerate(chain) if not certificate.is_proxy), len(chain) - 1)

    return chain[: last + 1]


def _is_in_time(certificate: object) -> bool:
    import datetime

    now = datetime.datetime.now(datetime.timezone.utc)

    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc  # type: ignore[attr-defined, no-any-return]


def _signed(lower: object, upper: object) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        lower.verify_directly_issued_by(upper)  # type: ignore[attr-defined]
    except (InvalidSignature, ValueError, TypeError):
        return False

    return True


def _certificate(der: bytes) -> Certificate:
    try:
        (_, outer), *_ = _values(der)
        (_, inner), *_ = _values(outer)
        # Version, where there is one; serial number; algorithm; issuer; dates; subject (RFC 5280, 4.1).
        fields = [value for kind, value in _values(inner) if kind != _VERSION]
        return Certificate(subject=tuple(_parts(fields[4])), issuer=tuple(_parts(fields[2])), der=der)
    except (IndexError, LookupError, UnicodeDecodeError) as e:
        msg = "a certificate in it is damaged"
        raise ValueError(msg) from e


def _parts(der: bytes) -> Iterator[Part]:
    for _, part in _values(der):
        pairs = []
        for _, pair in _values(part):
            (_, kind), (type_, value), *_ = _values(pair)
            text = value.decode(_TEXTS[type_])
            pairs.append((attribute(_dotted(kind)), text))
        yield tuple(sorted(pairs))


def _values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """
    Split what follows one another: type and content of each.
    """
    at = 0
    while at < len(der):
        kind, size = der[at], der[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(der[at : at + count], "big")
            at += count
        if at + size > len(der):
            raise IndexError
        yield kind, der[at : at + size]
        at += size


def _dotted(oid: bytes) -> str:
    numbers = [0]
    for byte in oid:
        numbers[-1] = numbers[-1] << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(0)
    first, *rest = numbers[:-1]
    root = min(first // 40, 2)

    return ".".join(map(str, (root, first - 40 * root, *rest)))

"""
Who a payload runs for, where that is known from, and how far it is verified.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Optional

import attrs

from wlcg_isolate.request import Identity

# What reads names, proxies and tokens is loaded where there is one.
if TYPE_CHECKING:
    from wlcg_isolate.trace.dn import Name
    from wlcg_isolate.trace.token import Claims
    from wlcg_isolate.trace.x509 import Certificate


@attrs.frozen(kw_only=True)
class Who:
    """
    The identity of a payload, as far as it is known.

    Attributes:
        source: ``"x509-proxy"``, ``"token"``, ``"wms-asserted"`` or
            ``"none"``.

        verified: ``"no"``, ``"pilot"`` (the pilot says that it did),
            ``"chain"`` or ``"ca"`` (see `x509.how_far_verified`).

        name: Distinguished name in canonical form; as it was given where it
            is in no notation.

        notation: ``"rfc4514"`` or ``"as-given"``; None without a name.

        issuer: The authority that issued the user's certificate.

        sub: Subject of the token.

        iss: Issuer of the token.

        claims: What else the token says.

        spellings: Every text by which the user may be named.
    """

    source: str = "none"
    verified: str = "no"
    name: Optional[str] = None
    notation: Optional[str] = None
    issuer: Optional[str] = None
    sub: Optional[str] = None
    iss: Optional[str] = None
    claims: Optional[Claims] = None
    spellings: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """
        The canonical texts that are hashed, the one to search by first.
        """
        subject = None if self.sub is None else f"{self.iss}#{self.sub}"
        found = (subject, self.name) if self.source == "token" else (self.name, subject)

        return tuple(text for text in found if text is not None)


def identify(
    identity: Identity,
    *,
    proxy: Optional[bytes] = None,
    bearer: Optional[bytes] = None,
    authorities: Iterable[Certificate] = (),
) -> Who:
    """
    Find out who it is.

    Args:
        identity: What the pilot says.

        proxy: Content of the user's proxy.

        bearer: Content of the user's token.

        authorities: Whom the node trusts to issue certificates.

    Raises:
        ValueError: A proxy or token is none, or names somebody else than the
            pilot does.
    """
    asserted = _asserted(identity)
    if proxy is not None:
        asserted = _of_proxy(asserted, proxy, authorities)
    if bearer is not None:
        asserted = _of_token(asserted, bearer)

    return asserted


def _asserted(identity: Identity) -> Who:
    name, notation, spellings = _spelt(identity.user_dn, proxy=identity.source == "x509-proxy")
    named = any(value is not None for value in (identity.user_dn, identity.user_sub, identity.vo, identity.job_id))

    return Who(
        source=identity.source or ("wms-asserted" if named else "none"),
        verified="pilot" if identity.verified else "no",
        name=name,
        notation=notation,
        sub=identity.user_sub,
        iss=identity.user_iss,
        spellings=(*spellings, *([] if identity.user_sub is None else [identity.user_sub])),
    )


def _spelt(text: Optional[str], *, proxy: bool) -> tuple[Optional[str], Optional[str], tuple[str, ...]]:
    """
    Return a name's canonical form, what that is, and its spellings.
    """
    if text is None:
        return None, None, ()
    from wlcg_isolate.trace import dn

    try:
        full = dn.parse_dn(text)
    except ValueError:
        return text, "as-given", (text,)

    name = dn.user_part(full) if proxy else full

    return dn.format_dn(name), "rfc4514", (text, *_spellings(name), *_spellings(full))


def _spellings(name: Name) -> tuple[str, ...]:
    """
    List how a name may be written, and the names of a person in it.
    """
    from wlcg_isolate.trace import dn

    words = [value for part in name for kind, value in part if kind in _PERSONAL]

    return (dn.slash_dn(name), dn.format_dn(name), ", ".join(dn.format_dn((part,)) for part in reversed(name)), *words)


#: Attributes whose values name a person.
_PERSONAL = ("CN", "UID", "emailAddress", "SN", "GN", "serialNumber")


def _of_proxy(asserted: Who, proxy: bytes, authorities: Iterable[Certificate]) -> Who:
    from wlcg_isolate.trace import dn, x509

    chain = x509.certificates(proxy)
    name, issuer = x509.owner_of(chain)
    canonical = dn.format_dn(name)
    if asserted.name not in (None, canonical):
        msg = "it belongs to somebody else than the request names"
        raise ValueError(msg)

    return attrs.evolve(
        asserted,
        source="x509-proxy",
        verified=x509.how_far_verified(chain, authorities),
        name=canonical,
        notation="rfc4514",
        issuer=None if issuer is None else dn.format_dn(issuer),
        spellings=(*asserted.spellings, *_spellings(name)),
    )


def _of_token(asserted: Who, bearer: bytes) -> Who:
    from wlcg_isolate.trace import token

    claims = token.decode(bearer)
    if asserted.sub is not None and (asserted.iss, asserted.sub) != (claims.iss, claims.sub):
        msg = "it belongs to somebody else than the request names"
        raise ValueError(msg)
    both = asserted.source == "x509-proxy"

    return attrs.evolve(
        asserted,
        source=asserted.source if both else "token",
        verified=asserted.verified if both else "no",
        sub=claims.sub,
        iss=claims.iss,
        claims=claims,
        spellings=(*asserted.spellings, claims.sub),
    )

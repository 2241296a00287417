"""
Fields of the user, the experiment and the authorisation.
"""

from __future__ import annotations

import attrs

from wlcg_isolate.trace.model.row import ECS, OWN, row

_TEXTS = tuple[str, ...]
_SOME = "payload identity.resolve"


@attrs.frozen(kw_only=True)
class Reason:
    """
    One reason of a refusal.

    Attributes:
        kind: A stable word.

        message: What is wrong.

        origin: Where the offending value came from.
    """

    kind: str
    message: str
    origin: str


FIELDS = (
    row("wlcg.vo", str, OWN, "payload", "Experiment."),
    row("user.domain", str, ECS, "payload", "The same, where ECS has it."),
    row("wlcg.job.id", str, OWN, "payload", "The experiment's id of the payload."),
    row("wlcg.identity.mode", str, OWN, "payload!", "`clear`, `hashed`, `sealed`, or `withheld` where policy is not "
        "known or cannot be kept."),
    row("wlcg.identity.source", str, OWN, "payload!", "`x509-proxy`, `token`, `wms-asserted` or `none`."),
    row("wlcg.identity.verified", str, OWN, "payload", "`no`; `pilot` (it says that it did); `chain` (the proxies "
        "follow from the user's certificate); `ca` (and an authority that the node trusts signed that)."),
    row("wlcg.identity.canonical", str, OWN, "payload", "Form of the name: `rfc4514`, or `as-given`."),
    row("wlcg.identity.issuer_dn", str, OWN, "payload", "Authority that issued the user's certificate."),
    row("wlcg.identity.sealed", str, OWN, "payload", "The identity, sealed (RFC 9180, base64); mode `sealed`."),
    row("wlcg.identity.sealed_kid", str, OWN, _SOME, "The public key that it is sealed to: the first 16 hexadecimal "
        "digits of SHA-256 of the key."),
    row("user.name", str, ECS, "payload", "Distinguished name in canonical form; mode `clear`."),
    row("user.hash", str, ECS, "payload", "`hmac-sha256:KEY:HEX` of the name or of `ISSUER#SUBJECT`; modes `hashed` "
        "and `sealed`."),
    row("user.roles", _TEXTS, ECS, "payload", "Groups that the token names."),
    row("wlcg.token.iss", str, OWN, "payload", "Issuer of the token."),
    row("wlcg.token.sub", str, OWN, "payload", "Subject of the token; mode `clear`."),
    row("wlcg.token.sub_hash", str, OWN, "payload", "Hash of `ISSUER#SUBJECT`; modes `hashed` and `sealed`."),
    row("wlcg.token.jti", str, OWN, "payload", "Identity of the token."),
    row("wlcg.token.aud", _TEXTS, OWN, "payload", "For whom the token is."),
    row("wlcg.token.iat", int, OWN, "payload", "When it was issued, in seconds since 1970."),
    row("wlcg.token.exp", int, OWN, "payload", "When it ends."),
    row("wlcg.token.alg", str, OWN, "payload", "How it is signed."),
    row("wlcg.token.kid", str, OWN, "payload", "With which key."),
    row("wlcg.token.input_sha256", str, OWN, "payload", "SHA-256 of what is signed, never of the signature."),
    row("wlcg.token.verified", bool, OWN, "payload", "Whether the signature was checked; this library does not."),
    row("related.user", _TEXTS, ECS, "payload", "All names or hashes of the user, to search by."),
    row("wlcg.authz.decision", str, OWN, "payload.authorised! payload.start! payload.refused!", "`allowed` or "
        "`denied`."),
    row("wlcg.authz.backend", _TEXTS, OWN, "payload.authorised", "Who decided."),
    row("wlcg.authz.warnings", _TEXTS, OWN, "payload.authorised", "What should be known though it refuses nothing."),
    row("event.reason", tuple[Reason, ...], ECS, "payload.refused!", "Every reason; in ECS this is one text."),
    row("wlcg.resolve.reason", str, OWN, "identity.resolve!", "Why it was opened, as who opened it says."),
    row("wlcg.resolve.event_id", str, OWN, "identity.resolve!", "`event.id` of the record that was opened."),
)  # fmt: skip

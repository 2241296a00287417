"""
Read what tells an identity, and the keys that protect it.

Rule: every file has the deadline that policy gives its place, and one that
cannot be read refuses the payload: to run it for somebody unknown, or with a
name in clear where policy wants none, is no way out.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Optional

from wlcg_isolate.errors import HostError, Problem
from wlcg_isolate.host.plainfile import read_plain_within
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Identity
from wlcg_isolate.trace.identity import Who, identify
from wlcg_isolate.trace.protect import LEAST_KEY, Keys, Protected, protected

if TYPE_CHECKING:
    from wlcg_isolate.trace import x509

#: Longer than any chain of proxies, token or key.
_MAX_BYTES = 1 << 20


def protected_identity(identity: Identity, policy: Policy, trace_id: str) -> Protected:
    """
    Find out for whom a payload runs, in the form that policy wants.

    Raises:
        HostError: A file that tells it, or a key, cannot be read.
    """
    return _protect(_identify(identity, policy), policy, trace_id)


def _identify(identity: Identity, policy: Policy) -> Who:
    what, path = "", ""
    try:
        contents: dict[str, Optional[bytes]] = {}
        for what, path in (("proxy", identity.user_proxy or ""), ("bearer", identity.user_token or "")):
            contents[what] = read_plain_within(policy.touch_seconds(path), path, _MAX_BYTES) if path else None
        authorities = _authorities(policy) if identity.user_proxy else ()
        return identify(identity, **contents, authorities=authorities)
    except (OSError, ValueError) as e:
        where = identity.user_proxy or identity.user_token or path
        reason = e.strerror if isinstance(e, OSError) else None
        raise _problem("identity-unreadable", f"{path or where}: {reason or e}", "identity") from e


def _authorities(policy: Policy) -> tuple[x509.Certificate, ...]:
    """
    Read the certificates of the authorities that this node trusts; files
    that hold none are passed over, as every grid tool does.
    """
    directory = policy.trace_identity_ca_directory
    if directory is None:
        return ()
    from wlcg_isolate.trace import x509

    found: list[x509.Certificate] = []
    for name in sorted(os.listdir(directory)):
        if name.endswith((".0", ".1", ".pem")):
            path = os.path.join(directory, name)
            try:
                found += x509.certificates(read_plain_within(policy.touch_seconds(path), path, _MAX_BYTES))
            except (OSError, ValueError):
                continue

    return tuple(found)


def _protect(who: Who, policy: Policy, trace_id: str) -> Protected:
    try:
        keys = Keys(
            hashing=_hashing_key(policy),
            sealing=_key(policy, policy.trace_identity_seal_file, secret=False),
        )
        return protected(who, policy.trace_identity_mode, keys, trace_id)
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else None
        raise _problem("identity-unprotected", str(reason or e), "trace.identity_mode") from e


def _hashing_key(policy: Policy) -> Optional[bytes]:
    key = _key(policy, policy.trace_identity_key_file, secret=True)
    if key is not None and len(key) < LEAST_KEY:
        msg = f"the key for hashes has less than {LEAST_KEY} bytes"
        raise ValueError(msg)

    return key


def _key(policy: Policy, path: Optional[str], *, secret: bool) -> Optional[bytes]:
    if path is None or policy.trace_identity_mode == "clear":
        return None
    try:
        return read_plain_within(policy.touch_seconds(path), path, _MAX_BYTES, secret=secret)
    except OSError as e:
        raise OSError(e.errno, f"{path}: {e.strerror or e}") from e


def _problem(kind: str, message: str, origin: str) -> HostError:
    advice = (
        "name a file that this user can read" if kind == "identity-unreadable" else "see the site's trace.identity_*"
    )

    return HostError([Problem(kind=kind, message=message, origin=origin, advice=advice)])

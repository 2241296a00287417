"""
Read the payload's credentials, which it gets copies of.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from wlcg_isolate.credentials import CredentialCopy
from wlcg_isolate.host.plainfile import read_plain_within
from wlcg_isolate.launch.verdict import not_started
from wlcg_isolate.plan import Plan

#: Longer than any chain of proxies or cache of tickets.
_MOST_BYTES = 1_000_000

#: The pilot's own file may lie on a network file system.
_READ_SECONDS = 60.0


def read_credentials(plan: Plan) -> Mapping[str, bytes]:
    """
    Read what the payload gets copies of, by the names of the copies.

    Raises:
        LaunchError: One cannot be read any more.
    """
    found = {}
    for copy in plan.credentials:
        if copy.name is None:
            continue
        try:
            found[copy.name] = _content(copy)
        except OSError as e:
            raise _unreadable(copy, e.strerror or str(e)) from e

    return found


def _content(copy: CredentialCopy) -> bytes:
    if copy.source is None:
        return os.fsencode(copy.content or "")

    return read_plain_within(_READ_SECONDS, copy.source, _MOST_BYTES)


def _unreadable(copy: CredentialCopy, reason: str) -> Exception:
    message = f"the credential {copy.variable} cannot be read: {reason}"

    return not_started("credential-missing", message, "--credential")

"""
Read the payload's credentials, which it gets copies of.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from wlcg_isolate._deadline import within
from wlcg_isolate.credentials import CredentialCopy
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
            content = within(_READ_SECONDS, lambda copy=copy: _content(copy))  # type: ignore[misc]
        except OSError as e:
            raise _unreadable(copy, e.strerror or str(e)) from e
        if content is None:
            raise _unreadable(copy, f"no answer within {_READ_SECONDS:g} s")
        found[copy.name] = content

    return found


def _content(copy: CredentialCopy) -> bytes:
    if copy.source is None:
        return os.fsencode(copy.content or "")
    fd = os.open(copy.source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as f:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(None, "it is no plain file")
        content = f.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise OSError(None, f"it has more than {_MOST_BYTES} bytes")

    return content


def _unreadable(copy: CredentialCopy, reason: str) -> Exception:
    message = f"the credential {copy.variable} cannot be read: {reason}"

    return not_started("credential-missing", message, "--credential")

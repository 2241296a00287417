"""
Where the pilot keeps what no payload may see.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from wlcg_isolate._values import normal_path

#: Variables that name files or directories of credentials (Globus GSI; WLCG
#: bearer token discovery 1.0; kerberos(7); condor_submit(1), OAuth).
_VARIABLES = (
    "X509_USER_PROXY",
    "X509_USER_CERT",
    "X509_USER_KEY",
    "BEARER_TOKEN_FILE",
    "KRB5CCNAME",
    "_CONDOR_CREDS",
    "_CONDOR_JOB_IWD_CREDS",
)

#: Directories of credentials below a user's home.
_IN_HOME = (".globus", ".ssh", ".condor/tokens.d", ".oidc-agent")


def named_path(name: str, value: str) -> str:
    """
    Give the path in a variable that names a credential: kerberos(7) writes a
    type before it.
    """
    return value[len("FILE:") :] if name == "KRB5CCNAME" and value.startswith("FILE:") else value


def credential_places(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """
    List where credentials of the pilot may be.

    Yields:
        The name of each in words, and its normal path.
    """
    for name in _VARIABLES:
        value = named_path(name, environ.get(name, ""))
        if value.startswith("/"):
            yield name, normal_path(value)
    home = environ.get("HOME", "")
    if home.startswith("/"):
        for name in _IN_HOME:
            yield f"~/{name}", normal_path(os.path.join(home, name))

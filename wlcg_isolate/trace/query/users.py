"""
In which spellings records can name a user.

Rule: how names are made one and hashed is decided where records are made;
here that is only called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, Optional

from wlcg_isolate.errors import Problem, TraceError
from wlcg_isolate.trace.query.question import User


def user_of(
    dn: Optional[str] = None,
    sub: Optional[str] = None,
    iss: Optional[str] = None,
    keys: Sequence[bytes] = (),
    hashes: Sequence[str] = (),
) -> User:
    """
    Make a user of what is known.

    Args:
        dn: Distinguished name in any notation.

        sub: Subject of the token.

        iss: Issuer of the token.

        keys: The site's keys under which records may hold a hash.

        hashes: Hashes that are known already.

    Raises:
        TraceError: This version makes no hashes.
    """
    names = [] if dn is None else list(dict.fromkeys(_spellings(dn)))
    texts = [*names, *([f"{iss}#{sub}"] if iss is not None and sub is not None else [])]
    known = [*hashes, *(_hash(text, key) for key in keys for text in texts)]

    return User(names=tuple(names), hashes=tuple(dict.fromkeys(known)), issuer=iss, subject=sub)


def _spellings(dn: str) -> Iterator[str]:
    yield dn
    names = _module("dn")
    if names is None:
        return
    try:
        name = names.parse_dn(dn)
    except ValueError:
        # It may be recorded just so.
        return
    for one in (name, names.user_part(name)):
        yield names.format_dn(one)
        yield names.slash_dn(one)


def _hash(text: str, key: bytes) -> str:
    protect = _module("protect")
    if protect is None:
        problem = Problem(
            kind="trace-unreadable",
            message="this version makes no hashes of users",
            origin="--user-key",
            advice="name the user by --user-hash",
        )
        raise TraceError([problem])

    return str(protect.hash_of(text, key))


def _module(name: str) -> Any:
    """
    Load what records are made with, where this version has it.
    """
    try:
        return import_module(f"wlcg_isolate.trace.{name}")
    except ImportError:
        return None

"""
In which spellings records can name a user.

Rule: how names are made one and hashed is decided where records are made;
here that is only called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from wlcg_isolate.trace.dn import format_dn, parse_dn, slash_dn, user_part
from wlcg_isolate.trace.protect import hash_of
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
    """
    names = [] if dn is None else list(dict.fromkeys(_spellings(dn)))
    texts = [*names, *([f"{iss}#{sub}"] if iss is not None and sub is not None else [])]
    known = [*hashes, *(hash_of(text, key) for key in keys for text in texts)]

    return User(names=tuple(names), hashes=tuple(dict.fromkeys(known)), issuer=iss, subject=sub)


def _spellings(dn: str) -> Iterator[str]:
    yield dn
    try:
        name = parse_dn(dn)
    except ValueError:
        # It is recorded just so, too.
        return
    for one in (name, user_part(name)):
        yield format_dn(one)
        yield slash_dn(one)

"""
Take credentials out of text that goes to records, logs and outcomes.

Rules:

1. What has the form of a credential goes as a whole, also when its end was
   cut off; to lose a word of a message is cheaper than to keep one secret
   in a log for years.
2. Forms are a table; each row has a sign that is looked for first, since
   nearly all text holds none.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

#: What is left in the place of a credential.
REMOVED = "<removed>"


class _Form(NamedTuple):
    """
    How a kind of credential looks.

    Attributes:
        sign: Lower-case text without which the pattern cannot match.

        pattern: What is replaced; compiled where its sign was found.

        kept: What is put there, as `re.sub` has it.
    """

    sign: str
    pattern: str
    kept: str = REMOVED


_FORMS = (
    # RFC 7468; without an end it goes to the end of the text.
    _Form("-----begin", r"-----BEGIN [^-]*-----.*?(?:-----END [^-]*-----|\Z)"),
    # RFC 7515 and 7516: base64url of a JSON object, then parts after dots.
    _Form("eyj", r"eyJ[\w-]{8,}(?:\.[\w-]*)*"),
    # Macaroons: base64 of the first packet's length, in versions 1 and 2 (libmacaroons).
    _Form("mda", r"\bMDA[\w+/-]{24,}=*"),
    _Form("age", r"\bAgE[\w+/-]{24,}=*"),
    # RFC 3986, 3.2.1: the user's part of an authority.
    _Form("://", r"(\w://)[^\s/@'\"]*:[^\s@'\"]*@", rf"\1{REMOVED}@"),
    # RFC 7235, 6750, 7617.
    _Form("bearer", r"(?i)(\bbearer(?:\s|%20|\+)+)[\w.~+/%-]{8,}=*", rf"\1{REMOVED}"),
    _Form("basic", r"(?i)(\bbasic\s+)[\w+/]{12,}=*", rf"\1{REMOVED}"),
    # Parameters of URLs, assignments and options.
    _Form(
        "=",
        r"(?i)((?:passw(?:or)?d|passphrase|secret|token|authz|signature|credential|api_?key)"
        r"=)(?!<removed>)[^\s&;,'\"]{4,}",
        rf"\1{REMOVED}",
    ),
)


def scrub(text: str) -> str:
    """
    Return *text* without what has the form of a credential.
    """
    lower = text.lower()
    for form in _FORMS:
        if form.sign in lower:
            text = _compiled(form.pattern).sub(form.kept, text)

    return text


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL)


def without(text: str, words: Iterable[str], instead: str) -> str:
    """
    Return *text* without certain words, the longest first.
    """
    for word in sorted(filter(None, words), key=len, reverse=True):
        text = text.replace(word, instead)

    return text

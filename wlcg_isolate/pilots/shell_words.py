"""
Lines that were written for a shell, read without one.

Rules:

1. Nothing is executed, and nothing of this machine's environment is put in:
   what stays to be filled in is filled in by the payload's own shell.
2. What only a shell could do is refused, never passed on as text.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from typing import Optional

__all__ = ["commands", "rewritten"]

_NAME = r"\$(?:(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)\})"

#: Parts of one word, of which bash makes one value (bash(1), QUOTING and EXPANSION).
_BARE = re.compile(
    rf"""'(?P<text>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|{_NAME}|\\(?P<escaped>.)|(?P<plain>[^'"\\$`;&|<>()]+)""",
    re.DOTALL,
)
_DOUBLE = re.compile(rf"""{_NAME}|\\(?P<escaped>[$`"\\])|(?P<plain>\\|[^\\$`]+)""", re.DOTALL)

#: They end a command, and so are words of their own.
_ENDS = ";&|()<>\n"


def rewritten(value: str) -> tuple[Optional[str], str]:
    """
    Read the value of an assignment.

    Blanks that are not quoted belong to it: queues write values with blanks
    and no quotes, of which bash would keep the first word.

    Returns:
        The value, or None when it names variables; and how it is written for
        any shell, where each variable's value stays one word and nothing else
        happens.

    Raises:
        ValueError: It has what a shell would execute or expand further.
    """
    parts = list(_parts(value, _BARE))
    literal = None if any(name for name, _ in parts) else "".join(text for _, text in parts)

    return literal, "".join(f'"${{{name}}}"' if name else shlex.quote(text) for name, text in parts) or "''"


def _parts(value: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(value):
        found = pattern.match(value, at)
        if found is None:
            raise ValueError(f"holds {value[at : at + 2]!r}, which needs a shell")
        at = found.end()
        given = {key: text for key, text in found.groupdict().items() if text is not None}
        if "double" in given:
            yield from _parts(given["double"], _DOUBLE)
        else:
            name = given.get("name", given.get("braced", ""))
            yield name, "" if name else next(iter(given.values()))


def commands(line: str) -> Iterator[list[str]]:
    """
    Take a line apart into simple commands, those in its quoted words too
    (``bash -c "..."``).

    Raises:
        ValueError: A quote is not closed.
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars=_ENDS)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    words: list[str] = []
    for word in (*lexer, ";"):
        if set(word) <= set(_ENDS) and word:
            yield words
            words = []
            continue
        words.append(word)
        if word != line and set(word) & set(f" \t{_ENDS}"):
            # What is no command has quotes as it likes.
            with contextlib.suppress(ValueError):
                yield from commands(word)

"""
Read TOML, within bounds.
"""

from __future__ import annotations

import re
import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Parts of a dotted key.  The parser takes memory for the square of their
#: number (CPython 3.11, tomli 2): a file of 200 kB could take all there is.
_MOST_PARTS = 100

#: Text in a line, whose dots separate nothing, and remarks.
_QUOTED = re.compile(r""" "(?:[^"\\]|\\.)*" | '[^']*' | \#.* """, re.VERBOSE)


def table_of(text: str) -> dict[str, Any]:
    """
    Read a file's text.

    Raises:
        ValueError: It is no TOML, or has a key of too many parts.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if _QUOTED.sub("", line).count(".") > _MOST_PARTS:
            msg = f"line {number} has a key of more than {_MOST_PARTS} parts"
            raise ValueError(msg)
    table: dict[str, Any] = tomllib.loads(text)

    return table


def value_of(text: str) -> Any:
    """
    Read one value; what is none is text, so that a path needs no quotes.
    """
    try:
        table = table_of(f"value = {text}")
    except (ValueError, RecursionError):
        return text

    return table["value"] if len(table) == 1 else text

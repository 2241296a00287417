"""
What a row of the table is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

#: What a row can say, and what that means.
CLASSES: Mapping[str, str] = {
    "never": "does not pass from a host, whoever asks",
    "secret": "reaches the payload only as its own credential, by a private copy",
    "path": "a path, or several with `:`; passes as far as it is there and the payload can see it",
    "output": "a path that need not be there yet; passes where the payload can see the place",
    "scratch": "a directory of the host; the library sets another, and passes the host's as a path where somebody asks",
    "drop": "belongs to the host's system; passes where somebody asks",
    "locale": "passes where somebody asks and the image has that locale",
    "gpu": "passes where the payload gets GPUs and the value names some",
    "mpi": "passes in the profile `mpi`, or where somebody asks",
    "value": "means the same inside; passes where policy or request asks",
}


class Family(NamedTuple):
    """
    Variables of one kind.

    Attributes:
        rule: Name of the row.

        kind: One of `CLASSES`.

        names: Names and patterns, separated by blanks.

        reason: What is wrong with them inside, or why they pass.

        source: Who says so.
    """

    rule: str
    kind: str
    names: str
    reason: str
    source: str

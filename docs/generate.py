"""
Write the reference pages that are made from the code.

Run without arguments to write them; with ``--check`` to fail when one is
stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from wlcg_isolate._kinds import KINDS
from wlcg_isolate.policy import Policy, explain

HERE = Path(__file__).parent


def kinds() -> str:
    """
    Write the page of kinds.
    """
    rows = [
        f"| `{word}` | {kind.failed_by or ''} | {kind.retry or ''} | {kind.meaning} |" for word, kind in KINDS.items()
    ]
    head = [
        "# Kinds",
        "",
        "Every problem and every outcome has one of these words as its `kind`; a published word is never renamed.",
        "This page is made by `docs/generate.py`.",
        "",
        "| kind | failed by | retry | means |",
        "|---|---|---|---|",
    ]

    return "\n".join([*head, *rows, ""])


def policy() -> str:
    """
    Write the page of policy keys.
    """
    meanings = _attributes(Policy.__doc__ or "")
    rows = [
        f"| `{row.key}` | `{json.dumps(row.value)}` | {meanings[row.key.replace('.', '_', 1)]} |"
        for row in explain(Policy())
    ]
    head = [
        "# Policy",
        "",
        "This version has the built-in layer only; from Python, `Policy(...)` takes other values.",
        "The name of a field is the key with an underscore for the dot.",
        "This page is made by `docs/generate.py`.",
        "",
        "| key | default | means |",
        "|---|---|---|",
    ]

    return "\n".join([*head, *rows, ""])


def _attributes(docstring: str) -> dict[str, str]:
    """
    Read the attributes' meanings from a class's docstring.
    """
    text = docstring.partition("Attributes:")[2].partition("Raises:")[0]
    entries = (" ".join(block.split()) for block in text.split("\n\n"))

    return {name: meaning.strip() for name, _, meaning in (entry.partition(":") for entry in entries) if name}


PAGES = {"kinds.md": kinds, "policy.md": policy}


def main() -> int:
    """
    Write or check the pages.
    """
    stale = []
    for name, page in PAGES.items():
        path = HERE / "reference" / name
        if not path.exists() or path.read_text(encoding="utf-8") != page():
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(page(), encoding="utf-8")
    if stale:
        print("stale:" if "--check" in sys.argv else "written:", ", ".join(stale))

    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())

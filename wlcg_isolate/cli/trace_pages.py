"""
Show payloads to a person.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from wlcg_isolate._values import printable
from wlcg_isolate.cli.output import table

_HEAD = ("STARTED", "ENDED", "HOST", "PID", "VO", "USER", "JOB", "IMAGE", "HOW IT ENDED")

#: What stands in the first and in the second line of a payload where one is too long.
_HALVES = ((0, 1, 2, 3, 4), (6, 5, 7, 8))

#: No column but the last takes more than this.
_CELL = 36


def width() -> int:
    """
    Return how many columns the terminal has; where there is none, as many as
    are wanted.
    """
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return 160

    return max(shutil.get_terminal_size().columns, 60)


def payload_table(payloads: Sequence[dict[str, Any]]) -> str:
    """
    Show payloads, a line for each; two in a terminal where one is too long.
    """
    if not payloads:
        return "no payload was found"
    rows = [_HEAD, *map(_row, payloads)]
    rows = [(*(_short(printable(cell), _CELL) for cell in row[:-1]), row[-1]) for row in rows]
    lines = table(rows).split("\n")
    if not sys.stdout.isatty():
        return "\n".join(lines)
    room = width()
    if max(map(len, lines)) > room:
        # Two lines for each, which say all.
        parts = [table([[row[i] for i in some] for row in rows]).split("\n") for some in _HALVES]
        lines = [line for one, two in zip(*parts) for line in (one, f"  {two}")]

    return "\n".join(_short(line, room) for line in lines)


def _row(payload: dict[str, Any]) -> tuple[str, ...]:
    cells = (
        (payload["started"] or "-")[:19],
        (payload["ended"] or payload["state"])[:19],
        payload["host.name"],
        payload["process.pid"],
        payload["wlcg.vo"],
        user(payload),
        payload["wlcg.job.id"],
        payload["wlcg.image.resolved_path"] or payload["container.image.name"],
    )

    return (*(("-" if cell is None else str(cell)) for cell in cells), end(payload))


def user(payload: dict[str, Any]) -> str:
    """
    Name the user of a payload as its records do.
    """
    return str(payload["user.name"] or payload["wlcg.token.sub"] or payload["user.hash"] or "-")


def end(payload: dict[str, Any]) -> str:
    """
    Say how a payload ended, and what its records do not agree on.
    """
    by = payload.get("state_by")
    words = {
        "refused": ", ".join(payload["refusal_kinds"] or ["refused"]),
        "open": "no record of its end",
        "running": f"running, by {by}",
        "lost": f"lost, by {by}",
        "ended": str(payload["wlcg.outcome.kind"] or "ended"),
    }[payload["state"]]
    if payload["process.exit_code"] is not None and payload["state"] == "ended":
        words += f" ({payload['process.exit_code']})"
    if payload.get("found_by"):
        words += f"; found by {payload['found_by']}"

    return words + (f"; records differ in {', '.join(payload['conflicts'])}" if payload["conflicts"] else "")


def sighting_table(found: Sequence[dict[str, Any]]) -> str:
    """
    Show rows of any kind, a line for each.
    """
    if not found:
        return "nothing was found"
    head = [key.upper().replace("_", " ") for key in found[0]]
    rows = [[", ".join(map(str, v)) if isinstance(v, list) else str(v) for v in row.values()] for row in found]

    return table([head, *rows])


def _short(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "\N{HORIZONTAL ELLIPSIS}"

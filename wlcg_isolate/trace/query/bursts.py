"""
Find where many payloads were refused in a short time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wlcg_isolate.trace.query.payloads import Payload
from wlcg_isolate.trace.query.times import SECOND, recorded, shown


def bursts(payloads: Sequence[Payload], least: int, seconds: int) -> list[dict[str, Any]]:
    """
    List the times in which a node refused many payloads.

    Args:
        payloads: Those that may be meant; the others are passed over.

        least: How many make a burst.

        seconds: Within which time.

    Returns:
        For each burst `host`, `first`, `last`, `refused` (how many), `users`
        and `kinds`.
    """
    nodes: dict[str, list[tuple[int, Payload]]] = {}
    for payload in payloads:
        moment = recorded(payload["ended"])
        if payload["state"] == "refused" and moment is not None:
            nodes.setdefault(payload["host.name"] or "", []).append((moment, payload))
    found = [
        _burst(host, run)
        for host, refused in nodes.items()
        for run in _runs(sorted(refused, key=lambda one: one[0]), least, seconds * SECOND)
    ]

    return sorted(found, key=lambda burst: (burst["first"], burst["host"]))


def _runs(refused: list[tuple[int, Payload]], least: int, width: int) -> list[list[tuple[int, Payload]]]:
    """
    Join all windows that hold enough into runs.
    """
    inside = [False] * len(refused)
    low = 0
    for high, (moment, _) in enumerate(refused):
        while moment - refused[low][0] > width:
            low += 1
        if high - low + 1 >= least:
            inside[low : high + 1] = [True] * (high - low + 1)
    runs: list[list[tuple[int, Payload]]] = []
    for i, one in enumerate(refused):
        if inside[i]:
            if i and inside[i - 1] and one[0] - refused[i - 1][0] <= width:
                runs[-1].append(one)
            else:
                runs.append([one])

    return runs


def _burst(host: str, run: list[tuple[int, Payload]]) -> dict[str, Any]:
    users = {p["user.name"] or p["user.hash"] or p["wlcg.token.sub"] for _, p in run}

    return {
        "host": host,
        "first": shown(run[0][0]),
        "last": shown(run[-1][0]),
        "refused": len(run),
        "users": sorted(user for user in users if user),
        "kinds": sorted({kind for _, p in run for kind in p["refusal_kinds"] or ()}),
    }

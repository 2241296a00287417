"""
Lay payloads out over time: a band for each node, in it a lane for each
payload that runs beside others.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from wlcg_isolate.trace.query.payloads import Payload
from wlcg_isolate.trace.query.times import SECOND, recorded


@attrs.frozen(kw_only=True)
class Bar:
    """
    A payload's time.

    Attributes:
        payload: Which one.

        begin: From when, in microseconds.

        end: To when; the end of the picture where that is not known.

        lane: In which lane of its node.
    """

    payload: Payload
    begin: int
    end: int
    lane: int


@attrs.frozen(kw_only=True)
class Picture:
    """
    Everything that is drawn.

    Attributes:
        begin: Its first moment.

        end: Its last moment.

        hosts: Node to its payloads.
    """

    begin: int
    end: int
    hosts: dict[str, list[Bar]]


def picture(payloads: Sequence[Payload]) -> Picture:
    """
    Lay payloads out.
    """
    begins = [_begin(one) for one in payloads]
    lasts = [recorded(one[key]) or 0 for one in payloads for key in ("last_seen", "over_by") if one.get(key)]
    begin = min(begins, default=0)
    end = max([*lasts, *begins, begin + SECOND])
    # What has no end is drawn to the edge, so the edge is not where it was seen last.
    end += (end - begin) // 20
    hosts: dict[str, list[Payload]] = {}
    for one in payloads:
        hosts.setdefault(one["host.name"] or "unknown node", []).append(one)

    return Picture(begin=begin, end=end, hosts={name: _bars(hosts[name], end) for name in sorted(hosts)})


def _begin(payload: Payload) -> int:
    return recorded(payload["started"]) or recorded(payload["events"][0]["time"]) or 0


def _bars(payloads: Sequence[Payload], edge: int) -> list[Bar]:
    free: list[int] = []
    bars = []
    for payload in sorted(payloads, key=lambda one: (_begin(one), one["trace_id"])):
        begin, end = _begin(payload), recorded(payload["ended"] or payload.get("over_by"))
        end = edge if end is None else max(end, begin)
        lane = next((i for i, moment in enumerate(free) if moment <= begin), len(free))
        free[lane : lane + 1] = [end]
        bars.append(Bar(payload=payload, begin=begin, end=end, lane=lane))

    return bars


def ticks(begin: int, end: int, most: int) -> list[int]:
    """
    Choose round moments between two others.
    """
    steps = [n * SECOND for n in (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200)]
    steps += [n * 86_400 * SECOND for n in (1, 2, 7, 14, 28, 91, 364, 3640)]
    step = next((step for step in steps if (end - begin) // step < most), steps[-1])
    first = -(-begin // step) * step

    return list(range(first, end + 1, step))[: most + 1]

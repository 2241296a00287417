"""
Draw payloads over time in a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wlcg_isolate._values import printable
from wlcg_isolate.trace.query.lanes import Bar, Picture, picture, ticks
from wlcg_isolate.trace.query.payloads import Payload
from wlcg_isolate.trace.query.times import DAY, shown

#: How the rows of a payload are filled, by its state.
_FILL = {
    "ended": "\N{FULL BLOCK}",
    "running": "\N{DARK SHADE}",
    "lost": "\N{LIGHT SHADE}",
    "open": "\N{MEDIUM SHADE}",
    "refused": "x",
}

_WORDS = {
    "ended": "ended",
    "running": "running",
    "lost": "lost",
    "open": "no record of its end",
    "refused": "refused",
}


def bars(payloads: Sequence[Payload], width: int) -> str:
    """
    Draw payloads, a line for each, no longer than *width*.
    """
    if not payloads:
        return "no payload was found"
    drawn = picture(payloads)
    room = max(width - 26, 20)
    lines = [*_axis(drawn, room)]
    for host, found in drawn.hosts.items():
        lines.append(_short(printable(host), width))
        lines += [_line(drawn, bar, room) for bar in found]
    states = {one["state"] for one in payloads}
    lines += [
        "",
        "   ".join(f"{fill} {_WORDS[state]}" for state, fill in _FILL.items() if state in states) + "; times are UTC",
    ]

    return "\n".join(lines)


def _axis(drawn: Picture, room: int) -> Iterator[str]:
    long = drawn.end - drawn.begin > DAY
    names, marks = [" "] * room, ["\N{BOX DRAWINGS LIGHT HORIZONTAL}"] * room
    for moment in ticks(drawn.begin, drawn.end, max(room // 18, 2)):
        at = _at(drawn, moment, room)
        text = shown(moment)[5:16].replace("T", " ") if long else shown(moment)[11:19]
        if at + len(text) <= room:
            names[at : at + len(text)] = text
            marks[at] = "\N{BOX DRAWINGS LIGHT UP AND HORIZONTAL}"
    yield " " * 26 + "".join(names).rstrip()
    yield f"{shown(drawn.begin)[:10]:26}" + "".join(marks)


def _line(drawn: Picture, bar: Bar, room: int) -> str:
    payload = bar.payload
    begin = min(_at(drawn, bar.begin, room), room - 1)
    end = max(_at(drawn, bar.end, room), begin + 1)
    state = payload["state"]
    fill = _FILL[state] * (1 if state == "refused" else end - begin)
    who = payload["wlcg.job.id"] or payload["trace_id"]

    return f"  {_short(printable(str(who)), 22):22}  " + " " * begin + fill


def _at(drawn: Picture, moment: int, room: int) -> int:
    return (moment - drawn.begin) * room // max(drawn.end - drawn.begin, 1)


def _short(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "\N{HORIZONTAL ELLIPSIS}"

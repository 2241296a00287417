"""
Draw payloads over time as one HTML page that needs nothing else.

Rule: every text of a record is escaped, and the page may run no script and
fetch nothing, which its own policy (CSP) says to the browser.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from wlcg_isolate._values import printable
from wlcg_isolate.trace.query.lanes import Bar, Picture, picture, ticks
from wlcg_isolate.trace.query.payloads import Payload
from wlcg_isolate.trace.query.times import DAY, shown

_LABELS, _WIDTH, _LANE, _HEAD, _GAP = 190, 1240, 22, 34, 12

_STYLE = """\

:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; margin: 24px; color: #1a1a1a; background: #fff }
h1 { font-size: 22px; margin: 0 0 4px } h2 { font-size: 17px; margin: 28px 0 8px } p { margin: 0 0 12px }
svg { display: block; width: 100%; min-width: 900px; height: auto; font: 12px system-ui, sans-serif }
.scroll { overflow-x: auto; border: 1px solid #ccc; border-radius: 6px; padding: 8px }
.ended { fill: #1f6fb2 } .open { fill: #b8680b } .refused { fill: #b3261e }
.running { fill: #1b7a43 } .lost { fill: #6a6f76 }
.band { fill: #f4f6f8 } .grid { stroke: #d5d9dd } .tick { fill: #555 } .host { font-weight: 600; fill: #1a1a1a }
.name { fill: #fff; pointer-events: none } .beside { fill: #1a1a1a }
a:focus rect, a:hover rect, a:focus path, a:hover path { stroke: #000; stroke-width: 2 }
table { border-collapse: collapse; width: 100%; font-size: 13px }
th, td { text-align: left; padding: 4px 10px 4px 0; border-bottom: 1px solid #ddd; vertical-align: top }
th, td { white-space: nowrap }
td.wide { white-space: normal; overflow-wrap: anywhere; min-width: 150px }
tr:target { background: #fff3c4 }
.key span { display: inline-block; width: 14px; height: 14px; border-radius: 3px }
.key span { margin: 0 6px 0 18px; vertical-align: -2px }
.k-ended { background: #1f6fb2 } .k-open { background: #b8680b } .k-refused { background: #b3261e }
.k-running { background: #1b7a43 } .k-lost { background: #6a6f76 }
"""

_COLUMNS = (
    ("started", "Started"), ("ended", "Ended"), ("state", "State"), ("host.name", "Node"), ("process.pid", "Process"),
    ("wlcg.vo", "VO"), ("user.name", "User"), ("wlcg.job.id", "Job"), ("wlcg.image.resolved_path", "Image"),
    ("trace_id", "Payload"),
)  # fmt: skip

#: What may take more than one line.
_LONG = ("host.name", "user.name", "wlcg.job.id", "wlcg.image.resolved_path", "trace_id")

_STATES = {
    "ended": "ended",
    "running": "running",
    "lost": "lost",
    "open": "no record of its end",
    "refused": "refused",
}

#: How bars are drawn whose end is not recorded: not told by colour alone.
_EDGES = {"open": 'stroke="#5c3300" stroke-dasharray="5 3"', "lost": 'stroke="#1a1a1a" stroke-dasharray="2 3"'}


def page(payloads: Sequence[Payload]) -> str:
    """
    Draw payloads.
    """
    drawn = picture(payloads)
    when = f"{_time(shown(drawn.begin))} to {_time(shown(drawn.end))} UTC" if payloads else "no payload was found"
    count = (
        f"{len(payloads)} payload{'s' * (len(payloads) != 1)} on {len(drawn.hosts)} node{'s' * (len(drawn.hosts) != 1)}"
    )
    states = {one["state"] for one in payloads}
    key = "".join(f'<span class="k-{state}"></span>{text}' for state, text in _STATES.items() if state in states)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width"><title>Payloads over time</title>',
        f"<style>{_STYLE}</style></head><body><main>",
        f'<h1>Payloads over time</h1><p>{count}; {when}</p><p class="key">Each bar is a payload: {key}</p>',
        *_svg(drawn),
        '<h2 id="list">The same as a list</h2><div class="scroll"><table><thead><tr>',
        *(f'<th scope="col">{name}</th>' for _, name in _COLUMNS),
        "</tr></thead><tbody>",
        *(_table_row(number, one) for number, one in enumerate(_ordered(drawn))),
        "</tbody></table></div></main></body></html>",
    ]

    return "\n".join(parts) + "\n"


def _many(number: int, word: str) -> str:
    return f"{number} {word}" + "s" * (number != 1)


def _ordered(drawn: Picture) -> list[Payload]:
    return [bar.payload for found in drawn.hosts.values() for bar in found]


def _svg(drawn: Picture) -> Iterator[str]:
    height = _HEAD + sum(_height(found) + _GAP for found in drawn.hosts.values())
    yield '<div class="scroll" tabindex="0" role="region" aria-label="Picture">'
    yield f'<svg viewBox="0 0 {_WIDTH} {height}" role="group" aria-labelledby="drawn">'
    yield '<title id="drawn">A band for each node, with a bar for each payload from its start to its end</title>'
    top, number = _HEAD, 0
    for host, found in drawn.hosts.items():
        yield f'<rect class="band" x="0" y="{top}" width="{_WIDTH}" height="{_height(found)}" rx="4"/>'
        yield f'<text class="host" x="8" y="{top + 19}">{_short(host, 26)}<title>{_text(host)}</title></text>'
        top += _height(found) + _GAP
    yield from _axis(drawn, height)
    top = _HEAD
    for found in drawn.hosts.values():
        for bar in found:
            yield _bar(drawn, bar, number, top + 4 + bar.lane * _LANE)
            number += 1
        top += _height(found) + _GAP
    yield "</svg></div>"


def _height(found: Sequence[Bar]) -> int:
    return 8 + _LANE * (1 + max(bar.lane for bar in found))


def _axis(drawn: Picture, height: int) -> Iterator[str]:
    long = drawn.end - drawn.begin > DAY
    for moment in ticks(drawn.begin, drawn.end, 8):
        x = _at(drawn, moment)
        text = shown(moment)[:16].replace("T", " ") if long else shown(moment)[11:19]
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="{_HEAD - 8}" y2="{height - _GAP}"/>'
        if x + 7 * len(text) < _WIDTH:
            yield f'<text class="tick" x="{x + 3}" y="{_HEAD - 14}">{text}</text>'


def _bar(drawn: Picture, bar: Bar, number: int, top: int) -> str:
    one, x = bar.payload, _at(drawn, bar.begin)
    wide = max(_at(drawn, bar.end) - x, 3)
    name = str(one["wlcg.job.id"] or one["trace_id"])
    told = f"{name}: {_state(one)}; {_time(one['started'])} to {_time(one['ended'])}; {_who(one)}"
    shape = f'<rect class="{one["state"]}" x="{x}" y="{top}" width="{wide:.1f}" height="{_LANE - 4}" rx="3"/>'
    if one["state"] == "refused":
        # Not by colour alone: a refusal takes no time, and is a rhomb.
        shape = f'<path class="refused" d="M{x} {top} l7 9 l-7 9 l-7 -9 z"/>'
    elif one["state"] in _EDGES:
        shape = shape.replace("/>", f" {_EDGES[one['state']]}/>")
    inside = one["state"] != "refused" and wide > 7.5 * min(len(name), 14) + 8
    label = f'<text class="name" x="{x + 5}" y="{top + 13}">{_short(name, 14)}</text>' if inside else ""

    return f'<a href="#p{number}" aria-label="{_text(told)}"><title>{_text(told)}</title>{shape}{label}</a>'


def _at(drawn: Picture, moment: int) -> float:
    span = max(drawn.end - drawn.begin, 1)

    return round(_LABELS + (moment - drawn.begin) * (_WIDTH - _LABELS - 12) / span, 1)


def _who(payload: Payload) -> str:
    return str(payload["user.name"] or payload["wlcg.token.sub"] or payload["user.hash"] or "unknown user")


def _state(payload: Payload) -> str:
    by = payload.get("state_by")

    return _STATES[payload["state"]] + (f", by {by}" if by else "")


def _table_row(number: int, payload: Payload) -> str:
    cells = {**payload, "user.name": _who(payload), "state": _state(payload)}
    cells["started"], cells["ended"] = _time(payload["started"]), _time(payload["ended"])

    return f'<tr id="p{number}">' + "".join(_cell(key, cells[key]) for key, _ in _COLUMNS) + "</tr>"


def _cell(key: str, value: Any) -> str:
    wide = ' class="wide"' if key in _LONG else ""

    return f"<td{wide}>{_text(value)}</td>"


def _time(text: Any) -> str:
    return str(text)[:19].replace("T", " ") if text else "\N{EN DASH}"


def _text(value: Any) -> str:
    return escape(printable("\N{EN DASH}" if value is None else str(value)))


def _short(text: str, room: int) -> str:
    plain = printable(text)

    return escape(plain if len(plain) <= room else plain[: room - 1] + "\N{HORIZONTAL ELLIPSIS}")

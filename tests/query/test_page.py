"""Payloads over time: in a terminal, and in a real browser."""

from __future__ import annotations

import re
import struct
import zlib

import pytest

from wlcg_isolate.trace.query import Question, find
from wlcg_isolate.trace.query.bars import bars
from wlcg_isolate.trace.query.lanes import picture, ticks
from wlcg_isolate.trace.query.page import page
from wlcg_isolate.trace.query.times import DAY, SECOND, given, recorded

BEGIN = given("2026-03-01T00:00:00Z")


@pytest.fixture(scope="module")
def payloads(lines):
    """Some hours of the site."""
    question = Question(since=BEGIN + DAY - 4 * 3600 * SECOND, until=BEGIN + DAY + 4 * 3600 * SECOND)

    return find([lines], question).payloads


def test_lanes(payloads):
    """Bars of one lane do not overlap, and each payload has one."""
    drawn = picture(payloads)

    assert len(payloads) == sum(map(len, drawn.hosts.values()))
    for found in drawn.hosts.values():
        for lane in {bar.lane for bar in found}:
            mine = sorted((bar.begin, bar.end) for bar in found if bar.lane == lane)
            assert all(one[1] <= two[0] for one, two in zip(mine, mine[1:]))


def test_bars(payloads):
    """Each payload is a line that is no longer than asked for and begins where it began."""
    lines = bars(payloads, 100).split("\n")

    assert 100 >= max(map(len, lines))
    assert {one["host.name"] for one in payloads} <= set(lines)
    assert len(payloads) == sum(line.startswith("  ") and not line.startswith("   ") for line in lines)
    drawn = picture(payloads)
    early = min(payloads, key=lambda one: recorded(one["started"] or one["ended"]))
    (line,) = [line for line in lines if line.startswith(f"  {early['wlcg.job.id']} ")]
    assert (26, drawn.begin) == (len(line) - len(line[26:].lstrip()), recorded(early["started"]))


@pytest.mark.parametrize("span", [1, 59, 3600, 90_000, 86_400 * 400])
def test_ticks(span):
    """The axis has a few marks at round moments."""
    found = ticks(BEGIN + 1, BEGIN + 1 + span * SECOND, 8)

    assert 8 >= len(found)
    assert all(BEGIN < moment <= BEGIN + 1 + span * SECOND for moment in found)


HOSTILE = '"><script>document.title="owned"</script><img src=x onerror=alert(1)>\x1b[31m\u202e'


def test_hostile_names_stay_text(payloads, tmp_path, chromium):
    """What somebody chose as a name runs nothing and fetches nothing in a browser."""
    bad = {**payloads[0], "host.name": HOSTILE, "user.name": HOSTILE, "wlcg.job.id": HOSTILE, "trace_id": HOSTILE}
    (tmp_path / "page.html").write_text(page([bad, *payloads[1:3]]), encoding="utf-8")
    dom = chromium(tmp_path / "page.html", tmp_path / "profile", "--dump-dom")

    assert "<title>Payloads over time</title>" in dom
    assert not re.search(r"<(script|img)", dom)
    assert "&lt;script&gt;" in dom
    assert "\x1b" not in dom
    assert "\u202e" not in dom


def test_page_in_a_browser(payloads, tmp_path, chromium):
    """The browser shows a band for each node and a bar for each payload, in its colour."""
    text = page(payloads)
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    dom = chromium(tmp_path / "page.html", tmp_path / "profile", "--dump-dom")
    chromium(tmp_path / "page.html", tmp_path / "profile", f"--screenshot={tmp_path / 'page.png'}")
    colours = pixels(tmp_path / "page.png")
    states = [one["state"] for one in payloads]

    assert len({one["host.name"] for one in payloads}) == dom.count('class="band"')
    assert len(payloads) == dom.count("<a href=") == dom.count('<tr id="p')
    assert states.count("ended") == dom.count('class="ended"')
    assert not re.search(r"(src|href)=\"(?!#)|url\(|@import", text)
    # The three states, and the background.
    for colour in ((0x1F, 0x6F, 0xB2), (0xB8, 0x68, 0x0B), (0xB3, 0x26, 0x1E)):
        assert 50 < colours.get(colour, 0)
    assert 0.3 < colours[(255, 255, 255)] / sum(colours.values()) < 0.95


def test_nothing_found():
    """A picture of nothing says so."""
    assert "no payload was found" in page([])
    assert "no payload was found" == bars([], 80)


def pixels(path):
    """Count the colours of a PNG as browsers write it: 8 bits, RGB or RGBA, not interlaced."""
    data, at, body = path.read_bytes(), 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IHDR":
            width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", data[at + 8 : at + 8 + size])
        if kind == b"IDAT":
            body += data[at + 8 : at + 8 + size]
        at += size + 12
    assert (8, True) == (depth, colour in (2, 6))
    raw, step = zlib.decompress(body), 3 if colour == 2 else 4
    return count(raw, width * step, step, height)


def count(raw, wide, step, height):
    """Undo the filters of lines, and count every third line."""
    found, before = {}, bytearray(wide)
    for y in range(height):
        kind, line = raw[y * (wide + 1)], bytearray(raw[y * (wide + 1) + 1 : (y + 1) * (wide + 1)])
        unfilter(kind, line, before, step)
        before = line
        if y % 3 == 0:
            for x in range(0, wide, step):
                colour = tuple(line[x : x + 3])
                found[colour] = found.get(colour, 0) + 1

    return found


def unfilter(kind, line, before, step):
    """Undo the filter of one line."""
    for i in range(len(line)) if kind else ():
        left, up, corner = (line[i - step] if i >= step else 0), before[i], (before[i - step] if i >= step else 0)
        line[i] = (line[i] + (0, left, up, (left + up) // 2, paeth(left, up, corner))[kind]) & 255


def paeth(left, up, corner):
    """Choose as PNG's fourth filter does."""
    guess = left + up - corner
    near = min((abs(guess - one), order, one) for order, one in enumerate((left, up, corner)))

    return near[2]

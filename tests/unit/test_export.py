"""
Addresses of receivers, and what is sent to them.
"""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, strategies as st

from wlcg_isolate.policy.address import SCHEMES, address_faults, read_address
from wlcg_isolate.trace.export.chirp import attribute_of, literal
from wlcg_isolate.trace.export.core import CORE, core_of, fitting
from wlcg_isolate.trace.export.journald import entry, message_id
from wlcg_isolate.trace.export.lines import read_lines
from wlcg_isolate.trace.export.progress import Progress
from wlcg_isolate.trace.export.receiver import Refusal, open_receiver
from wlcg_isolate.trace.export.syslog import message

RECORD = {
    "@timestamp": "2026-11-25T01:02:03.000004Z",
    "event.action": "payload.start",
    "event.id": "5f1c1a86-0b5a-4a53-b4e8-33d3e0a1a111",
    "container.id": "ab54a98c-0000-4000-8000-000000000001",
    "host.name": "wn17.example.org",
    "process.parent.pid": 4711,
    "process.pid": 4712,
    "wlcg.vo": "atlas",
    "wlcg.isolation.binds": [{"source": f"/cvmfs/{n}.example.org"} for n in range(200)],
}
LINE = json.dumps(RECORD, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("syslog+unix:", ("syslog+unix", "", 0, "/dev/log")),
        ("syslog+unix:///run/log", ("syslog+unix", "", 0, "/run/log")),
        ("syslog+udp://log.example.org", ("syslog+udp", "log.example.org", 514, "")),
        ("syslog+tcp://log.example.org:5140", ("syslog+tcp", "log.example.org", 5140, "")),
        ("syslog+tls://[2001:db8::1]", ("syslog+tls", "2001:db8::1", 6514, "")),
        ("journald:", ("journald", "", 0, "/run/systemd/journal/socket")),
        ("https://os.example.org/wlcg/_bulk", ("https", "os.example.org", 443, "/wlcg/_bulk")),
        ("http://os.example.org:9200/_bulk?form=lines", ("http", "os.example.org", 9200, "/_bulk")),
        ("kafka://broker.example.org/traces", ("kafka", "broker.example.org", 9092, "/traces")),
        ("chirp:", ("chirp", "", 0, "/ChirpWlcgIsolate")),
    ],
    ids=str,
)
def test_addresses(text, expected):
    """Each scheme has its usual port and path."""
    assert expected == read_address(text)[:4]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ["must be an address such as syslog+tls://host:6514"]),
        ("", ["has scheme '', which is none of " + ", ".join(SCHEMES)]),
        ("syslog+tls://a b", ["must be an address such as syslog+tls://host:6514"]),
        ("syslog+tls://h\u00f6st", ["must be an address such as syslog+tls://host:6514"]),
        ("syslog+tls://h:0", ["names port 0"]),
        ("syslog+tls://h:70000", ["is no address: Port out of range 0-65535"]),
        ("syslog+tls://", ["names no host"]),
        ("syslog+tls://h/x", ["must not hold a path"]),
        ("syslog+tls://h?ca=x", ["ca must be an absolute path"]),
        ("syslog+tls://h?facility=24", ["facility must be a number from 0 to 23"]),
        ("syslog+udp://h?size=479", ["size must be a number from 480 to 65000"]),
        ("syslog+udp://h?cert=/c", ["has option 'cert'; those of syslog+udp are: facility, size"]),
        ("journald://h", ["names a host, which journald has not"]),
        ("journald:?a=b", ["has option 'a'; those of journald are: none"]),
        ("kafka://h", ["names no topic"]),
        ("https://u:p@h/x", ["must not hold a user or a password; name a file with token_file or cert"]),
        ("https://h/x#y", ["must not hold a fragment"]),
        ("https://h/x?form=xml", ["form must be one of bulk, lines"]),
        ("https://h/x?form=bulk&form=bulk", ["has option 'form' more than once"]),
    ],
    ids=str,
)
def test_address_faults(text, expected):
    """What is wrong with an address is said, all of it."""
    assert expected == list(address_faults(text))


@given(st.text() | st.builds("{}{}".format, st.sampled_from([f"{s}://" for s in SCHEMES]), st.text(max_size=30)))
def test_any_address(text):
    """Any text is an address or has faults, and never both."""
    if list(address_faults(text)):
        with pytest.raises(ValueError, match=r"."):
            read_address(text)
    else:
        assert read_address(text).scheme in SCHEMES


def test_syslog_message():
    """The header is that of RFC 5424, the message the record."""
    short = json.dumps({**RECORD, "wlcg.isolation.binds": []}).encode()
    head = b"<86>1 2026-11-25T01:02:03.000004Z wn17.example.org wlcg_isolate 4711 payload.start - "

    assert head + short == message(short, 10, 8192)


def test_syslog_refusal_is_a_notice():
    """What a security officer looks for has a severity of its own."""
    assert message(b'{"event.action":"payload.refused"}', 10, 8192).startswith(
        b"<85>1 - - wlcg_isolate - payload.refused - "
    )


@pytest.mark.parametrize("most", [480, 1024, 2048])
def test_syslog_core(most):
    """A record that does not fit goes as its core, which fits and names the whole."""
    text = message(LINE, 10, most)
    core = json.loads(text.split(b" - ", 1)[1])

    assert len(text) <= most < len(LINE)
    assert hashlib.sha256(LINE).hexdigest() == core.pop("wlcg.export.sha256")
    assert {name: RECORD[name] for name in CORE if name in RECORD} == core


@pytest.mark.parametrize("value", ["a b", "x\n<1>1 forged", "\u00e9", "", "y" * 300, 7, None, ["z"]], ids=repr)
def test_syslog_header_holds(value):
    """No value breaks out of the header's field."""
    text = message(json.dumps({"host.name": value, "event.action": value}).encode(), 10, 8192)
    head = text[: text.index(b"{")]

    assert 7 == head.count(b" ")
    assert b"\n" not in text


@given(st.binary(max_size=3000), st.integers(480, 4000))
def test_any_line_fits(line, most):
    """Whatever a torn line holds, the datagram is no larger than it may be."""
    assert len(message(line, 10, most)) <= max(most, 480)


def test_core_keeps_what_matters():
    """When nearly nothing fits, the digest and the event's identity are left."""
    assert ["wlcg.export.sha256", "event.id"] == list(json.loads(core_of(LINE, 10)))
    assert LINE == fitting(LINE, len(LINE))


def test_journal_entry():
    """An entry has the record and the fields that a site searches by."""
    text = entry(LINE)

    assert b"MESSAGE=payload.start ab54a98c-0000-4000-8000-000000000001\n" in text
    assert f"MESSAGE_ID={message_id('payload.start')}\n".encode() in text
    assert b"WLCG_VO=atlas\n" in text
    assert b"WLCG_RECORD=" + LINE + b"\n" in text
    assert message_id("payload.start") != message_id("payload.end")


def test_journal_entry_holds():
    """A value with a line end cannot add a field of its own."""
    text = entry(json.dumps({"wlcg.vo": "x\nPRIORITY=0"}).encode())

    assert b"WLCG_VO\n\x0c\0\0\0\0\0\0\0x\nPRIORITY=0\n" in text


def test_chirp_words():
    """Attributes and values are those of the ClassAd language."""
    assert "ChirpWlcgIsolatePayloadStart" == attribute_of("ChirpWlcgIsolate", "payload.start")
    assert '"a \\"b\\" \\\\ c"' == literal('a "b" \\ c')


@pytest.mark.parametrize(
    ("content", "offset", "expected"),
    [
        (b"", 0, ((), ())),
        (b"ab", 0, ((), ())),
        (b"ab\n", 0, ((b"ab",), (3,))),
        (b"ab\ncd\ne", 0, ((b"ab", b"cd"), (3, 6))),
        (b"ab\ncd\n", 3, ((b"cd",), (6,))),
        (b"ab\n\ncd\n", 0, ((b"ab", b"cd"), (3, 7))),
        (b"x" * 600_000 + b"\ny\n", 0, ((b"x" * 600_000, b"y"), (600_001, 600_003))),
    ],
    ids=range(7),
)
def test_lines(tmp_path, content, offset, expected):
    """Only whole lines are read, with where each ends."""
    (tmp_path / "f").write_bytes(content)

    assert expected == read_lines(str(tmp_path / "f"), offset)


def test_lines_follow_no_link(tmp_path):
    """A link or a pipe in the place of a file is not read."""
    (tmp_path / "l").symlink_to("/etc/passwd")

    with pytest.raises(OSError, match=r"symbolic"):
        read_lines(str(tmp_path / "l"), 0)
    with pytest.raises(OSError, match=r"plain file"):
        read_lines("/dev/null", 0)


def test_progress(tmp_path):
    """What was noted is read again, for each receiver and file."""
    one, other = Progress(str(tmp_path), "one"), Progress(str(tmp_path), "other")
    one.write("/x/a.jsonl", 17)

    assert [17, 0, 0] == [one.read("/y/a.jsonl"), one.read("/x/b.jsonl"), other.read("/x/a.jsonl")]
    assert 0o700 == (tmp_path / "sent").stat().st_mode & 0o777
    assert 0o600 == (tmp_path / "sent" / "a.jsonl@one").stat().st_mode & 0o777


def test_progress_of_garbage(tmp_path):
    """A damaged note means that everything is sent again."""
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "a.jsonl@one").write_text("x7")
    (tmp_path / "sent" / "b.jsonl@one").symlink_to("/etc/passwd")

    assert [0, 0] == [Progress(str(tmp_path), "one").read(f) for f in ("a.jsonl", "b.jsonl")]


def test_refusals_are_written_down(tmp_path):
    """What a receiver refuses for good is found beside the journal."""
    Progress(str(tmp_path), "one").refused("/x/a.jsonl", 7, Refusal(0, "status 400: no"))
    entries = [json.loads(line) for line in (tmp_path / "sent" / "refused").read_text().splitlines()]

    assert [("one", "a.jsonl", 7, "status 400: no")] == [
        (e["receiver"], e["file"], e["offset"], e["reason"]) for e in entries
    ]


def test_kafka_needs_its_extra(mocker):
    """Without the package, the error says what to install."""
    mocker.patch.dict("sys.modules", {"confluent_kafka": None})

    with pytest.raises(ValueError, match=r"wlcg_isolate\[kafka\]"):
        open_receiver("kafka://h/t")

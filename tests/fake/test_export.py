"""
Receivers that are slow, refuse, die in the middle or return garbage, and
senders that are killed: real sockets and processes.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from wlcg_isolate import TraceError
from wlcg_isolate.trace.export import Courier, Dispatch, ReceiverError, open_receiver, ship
from wlcg_isolate.trace.export.progress import Progress
from wlcg_isolate.trace.export.syslog import StreamSyslog


def records(count, first=0):
    """Make lines of a journal."""
    return [
        json.dumps({"event.id": f"id-{n}", "event.action": "payload.start", "container.id": f"c{n}", "n": n}).encode()
        for n in range(first, first + count)
    ]


@pytest.fixture
def journal(tmp_path):
    """Write a file of records, and return its path."""

    def make(count, name="a.jsonl", torn=b""):
        directory = tmp_path / "trace"
        directory.mkdir(exist_ok=True)
        path = directory / name
        path.write_bytes(b"".join(line + b"\n" for line in records(count)) + torn)
        return path

    return make


class Server:
    """A TCP server on loopback that can be killed and come back."""

    def __init__(self, handle):
        self._handle = handle
        self.port = 0
        self.start()

    def start(self):
        """Listen, on the same port as before."""
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def setup(self):
                outer.connections.append(self.request)

            def handle(self):
                outer._handle(self.request)

        class Listener(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, request, client_address):
                """Say nothing: connections are cut on purpose."""

        self.connections = []
        self._server = Listener(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def kill(self):
        """End at once, with a reset for whoever is connected."""
        self._server.shutdown()
        self._server.server_close()
        for connection in self.connections:
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.close()
            except OSError:
                continue


@pytest.fixture
def server():
    """Start servers, and end them."""
    started = []

    def start(handle):
        started.append(Server(handle))
        return started[-1]

    yield start
    for one in started:
        one.kill()


class Frames:
    """What a syslog receiver got over TCP, octets counted."""

    def __init__(self):
        self.messages = []
        self.pause = 0.0

    def handle(self, connection):
        """Read frames until the end."""
        buffer = b""
        while True:
            data = connection.recv(65536)
            if not data:
                return
            buffer += data
            while b" " in buffer:
                length, rest = buffer.split(b" ", 1)
                if len(rest) < int(length):
                    break
                self.messages.append(rest[: int(length)])
                buffer = rest[int(length) :]
                time.sleep(self.pause)

    def ids(self):
        """List the identities of all records, doubles included."""
        return [json.loads(m[m.index(b"{") :])["event.id"] for m in self.messages]


def identities(count):
    """List the identities of that many records."""
    return [f"id-{n}" for n in range(count)]


@pytest.fixture
def quick(mocker):
    """Let what has no answer settle soon."""
    mocker.patch.object(StreamSyslog, "settles", 0.3)


def test_tcp(server, journal, quick):
    """All records arrive once and in order; a second call sends nothing."""
    got = Frames()
    to = {"loghost": f"syslog+tcp://127.0.0.1:{server(got.handle).port}"}
    file = journal(2500, torn=b'{"torn')
    statuses = [ship(str(file.parent), to, 20) for _ in range(2)]

    assert [("loghost", 0, "")] * 2 == [(s.receiver, s.pending, s.fault) for (s,) in statuses]
    assert identities(2500) == got.ids()


def test_torn_line_is_sent_once_whole(server, journal, quick):
    """A line that was torn when it was read is sent when it is whole."""
    got = Frames()
    to = {"loghost": f"syslog+tcp://127.0.0.1:{server(got.handle).port}"}
    file = journal(3, torn=records(1, 3)[0])
    ship(str(file.parent), to, 10)
    with file.open("ab") as f:
        f.write(b"\n")
    ship(str(file.parent), to, 10)

    assert identities(4) == got.ids()


def test_receiver_dies_in_the_middle(server, journal, mocker):
    """What a receiver may have lost when it was killed is sent again."""
    # Longer than a receiver here may live while this machine is busy: what it lost must not count as settled.
    mocker.patch.object(StreamSyslog, "settles", 3.0)
    got = Frames()
    got.pause = 0.0005
    there = server(got.handle)
    file = journal(3000)
    dispatch = Dispatch(str(file.parent), {"loghost": f"syslog+tcp://127.0.0.1:{there.port}"})
    dispatch.wrote(str(file), file.stat().st_size)
    for _ in range(3):
        time.sleep(0.3)
        there.kill()
        # What was in its memory is gone.
        del got.messages[-50:]
        time.sleep(0.1)
        there.start()
    got.pause = 0
    status = dispatch.drain(30)
    dispatch.close()

    assert [0] == [s.pending for s in status]
    assert set(identities(3000)) == set(got.ids())


def test_nobody_listens(journal):
    """A receiver that is not there costs its callers nothing, and is told."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"syslog+tcp://127.0.0.1:{taken.getsockname()[1]}"
        file = journal(5)
        dispatch = Dispatch(str(file.parent), {"loghost": address})
        begin = time.monotonic()
        dispatch.wrote(str(file), file.stat().st_size)
        took = time.monotonic() - begin
        with pytest.raises(TraceError, match=r"loghost has not taken the record: .*refused") as caught:
            dispatch.require(["loghost"], str(file), file.stat().st_size, 0.5)
        dispatch.close()

    assert took < 0.1
    assert ["trace-undelivered"] == [p.kind for p in caught.value.problems]


def test_slow_receiver_holds_nobody_up(server, journal):
    """Who asks for delivery waits as long as was said, and no longer."""
    stuck = threading.Event()
    there = server(lambda connection: stuck.wait(20))
    file = journal(5)
    dispatch = Dispatch(str(file.parent), {"es": f"http://127.0.0.1:{there.port}/_bulk"})
    dispatch.wrote(str(file), file.stat().st_size)
    begin = time.monotonic()
    with pytest.raises(TraceError, match=r"no answer within 0.3 s"):
        dispatch.require(["es"], str(file), file.stat().st_size, 0.3)
    took = time.monotonic() - begin
    stuck.set()
    dispatch.close()

    assert 0.3 <= took < 1


def test_required_but_unknown(journal):
    """A name that is no receiver's is a refusal, and not forgotten."""
    file = journal(1)

    with pytest.raises(TraceError, match=r"there is no receiver nobody"):
        Dispatch(str(file.parent), {}).require(["nobody"], str(file), 1, 1)


@pytest.fixture
def unix_socket(tmp_path):
    """A UNIX socket that takes datagrams."""
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(path))
        bound.settimeout(5)
        yield path, bound


def test_unix_datagrams(unix_socket, journal):
    """Each record is one datagram."""
    path, bound = unix_socket
    file = journal(7)
    ship(str(file.parent), {"local": f"syslog+unix://{path}"}, 10)
    texts = [bound.recv(65536) for _ in range(7)]

    assert identities(7) == [json.loads(t[t.index(b"{") :])["event.id"] for t in texts]


def test_full_unix_socket(unix_socket, journal):
    """A receiver that does not read holds up the courier, and loses nothing."""
    path, bound = unix_socket
    file = journal(600)
    dispatch = Dispatch(str(file.parent), {"local": f"syslog+unix://{path}"})
    dispatch.wrote(str(file), file.stat().st_size)
    time.sleep(0.3)
    texts = [bound.recv(65536) for _ in range(600)]
    dispatch.drain(5)
    dispatch.close()

    assert identities(600) == [json.loads(t[t.index(b"{") :])["event.id"] for t in texts]


def test_udp(journal):
    """Over UDP each record is one datagram that fits."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.settimeout(5)
        file = journal(3)
        file.write_bytes(json.dumps({"event.id": "large", "x": "y" * 9000}).encode() + b"\n")
        ship(str(file.parent), {"udp": f"syslog+udp://127.0.0.1:{bound.getsockname()[1]}"}, 10)
        text = bound.recv(65536)

    assert len(text) <= 2048
    assert "large" == json.loads(text[text.index(b"{") :])["event.id"]


def cut(handler, _):
    """Take nothing and hang up."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def take(handler, body):
    """Take everything."""
    handler.take(body)


def take_and_cut(handler, body):
    """Take everything and hang up without an answer."""
    words = body.split(b"\n")[:-1]
    handler.documents.update((json.loads(a)["create"]["_id"], d) for a, d in zip(words[::2], words[1::2]))
    cut(handler, body)


@pytest.mark.parametrize(
    "first",
    [
        cut,
        take_and_cut,
        lambda h, _: h.answer(503, b"later"),
        lambda h, _: h.answer(500, b""),
        lambda h, _: h.answer(200, b"garbage"),
        lambda h, _: h.answer(200, b"[" * 100_000),
        lambda h, _: h.answer(200, b'{"items":[]}'),
        lambda h, _: h.answer(200, b'{"items":[{"create":{"status":"x"}}]}'),
        lambda h, _: h.answer(302, b""),
        lambda h, body: h.take(body, [(3, 429)]),
        lambda h, body: h.take(body, [(0, 503)]),
    ],
    ids=[
        "cut",
        "taken-then-cut",
        "503",
        "500",
        "garbage",
        "deep",
        "no-items",
        "odd-item",
        "302",
        "429-of-one",
        "503-of-one",
    ],
)
def test_http_breaks(bulk, journal, first):
    """Whatever a server does first, in the end it has each record once."""
    kind, address = bulk(first)
    file = journal(700)
    (status,) = ship(str(file.parent), {"es": address}, 20)

    assert 0 == status.pending
    assert set(identities(700)) == set(kind.documents)


def test_http_refusal(bulk, journal):
    """A record that is refused for good does not hold up the others, and is written down."""
    kind, address = bulk(lambda h, body: h.take(body, [(2, 400)]))
    file = journal(5)
    (status,) = ship(str(file.parent), {"es": address}, 20)
    refused = json.loads((file.parent / "sent" / "refused").read_text())

    assert 0 == status.pending
    assert {"id-0", "id-1", "id-3", "id-4"} == set(kind.documents)
    assert ("es", "a.jsonl", 2 * (len(records(1)[0]) + 1), "status 400: because 400") == (
        refused["receiver"], refused["file"], refused["offset"], refused["reason"]
    )  # fmt: skip


def test_http_token(bulk, journal, tmp_path):
    """The token is read from its file for each request, and is in no address."""
    token = tmp_path / "token"
    token.write_text("first\n")
    kind, address = bulk()
    receiver = open_receiver(f"{address}?token_file={token}")
    receiver.send(records(1), 5)
    token.write_text("second\n")
    receiver.send(records(1, 1), 5)
    receiver.close()

    assert [("/wlcg/_bulk", "application/x-ndjson", f"Bearer {t}") for t in ("first", "second")] == kind.seen


def test_http_lines(bulk):
    """As lines, the body is the journal's own."""
    bodies = []
    _, address = bulk(lambda h, body: (bodies.append(body), h.answer(204, b"")))
    receiver = open_receiver(f"{address}?form=lines")
    receiver.send(records(3), 5)
    receiver.close()

    assert b"".join(line + b"\n" for line in records(3)) == bodies[0]


def test_missing_token_is_no_crash(bulk, tmp_path):
    """A token file that is not there is a fault of the receiver."""
    _, address = bulk()

    with pytest.raises(ReceiverError, match=r"No such file"):
        open_receiver(f"{address}?token_file={tmp_path}/none").send(records(1), 5)


@pytest.mark.parametrize("content", [b"se cret-4711", b"secret-4711\nsecond", b"secret-4711\xff", b"", b"\n"], ids=repr)
def test_what_is_no_token_is_shown_nowhere(bulk, journal, tmp_path, content, capfd):
    """A file that holds no token is a fault of the receiver, and nothing of it is shown."""
    (tmp_path / "token").write_bytes(content)
    kind, address = bulk()
    (status,) = ship(str(journal(2).parent), {"es": f"{address}?token_file={tmp_path}/token"}, 0.5)

    assert (f"{tmp_path}/token holds no token", 0) == (status.fault.partition(": ")[2], len(kind.seen))
    assert ("", "") == capfd.readouterr()


@pytest.mark.parametrize("harm", ["removed", "emptied", "linked"])
def test_file_that_is_taken_away(bulk, journal, harm):
    """A file that is harmed before it was sent keeps back no other one, and does not count as delivered."""
    kind, address = bulk()
    first = journal(2)
    second = first.with_name("b.jsonl")
    second.write_bytes(b"".join(line + b"\n" for line in records(3, 10)))
    dispatch = Dispatch(str(first.parent), {"es": address})
    size = first.stat().st_size
    first.rename(first.with_name("hidden"))
    if harm == "emptied":
        first.write_text("")
    elif harm == "linked":
        first.symlink_to("hidden")
    dispatch.wrote(str(first), size)
    dispatch.wrote(str(second), second.stat().st_size)
    dispatch.require(["es"], str(second), second.stat().st_size, 5)
    with pytest.raises(TraceError, match=r"has not taken the record"):
        dispatch.require(["es"], str(first), size, 0.3)
    dispatch.close()

    assert {"id-10", "id-11", "id-12"} == set(kind.documents)


def test_courier_outlives_what_nobody_foresaw(journal):
    """An error of a protocol's library is a fault that is told, and not the end of sending."""
    file = journal(2)
    dispatch = Dispatch(str(file.parent), {"log": "syslog+tcp://log..example.org:601"})
    dispatch.wrote(str(file), file.stat().st_size)
    with pytest.raises(TraceError, match=r"has not taken the record: failed with Unicode(Encode)?Error"):
        dispatch.require(["log"], str(file), file.stat().st_size, 0.5)
    with pytest.raises(TraceError, match=r"has not taken the record: failed with Unicode(Encode)?Error"):
        dispatch.require(["log"], str(file), file.stat().st_size, 0.5)
    dispatch.close()


def test_chirp(tmp_path, journal, monkeypatch):
    """An attribute is set for each kind of event; a failing program is a fault."""
    program = tmp_path / "condor_chirp"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{tmp_path}/calls\nexit $(cat {tmp_path}/status)\n')
    program.chmod(0o755)
    monkeypatch.setenv("WLCG_SECRET", "x")
    (tmp_path / "status").write_text("0")
    receiver = open_receiver(f"chirp:?program={program}")
    receiver.send(records(2), 5)
    verb, name, value = (tmp_path / "calls").read_text().splitlines()
    (tmp_path / "status").write_text("3")

    assert ("set_job_attr_delayed", "ChirpWlcgIsolatePayloadStart") == (verb, name)
    assert "id-1" == json.loads(json.loads(value))["event.id"]
    with pytest.raises(ReceiverError, match=r"status 3"):
        receiver.send(records(1), 5)


@pytest.fixture(scope="module")
def kafka():
    """Brokers of librdkafka's own mock cluster: real protocol, real sockets."""
    import confluent_kafka

    cluster = confluent_kafka.Producer({"test.mock.num.brokers": 2, "bootstrap.servers": "none"})
    cluster.produce("warm", b"x")
    cluster.flush(10)
    brokers = cluster.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{b.host}:{b.port}" for b in brokers)
    cluster.purge()


def test_kafka(kafka, journal):
    """All records arrive at a broker once and in order for each payload, with their identity in a header."""
    import confluent_kafka

    file = journal(300)
    (status,) = ship(str(file.parent), {"bus": f"kafka://{kafka.split(',')[0]}/traces"}, 20)
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": kafka, "group.id": "g", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe(["traces"])
    got = []
    deadline = time.monotonic() + 20
    while len(got) < 300 and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            got.append((json.loads(message.value())["event.id"], dict(message.headers())["event.id"].decode()))
    consumer.close()

    assert 0 == status.pending
    assert sorted((i, i) for i in identities(300)) == sorted(got)


def test_kafka_without_brokers():
    """Brokers that do not answer are a fault, in time."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        receiver = open_receiver(f"kafka://127.0.0.1:{taken.getsockname()[1]}/t")
        begin = time.monotonic()
        with pytest.raises(ReceiverError, match=r"kafka 127.0.0.1"):
            receiver.send(records(1), 1)

    assert time.monotonic() - begin < 5


_SENDER = """
import sys
from wlcg_isolate.trace.export import ship
print(ship(sys.argv[1], {"es": sys.argv[2]}, 60)[0].pending)
"""


def _killed_senders(kind, address, file, kills):
    """Start senders and kill them at random moments, then let one end."""
    moments = random.Random(7)
    argv = [sys.executable, "-c", _SENDER, str(file.parent), address]
    for _ in range(kills):
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as sender:
            time.sleep(moments.uniform(0.1, 0.5))
            sender.send_signal(signal.SIGKILL)
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)

    return done.stdout.strip(), kind.documents


def test_sender_is_killed(bulk, journal):
    """Records of a sender that is killed again and again arrive once each."""
    kind, address = bulk(*[lambda h, body: (time.sleep(0.05), h.take(body))] * 20)
    pending, documents = _killed_senders(kind, address, journal(4000), kills=6)

    assert "0" == pending
    assert set(identities(4000)) == set(documents)


@pytest.mark.soak
def test_hundred_thousand(bulk, journal):
    """100,000 records through restarts of both sides: none lost, none twice."""
    breaks = itertools.cycle([cut, take_and_cut, lambda h, _: h.answer(503, b""), take, take, take])
    kind, address = bulk(*itertools.islice(breaks, 120))
    pending, documents = _killed_senders(kind, address, journal(100_000), kills=20)

    assert "0" == pending
    assert set(identities(100_000)) == set(documents)


def test_fork(journal, server, quick):
    """A child process of the pilot has no courier, and sends nothing twice."""
    got = Frames()
    file = journal(10)
    dispatch = Dispatch(str(file.parent), {"loghost": f"syslog+tcp://127.0.0.1:{server(got.handle).port}"})
    dispatch.wrote(str(file), file.stat().st_size)
    child = os.fork()
    if child == 0:
        time.sleep(0.2)
        os._exit(0)
    dispatch.drain(10)
    os.waitpid(child, 0)
    dispatch.close()

    assert identities(10) == got.ids()


def test_progress_cannot_be_written(journal, bulk):
    """Where progress cannot be noted, that is told, and nothing is lost."""
    kind, address = bulk()
    file = journal(3)
    Path(file.parent / "sent").write_text("a file in the place of the directory")
    courier = Courier("es", open_receiver(address), Progress(str(file.parent), "es"))
    courier.offer(str(file), file.stat().st_size)

    assert not courier.wait(str(file), file.stat().st_size, 0.5)
    assert "File exists" in courier.status().fault or "Not a directory" in courier.status().fault
    assert set(identities(3)) == set(kind.documents)
    courier.stop(5)

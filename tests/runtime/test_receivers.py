"""
Real receivers of trace records, run by the real runtime from a Debian image:
rsyslogd with TLS, and the systemd journal.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wlcg_isolate.trace.export import Dispatch, ReceiverError, open_receiver, ship
from wlcg_isolate.trace.export.syslog import StreamSyslog

_RSYSLOG = """\
global(workDirectory="/w" maxMessageSize="64k" DefaultNetstreamDriver="ossl"
       DefaultNetstreamDriverCAFile="/w/cert.pem" DefaultNetstreamDriverCertFile="/w/cert.pem"
       DefaultNetstreamDriverKeyFile="/w/key.pem")
module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
template(name="raw" type="string" string="%msg%\\n")
input(type="imtcp" address="127.0.0.1" port="{port}")
action(type="omfile" file="/w/out" template="raw")
"""


def records(count, first=0):
    """Make lines of a journal."""
    return [
        json.dumps({"event.id": f"id-{n}", "event.action": "payload.start", "container.id": f"c{n}"}).encode()
        for n in range(first, first + count)
    ]


def identities(count):
    """List the identities of that many records."""
    return {f"id-{n}" for n in range(count)}


@pytest.fixture
def journal(tmp_path):
    """Write a file of records, and return its path."""

    def make(count):
        directory = tmp_path / "trace"
        directory.mkdir(exist_ok=True)
        path = directory / "a.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in records(count)))
        return path

    return make


def children(pid):
    """List the children of a process."""
    return [int(word) for one in Path(f"/proc/{pid}/task").glob("*/children") for word in one.read_text().split()]


class Daemon:
    """A daemon in a container, that can be killed and started again."""

    def __init__(self, argv, log, ready):
        self._argv, self._log, self._ready = argv, log, ready
        self.start()

    def start(self):
        """Start it and wait until it is there."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            )
        deadline = time.monotonic() + 20
        while not self._ready():
            assert time.monotonic() < deadline, self._log.read_text()
            assert self._process.poll() is None, self._log.read_text()
            time.sleep(0.05)

    def kill(self):
        """End it at once."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def stop(self):
        """End it in order, so that it writes what it has."""
        with contextlib.suppress(OSError):
            for child in children(self._process.pid):
                for pid in children(child):
                    os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._process.kill()
        self._process.wait(10)


@pytest.fixture
def daemon(tmp_path, runtime, image):
    """Start daemons of the image, and end them."""
    started = []

    def start(script, ready, *binds):
        argv = [runtime, "exec", "--userns", "--contain", "--pid", "--bind", f"{tmp_path}/w:/w"]
        for bind in binds:
            argv += ["--bind", bind]
        argv += [image("receivers"), "/bin/sh", "-c", script]
        started.append(Daemon(argv, tmp_path / "log", ready))
        return started[-1]

    (tmp_path / "w").mkdir()
    yield start
    for one in started:
        one.kill()


def free_port():
    """Find a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    """Tell whether somebody listens at a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def write_certificate(place):
    """Write a certificate for localhost that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    (place / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (place / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.fixture
def rsyslog(tmp_path, daemon):
    """A real rsyslogd with TLS, its address, and the records that it wrote."""
    port, place = free_port(), tmp_path / "w"
    write_certificate(place)
    (place / "conf").write_text(_RSYSLOG.format(port=port))
    there = daemon("rm -f /w/pid; exec /usr/sbin/rsyslogd -n -f /w/conf -i /w/pid", lambda: listens(port))

    def written():
        lines = (place / "out").read_text().splitlines() if (place / "out").exists() else []
        return [json.loads(line)["event.id"] for line in lines if line.endswith("}")]

    return there, f"syslog+tls://localhost:{port}?ca={place}/cert.pem", written


def wait_for(condition, seconds=10):
    """Wait until something holds, and tell whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)

    return True


def test_rsyslog(rsyslog, journal, mocker):
    """Every record arrives at a real rsyslogd over TLS, once."""
    mocker.patch.object(StreamSyslog, "settles", 0.3)
    _, address, written = rsyslog
    file = journal(1500)
    (status,) = ship(str(file.parent), {"loghost": address}, 20)

    assert (0, "") == (status.pending, status.fault)
    assert wait_for(lambda: len(written()) >= 1500)
    assert sorted(identities(1500)) == sorted(written())


def test_rsyslog_is_killed(rsyslog, journal, mocker):
    """Of a real rsyslogd that is killed in the middle, nothing is missing in the end."""
    mocker.patch.object(StreamSyslog, "settles", 1.0)
    there, address, written = rsyslog
    file = journal(6000)
    dispatch = Dispatch(str(file.parent), {"loghost": address})
    dispatch.wrote(str(file), file.stat().st_size)
    for _ in range(2):
        wait_for(lambda: len(written()) > 100)
        there.kill()
        there.start()
    dispatch.drain(30)
    dispatch.close()

    assert wait_for(lambda: identities(6000) == set(written()))


_SENDER = """
import sys
from wlcg_isolate.trace.export import ship
from wlcg_isolate.trace.export.syslog import StreamSyslog
StreamSyslog.settles = 0.3
print(ship(sys.argv[1], {"loghost": sys.argv[2]}, 60)[0].pending)
"""


def test_sender_to_rsyslog_is_killed(rsyslog, journal):
    """A sender that is killed goes on where it was, in another process."""
    _, address, written = rsyslog
    file = journal(3000)
    argv = [sys.executable, "-c", _SENDER, str(file.parent), address]
    for moment in (0.25, 0.35, 0.45):
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as sender:
            time.sleep(moment)
            sender.kill()
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)

    assert "0" == done.stdout.strip()
    assert wait_for(lambda: identities(3000) == set(written()))


def test_wrong_authority(rsyslog, tmp_path):
    """A receiver whose certificate nobody vouches for gets nothing."""
    _, address, written = rsyslog
    (tmp_path / "other").mkdir()
    write_certificate(tmp_path / "other")
    receiver = open_receiver(address.replace(f"{tmp_path}/w/", f"{tmp_path}/other/"))

    with pytest.raises(ReceiverError, match=r"certificate is not valid"):
        receiver.send(records(1), 5)
    assert [] == written()


def test_journald(tmp_path, daemon, runtime, image, journal):
    """A real systemd journal keeps each record, also one that fits no datagram."""
    run = tmp_path / "run"
    run.mkdir()
    start = "mkdir -p /run/systemd/journal /run/log/journal; exec /usr/lib/systemd/systemd-journald"
    path = run / "systemd" / "journal" / "socket"
    there = daemon(start, path.exists, f"{run}:/run")
    file = journal(40)
    large = json.dumps({"event.id": "large", "event.action": "payload.end", "x": "y" * 400_000})
    with file.open("a") as f:
        f.write(large + "\n")
    (status,) = ship(str(file.parent), {"journal": f"journald://{path}"}, 20)
    time.sleep(0.5)
    there.stop()
    argv = [runtime, "exec", "--userns", "--contain", "--bind", f"{run}:/run", image("receivers")]
    query = ["journalctl", "--directory=/run/log/journal", "--output=json", "--all", "SYSLOG_IDENTIFIER=wlcg_isolate"]
    listed = subprocess.run(
        [*argv, *query], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"}, timeout=30
    )
    entries = [json.loads(line) for line in listed.stdout.splitlines()]

    assert (0, "") == (status.pending, status.fault)
    assert identities(40) | {"large"} == {e["WLCG_EVENT_ID"] for e in entries}
    assert large in [e["WLCG_RECORD"] for e in entries]

"""
Syslog (RFC 5424) in datagrams, and over TCP and TLS.

The message is the record itself, or its core where the receiver need not take
so much: receivers must accept 480 bytes and should accept 2048 (RFC 5424,
6.1), and 8192 over TLS (RFC 5425, 4.3.1).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import ssl
import struct
import termios
from collections.abc import Sequence
from typing import Optional

from wlcg_isolate.policy.address import Address
from wlcg_isolate.trace.export.core import fitting
from wlcg_isolate.trace.export.receiver import Datagrams, ReceiverError, Refusal, fields_of

_AUTHPRIV = 10
_NOTICE, _INFO = 5, 6

#: What a security officer looks for first.
_NOTABLE = ("payload.refused", "payload.killed")

_LEAST, _DATAGRAM, _FRAME = 480, 2048, 8192


def message(line: bytes, facility: int, most: int) -> bytes:
    """
    Write one syslog message of at most *most* bytes.
    """
    record = fields_of(line)
    action = str(record.get("event.action", "-"))
    severity = _NOTICE if action in _NOTABLE else _INFO
    head = " ".join(
        (
            f"<{facility * 8 + severity}>1",
            _word(record.get("@timestamp"), 32),
            _word(record.get("host.name"), 255),
            "wlcg_isolate",
            _word(record.get("process.parent.pid"), 128),
            _word(action, 32),
            "- ",
        )
    ).encode()

    return head + fitting(line, most - len(head))


def _word(value: object, most: int) -> str:
    """
    Write a field of the header: visible ASCII, or a hyphen for nothing.
    """
    text = "".join(c for c in str(value) if "!" <= c <= "~") if value is not None else ""

    return text[:most] or "-"


class DatagramSyslog(Datagrams):
    """
    Syslog over a UNIX socket or UDP, which have no answer.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._facility = address.number("facility", _AUTHPRIV)
        self._most = address.number("size", _DATAGRAM if address.host else _FRAME)

    def send(self, lines: Sequence[bytes], seconds: float) -> Sequence[Refusal]:
        """
        Send each record in one datagram.

        Raises:
            ReceiverError: Nobody takes them.
        """
        for number, line in enumerate(lines):
            try:
                self._send(line, seconds)
            except OSError as e:
                self.close()
                # Over UDP, a refusal answers the datagram before.
                before = number - 1 if self._address.host else number
                raise ReceiverError(f"{_name(self._address)}: {e.strerror or e}", max(0, before)) from e

        return ()

    def _send(self, line: bytes, seconds: float) -> None:
        if self._socket is None:
            self._socket = self._open(seconds)
        most = self._most
        while True:
            try:
                self._socket.send(message(line, self._facility, most))
            except OSError as e:
                # The path takes less than was thought.
                if e.errno != errno.EMSGSIZE or most <= _LEAST:
                    raise
                most //= 2
            else:
                return

    def _open(self, seconds: float) -> socket.socket:
        if not self._address.host:
            return _connected(socket.AF_UNIX, socket.SOCK_DGRAM, self._address.path, seconds)
        last: Optional[OSError] = None
        for family, kind, _, _, place in socket.getaddrinfo(
            self._address.host, self._address.port, type=socket.SOCK_DGRAM
        ):
            try:
                return _connected(family, kind, place, seconds)
            except OSError as e:
                last = e
        raise last or OSError(None, "the host has no address")


class StreamSyslog:
    """
    Syslog over TCP or TLS, each message after its length (RFC 6587, 3.4.1).

    Neither has an answer.  What the receiver's kernel has acknowledged may
    still be lost when the receiver is killed, so it counts as taken only when
    the receiver has read it up to our end and closed, too, or some time
    later, if the connection still stands then.
    """

    settles = 10.0

    def __init__(self, address: Address) -> None:
        self._address = address
        self._facility = address.number("facility", _AUTHPRIV)
        self._most = address.number("size", _FRAME)
        self._socket: Optional[socket.socket] = None

    def send(self, lines: Sequence[bytes], seconds: float) -> Sequence[Refusal]:
        """
        Send all records.

        Raises:
            ReceiverError: The connection cannot be made, or broke.
        """
        frames = []
        for line in lines:
            text = message(line, self._facility, self._most)
            frames.append(b"%d %s" % (len(text), text))
        try:
            if self._socket is None:
                self._socket = self._open(seconds)
            self._socket.settimeout(seconds)
            self._socket.sendall(b"".join(frames))
        except OSError as e:
            self.close()
            raise ReceiverError(f"{_name(self._address)}: {_reason(e)}") from e

        return ()

    def delivered(self) -> bool:
        """
        Tell whether the receiver's kernel has acknowledged everything.

        Raises:
            ReceiverError: The connection broke.
        """
        if self._socket is None:
            return True
        try:
            self._refuse_closed(self._socket)
            waiting = struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, b"\0" * 4))[0]
        except OSError as e:
            self.close()
            raise ReceiverError(f"{_name(self._address)}: {_reason(e)}") from e

        return bool(waiting == 0)

    def goodbye(self, seconds: float) -> None:
        """
        End our side, and wait until the receiver ends its own.

        A receiver that is killed with something unread resets the connection
        instead (RFC 1122, 4.2.2.13).

        Raises:
            ReceiverError: It may not have read all.
        """
        if self._socket is None:
            return
        try:
            self._socket.settimeout(seconds)
            self._end_tls(self._socket)
            self._socket.shutdown(socket.SHUT_WR)
            while self._socket.recv(4096):
                pass
        except OSError as e:
            raise ReceiverError(f"{_name(self._address)}: {_reason(e)}") from e
        finally:
            self.close()

    def close(self) -> None:
        """
        End the connection at once.
        """
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    @staticmethod
    def _end_tls(connection: socket.socket) -> None:
        """
        Say that no more comes; many receivers close without an answer to it.
        """
        if isinstance(connection, ssl.SSLSocket):
            with contextlib.suppress(ssl.SSLEOFError, ssl.SSLZeroReturnError):
                connection.unwrap()

    def _open(self, seconds: float) -> socket.socket:
        plain = socket.create_connection((self._address.host, self._address.port), seconds)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._address.scheme == "syslog+tcp":
                return plain
            return tls_context(self._address).wrap_socket(plain, server_hostname=self._address.host)
        except BaseException:
            plain.close()
            raise

    @staticmethod
    def _refuse_closed(connection: socket.socket) -> None:
        """
        Raise where the other side has closed: it never says anything else.
        """
        connection.settimeout(0)
        try:
            data = connection.recv(4096)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        if not data:
            raise OSError(None, "the receiver closed the connection")


def tls_context(address: Address) -> ssl.SSLContext:
    """
    Make what checks a receiver's certificate and shows ours.

    Raises:
        OSError: A file cannot be read, or holds something else.
    """
    context = ssl.create_default_context(cafile=address.options.get("ca"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    cert = address.options.get("cert")
    if cert is not None:
        context.load_cert_chain(cert)

    return context


def _connected(family: int, kind: int, place: object, seconds: float) -> socket.socket:
    made = socket.socket(family, kind)
    try:
        made.settimeout(seconds)
        made.connect(place)  # type: ignore[arg-type]
    except BaseException:
        made.close()
        raise

    return made


def _name(address: Address) -> str:
    return f"{address.scheme} {address.host or address.path}"


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "no answer in time"

    return error.strerror or str(error)

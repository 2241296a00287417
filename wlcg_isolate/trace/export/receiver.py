"""
What takes records, whatever its protocol.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional, Protocol

from wlcg_isolate.policy.address import Address, read_address


class ReceiverError(Exception):
    """
    The receiver did not take everything; what it did not may be sent again.

    Attributes:
        taken: How many of the lines, from the first on, it has taken.
    """

    def __init__(self, reason: str, taken: int = 0) -> None:
        super().__init__(reason)
        self.taken = taken


class Refusal(NamedTuple):
    """
    A record that the receiver will never take.

    Attributes:
        number: Which of the lines it is, from 0.

        reason: What the receiver says.
    """

    number: int
    reason: str


class Receiver(Protocol):
    """
    One connection to one receiver, used by one thread.

    Attributes:
        settles: Seconds after which what was sent counts as taken, since the
            protocol has no answer; 0 where it has one.
    """

    settles: float

    def send(self, lines: Sequence[bytes], seconds: float) -> Sequence[Refusal]:
        """
        Send some records.

        Args:
            lines: Records as they are in the journal, without line ends.

            seconds: Deadline for each wait.

        Returns:
            What it refused for good; it has taken all others.

        Raises:
            ReceiverError: It has not taken all.
        """

    def delivered(self) -> bool:
        """
        Tell whether everything that was sent has left this host.

        Raises:
            ReceiverError: It may be lost.
        """

    def goodbye(self, seconds: float) -> None:
        """
        End the connection in order: afterwards all that was sent is taken.

        Raises:
            ReceiverError: It may be lost.
        """

    def close(self) -> None:
        """
        End the connection.
        """


class Answered:
    """
    A receiver that has taken what `send` did not raise for.
    """

    settles = 0.0

    def delivered(self) -> bool:
        """
        Say yes: it is with the receiver.
        """
        return True

    def goodbye(self, _seconds: float) -> None:
        """
        End the connection; what was sent is taken.
        """
        self.close()

    def close(self) -> None:
        """
        Do nothing, where no connection is kept.
        """


class Datagrams(Answered):
    """
    A receiver of datagrams, which is with them when the kernel has them.
    """

    _socket: Optional[socket.socket] = None

    def close(self) -> None:
        """
        End the connection.
        """
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def open_receiver(address: str) -> Receiver:
    """
    Make what sends to an address; nothing is sent or connected yet.

    Raises:
        ValueError: The address is not valid, or needs an extra that is not
            installed.
    """
    parsed = read_address(address)
    # What a pilot does not use it must not load.
    if parsed.scheme in ("http", "https"):
        from wlcg_isolate.trace.export.http import Http

        return Http(parsed)
    if parsed.scheme == "kafka":
        from wlcg_isolate.trace.export.kafka import Kafka

        return Kafka(parsed)
    if parsed.scheme == "chirp":
        from wlcg_isolate.trace.export.chirp import Chirp

        return Chirp(parsed)

    return _socket_receiver(parsed)


def _socket_receiver(address: Address) -> Receiver:
    if address.scheme == "journald":
        from wlcg_isolate.trace.export.journald import Journald

        return Journald(address)
    from wlcg_isolate.trace.export.syslog import DatagramSyslog, StreamSyslog

    if address.scheme in ("syslog+unix", "syslog+udp"):
        return DatagramSyslog(address)

    return StreamSyslog(address)


def fields_of(line: bytes) -> Mapping[str, Any]:
    """
    Read a record; one that is none (a torn line of a crash) has no fields.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}

    return record if isinstance(record, dict) else {}

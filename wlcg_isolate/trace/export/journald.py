"""
The systemd journal, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from wlcg_isolate.policy.address import Address
from wlcg_isolate.trace.export.receiver import Datagrams, ReceiverError, Refusal, fields_of

#: One message id for each event, as sd-id128(3) asks: journalctl finds the
#: events of one kind by it.
_NAMESPACE = uuid.UUID("6f1a0c52-7a0e-5d0b-9a52-9b6a3c1f7e11")

#: Fields of the journal by which a site searches, and whose values they are.
_FIELDS: Mapping[str, str] = {
    "WLCG_EVENT_ID": "event.id",
    "WLCG_EVENT_ACTION": "event.action",
    "WLCG_TRACE_ID": "container.id",
    "WLCG_VO": "wlcg.vo",
    "WLCG_JOB_ID": "wlcg.job.id",
    "WLCG_USER_HASH": "user.hash",
    "WLCG_BATCH_JOB_ID": "wlcg.batch.job_id",
}

#: linux/fcntl.h: what the journal asks of a file in place of a datagram.
_F_ADD_SEALS, _ALL_SEALS = 1033, 0xF


def message_id(action: str) -> str:
    """
    Return the message id of an event.
    """
    return uuid.uuid5(_NAMESPACE, action).hex


def entry(line: bytes) -> bytes:
    """
    Write one entry of the journal.
    """
    record = fields_of(line)
    action = str(record.get("event.action", "unknown"))
    fields: dict[str, Any] = {
        "MESSAGE": f"{action} {record.get('container.id', '')}".rstrip(),
        "MESSAGE_ID": message_id(action),
        "PRIORITY": "5" if action in ("payload.refused", "payload.killed") else "6",
        "SYSLOG_IDENTIFIER": "wlcg_isolate",
        **{name: record[key] for name, key in _FIELDS.items() if key in record},
        "WLCG_RECORD": line,
    }

    return b"".join(_field(name, value) for name, value in fields.items())


def _field(name: str, value: Any) -> bytes:
    data = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"

    return name.encode() + b"=" + data + b"\n"


class Journald(Datagrams):
    """
    The journal's socket.
    """

    def __init__(self, address: Address) -> None:
        self._path = address.path

    def send(self, lines: Sequence[bytes], seconds: float) -> Sequence[Refusal]:
        """
        Send each record as an entry.

        Raises:
            ReceiverError: The journal does not take them.
        """
        for number, line in enumerate(lines):
            try:
                self._send(entry(line), seconds)
            except OSError as e:
                self.close()
                raise ReceiverError(f"journald {self._path}: {e.strerror or e}", number) from e

        return ()

    def _send(self, data: bytes, seconds: float) -> None:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.connect(self._path)
        self._socket.settimeout(seconds)
        try:
            self._socket.send(data)
        except OSError as e:
            if e.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_file(self._socket, data)

    @staticmethod
    def _send_file(connection: socket.socket, data: bytes) -> None:
        """
        Hand a large entry over as a sealed file.
        """
        fd = os.memfd_create("wlcg_isolate", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(fd, "wb", closefd=False) as f:
                f.write(data)
            fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
            connection.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        finally:
            os.close(fd)

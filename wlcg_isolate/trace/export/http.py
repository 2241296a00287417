"""
JSON over HTTP: the bulk interface of OpenSearch and Elasticsearch, or plain
JSON lines for Logstash, Vector and Fluent Bit.

In bulk, ``create`` with ``event.id`` as the document's id makes a record that
is sent twice one document: the second is answered with 409, which means that
it is there.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from http import client
from typing import Any, Optional

from wlcg_isolate.policy.address import Address
from wlcg_isolate.trace.export.receiver import Answered, ReceiverError, Refusal, fields_of

_NDJSON = "application/x-ndjson"

#: An answer to some hundred records is far smaller.
_MOST_ANSWER = 16 << 20

#: A header that is longer is refused by every server.
_MOST_TOKEN = 1 << 16

#: Of one record: it is there, now or since before.
_TAKEN = frozenset({200, 201, 409})


class Http(Answered):
    """
    One connection, kept open.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._bulk = address.options.get("form", "bulk") == "bulk"
        self._connection: Optional[client.HTTPConnection] = None

    def send(self, lines: Sequence[bytes], seconds: float) -> Sequence[Refusal]:
        """
        Send all records in one request.

        Raises:
            ReceiverError: They were not taken, or not all.
        """
        try:
            status, answer = self._post(self._body(lines), seconds)
        except (OSError, client.HTTPException) as e:
            self.close()
            raise ReceiverError(f"{self._place()}: {getattr(e, 'strerror', None) or repr(e)}") from e
        if not 200 <= status < 300:
            raise ReceiverError(f"{self._place()}: status {status}")

        return self._verdicts(answer, len(lines)) if self._bulk else ()

    def close(self) -> None:
        """
        End the connection.
        """
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
        self._connection = None

    def _body(self, lines: Sequence[bytes]) -> bytes:
        parts = []
        for line in lines:
            if self._bulk:
                identity = fields_of(line).get("event.id")
                action = {"create": {"_id": identity} if isinstance(identity, str) else {}}
                parts.append(json.dumps(action).encode())
            parts.append(line)

        return b"\n".join(parts) + b"\n"

    def _post(self, body: bytes, seconds: float) -> tuple[int, bytes]:
        kept = self._connection is not None
        try:
            return self._ask(body, seconds)
        except (client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # A server may close a connection that is kept open at any time.
            if not kept:
                raise
            self.close()
            return self._ask(body, seconds)

    def _ask(self, body: bytes, seconds: float) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = self._open(seconds)
        self._connection.timeout = seconds
        if self._connection.sock is not None:
            self._connection.sock.settimeout(seconds)
        headers = {"Content-Type": _NDJSON, "Accept": "application/json", **self._authorization()}
        self._connection.request("POST", self._address.path, body, headers)
        response = self._connection.getresponse()
        answer = response.read(_MOST_ANSWER + 1)
        if len(answer) > _MOST_ANSWER:
            raise client.HTTPException("the answer has no end")

        return response.status, answer

    def _open(self, seconds: float) -> client.HTTPConnection:
        host, port = self._address.host, self._address.port
        if self._address.scheme == "http":
            return client.HTTPConnection(host, port, timeout=seconds)
        from wlcg_isolate.trace.export.syslog import tls_context

        return client.HTTPSConnection(host, port, timeout=seconds, context=tls_context(self._address))

    def _authorization(self) -> dict[str, str]:
        """
        Read the token anew each time: it is exchanged while a pilot runs.
        """
        path = self._address.options.get("token_file")
        if path is None:
            return {}
        with open(path, encoding="ascii", errors="replace") as f:
            token = f.read(_MOST_TOKEN).strip()
        # What refuses it later shows it.
        if not re.fullmatch(r"[!-~]+", token):
            raise OSError(None, f"{path} holds no token")

        return {"Authorization": f"Bearer {token}"}

    def _verdicts(self, answer: bytes, count: int) -> Sequence[Refusal]:
        """
        Read what became of each record.

        Raises:
            ReceiverError: Some may be sent again.
        """
        try:
            items = json.loads(answer)["items"]
            verdicts = [next(iter(item.values())) for item in items]
            states = [int(verdict["status"]) for verdict in verdicts]
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError, StopIteration) as e:
            raise ReceiverError(f"{self._place()}: the answer is none of the bulk interface") from e
        if len(states) != count:
            raise ReceiverError(f"{self._place()}: {len(states)} answers to {count} records")
        for number, state in enumerate(states):
            if state == 429 or state >= 500:
                raise ReceiverError(f"{self._place()}: status {state} for a record", number)

        return [
            Refusal(number, f"status {state}: {_cause(verdicts[number])}")
            for number, state in enumerate(states)
            if state not in _TAKEN
        ]

    def _place(self) -> str:
        return f"{self._address.scheme} {self._address.host}"


def _cause(verdict: Any) -> str:
    error = verdict.get("error")

    return str(error.get("reason", error) if isinstance(error, dict) else error)[:500]

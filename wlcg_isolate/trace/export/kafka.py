"""
Apache Kafka, through the package confluent-kafka (extra ``kafka``).

The key is the payload's trace id, so that the records of one payload keep
their order; ``event.id`` is a header.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Optional

from wlcg_isolate.policy.address import Address
from wlcg_isolate.trace.export.receiver import Answered, ReceiverError, Refusal, fields_of


class Kafka(Answered):
    """
    One producer for one topic.
    """

    def __init__(self, address: Address) -> None:
        try:
            import confluent_kafka
        except ImportError as e:
            msg = 'kafka needs the package confluent-kafka: pip install "wlcg_isolate[kafka]"'
            raise ValueError(msg) from e
        self._errors = confluent_kafka.KafkaException
        self._make = confluent_kafka.Producer
        self._address = address
        self._producer: Optional[Any] = None

    def send(self, lines: Sequence[bytes], seconds: float) -> Sequence[Refusal]:
        """
        Produce all records and wait for the broker's answers.

        Raises:
            ReceiverError: Some were not acknowledged.
        """
        acknowledged = [False] * len(lines)
        reasons: list[str] = []

        def answered(error: Any, number: int) -> None:
            acknowledged[number] = error is None
            if error is not None:
                reasons.append(str(error))

        try:
            if self._producer is None:
                self._producer = self._make(self._settings(seconds))
            for number, line in enumerate(lines):
                self._produce(line, lambda error, _, number=number: answered(error, number))
            self._producer.flush(seconds)
        except (self._errors, BufferError, OSError, ValueError) as e:
            self.close()
            raise ReceiverError(f"kafka {self._address.host}: {e}") from e
        if not all(acknowledged):
            # What is still queued would be produced after it was sent again.
            self.close()
            reason = reasons[0] if reasons else "no answer in time"
            raise ReceiverError(f"kafka {self._address.host}: {reason}", acknowledged.index(False))

        return ()

    def close(self) -> None:
        """
        Forget the producer and what it still holds.
        """
        if self._producer is not None:
            self._producer.purge()
        self._producer = None

    def _produce(self, line: bytes, answered: Any) -> None:
        record = fields_of(line)
        if self._producer is not None:
            self._producer.produce(
                self._address.path.lstrip("/"),
                value=line,
                key=str(record.get("container.id", "")),
                headers={"event.id": str(record.get("event.id", ""))},
                on_delivery=answered,
            )
            self._producer.poll(0)

    def _settings(self, seconds: float) -> dict[str, Any]:
        path = self._address.options.get("config")
        given: dict[str, Any] = {}
        if path is not None:
            with open(path, encoding="utf-8") as f:
                given = json.load(f)

        return {
            "bootstrap.servers": f"{self._address.host}:{self._address.port}",
            "client.id": "wlcg_isolate",
            "enable.idempotence": True,
            "message.timeout.ms": max(1, int(seconds * 1000)),
            **given,
        }

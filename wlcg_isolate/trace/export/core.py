"""
The core of a record, for what cannot carry a whole one.

It names the record, the payload and how it ended; the SHA-256 of the whole
line ties it to the journal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from wlcg_isolate.trace.export.receiver import fields_of

#: Most important first; what does not fit is left out from the end.
CORE = (
    "event.id",
    "event.action",
    "container.id",
    "@timestamp",
    "host.name",
    "process.pid",
    "wlcg.process.start_ticks",
    "host.boot.id",
    "wlcg.vo",
    "wlcg.job.id",
    "user.hash",
    "user.name",
    "wlcg.token.iss",
    "wlcg.token.sub",
    "wlcg.pilot.id",
    "wlcg.batch.system",
    "wlcg.batch.job_id",
    "event.sequence",
    "wlcg.outcome.kind",
    "wlcg.outcome.failed_by",
    "process.exit_code",
    "wlcg.process.term_signal",
    "container.image.name",
    "wlcg.image.digest.value",
    "event.dataset",
    "wlcg.schema_version",
)


def core_of(line: bytes, most: int) -> bytes:
    """
    Make the core of a record.

    Args:
        line: The record as it is in the journal.

        most: Bytes that it may have; at least its digest and identity are
            kept whatever this says.
    """
    record = fields_of(line)
    fields = {
        "wlcg.export.sha256": hashlib.sha256(line).hexdigest(),
        **{name: record[name] for name in CORE if name in record},
    }
    while True:
        text = _compact(fields)
        if len(text) <= most or len(fields) <= 2:
            return text
        fields.popitem()


def fitting(line: bytes, most: int) -> bytes:
    """
    Return the record itself where it fits, or its core.
    """
    return line if len(line) <= most else core_of(line, most)


def _compact(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode()

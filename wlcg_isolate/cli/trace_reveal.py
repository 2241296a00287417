"""
``wlcg-isolate trace reveal``: open the sealed identities of records.

Rule: that somebody looked is on disk before anything is shown.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any

from wlcg_isolate.cli.output import print_json, report, report_error, table
from wlcg_isolate.cli.trace import parser_for, place_of
from wlcg_isolate.errors import IsolateError, Problem, TraceError
from wlcg_isolate.host.plainfile import read_plain
from wlcg_isolate.policy import Policy
from wlcg_isolate.trace import Journal, TraceRecord, journal_for, read_records
from wlcg_isolate.trace.pilot import common_fields
from wlcg_isolate.trace.sealing import name_of_private, unseal

_MAX_KEY_BYTES = 1 << 16

_HEAD = ("TIME", "EVENT", "PAYLOAD", "USER", "TOKEN")


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = parser_for("reveal")
    parser.add_argument("--key", metavar="FILE", required=True, help="private key (X25519, PEM)")
    parser.add_argument("--reason", metavar="TEXT", required=True, help="why; it is recorded")
    parser.add_argument("--audit-dir", metavar="DIR", required=True, help="where it is recorded that this was done")
    parser.add_argument("--trace-id", metavar="ID", help="only this payload's records")
    options = parser.parse_args(argv)
    try:
        key, kid = _key(options.key)
        records, remarks = read_records(place_of(options))
        journal = journal_for([options.audit_dir])
        shown = list(_opened(_wanted(records, options.trace_id), key, kid, journal, options.reason))
    except IsolateError as error:
        report_error(error)
        return 1
    if options.json:
        print_json([{**record, **identity} for record, identity, _ in shown])
    else:
        print(table([_HEAD, *(_row(record, identity) for record, identity, _ in shown)]))
    faults = [fault for _, _, fault in shown if fault]
    report("\n".join((*remarks, *faults)))

    return int(bool(faults))


def _wanted(records: list[dict[str, Any]], trace_id: Any) -> Iterator[dict[str, Any]]:
    seen: set[Any] = set()
    for record in records:
        sealed = record.get("wlcg.identity.sealed")
        # All records of a payload hold the same.
        if sealed is not None and sealed not in seen and trace_id in (None, record.get("container.id")):
            seen.add(sealed)
            yield record


def _opened(
    records: Iterator[dict[str, Any]], key: bytes, kid: str, journal: Journal, reason: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any], str]]:
    """
    Open each record, with a record that it was done, or say why not.
    """
    for record in records:
        trace_id = str(record.get("container.id", ""))
        if record.get("wlcg.identity.sealed_kid") != kid:
            yield record, {}, f"{trace_id}: it is sealed for key {record.get('wlcg.identity.sealed_kid')}, not {kid}"
            continue
        fields = {
            **common_fields(Policy()),
            "wlcg.identity.sealed_kid": kid,
            "wlcg.resolve.reason": reason,
            "wlcg.resolve.event_id": str(record.get("event.id")),
        }
        journal.write(TraceRecord(action="identity.resolve", trace_id=trace_id, fields=fields))
        try:
            sealed = base64.b64decode(str(record["wlcg.identity.sealed"]), validate=True)
            yield record, dict(json.loads(unseal(sealed, key, trace_id))), ""
        except ValueError as e:
            yield record, {}, f"{trace_id}: {e}"


def _row(record: dict[str, Any], identity: dict[str, Any]) -> tuple[str, ...]:
    token = f"{identity['wlcg.token.iss']}#{identity['wlcg.token.sub']}" if "wlcg.token.sub" in identity else "-"

    return (
        str(record.get("@timestamp", ""))[:19] + "Z",
        str(record["event.action"]),
        str(record.get("container.id", "-")),
        str(identity.get("user.name", "-")),
        token,
    )


def _key(path: str) -> tuple[bytes, str]:
    try:
        key = read_plain(path, _MAX_KEY_BYTES, secret=True)
        return key, name_of_private(key)
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else None
        raise TraceError(
            [
                Problem(
                    kind="identity-unreadable",
                    message=f"{path} cannot be used: {reason or e}",
                    origin="--key",
                    advice="name the private key that belongs to trace.identity_seal_file",
                )
            ]
        ) from e

"""
``wlcg-isolate trace show``: show records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from wlcg_isolate.cli.output import print_json, report, report_error, table
from wlcg_isolate.cli.trace import parser_for, place_of
from wlcg_isolate.errors import IsolateError
from wlcg_isolate.trace import read_records


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = parser_for("show")
    parser.add_argument("--trace-id", metavar="ID", help="only this payload's records")
    parser.add_argument("--journal", action="store_true", help="also what the journal wrote about itself (log.*)")
    options = parser.parse_args(argv)
    try:
        records, remarks = read_records(place_of(options), journal=options.journal)
    except IsolateError as error:
        report_error(error)
        return 1
    if options.trace_id is not None:
        records = [r for r in records if r.get("container.id") == options.trace_id]

    if options.json:
        print_json(records)
    else:
        print(table([_HEAD, *_rows(records)]))
    report("\n".join(remarks))

    return 0


_HEAD = ("TIME", "EVENT", "PAYLOAD", "PID", "VO", "USER", "JOB", "IMAGE OR RESULT")


#: What names a user, in whatever mode.
_USER = ("user.name", "wlcg.token.sub", "user.hash", "wlcg.identity.mode")


def _rows(records: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for record in records:
        yield (
            str(record.get("@timestamp", ""))[:19] + "Z",
            str(record["event.action"]),
            str(record.get("container.id", "-"))[:8],
            str(record.get("process.pid", "-")),
            str(record.get("wlcg.vo", "-")),
            str(next((record[n] for n in _USER if n in record), "-")),
            str(record.get("wlcg.job.id", "-")),
            _result(record),
        )


def _result(record: dict[str, Any]) -> str:
    if "wlcg.kill.reason" in record:
        return f"{record['wlcg.kill.reason']} ({record.get('wlcg.kill.signal', '-')})"
    if "wlcg.image.resolved_path" in record:
        return str(record.get("wlcg.image.resolved_path", "-"))
    kinds = [str(reason.get("kind")) for reason in record.get("event.reason", ())]
    if kinds:
        return ", ".join(kinds)
    if "wlcg.outcome.kind" not in record:
        return "-"
    ended_by = record.get("wlcg.process.term_signal", record.get("process.exit_code", "-"))

    return f"{record['wlcg.outcome.kind']} ({ended_by})"

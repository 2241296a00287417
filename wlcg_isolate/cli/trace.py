"""
``wlcg-isolate trace``: show trace records.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import Any

from wlcg_isolate.cli import trace_reveal as reveal
from wlcg_isolate.cli.output import print_json, report, report_error, table
from wlcg_isolate.errors import IsolateError
from wlcg_isolate.host import trace_candidates
from wlcg_isolate.policy import load_policy
from wlcg_isolate.trace import read_records


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = argparse.ArgumentParser(prog="wlcg-isolate trace", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    show = commands.add_parser("show", help="show records in the order of their time", allow_abbrev=False)
    show.add_argument("path", metavar="DIR|FILE", nargs="?", help="where the records are (default: as for run)")
    show.add_argument("--trace-dir", metavar="DIR", help="the same as DIR")
    show.add_argument("--trace-id", metavar="ID", help="only this payload's records")
    show.add_argument("--json", action="store_true", help="as a JSON list")
    reveal.add_to(commands)
    options = parser.parse_args(argv)
    if options.command == "reveal":
        return reveal.main(options)
    try:
        records, remarks = read_records(options.path or options.trace_dir or _default())
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


def _default() -> str:
    """
    Find the default directory that exists.
    """
    places = list(trace_candidates(load_policy(), os.environ, os.geteuid()))

    return next((place for place in places if os.path.isdir(place)), places[-1])

"""
``wlcg-isolate trace ship``: send what receivers have not taken yet.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs

from wlcg_isolate.cli.output import print_json, report_error, visible
from wlcg_isolate.cli.trace import parser_for, place_of
from wlcg_isolate.errors import IsolateError, PolicyError, Problem
from wlcg_isolate.policy import load_policy
from wlcg_isolate.policy.trace_checks import receivers as receiver_faults
from wlcg_isolate.trace.export import Status, ship

_EPILOG = """\
exit status:
  0  all receivers have everything
  1  something is left
  2  the directory cannot be read, or no receiver is known"""


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = parser_for("ship", _EPILOG)
    parser.add_argument("--site", metavar="FILE", help="the site's policy, which names receivers")
    parser.add_argument("--to", metavar="NAME=ADDRESS", action="append", default=[], help="a receiver (repeatable)")
    parser.add_argument("--seconds", metavar="N", type=float, default=60.0, help="deadline (default: 60)")
    options = parser.parse_args(argv)
    begin = time.monotonic()
    try:
        receivers = _receivers(options.to) or load_policy(options.site).trace_receivers
        if not receivers:
            raise PolicyError([_problem("no receiver is known", "name one with --to or in trace.receivers")])
        statuses = ship(place_of(options), receivers, options.seconds)
    except IsolateError as error:
        report_error(error)
        return 2

    if options.json:
        print_json({"receivers": [attrs.asdict(s) for s in statuses], "seconds": round(time.monotonic() - begin, 3)})
    else:
        print("\n".join(visible(_line(status)) for status in statuses))

    return int(any(status.pending for status in statuses))


def _receivers(words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    problems = []
    for word in words:
        name, equals, address = word.partition("=")
        found[name] = address
        faults = receiver_faults({name: address}) if equals else ("is no NAME=ADDRESS",)
        problems += [_problem(f"{word!r}: {fault}", "see docs/how-to/send-trace-records.md") for fault in faults]
    if problems:
        raise PolicyError(problems)

    return found


def _problem(message: str, advice: str) -> Problem:
    return Problem(kind="policy-invalid", message=message, origin="--to", advice=advice)


def _line(status: Status) -> str:
    if not status.pending:
        return f"{status.receiver}: everything is sent"

    return f"{status.receiver}: {status.pending} bytes are left: {status.fault or 'no time left'}"

"""
``wlcg-isolate trace find``: find payloads by what a responder knows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Optional

from wlcg_isolate.cli.output import print_json, report, report_error, visible
from wlcg_isolate.cli.trace_options import ask_parser, burst, default_places, question_of, save
from wlcg_isolate.cli.trace_pages import payload_table, sighting_table
from wlcg_isolate.errors import IsolateError

_EPILOG = """\
All that is said must hold; of an option that is given more than once, one of
its values.  TIME is RFC 3339 with its zone: 2026-11-25T14:30:00Z.  A payload
without a record of its end counts as being there.  Exit status: 0 (also when
nothing is found), 1 when records could not be read.
"""


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = ask_parser("find", "Find payloads by what a responder knows.", _EPILOG)
    ways = parser.add_argument_group("instead of looking for records").add_mutually_exclusive_group()
    ways.add_argument(
        "--alive", metavar="PID", type=int, help="the payload of this process of this node, or of its parents"
    )
    ways.add_argument(
        "--shared-with",
        metavar="ID",
        help="who was on the node at the same time as this payload, or later in its pilot",
    )
    shown = parser.add_argument_group("what is shown")
    shown.add_argument("--json", action="store_true", help="as a JSON list of payloads")
    shown.add_argument("--full", action="store_true", help="with all records of each payload (for --json)")
    shown.add_argument(
        "--seen", metavar="KEY", help="when each value of a key, such as user.name, was first and last seen"
    )
    shown.add_argument(
        "--bursts", metavar="N/SECONDS", type=burst, help="where N payloads or more were refused in so short a time"
    )
    shown.add_argument(
        "--timeline",
        metavar="FILE.html",
        nargs="?",
        const="-",
        help="as a picture: in the terminal, or as a page in a file",
    )
    options = parser.parse_args(argv)
    try:
        found, remarks = _found(options)
        _show(options, found)
    except IsolateError as error:
        report_error(error)
        return 1
    report("\n".join(remarks))

    return 0


def _found(options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[str]]:
    from wlcg_isolate.trace.query.alive import payloads_of_process
    from wlcg_isolate.trace.query.answer import engine_for, neighbours, payloads, sightings
    from wlcg_isolate.trace.query.question import Question

    question = question_of(options)
    with engine_for(options.trace_dir or default_places(), options.engine) as engine:
        if options.alive is not None:
            found = payloads_of_process(engine, options.alive)
        elif options.shared_with is not None:
            meant = payloads(engine, Question(trace_ids=(options.shared_with,)))
            found = [other for one in meant for other in neighbours(engine, one, question)]
        elif options.seen is not None:
            found = sightings(engine, question, options.seen)
        else:
            found = payloads(engine, question, whole=options.full)

        return _bursts(options, found), engine.remarks


def _bursts(options: argparse.Namespace, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if options.bursts is None:
        return found
    from wlcg_isolate.trace.query.bursts import bursts

    return bursts(found, *options.bursts)


def _show(options: argparse.Namespace, found: list[dict[str, Any]]) -> None:
    if options.json:
        print_json(found)
    elif options.seen is not None or options.bursts is not None:
        print(visible_lines(sighting_table(found)))
    elif options.timeline is not None:
        _picture(options.timeline, found)
    else:
        print(visible_lines(payload_table(found)))


def _picture(file: Optional[str], found: list[dict[str, Any]]) -> None:
    if file == "-":
        from wlcg_isolate.cli.trace_pages import width
        from wlcg_isolate.trace.query.bars import bars

        print(visible_lines(bars(found, width())))
    else:
        from wlcg_isolate.trace.query.page import page

        save(str(file), page(found))


def visible_lines(text: str) -> str:
    """
    Escape what does not fit standard output, but for the ends of lines.
    """
    return "\n".join(map(visible, text.split("\n")))

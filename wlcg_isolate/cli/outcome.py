"""
``wlcg-isolate outcome``: tell what became of a payload that the caller started
itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from wlcg_isolate.cli.output import OutcomeFile, print_json, report_error
from wlcg_isolate.errors import IsolateError
from wlcg_isolate.remains import Start, outcome_of
from wlcg_isolate.structure import read_request_json
from wlcg_isolate.trace import close_journals
from wlcg_isolate.trace.pilot import end_pilot
from wlcg_isolate.trace.sending import flush

_EPILOG = """\
Exit status: 0 when the outcome is known, whatever it is; 1 otherwise.
"""


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = argparse.ArgumentParser(
        prog="wlcg-isolate outcome",
        description="Tell the outcome of a payload that was started with the supervised argv or the shell line of "
        "wlcg-isolate plan, write its trace records, and remove what it left.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--plan", metavar="FILE|-", required=True, help="what wlcg-isolate plan --json has printed")
    parser.add_argument(
        "--exit-code", metavar="N", type=int, help="exit status of what was started; -N when signal N ended it"
    )
    parser.add_argument("--outcome", metavar="FILE", help="write the outcome there as well, in JSON")
    options = parser.parse_args(argv)
    try:
        start = Start.from_dict(read_request_json(options.plan, "--plan").get("start", {}))
        file = None if options.outcome is None else OutcomeFile(options.outcome)
        outcome = outcome_of(start, options.exit_code)
    except IsolateError as error:
        report_error(error)
        return 1
    if file is not None:
        file.write(outcome)
    print_json(outcome.to_dict())
    end_pilot()
    close_journals()
    flush()

    return 0

"""
``wlcg-isolate plan``: decide and print.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Optional

from wlcg_isolate.cli import options
from wlcg_isolate.cli.output import OutcomeFile, print_json, report, report_error, workdir_of
from wlcg_isolate.errors import IsolateError, RequestError
from wlcg_isolate.host.dump import read
from wlcg_isolate.outcome import NOT_STARTED_STATUS, of_refusal
from wlcg_isolate.plan import Plan, make_plan

_EPILOG = f"""\
Exit status: 0 when there is a plan, {NOT_STARTED_STATUS} when the payload would be refused.

"""


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = options.parser_for("plan", "Show how a payload would run.  Starts nothing.", _EPILOG)
    form = parser.add_argument_group("what to print").add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the plan as JSON")
    form.add_argument("--shell", action="store_true", help="one POSIX shell line that runs the payload")
    form.add_argument("--format", choices=("htcondor",), help="knobs of HTCondor, which then starts containers itself")
    form.add_argument("--why", metavar="NAME", help="what becomes of one variable, and why")
    node = parser.add_argument_group("for which node")
    node.add_argument("--facts", metavar="FILE", help="plan for the node that wlcg-isolate doctor --json described")
    parsed = options.parse(parser, argv)
    file: Optional[OutcomeFile] = None
    try:
        if parsed.outcome is not None:
            file = OutcomeFile(parsed.outcome, workdir_of(parsed))
        if parsed.problems or parsed.request is None:
            raise RequestError(parsed.problems)
        facts = read(parsed.options.facts) if parsed.options.facts else None
        _print(make_plan(parsed.request, parsed.policy, facts), parsed.options)
    except IsolateError as error:
        if file is not None:
            file.write(of_refusal(error))
        report_error(error)
        return NOT_STARTED_STATUS

    return 0


def _print(plan: Plan, form: argparse.Namespace) -> None:
    if form.json:
        from wlcg_isolate.remains import Start

        print_json({**plan.to_dict(), "start": Start.of(plan).to_dict()})
    elif form.shell:
        print(plan.shell())
    elif form.format is not None:
        from wlcg_isolate.pilots.knobs import knobs

        print(knobs(plan), end="")
    elif form.why is not None:
        print(plan.why(form.why))
    else:
        print(plan.explain())
    if form.json or form.shell or form.format is not None or form.why is not None:
        report("\n".join(f"warning: {warning}" for warning in plan.warnings))
    sys.stdout.flush()

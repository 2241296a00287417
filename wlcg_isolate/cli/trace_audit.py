"""
``wlcg-isolate trace audit``: whether payloads can be traced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from wlcg_isolate.cli.output import print_json, report, report_error, table
from wlcg_isolate.cli.trace_options import ask_parser, default_places, question_of
from wlcg_isolate.errors import IsolateError

_EPILOG = """\
Takes a payload by chance and looks for it as a responder would: by the node
and a moment, by its user, by its job.  With --batch-jobs also tells which jobs
of the batch system left no records.  Exit status: 0 when everything was found,
1 when records or the list could not be read, 3 when something is missing.
"""

#: Exit status when something is missing.
MISSING = 3


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    text = "Show that owner, activity and node of payloads can be found, or what is missing."
    parser = ask_parser("audit", text, _EPILOG)
    parser.add_argument("--seed", metavar="N", type=int, help="choose the same payload again")
    parser.add_argument("--count", metavar="N", type=int, default=1, help="how many payloads to look at (default: 1)")
    parser.add_argument(
        "--batch-jobs",
        dest="batch_list",
        metavar="FILE",
        help="what condor_history -json, sacct --parsable2 or a CSV lists",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(argv)
    try:
        from wlcg_isolate.trace.query.answer import engine_for
        from wlcg_isolate.trace.query.audit import audit
        from wlcg_isolate.trace.query.batchlist import read_batch_jobs

        jobs = None if options.batch_list is None else read_batch_jobs(options.batch_list)
        with engine_for(options.trace_dir or default_places(), options.engine) as engine:
            found = audit(engine, question_of(options), seed=options.seed, count=options.count, jobs=jobs)
            remarks = engine.remarks
    except IsolateError as error:
        report_error(error)
        return 1
    if options.json:
        print_json(found)
    else:
        print(table(list(_rows(found))))
    report("\n".join(remarks))

    return MISSING if found["findings"] else 0


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for sample in found["samples"]:
        yield "payload", f"{sample['trace_id']} on {sample['host']}, started {sample['started']}"
        for part in ("owner", "activity", "node"):
            yield f"  {part}", _part(sample[part])
        yield "  took", f"{sample['seconds']} s"
    for name, value in found["coverage"].items():
        yield name.replace("_", " "), str(len(value) if isinstance(value, list) else value)
    for finding in found["findings"]:
        yield "missing", finding
    yield "result", "everything was found" if not found["findings"] else "something is missing"


def _part(part: dict[str, Any]) -> str:
    words = "; ".join(f"{key} {value}" for key, value in part["found"].items()) or "nothing"
    if part["missing"]:
        words += f"; missing: {', '.join(part['missing'])}"

    return words + ("; leads back to it" if part.get("leads_back") else "")

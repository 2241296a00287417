"""
``wlcg-isolate trace export``: write records in another form.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import attrs

from wlcg_isolate.cli.output import print_json, report, report_error
from wlcg_isolate.cli.trace_options import default_places
from wlcg_isolate.errors import IsolateError

_EPILOG = """\
DIR gets a directory for each day and site, day=DAY/site=SITE, with the records
ordered by node and once more by user.  What is there already is not added
again, so this may run as often as wanted, also after a crash.  Needs
wlcg_isolate[query].  Exit status: 0, or 1 when something could not be read or
written.
"""


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = argparse.ArgumentParser(
        prog="wlcg-isolate trace export",
        description="Write records as Parquet, by day and site.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--trace-dir",
        metavar="DIR",
        # A shell makes several words of a pattern that nobody quoted.
        action="extend",
        nargs="+",
        default=[],
        help="directories, files or patterns of records (repeatable; default: as for run)",
    )
    parser.add_argument("--parquet", metavar="DIR", required=True, help="where to")
    parser.add_argument("--site-name", metavar="SITE", default="unknown", help="site of records that name none")
    parser.add_argument("--keep-days", metavar="N", type=int, help="remove days of DIR that are older")
    parser.add_argument("--json", action="store_true", help="tell what was done as JSON")
    options = parser.parse_args(argv)
    if options.keep_days is not None and options.keep_days < 1:
        parser.error("--keep-days must be 1 or more")
    try:
        from wlcg_isolate.trace.query.export import export_parquet

        done = export_parquet(
            options.trace_dir or default_places(), options.parquet, site=options.site_name, keep_days=options.keep_days
        )
    except IsolateError as error:
        report_error(error)
        return 1
    if options.json:
        print_json(attrs.asdict(done))
    else:
        print(f"{done.read} records read, {done.new} of them new")
        print(f"{len(done.files)} files written, {len(done.removed)} days removed")
    report("\n".join(done.remarks))

    return 0

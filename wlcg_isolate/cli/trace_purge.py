"""
``wlcg-isolate trace purge``: remove old records.
"""

from __future__ import annotations

from collections.abc import Sequence

from wlcg_isolate.cli.output import print_json, report, report_error, visible
from wlcg_isolate.cli.trace import parser_for, place_of
from wlcg_isolate.errors import IsolateError
from wlcg_isolate.policy import load_policy
from wlcg_isolate.trace.purge import Purged, purge, retention_warning

_EPILOG = """\
exit status:
  0  what is old enough was removed
  1  some of it was kept, because it does not verify, is still written, or
     was not taken yet by a receiver that policy names
  2  the directory could not be read or written"""


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = parser_for("purge", _EPILOG)
    parser.add_argument("--days", metavar="N", type=int, help="age in days (default: policy's trace.retention_days)")
    parser.add_argument("--site", metavar="FILE", help="the site's policy (default: as for run)")
    parser.add_argument("--altered", action="store_true", help="remove files that do not verify, too")
    parser.add_argument("--unsent", action="store_true", help="remove what receivers have not taken, too")
    parser.add_argument("--dry-run", action="store_true", help="remove nothing")
    options = parser.parse_args(argv)
    if options.days is not None and options.days < 0:
        parser.error("--days must be 0 or more")
    try:
        policy = load_policy(site=options.site)
        days = policy.trace_retention_days if options.days is None else options.days
        report(retention_warning(days))
        receivers = () if options.unsent else tuple(policy.trace_receivers)
        done = purge(
            place_of(options), days=days, altered=options.altered, receivers=receivers, dry_run=options.dry_run
        )
    except IsolateError as error:
        report_error(error)
        return 2

    if options.json:
        print_json(_plain(done))
    else:
        print("\n".join(visible(line) for line in _lines(done, dry_run=options.dry_run)))

    return int(bool(done.kept))


def _lines(done: Purged, *, dry_run: bool) -> list[str]:
    word = "would be removed" if dry_run else "removed"
    lines = [f"{file.file}: {word}, {file.records} records, the last of {file.last or '-'}" for file in done.removed]
    lines += [f"{file}: kept: {reason}" for file, reason in done.kept]
    if done.record:
        lines.append(f"{done.record} tells of it")

    return lines or ["Nothing is old enough."]


def _plain(done: Purged) -> dict[str, object]:
    return {
        "removed": [file.to_dict() for file in done.removed],
        "kept": [{"file": file, "reason": reason} for file, reason in done.kept],
        "record": done.record,
    }

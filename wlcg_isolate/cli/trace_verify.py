"""
``wlcg-isolate trace verify``: tell what was altered or lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wlcg_isolate._values import printable
from wlcg_isolate.cli.output import print_json, report_error
from wlcg_isolate.cli.trace import parser_for, place_of
from wlcg_isolate.errors import IsolateError
from wlcg_isolate.trace.findings import FileReport, Finding
from wlcg_isolate.trace.seal import Keys
from wlcg_isolate.trace.verify import Report, verify

_EPILOG = """\
exit status:
  0  nothing that was compared shows that something was altered or lost
     (a file that a crash left open, or cut, is reported and is no failure)
  1  something was altered or lost
  2  there is nothing to verify, or it could not be read

What each finding means, and what the levels are, is in the documentation:
what the records prove."""


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = parser_for("verify", _EPILOG)
    parser.add_argument("--key", metavar="FILE", help="private key, or exported keys, to check keyed digests with")
    parser.add_argument(
        "--received",
        metavar="DIR|FILE",
        action="append",
        default=[],
        help="copies of records that left the node when they were written (repeatable)",
    )
    parser.add_argument(
        "--partial", action="store_true", help="the directory holds only some of the files that were written together"
    )
    options = parser.parse_args(argv)
    try:
        keys = None if options.key is None else Keys(options.key)
        found = verify(place_of(options), keys=keys, copies=options.received, partial=options.partial)
    except IsolateError as error:
        report_error(error)
        return 2

    if options.json:
        print_json(found.to_dict())
    else:
        print("\n".join(map(printable, _lines(found))))

    return found.status


def _lines(found: Report) -> Iterator[str]:
    for file in found.files:
        yield from _of_file(file)
    for path, reason in found.unreadable:
        yield f"{path}: CANNOT BE READ: {reason}"
    if found.findings:
        yield f"{found.path}:"
        yield from map(_of_finding, found.findings)
    yield ""
    yield _sum(found)
    yield f"Compared: {'; '.join(found.compared)}."


def _of_file(file: FileReport) -> Iterator[str]:
    level = "no level" if file.level is None else f"level {file.level}"
    yield f"{file.file}: {'ALTERED OR INCOMPLETE' if file.harmed else 'not altered'}, {file.state}, {level}"
    when = f"{file.first or '-'} to {file.last or '-'}"
    yield f"    {file.records} records, {when}, by process {file.pid} on {file.host or '-'}"
    yield f"    held by: {file.protection}; not more than {level}: {file.level_reason}"
    yield from map(_of_finding, file.findings)


def _of_finding(finding: Finding) -> str:
    where = "" if finding.line is None else f"line {finding.line}, byte {finding.offset}: "

    return f"    {'!' if finding.harm else '-'} {finding.kind}: {where}{finding.message}"


def _sum(found: Report) -> str:
    harmed = sum(file.harmed for file in found.files)
    levels = [file.level for file in found.files if file.level is not None]
    if not found.files and not found.findings:
        return "There is nothing to verify."
    lowest = f" Lowest level of the others: {min(levels)}." if levels else ""
    if found.harmed:
        return f"Something was altered or lost: {harmed} of {len(found.files)} files, {_count(found)} findings.{lowest}"

    return f"Nothing that was compared shows an alteration or a loss in {len(found.files)} files.{lowest}"


def _count(found: Report) -> int:
    return sum(f.harm for f in (*found.findings, *(f for file in found.files for f in file.findings)))

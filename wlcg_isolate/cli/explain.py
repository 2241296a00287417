"""
``wlcg-isolate explain``: show policy and where it comes from.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import attrs

from wlcg_isolate.cli.output import flat, print_json, report, report_error, table
from wlcg_isolate.errors import PolicyError
from wlcg_isolate.policy import explain, load_policy


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = argparse.ArgumentParser(
        prog="wlcg-isolate explain",
        description="Show every policy value, and the layer and file that set it.",
        allow_abbrev=False,
    )
    parser.add_argument("key", metavar="KEY", nargs="?", help="only this key, such as runtime.search")
    parser.add_argument("--site", metavar="FILE", help="site policy")
    parser.add_argument("--experiment", metavar="NAME|FILE", help="experiment's profile")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(argv)
    try:
        rows = explain(load_policy(options.site, options.experiment))
    except PolicyError as error:
        report_error(error)
        return 1
    if options.key is not None:
        rows = [row for row in rows if row.key == options.key]
        if not rows:
            report(f"policy-invalid: there is no key {options.key!r} (from command line); see wlcg-isolate explain")
            return 1

    if options.json:
        print_json([{**attrs.asdict(row), "overrode": list(row.overrode)} for row in rows])
    else:
        print(table([("KEY", "LAYER", "VALUE"), *((row.key, row.layer, flat(row.value)) for row in rows)]))

    return 0

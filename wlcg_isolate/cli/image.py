"""
``wlcg-isolate image``: find, examine and verify images.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from wlcg_isolate.cli.output import report
from wlcg_isolate.outcome import NOT_STARTED_STATUS

_COMMANDS = {
    "resolve": "tell which image a reference means on this node, and why",
    "inspect": "tell what an image is and what is inside",
    "verify": "compare image files with checksums known in advance",
}


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    words = list(argv)
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else 2
    if words[0] not in _COMMANDS:
        report(f"usage: there is no command 'image {words[0]}'; see wlcg-isolate image --help")
        return NOT_STARTED_STATUS

    return int(import_module(f"wlcg_isolate.cli.image_{words[0]}").main(words[1:]))


def _help() -> str:
    lines = ["usage: wlcg-isolate image COMMAND [OPTION...]", "", "Find, examine and verify images.", "", "commands:"]
    lines += [f"  {name:8}  {text}" for name, text in _COMMANDS.items()]
    lines += ["", "wlcg-isolate image COMMAND --help tells more."]

    return "\n".join(lines)


def parser_for(name: str, epilog: str) -> argparse.ArgumentParser:
    """
    Make a parser with the options that all of them share.
    """
    parser = argparse.ArgumentParser(
        prog=f"wlcg-isolate image {name}",
        description=f"{_COMMANDS[name].capitalize()}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--cvmfs-root", metavar="DIR", help="where CVMFS is on this node (default: /cvmfs)")
    parser.add_argument("--site", metavar="FILE", help="site policy")
    parser.add_argument("--experiment", metavar="NAME|FILE", help="experiment's profile")
    parser.add_argument("--json", action="store_true", help="as JSON")

    return parser

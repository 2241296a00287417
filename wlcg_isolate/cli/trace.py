"""
``wlcg-isolate trace``: read, verify and remove trace records.

Each subcommand is a module of its own, named after it, with `main`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib import import_module

from wlcg_isolate.cli.output import report
from wlcg_isolate.outcome import NOT_STARTED_STATUS

_COMMANDS = {
    "show": "show records in the order of their time",
    "keygen": "make the keys that users and files are sealed and hashed with",
    "reveal": "open sealed identities, and record that",
    "verify": "tell what was altered or lost, and how much the rest proves",
    "ship": "send to receivers what they have not taken yet",
    "purge": "remove old records, and keep what shows that no others are missing",
    "find": "find payloads by what a responder knows",
    "export": "write records as Parquet, by day and site",
    "audit": "show that owner, activity and node of payloads can be found, or what is missing",
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
        report(f"usage: there is no command 'trace {words[0]}'; see wlcg-isolate trace --help")
        return NOT_STARTED_STATUS

    return int(import_module(f"wlcg_isolate.cli.trace_{words[0]}").main(words[1:]))


def _help() -> str:
    lines = [
        "usage: wlcg-isolate trace COMMAND [OPTION...]",
        "",
        "Read, verify and remove trace records.",
        "",
        "commands:",
    ]
    lines += [f"  {name:8}  {text}" for name, text in _COMMANDS.items()]
    lines += ["", "wlcg-isolate trace COMMAND --help tells more."]

    return "\n".join(lines)


def parser_for(name: str, epilog: str = "") -> argparse.ArgumentParser:
    """
    Make a parser with the options that all of them share.
    """
    text = _COMMANDS[name]
    parser = argparse.ArgumentParser(
        prog=f"wlcg-isolate trace {name}",
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("path", metavar="DIR|FILE", nargs="?", help="where the records are (default: as for run)")
    parser.add_argument("--trace-dir", metavar="DIR", help="the same as DIR")
    parser.add_argument("--json", action="store_true", help="as JSON")

    return parser


def place_of(options: argparse.Namespace) -> str:
    """
    Return the path that the options mean: the default is the first of
    policy's directories that exists.

    Raises:
        PolicyError: The node's policy is not valid.
    """
    from wlcg_isolate.host import trace_candidates
    from wlcg_isolate.policy import load_policy

    named = options.path or options.trace_dir
    if named:
        return str(named)
    places = list(trace_candidates(load_policy(), os.environ, os.geteuid()))

    return next((place for place in places if os.path.isdir(place)), places[-1])

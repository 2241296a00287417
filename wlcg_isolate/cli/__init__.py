"""
The command line; the only code that prints or decides on an exit status.

Each subcommand is one module with a function ``main(argv) -> int``, imported
when it is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Optional

from wlcg_isolate.outcome import NOT_STARTED_STATUS

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "run a payload isolated, and tell truthfully how it ended"),
    "plan": ("plan", "show how a payload would run; start nothing"),
    "job-wrapper": ("job_wrapper", "run a job of HTCondor isolated, as its USER_JOB_WRAPPER"),
    "job-hook": ("job_hook", "say whether a job of HTCondor can run here, as its prepare hook"),
    "job-session": ("job_session", "show the user of condor_ssh_to_job a container like the job's"),
    "outcome": ("outcome", "tell what became of a payload that was started without run"),
    "explain": ("explain", "show every policy value and where it comes from"),
    "doctor": ("doctor", "tell what this node can do, and how to mend what it cannot"),
    "image": ("image", "find, examine and verify images"),
    "trace": ("trace", "show, search, export and audit the trace records of payloads"),
}

_USAGE = "usage: wlcg-isolate COMMAND [OPTION...] [-- PAYLOAD [ARG...]]"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """
    Run the command line.

    Args:
        argv: Arguments without the program's name; the process's own when
            not given.

    Returns:
        The exit status.
    """
    _open_standard_descriptors()
    _restore_locale()
    words = list(sys.argv[1:] if argv is None else argv)
    command = words[0] if words else "--help"
    if command in ("-h", "--help", "help"):
        print(_help())
        return 0 if words else 2
    if command in ("-V", "--version"):
        from wlcg_isolate import __version__

        print(f"wlcg-isolate {__version__}")
        return 0
    if command not in COMMANDS:
        print(f"wlcg-isolate: usage: there is no command {command!r}; see wlcg-isolate --help", file=sys.stderr)
        return NOT_STARTED_STATUS
    try:
        return int(import_module(f"wlcg_isolate.cli.{COMMANDS[command][0]}").main(words[1:]))
    except BrokenPipeError:
        # Whoever read our output has had enough; Python must not complain
        # about it again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [_USAGE, "", "Isolate the payloads of grid pilots in Apptainer containers.", "", "commands:"]
    lines += [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    lines += ["", "wlcg-isolate COMMAND --help tells more."]

    return "\n".join(lines)


def _restore_locale() -> None:
    """
    Undo what ``bin/wlcg-isolate`` did to start quietly.
    """
    original = os.environ.pop("WLCG_ISOLATE_LC_ALL", None)
    if original is not None:
        os.environ.pop("LC_ALL", None)
        if original:
            os.environ["LC_ALL"] = original


def _open_standard_descriptors() -> None:
    """
    Give closed standard descriptors the null device.

    Otherwise the next file that is opened gets the number, and what is
    printed goes into it.
    """
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        fd = os.dup(fd)
    os.close(fd)

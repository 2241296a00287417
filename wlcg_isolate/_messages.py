"""
What a runtime printed: its cause, and whether it looks like a failure.

Rule: text is read only when the runtime is known to have failed, or by a
caller who knows nothing better.  What a payload prints is never looked at
for a payload that did start.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Optional, Union

from wlcg_isolate._kinds import KINDS
from wlcg_isolate.errors import Problem

if TYPE_CHECKING:
    from wlcg_isolate._wordings import Wording

# Compiled, and the table loaded, on first use: most pilots never see a message.

#: The runtimes colour their messages also when they go to a file.
_COLOUR = r"\x1b\[[0-9;]*m"
#: The runtimes are Go programs, and these may also come from a payload.
_CRASH = r"(panic|fatal error): "
_SEVERE = r"^(?:(FATAL|ERROR|ABORT) *:|(Error for command) )"
#: What runtimes print beside, and the rest of what they say of an option.
_CHATTER = r"^(?:(?:FATAL|ERROR|ABORT|WARNING|INFO|LOG|VERBOSE|DEBUG) *:|\s)"
_MILD = r"^(?:WARNING|INFO|LOG|VERBOSE|DEBUG) *:"
#: How a message ends that holds all that another program printed.
_QUOTED_END = r"^: (?:exit status \d+|signal: .*)$"

#: Go's part ends with 255, the starter in C with 1, Singularity 2 with either
#: (sylog.go, starter.h and message.c of the versions in `WORDINGS`).
_STATUSES = {"FATAL": (255,), "ABORT": (255,), "ERROR": (1, 255), "Error for command": (1,)}

#: A message may hold paths of any length.
_MAX_WORDS = 1000


def plain(text: Union[str, bytes]) -> str:
    """
    Return what a runtime printed as text without colours.
    """
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text

    return re.sub(_COLOUR, "", words)


def looks_like_failure(exit_code: int, text: Union[str, bytes]) -> bool:
    """
    Guess that a runtime failed before the payload started.

    The first failure is the last that a runtime says: so its line must be
    known, be of a level that ends with *exit_code*, and nothing but a
    runtime's chatter may follow it.
    """
    lines = [line for line in plain(text).split("\n") if line.strip()]
    last = next((i for i in reversed(range(len(lines))) if re.match(_SEVERE, lines[i])), None)
    if last is None or exit_code not in _STATUSES[_level(lines[last])]:
        return False
    if not _ends(lines[last:]):
        return False
    first = next((i + 1 for i in reversed(range(last)) if not re.match(_CHATTER, lines[i])), 0)

    return any(_wording([line], command=True) for line in lines[first : last + 1] if re.match(_SEVERE, line))


def cause_of(text: Union[str, bytes], origin: str = "the runtime", *, command: bool = False) -> Problem:
    """
    Name the cause when the runtime is known to have failed.

    Args:
        text: What it printed.

        origin: For the problem.

        command: Whether the payload's own command was the runtime's, so that
            the runtime may speak of it.
    """
    lines = plain(text).splitlines()
    severe = [line for line in lines if re.match(_SEVERE, line) or re.match(_CRASH, line)]
    told = severe or lines[-3:]
    more = lines[lines.index(severe[0]) :] if severe else []
    quoted = [line for line in more if line not in severe and not re.match(_MILD, line)]
    wording = _wording([*told, *quoted], command=command)
    if wording is not None:
        told += [line for line in quoted if re.search(wording.pattern, line)]
    words = " | ".join(told).strip() or "it printed nothing"
    if wording is None:
        advice = "see the runtime's own words" if severe else "try it by hand"
        return Problem(kind="runtime-failed", message=words[:_MAX_WORDS], origin=origin, advice=advice)

    return Problem(
        kind=wording.kind,
        message=f"{wording.cause}: {words}"[:_MAX_WORDS],
        origin=origin,
        advice=wording.advice,
    )


def _ends(lines: list[str]) -> bool:
    """
    Tell whether nothing but what belongs to the failure in the first line
    follows it.
    """
    if _level(lines[0]) == "Error for command" or re.match(_QUOTED_END, lines[-1]):
        return True

    return all(re.match(_CHATTER, line) for line in lines)


def _level(line: str) -> str:
    found = re.match(_SEVERE, line)

    return "" if found is None else found[1] or found[2]


def _wording(lines: list[str], *, command: bool) -> Optional[Wording]:
    from wlcg_isolate._wordings import WORDINGS

    return next(
        (
            wording
            for wording in WORDINGS
            if (command or KINDS[wording.kind].failed_by != "payload")
            and any(re.search(wording.pattern, line) for line in lines)
        ),
        None,
    )

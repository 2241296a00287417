"""
Which files hold records.

A place is a file, a directory, or a pattern of them: JSON lines of pilots,
Parquet of an export, or both.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from typing import Optional

import attrs

from wlcg_isolate.errors import Problem, TraceError
from wlcg_isolate.trace.query.times import DAY, day, recorded

#: Names of the two files that an export keeps for a day and site: ordered by
#: node and time, and the same once more ordered by user.
BY_NODE = "records.parquet"
BY_USER = "records-by-user.parquet"

#: A journal's file is named after the moment when it was made.
_MADE = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)\.(\d{1,6})Z-")
_DAY = re.compile(r"/day=(\d{4}-\d\d-\d\d)/")


@attrs.frozen(kw_only=True)
class Files:
    """
    What was found.

    Attributes:
        lines: Files of JSON lines.

        parquet: Files of Parquet.
    """

    lines: tuple[str, ...] = ()
    parquet: tuple[str, ...] = ()


def files_of(places: Iterable[str]) -> Files:
    """
    List the files at some places.

    Raises:
        TraceError: At one of them there is nothing, or it cannot be read.
    """
    lines: dict[str, None] = {}
    parquet: dict[str, None] = {}
    problems = []
    for place in places:
        try:
            found = [file for path in _expanded(place) for file in _below(path)]
        except OSError as e:
            problems.append(_problem(place, e.strerror or str(e)))
            continue
        for file in found:
            (parquet if file.endswith(".parquet") else lines)[file] = None
    if problems:
        raise TraceError(problems)

    return Files(lines=tuple(lines), parquet=tuple(parquet))


def _expanded(place: str) -> list[str]:
    if os.path.lexists(place):
        return [place]
    found = sorted(glob.glob(place, recursive=True))
    if not found:
        raise FileNotFoundError(None, "there is nothing of that name")

    return found


def _below(path: str) -> list[str]:
    if not os.path.isdir(path):
        os.stat(path)
        return [path]
    # A directory that cannot be listed may hold what is looked for.
    walk = os.walk(path, onerror=_raise)

    return sorted(
        os.path.join(folder, name)
        for folder, _, names in walk
        for name in names
        if name.endswith((".jsonl", ".parquet"))
        and not name.startswith(".")
        and not (name == BY_USER and BY_NODE in names)
    )


def _raise(error: OSError) -> None:
    raise error


def _problem(place: str, reason: str) -> Problem:
    return Problem(
        kind="trace-unreadable",
        message=f"trace records cannot be read from {place}: {reason}",
        origin="--trace-dir",
        advice="check the path and its permissions",
    )


def within(files: Files, first: Optional[int], last: Optional[int]) -> Files:
    """
    Leave out files whose names say that they hold nothing of a time.
    """
    # A file goes on after its name was given, but holds nothing older; a day's partition neither.
    lines = [f for f in files.lines if last is None or (made_at(f) or 0) <= last]

    return Files(lines=tuple(lines), parquet=tuple(f for f in files.parquet if _of_days(f, first, last)))


def made_at(path: str) -> Optional[int]:
    """
    Read from a journal's name when it was made.
    """
    match = _MADE.match(os.path.basename(path))

    return recorded("{}-{}-{}T{}:{}:{}.{}Z".format(*match.groups())) if match else None


def _of_days(path: str, first: Optional[int], last: Optional[int]) -> bool:
    match = _DAY.search(path)
    if match is None:
        return True

    return (first is None or day(max(first, -DAY)) <= match[1]) and (last is None or match[1] <= day(last))


def by_user(parquet: tuple[str, ...]) -> tuple[str, ...]:
    """
    Take of each day the file that is ordered by user, where there is one.
    """
    others = ((file, os.path.join(os.path.dirname(file), BY_USER)) for file in parquet)

    return tuple(
        other if os.path.basename(file) == BY_NODE and os.path.isfile(other) else file for file, other in others
    )

"""
Write records as Parquet, one file for each day and site.

Rules:

1. A record is there once, by its `event.id`, however often it is exported.
2. A file is written beside and moved into place when it is on disk: who reads
   meanwhile reads the older one, and a crash leaves none that is half.
3. Rows are ordered by node and time, so that a question about one node reads
   little of a day.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import shutil
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import attrs

from wlcg_isolate.errors import Problem, TraceError
from wlcg_isolate.trace.query.duck import connect, load
from wlcg_isolate.trace.query.files import BY_NODE, BY_USER, files_of
from wlcg_isolate.trace.query.layout import ALL

_NAMES = ", ".join(name for name, _ in ALL)

#: Rows that are compressed together.  A user has fewer of a day than a node.
GROUPS = {BY_USER: 8_192, BY_NODE: 40_960}

#: Of each, how many different values of a column DuckDB keeps as a dictionary: only for those it writes a Bloom filter,
#: which leaves out nearly all groups where one job is looked for.
DICTIONARIES = {BY_USER: GROUPS[BY_USER] // 5, BY_NODE: GROUPS[BY_NODE]}

#: What a record of a payload does not say of its user, another one of that day does.
_OWNED = "SELECT * REPLACE (coalesce(nullif(owner, ''), max(owner) OVER (PARTITION BY payload_id)) AS owner) FROM"

#: Name of each of the two files to the order of its rows.
ORDERS = {BY_USER: "owner, time, event_id", BY_NODE: "host_name, time, event_id"}


def form(name: str) -> str:
    """
    Write the options with which one of the two files is made.
    """
    return (
        f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUPS[name]}, DICTIONARY_SIZE_LIMIT {DICTIONARIES[name]}"
    )


@attrs.frozen(kw_only=True)
class Exported:
    """
    What an export did.

    Attributes:
        read: Records that were found.

        new: Records that were not there before.

        files: Files that were written.

        removed: Days that were removed.

        remarks: One for each file that was not read, or not all of it.
    """

    read: int
    new: int
    files: tuple[str, ...]
    removed: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def export_parquet(
    places: Sequence[str], directory: str, *, site: str = "unknown", keep_days: Optional[int] = None
) -> Exported:
    """
    Add the records of JSON lines to a directory of Parquet.

    Args:
        places: Directories, files or patterns of them.

        directory: Where days are kept, ``day=DAY/site=SITE/records.parquet``.

        site: Of records that name none.

        keep_days: Days before this many are removed.

    Raises:
        TraceError: Something cannot be read or written.
    """
    files = files_of(places)
    remarks: list[str] = []
    try:
        with _locked(directory), _database() as connection:
            load(connection, files.lines, remarks, site)
            ((read,),) = connection.execute("SELECT count(*) FROM lines").fetchall()
            days = connection.execute("SELECT DISTINCT day, site FROM lines ORDER BY day, site").fetchall()
            done = [_partition(connection, directory, day, name) for day, name in days]
            removed = _remove_old(directory, keep_days)
    except OSError as e:
        raise _unwritable(directory, e.strerror or str(e)) from e

    return Exported(
        read=read,
        new=sum(count for count, _ in done),
        files=tuple(path for count, path in done if count),
        removed=removed,
        remarks=tuple(remarks),
    )


@contextlib.contextmanager
def _database() -> Iterator[Any]:
    connection, place = connect()
    try:
        yield connection
    finally:
        connection.close()
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """
    Let one export at a time change a directory.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    fd = os.open(os.path.join(directory, ".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _partition(connection: Any, directory: str, day: str, site: str) -> tuple[int, str]:
    """
    Write a day of a site anew, if there is something new; return how much.
    """
    place = os.path.join(directory, f"day={day}", f"site={urllib.parse.quote(site, safe='')}")
    path = os.path.join(place, BY_NODE)
    os.makedirs(place, mode=0o700, exist_ok=True)
    values: dict[str, Any] = {"day": day, "site": site}
    fresh = f"SELECT DISTINCT ON (event_id) {_NAMES} FROM lines WHERE day = $day AND site = $site"
    if os.path.exists(path):
        values["old"] = path
        fresh += " AND event_id NOT IN (SELECT event_id FROM read_parquet($old, hive_partitioning = false))"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE fresh AS {fresh}", values)
    ((count,),) = connection.execute("SELECT count(*) FROM fresh").fetchall()
    if count:
        old = (
            f" UNION ALL SELECT {_NAMES} FROM read_parquet($old, hive_partitioning = false)" if "old" in values else ""
        )
        rows = f"{_OWNED} (SELECT {_NAMES} FROM fresh{old})"
        given = {name: value for name, value in values.items() if name == "old"}
        # The one by node comes last: it tells what is there.
        for name in ORDERS:
            _write(connection, rows, given, place, name)

    return count, path


def _write(connection: Any, rows: str, values: dict[str, Any], place: str, name: str) -> None:
    # One name, since whoever holds the lock is alone; what a crash left there is replaced.
    beside = os.path.join(place, f".{name}.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.close(fd)
    connection.execute(
        f"COPY ({rows} ORDER BY {ORDERS[name]}) TO $beside ({form(name)}, USE_TMP_FILE false)",
        {**values, "beside": beside},
    )
    fd = os.open(beside, os.O_RDONLY | os.O_CLOEXEC)
    os.fsync(fd)
    os.close(fd)
    os.rename(beside, os.path.join(place, name))
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fsync(fd)
    os.close(fd)


def _remove_old(directory: str, keep_days: Optional[int]) -> tuple[str, ...]:
    if keep_days is None:
        return ()
    today = datetime.datetime.now(datetime.timezone.utc).date()
    first = (today - datetime.timedelta(days=keep_days)).isoformat()
    old = sorted(name for name in os.listdir(directory) if name.startswith("day=") and name[4:] < first)
    for name in old:
        shutil.rmtree(os.path.join(directory, name))

    return tuple(name[4:] for name in old)


def _unwritable(directory: str, reason: str) -> TraceError:
    return TraceError(
        [
            Problem(
                kind="trace-unwritable",
                message=f"Parquet cannot be written to {directory}: {reason}",
                origin="--parquet",
                advice="name a directory of this user that can be written",
            )
        ]
    )

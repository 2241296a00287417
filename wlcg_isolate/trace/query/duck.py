"""
Answer questions with DuckDB, straight over JSON lines and Parquet.

Rules:

1. Values are parameters, and names of files, too; no text from outside is in
   a statement.
2. DuckDB fetches nothing: no extension is looked for.
3. A file of JSON lines with a line that DuckDB does not take whole is read by
   `rows` instead, so that both give the same records and remarks.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

from wlcg_isolate.errors import Problem, TraceError
from wlcg_isolate.trace.query.asking import records
from wlcg_isolate.trace.query.conditions import Condition
from wlcg_isolate.trace.query.files import Files, by_user, within
from wlcg_isolate.trace.query.layout import ALL, TYPES, select
from wlcg_isolate.trace.query.question import Question
from wlcg_isolate.trace.query.rows import Row, rows_of
from wlcg_isolate.trace.query.statement import Statement, marked, rows_with, seen

#: What a file of our own export has; one with less is read all the same.
_EMPTY = "SELECT " + ", ".join(f"CAST(NULL AS {TYPES[kind]}) AS {name}" for name, kind in ALL) + " WHERE FALSE"

_BY_NAME = "union_by_name = true, "

_NAMES = tuple(name for name, _ in ALL)

#: Nothing where the types are right, and otherwise an error or the right type.
_CAST = ", ".join(f"CAST({name} AS {TYPES[kind]}) AS {name}" for name, kind in ALL)

#: Bytes that one line may have before DuckDB refuses its file.
_LINE = 1 << 24


def connect() -> tuple[Any, str]:
    """
    Open a database in memory.

    Returns:
        The connection, and the directory for what does not fit into memory.

    Raises:
        TraceError: DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError as e:
        raise TraceError(
            [
                Problem(
                    kind="trace-unreadable",
                    message="DuckDB, with which Parquet is read and written, is not installed",
                    origin="--trace-dir",
                    advice="pip install wlcg_isolate[query]",
                )
            ]
        ) from e
    place = tempfile.mkdtemp(prefix="wlcg-isolate-query-")
    settings: dict[str, Any] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "temp_directory": place,
        "preserve_insertion_order": "false",
    }

    connection = duckdb.connect(":memory:", config=settings)
    # It would be drawn over the answer.
    connection.execute("SET enable_progress_bar = false")
    # A question looks at a file several times.
    connection.execute("SET parquet_metadata_cache = true")

    return connection, place


class Duck:
    """
    The engine for a node or a site.

    Usable as a context; what it keeps on disk goes with it.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._connection, self._place = connect()
        self._lines: Optional[tuple[str, ...]] = None
        self._of_lines: list[str] = []
        self.remarks: list[str] = []

    def __enter__(self) -> Duck:
        """
        Begin a context.
        """
        return self

    def __exit__(self, *_: object) -> None:
        """
        End it.
        """
        self._connection.close()
        shutil.rmtree(self._place, ignore_errors=True)

    def records(self, question: Question, *, whole: bool = False) -> list[Row]:
        """
        Return the records of all payloads that a question means.
        """
        self._begin(question)

        return records(self._run, question, whole=whole)

    def rows(
        self, condition: Condition, columns: Sequence[str], bounds: tuple[Optional[int], Optional[int]]
    ) -> list[Row]:
        """
        Return some columns of all records for which a condition holds.
        """
        files = within(self._files, *bounds)
        if not set(files.lines) <= set(self._lines or ()):
            self._load(files.lines)

        return [dict(zip(columns, values)) for values in self._run(rows_with(condition, columns), bounds, False)]

    def seen(self, question: Question, column: str) -> list[tuple[Any, int, int, int, int]]:
        """
        Count payloads and refusals for each value of a column.
        """
        self._begin(question)

        return list(self._run(seen(question, column), question.bounds(), bool(question.users)))

    def _begin(self, question: Question) -> None:
        files = within(self._files, *question.bounds(whole=True))
        if files.lines != self._lines:
            self._load(files.lines)
        self.remarks = list(self._of_lines)

    def _load(self, lines: tuple[str, ...]) -> None:
        self._of_lines = []
        load(self._connection, lines, self._of_lines)
        self._lines = lines

    def _run(self, statement: Statement, bounds: tuple[Any, Any], owners: bool) -> list[tuple[Any, ...]]:
        text, values = marked(statement, lambda name: f"${name}")
        parquet = within(self._files, *bounds).parquet
        if owners:
            parquet = by_user(parquet)
        try:
            return self._with(parquet, text, values)
        except Exception:
            if not parquet:
                raise
        try:
            # Other versions may have exported other columns.
            return self._with(parquet, text, values, _BY_NAME)
        except Exception:
            # One of the files is to blame: each is looked at, and the rest read again.
            good = tuple(file for file in parquet if self._readable(file))
            return self._with(good, text, values, _BY_NAME)

    def _with(self, parquet: Sequence[str], text: str, values: dict[str, Any], how: str = "") -> list[tuple[Any, ...]]:
        source = f"SELECT {', '.join(_NAMES)} FROM lines"
        if parquet:
            values = {**values, "parquet": list(parquet)}
            table = f"read_parquet($parquet, {how}hive_partitioning = false)"
            if how:
                # The names that the files lack are NULL.
                table = f"(SELECT * FROM ({_EMPTY}) UNION ALL BY NAME SELECT * FROM {table})"
            source += f" UNION ALL SELECT {_CAST} FROM {table}"
        # A view takes no parameters, a step of the statement does; as a table of its own it would be read whole.
        steps = f"WITH records AS NOT MATERIALIZED ({source})"
        text = f"{steps}, {text[len('WITH ') :]}" if text.startswith("WITH ") else f"{steps} {text}"

        return list(self._connection.execute(text, values).fetchall())

    def _readable(self, file: str) -> bool:
        """
        Look at all of one file; a remark says why it is left out.
        """
        checks = ", ".join(f"count({name})" for name in _NAMES)
        table = (
            f"SELECT * FROM ({_EMPTY}) UNION ALL BY NAME SELECT * FROM read_parquet($file, hive_partitioning = false)"
        )
        text = f"SELECT {checks} FROM (SELECT {_CAST} FROM ({table}))"
        try:
            self._connection.execute(text, {"file": [file]}).fetchall()
        except Exception as e:
            remark = f"{file}: cannot be read: {str(e).splitlines()[0]}"
            if remark not in self.remarks:
                self.remarks.append(remark)
            return False

        return True


def load(connection: Any, files: Sequence[str], remarks: list[str], site: str = "unknown") -> None:
    """
    Lay out files of JSON lines in a new table `lines`.
    """
    connection.execute(f"CREATE OR REPLACE TEMP TABLE lines AS SELECT *, '' AS filename, TRUE AS good FROM ({_EMPTY})")
    odd = _load(connection, [file for file in files if os.path.isfile(file)], site)
    odd |= {file for file in files if not os.path.isfile(file)}
    marks = ", ".join(f"${name}" for name in _NAMES)
    for file in (file for file in files if file in odd):
        for chunk in _chunks(rows_of(file, remarks)):
            rows = [{name: row[name] for name in _NAMES} for row in chunk]
            for row in rows:
                if row["site"] == "unknown":
                    row["site"] = site
            connection.executemany(f"INSERT INTO lines VALUES ({marks}, '', TRUE)", rows)


def _load(connection: Any, files: list[str], site: str) -> set[str]:
    """
    Let DuckDB read the files; return those that it cannot read.
    """
    odd: set[str] = set()
    source = (
        "(SELECT json AS j, filename FROM read_ndjson_objects($files, ignore_errors = true, filename = true, "
        f"maximum_object_size = {_LINE}, compression = 'none'))"
    )
    text = f"INSERT INTO lines {select(source, '$site')}"
    while left := [file for file in files if file not in odd]:
        try:
            connection.execute(text, {"files": left, "site": site})
            break
        except Exception as e:
            connection.execute("DELETE FROM lines")
            named = {file for file in left if f'"{file}"' in str(e)}
            # A message that names none: nothing is known of any of them.
            odd |= named or set(left)
    odd |= {file for (file,) in connection.execute("SELECT DISTINCT filename FROM lines WHERE NOT good").fetchall()}
    if odd:
        connection.execute("DELETE FROM lines WHERE list_contains($odd, filename)", {"odd": sorted(odd)})

    return odd


def _chunks(rows: Iterable[Row], size: int = 500) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk

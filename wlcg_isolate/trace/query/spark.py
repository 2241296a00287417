"""
Answer the same questions with Spark, over Parquet that one machine is too
small for.

The statements are those of `statement`: only the marks of parameters differ.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Optional

from wlcg_isolate.errors import Problem, TraceError
from wlcg_isolate.trace.query.asking import records
from wlcg_isolate.trace.query.conditions import Condition
from wlcg_isolate.trace.query.files import Files, by_user, within
from wlcg_isolate.trace.query.layout import ALL
from wlcg_isolate.trace.query.question import Question
from wlcg_isolate.trace.query.rows import Row
from wlcg_isolate.trace.query.statement import Statement, marked, rows_with, seen

_TYPES = {"text": "STRING", "int": "BIGINT", "list": "ARRAY<STRING>", "part": "STRING", "each": "ARRAY<STRING>"}

#: What is read of each file; a column that one lacks is NULL.
SCHEMA = ", ".join(f"{name} {_TYPES[kind]}" for name, kind in ALL)


class Spark:
    """
    The engine for many sites.

    Usable as a context.  Which cluster is asked is said as for any program of
    Spark: by `SPARK_HOME` and its configuration, or by ``SPARK_MASTER``.
    """

    def __init__(self, files: Files) -> None:
        """
        Open a session, or take the one that there is.

        Raises:
            TraceError: Spark is not installed, or there are JSON lines.
        """
        if files.lines:
            raise _problem(f"Spark reads Parquet only, not {files.lines[0]}", "wlcg-isolate trace export --parquet DIR")
        try:
            from pyspark.sql import SparkSession
        except ImportError as e:
            raise _problem("Spark is not installed", "pip install wlcg_isolate[spark]") from e
        self._files = files
        self._mine = SparkSession.getActiveSession() is None
        builder = SparkSession.builder.appName("wlcg-isolate trace")
        if "SPARK_MASTER" in os.environ:
            builder = builder.master(os.environ["SPARK_MASTER"])
        self._session = builder.getOrCreate()
        self.remarks: list[str] = []

    def __enter__(self) -> Spark:
        """
        Begin a context.
        """
        return self

    def __exit__(self, *_: object) -> None:
        """
        End it; a session that was there before stays.
        """
        if self._mine:
            self._session.stop()

    def records(self, question: Question, *, whole: bool = False) -> list[Row]:
        """
        Return the records of all payloads that a question means.
        """
        return records(self._run, question, whole=whole)

    def rows(
        self, condition: Condition, columns: Sequence[str], bounds: tuple[Optional[int], Optional[int]]
    ) -> list[Row]:
        """
        Return some columns of all records for which a condition holds.
        """
        return [dict(zip(columns, values)) for values in self._run(rows_with(condition, columns), bounds, False)]

    def seen(self, question: Question, column: str) -> list[tuple[Any, int, int, int, int]]:
        """
        Count payloads and refusals for each value of a column.
        """
        rows = self._run(seen(question, column), question.bounds(), bool(question.users))

        return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]

    def _run(self, statement: Statement, bounds: tuple[Any, Any], owners: bool) -> Sequence[Sequence[Any]]:
        parquet = within(self._files, *bounds).parquet
        if owners:
            parquet = by_user(parquet)
        if not parquet:
            return []
        text, values = marked(statement, lambda name: f":{name}")
        # What lies in the names of directories is in the files, too.
        read = self._session.read.schema(SCHEMA).option("recursiveFileLookup", "true")
        read.parquet(*(_literal(file) for file in parquet)).createOrReplaceTempView("records")

        return [tuple(row) for row in self._session.sql(text, args=values).collect()]


def _literal(path: str) -> str:
    """
    Write a path so that Hadoop takes it as it is, not as a pattern.
    """
    return "file://" + "".join("\\" + c if c in "*?[]{}\\" else c for c in os.path.abspath(path))


def _problem(message: str, advice: str) -> TraceError:
    return TraceError([Problem(kind="trace-unreadable", message=message, origin="--engine", advice=advice)])

"""
Answer questions over the JSON lines of one node, with Python alone.

Two looks at each file: which payloads are meant, and then their records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Optional

from wlcg_isolate.errors import Problem, TraceError
from wlcg_isolate.trace.query.columns import FINAL_EVENTS
from wlcg_isolate.trace.query.conditions import Condition, holds
from wlcg_isolate.trace.query.files import Files, within
from wlcg_isolate.trace.query.question import Question
from wlcg_isolate.trace.query.rows import Row, rows_of


class Plain:
    """
    The engine without dependencies.
    """

    def __init__(self, files: Files) -> None:
        """
        Take the files.

        Raises:
            TraceError: There is Parquet among them.
        """
        if files.parquet:
            raise _no_parquet(files.parquet[0])
        self._files = files
        self.remarks: list[str] = []

    def records(self, question: Question, *, whole: bool = False) -> list[Row]:  # noqa: ARG002 - they always are
        """
        Return the records of all payloads that a question means.
        """
        picked = self._picked(question)
        scope = question.scope(whole=True)

        return [row for row in self._rows(question, []) if row["payload_id"] in picked and holds(scope, row)]

    def rows(
        self, condition: Condition, columns: Sequence[str], bounds: tuple[Optional[int], Optional[int]]
    ) -> list[Row]:
        """
        Return some columns of all records for which a condition holds.
        """
        files = within(self._files, *bounds).lines
        rows = (row for file in files for row in rows_of(file, []) if holds(condition, row))

        return [{name: row[name] for name in columns} for row in rows]

    def seen(self, question: Question, column: str) -> list[tuple[Any, int, int, int, int]]:
        """
        Count payloads and refusals for each value of a column.
        """
        picked, scope = self._picked(question), question.scope()
        found: dict[Any, list[Row]] = {}
        for row in self._rows(question, []):
            if row[column] is not None and row["payload_id"] in picked and holds(scope, row):
                found.setdefault(row[column], []).append(row)

        return [_counted(value, rows) for value, rows in found.items()]

    def _picked(self, question: Question) -> set[str]:
        scope, wanted = question.scope(), question.wanted()
        hits: list[set[str]] = [set() for _ in wanted]
        lives: dict[str, _Life] = {}
        self.remarks.clear()
        for row in self._rows(question, self.remarks):
            if not holds(scope, row):
                continue
            lives.setdefault(row["payload_id"], _Life()).add(row)
            for hit, part in zip(hits, wanted):
                if holds(part, row):
                    hit.add(row["payload_id"])
        picked = set.intersection(set(lives), *hits)

        return {one for one in picked if question.alive(lives[one].began, lives[one].ended)}

    def _rows(self, question: Question, remarks: list[str]) -> Iterator[Row]:
        for file in within(self._files, *question.bounds(whole=True)).lines:
            yield from rows_of(file, remarks)


class _Life:
    """
    When a payload began and ended, as far as records were seen.
    """

    def __init__(self) -> None:
        self._first: list[int] = []
        self._starts: list[int] = []
        self.ended: Optional[int] = None

    @property
    def began(self) -> int:
        return min(self._starts or self._first)

    def add(self, row: Row) -> None:
        time = row["time"]
        self._first = [min([time, *self._first])]
        if row["event_action"] == "payload.start":
            self._starts = [min([time, *self._starts])]
        if row["event_action"] in FINAL_EVENTS:
            self.ended = time if self.ended is None else max(time, self.ended)


def _counted(value: Any, rows: list[Row]) -> tuple[Any, int, int, int, int]:
    times = [row["time"] for row in rows]
    refused = {row["payload_id"] for row in rows if row["event_action"] == "payload.refused"}

    return value, min(times), max(times), len({row["payload_id"] for row in rows}), len(refused)


def _no_parquet(file: str) -> TraceError:
    return TraceError(
        [
            Problem(
                kind="trace-unreadable",
                message=f"plain Python reads no Parquet, such as {file}",
                origin="--engine",
                advice="pip install wlcg_isolate[query], or name the JSON lines",
            )
        ]
    )

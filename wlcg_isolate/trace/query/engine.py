"""
What each of the engines can do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Protocol

from wlcg_isolate.trace.query.conditions import Condition
from wlcg_isolate.trace.query.question import Question
from wlcg_isolate.trace.query.rows import Row


class Engine(Protocol):
    """
    Whoever answers a question.
    """

    #: One for each file that was not read, or not all of it.
    remarks: list[str]

    def records(self, question: Question, *, whole: bool = False) -> list[Row]:
        """
        Return the records of all payloads that a question means.
        """

    def rows(
        self, condition: Condition, columns: Sequence[str], bounds: tuple[Optional[int], Optional[int]]
    ) -> list[Row]:
        """
        Return some columns of all records for which a condition holds.

        Args:
            condition: What must hold.

            columns: What of each record.

            bounds: In the files of which time to look.
        """

    def seen(self, question: Question, column: str) -> list[tuple[Any, int, int, int, int]]:
        """
        Count payloads and refusals for each value of a column.
        """

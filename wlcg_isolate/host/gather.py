"""
Ask several things, each of which may never answer.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import Any, Callable, Optional


class Answer:
    """
    What became of one question.

    Attributes:
        value: The answer; None when there was none.

        error: What was raised instead, or None.

        silent: Whether there was no answer in time.
    """

    def __init__(self, value: Any = None, error: Optional[Exception] = None, *, silent: bool = False) -> None:
        self.value = value
        self.error = error
        self.silent = silent


def gather(questions: Mapping[str, Callable[[], Any]], deadline: Callable[[str], float]) -> dict[str, Answer]:
    """
    Ask all *questions*, waiting for each no longer than *deadline* says.

    One thread asks them in turn; when one hangs, the rest go to a new thread,
    so that a single dead file system or directory service does not hide what
    the others say.

    Args:
        questions: What to ask, by name.

        deadline: The seconds for one name.
    """
    answers: dict[str, Answer] = {}
    left = list(questions)
    while left:
        queue: SimpleQueue[Answer] = SimpleQueue()
        todo = [questions[name] for name in left]
        threading.Thread(target=_ask_in_turn, args=(todo, queue), daemon=True).start()
        while left:
            name = left.pop(0)
            try:
                answers[name] = queue.get(timeout=deadline(name))
            except Empty:
                answers[name] = Answer(silent=True)
                break

    return answers


def _ask_in_turn(questions: list[Callable[[], Any]], queue: SimpleQueue[Answer]) -> None:
    for question in questions:
        try:
            queue.put(Answer(question()))
        except Exception as error:  # noqa: BLE001 - it is an answer, too
            queue.put(Answer(error=error))

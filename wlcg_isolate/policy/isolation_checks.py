"""
What a value of policy about what surrounds a payload must be.

Each function is as those of `checks`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def count_or_none(value: Any) -> Iterator[str]:
    """
    A whole number above 0, or no limit.
    """
    if value is not None and not _is_whole(value, 1):
        yield "must be a whole number above 0"


def size_or_none(value: Any) -> Iterator[str]:
    """
    A whole number, or no limit.
    """
    if value is not None and not _is_whole(value, 0):
        yield "must be a whole number of at least 0"


def _is_whole(value: Any, least: int) -> bool:
    # The kernel's own numbers end with 63 bits.
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 1 << 63


def cpus_or_none(value: Any) -> Iterator[str]:
    """
    A number of processors, or no limit; the kernel gives no less than a
    hundredth of one.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (number and 0.01 <= value <= 1_000_000):
        yield "must be a number of processors of at least 0.01"


def on_difference(value: Any) -> Iterator[str]:
    """
    What becomes of a container that is not what was asked for.
    """
    yield from _one_of(value, ("refuse", "warn"))


def root(value: Any) -> Iterator[str]:
    """
    What becomes of payloads of root.
    """
    yield from _one_of(value, ("refuse", "confine", "allow"))


def network(value: Any) -> Iterator[str]:
    """
    The network of payloads.
    """
    yield from _one_of(value, ("host", "none"))


def _one_of(value: Any, known: tuple[str, ...]) -> Iterator[str]:
    if value not in known:
        yield f"must be one of {', '.join(known)}"

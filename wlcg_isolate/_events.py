"""
Tell the caller's log what happens.

Rule: a library never configures logging, and structlog without configuration
prints to standard output, which here belongs to the payload.  So events are
emitted only when the caller has configured structlog; to look is free, since
a caller who never imported it cannot have.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, MutableMapping
from contextvars import ContextVar
from typing import Any, Optional

_trace_id: ContextVar[Optional[str]] = ContextVar("wlcg_isolate_trace_id", default=None)


def heard() -> bool:
    """
    Tell whether the caller listens.
    """
    structlog = sys.modules.get("structlog")

    return structlog is not None and bool(structlog.is_configured())


def emit(event: str, *, level: str = "info", **values: Any) -> None:
    """
    Emit one structlog event, if the caller listens.
    """
    if heard():
        getattr(sys.modules["structlog"].get_logger("wlcg_isolate"), level)(event, **values)


def current_trace_id() -> Optional[str]:
    """
    Return the trace id of the payload that this code is about, or None.

    It is known where `bind_trace_id` is in force, and in what `launch_plan`
    and `run_isolated` call.
    """
    return _trace_id.get()


@contextlib.contextmanager
def bind_trace_id(trace_id: str) -> Iterator[None]:
    """
    Say that the code in this block is about one payload.

    It holds for this thread, or this asyncio task, alone.

    Args:
        trace_id: The payload's, as `Plan` and `Outcome` have it.
    """
    token = _trace_id.set(trace_id)
    try:
        yield
    finally:
        _trace_id.reset(token)


def add_trace_id(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """
    Add the trace id to an event of the caller's own log: a processor for
    `structlog.configure`.

    An event that has a ``trace_id`` keeps it.
    """
    trace_id = _trace_id.get()
    if trace_id is not None:
        event.setdefault("trace_id", trace_id)

    return event

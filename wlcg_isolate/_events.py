"""
Tell the caller's log what happens.

Rule: a library never configures logging, and structlog without configuration
prints to standard output, which here belongs to the payload.  So events are
emitted only when the caller has configured structlog; to look is free, since
a caller who never imported it cannot have.
"""

from __future__ import annotations

import sys
from typing import Any


def emit(event: str, **values: Any) -> None:
    """
    Emit one structlog event, if the caller listens.
    """
    structlog = sys.modules.get("structlog")
    if structlog is not None and structlog.is_configured():
        structlog.get_logger("wlcg_isolate").info(event, **values)

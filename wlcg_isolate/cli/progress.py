"""
Progress of long work, on a terminal only.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Optional, TextIO

_WIDTH = 30
_PAUSE = 0.1


class Progress:
    """
    One line on standard error that tells how far work has come.

    Without a terminal nothing is written.
    """

    def __init__(self, total: int, stream: Optional[TextIO] = None) -> None:
        """
        Begin.

        Args:
            total: Bytes that there are to read.

            stream: Where to write; standard error when not given.
        """
        self._stream = sys.stderr if stream is None else stream
        self._on = self._stream.isatty()
        self._total = total
        self._done = 0
        self._begin = self._shown = time.monotonic()
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        """
        Count bytes; any thread may.
        """
        with self._lock:
            self._done += size
            if self._on and time.monotonic() - self._shown >= _PAUSE:
                self._shown = time.monotonic()
                self._stream.write("\r" + self.line())
                self._stream.flush()

    def line(self) -> str:
        """
        Tell how far it is.
        """
        part = min(self._done / self._total, 1.0) if self._total else 1.0
        filled = int(part * _WIDTH)
        speed = self._done / max(time.monotonic() - self._begin, 1e-3) / 1e6

        return f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {part:4.0%} {self._done / 1e6:9.1f} MB {speed:7.0f} MB/s"

    def close(self) -> None:
        """
        Take the line away.
        """
        if self._on:
            self._stream.write("\r" + " " * len(self.line()) + "\r")
            self._stream.flush()

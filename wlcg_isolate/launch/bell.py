"""
Wake a thread that waits in poll(2), from another one or a signal handler.
"""

from __future__ import annotations

import contextlib
import os


class Bell:
    """
    Rings once for any number of times that it is rung.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def fileno(self) -> int:
        """
        Return what can be read once it was rung.
        """
        return self._read

    def ring(self) -> None:
        """
        Wake who waits.
        """
        # A full pipe has rung already.
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")

    def hush(self) -> None:
        """
        Wait for the next ring.
        """
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 64):
                pass

    def close(self) -> None:
        """
        Release the descriptors.
        """
        os.close(self._read)
        os.close(self._write)

"""
A terminal of the payload's own, for a person who runs one from a terminal.

The payload has no way to the person's terminal: it would be one into the
shell that they go on with (TIOCSTI, ioctl_tty(2)).  It gets a pseudo terminal
as its controlling one, with job control, and bytes go to and fro between the
two.

Rules:

1. Only where standard input is a terminal and this process is in its
   foreground; everything else passes untouched.
2. The person's terminal is as before at the end, and while this process is
   stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import termios
import threading
import tty
from typing import Any

from wlcg_isolate.launch.bell import Bell
from wlcg_isolate.launch.process import wait_readable

#: How long the last output may take to arrive.
_LAST_SECONDS = 2.0


class Terminal:
    """
    A pseudo terminal that is connected with this process's terminal.
    """

    def __init__(self) -> None:
        """
        Make it, and take over the person's.

        Raises:
            OSError: There is none to be had.
        """
        self._ours, self._theirs = os.openpty()
        self._path = os.ttyname(self._theirs)
        self._before = termios.tcgetattr(0)
        termios.tcsetattr(self._theirs, termios.TCSANOW, self._before)
        self._shown = next((fd for fd in (1, 2) if os.isatty(fd)), 0)
        self._bell = Bell()
        self.resize()
        self.take()
        self._threads = [threading.Thread(target=f, daemon=True) for f in (self._type, self._show)]

    def streams(self) -> dict[str, Any]:
        """
        Give what the payload gets for its streams that are terminals.
        """
        names = ("stdin", "stdout", "stderr")
        found: dict[str, Any] = {name: self._theirs for fd, name in enumerate(names) if os.isatty(fd)}

        return {**found, "terminal": self._path}

    def connect(self) -> None:
        """
        Let bytes go to and fro; the payload holds its side by now.
        """
        os.close(self._theirs)
        self._theirs = -1
        for thread in self._threads:
            thread.start()

    def resize(self) -> None:
        """
        Give the payload's terminal the size that the person's has.
        """
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(self._ours, termios.TIOCSWINSZ, size)

    def take(self) -> None:
        """
        Pass on each key as it is.
        """
        with contextlib.suppress(termios.error):
            tty.setraw(0, termios.TCSANOW)

    def give_back(self) -> None:
        """
        Make the person's terminal what it was before.
        """
        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSANOW, self._before)

    def close(self) -> None:
        """
        Show the last output and give the person's terminal back.
        """
        if self._theirs >= 0:
            os.close(self._theirs)
        else:
            self._threads[1].join(_LAST_SECONDS)
            self._bell.ring()
            self._threads[0].join(_LAST_SECONDS)
        self.give_back()
        os.close(self._ours)

    def _type(self) -> None:
        while 0 in wait_readable([0, self._bell.fileno()], None):
            typed = _read(0)
            if not typed or not _write(self._ours, typed):
                return

    def _show(self) -> None:
        # When nobody holds the other side any more, reading is an error.
        for shown in iter(lambda: _read(self._ours), b""):
            _write(self._shown, shown)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""


def _write(fd: int, content: bytes) -> bool:
    try:
        while content:
            content = content[os.write(fd, content) :]
    except OSError:
        return False

    return True

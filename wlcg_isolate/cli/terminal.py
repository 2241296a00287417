"""
A terminal of the payload's own, for a person who runs one from a terminal.

The payload has no way to the person's terminal: it would be one into the
shell that they go on with (TIOCSTI, ioctl_tty(2)).  It gets a pseudo terminal
as its controlling one, with job control, and bytes go to and fro between the
two.

Rules:

1. No stream of the payload is the person's terminal: whoever holds that can
   read what is typed to others and change how it works, from the background
   as well.  A stream that is no terminal passes untouched.
2. Keys are passed on only where standard input is the terminal and this
   process is in its foreground; in the background the shell has them.
3. The person's terminal is as before at the end, and while this process is
   stopped.
4. A key that stops the payload stops this process, as it would without a
   container: else nobody could let it go on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import termios
import threading
import time
import tty
from typing import Any, Optional

from wlcg_isolate.host import procfs
from wlcg_isolate.launch import Container
from wlcg_isolate.launch.bell import Bell
from wlcg_isolate.launch.process import wait_readable

#: Where `termios.tcgetattr` has the output's modes, and the special keys.
_OFLAG, _CC = 1, 6

#: How long the last output may take to arrive.
_LAST_SECONDS = 2.0

#: How often a process in the background looks whether it is in the foreground.
_LOOK_SECONDS = 0.2

#: How long, and how often, it is looked for the effect of the key that stops.
_STOP_SECONDS, _STOP_PAUSE = 0.5, 0.02


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
        self._tty = [fd for fd in (0, 1, 2) if os.isatty(fd)]
        self._has_keys = 0 in self._tty
        self._ours, self._theirs = os.openpty()
        self._path = os.ttyname(self._theirs)
        self._before = termios.tcgetattr(self._tty[0])
        self._stop_key: bytes = self._before[_CC][termios.VSUSP]
        self._taken = False
        self._look_until = 0.0
        inner = termios.tcgetattr(self._tty[0])
        if not self._has_keys:
            # The person's does all that is to be done with what is shown.
            inner[_OFLAG] &= ~termios.OPOST
        termios.tcsetattr(self._theirs, termios.TCSANOW, inner)
        self._shown = next((fd for fd in (1, 2) if fd in self._tty), 0)
        self._bell = Bell()
        self._container: Optional[Container] = None
        self.resize()
        self.take()
        self._threads = [threading.Thread(target=f, daemon=True) for f in (self._type, self._show)]

    def streams(self) -> dict[str, Any]:
        """
        Give what the payload gets for its streams that are terminals.
        """
        names = ("stdin", "stdout", "stderr")
        found: dict[str, Any] = {names[fd]: self._theirs for fd in self._tty}

        return {**found, "terminal": self._path} if self._has_keys else found

    def connect(self, container: Container) -> None:
        """
        Let bytes go to and fro; the payload holds its side by now.
        """
        self._container = container
        os.close(self._theirs)
        self._theirs = -1
        for thread in self._threads:
            thread.start()

    def resize(self) -> None:
        """
        Give the payload's terminal the size that the person's has.
        """
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(self._tty[0], termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(self._ours, termios.TIOCSWINSZ, size)

    def take(self) -> None:
        """
        Pass on each key as it is; not from the background, where trying it
        stops a process (tty_ioctl(4)).
        """
        if not self._has_keys or not _in_foreground():
            return
        with contextlib.suppress(termios.error):
            tty.setraw(0, termios.TCSANOW)
            self._taken = True
            if len(self._tty) < len(("stdin", "stdout", "stderr")):
                # What another program of a pipeline shows is not the payload's.
                mode = termios.tcgetattr(0)
                mode[_OFLAG] |= self._before[_OFLAG] & termios.OPOST
                termios.tcsetattr(0, termios.TCSANOW, mode)

    def give_back(self) -> None:
        """
        Make the person's terminal what it was before.
        """
        if self._taken and _in_foreground():
            with contextlib.suppress(termios.error):
                termios.tcsetattr(0, termios.TCSANOW, self._before)
        self._taken = False

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
        while self._has_keys:
            if not _in_foreground():
                if wait_readable([self._bell.fileno()], _LOOK_SECONDS):
                    return
                continue
            if not self._taken:
                self.take()
            is_looking = time.monotonic() < self._look_until
            readable = wait_readable([0, self._bell.fileno()], _STOP_PAUSE if is_looking else _LOOK_SECONDS)
            if self._bell.fileno() in readable:
                return
            if 0 in readable and _in_foreground() and not self._pass_on():
                return
            if is_looking:
                self._stop_with_payload()

    def _pass_on(self) -> bool:
        typed = _read(0)
        if self._stop_key in typed:
            self._look_until = time.monotonic() + _STOP_SECONDS

        return bool(typed) and _write(self._ours, typed)

    def _stop_with_payload(self) -> None:
        """
        Stop this process's group where the key has stopped the payload; a
        shell is not stopped, but stops what it runs.  Without a shell around
        this process the payload goes on.
        """
        if self._container is None or not procfs.is_stopped(self._container.pid):
            return
        self._look_until = 0.0
        if procfs.has_shell(os.getpgrp()):
            os.killpg(os.getpgrp(), signal.SIGTSTP)
        else:
            self._container.send_signal(signal.SIGCONT)

    def _show(self) -> None:
        # When nobody holds the other side any more, reading is an error.
        for shown in iter(lambda: _read(self._ours), b""):
            _write(self._shown, shown)


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


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

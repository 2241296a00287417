"""
Let no payload outlive its pilot.

When a pilot is killed with KILL nothing of it can run any more, and a parent
death signal does not survive the runtime's change of user namespace
(prctl(2), PR_SET_PDEATHSIG; seen with Apptainer 1.4.5).  So a tiny watcher
waits at a pipe whose other end only the pilot holds, and kills the runtime,
and with it the container, when the pipe closes without a word.
"""

from __future__ import annotations

import contextlib
import os

from wlcg_isolate.launch import process

_WATCH = 'read -r word || kill -9 "$1"'


class Lifeline:
    """
    The watcher of one runtime process.
    """

    def __init__(self, launcher: int) -> None:
        """
        Start the watcher.

        Raises:
            OSError: It cannot be started.
        """
        read, self._write = os.pipe()
        try:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            try:
                argv = ("/bin/sh", "-c", _WATCH, "wlcg-isolate-lifeline", str(launcher))
                pid = process.spawn(argv, {"LC_ALL": "C"}, {0: read, 1: null, 2: null})
            finally:
                os.close(null)
        except BaseException:
            os.close(self._write)
            raise
        finally:
            os.close(read)
        self._watcher = process.Child(pid)

    def release(self) -> None:
        """
        Tell the watcher that the runtime has ended, and reap it.
        """
        with contextlib.suppress(OSError):
            os.write(self._write, b"ended\n")
        os.close(self._write)
        self._watcher.wait(None)
        self._watcher.close()

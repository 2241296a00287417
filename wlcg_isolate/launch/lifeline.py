"""
Let no payload outlive its pilot.

When a pilot is killed with KILL nothing of it can run any more, and a parent
death signal does not survive the runtime's change of user namespace
(prctl(2), PR_SET_PDEATHSIG; seen with Apptainer 1.4.5).  So a tiny watcher
waits at a pipe whose other end only the pilot holds, and kills the runtime,
and with it the container, when the pipe closes without a word; then what else
is in the runtime's session: Apptainer 1.4.5 leaves ``squashfuse_ll`` behind.

A child that the pilot forks meanwhile would hold that end as well, and keep
the payload alive after its pilot: it closes its copy.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref

from wlcg_isolate.launch import process
from wlcg_isolate.launch.child import Child
from wlcg_isolate.launch.verdict import not_started

#: Batch systems send TERM to every process of a slot before they send KILL.
_WATCH = r"""trap "" HUP INT QUIT TERM USR1 USR2
read -r word && exit
session=$1
kill -9 "$session"
for file in /proc/[0-9]*/stat; do
    read -r line <"$file" || continue
    set -- ${line##*) }
    [ "$4" = "$session" ] || continue
    pid=${file#/proc/}
    kill -9 "${pid%/stat}"
done"""

#: How long a watcher may take to hear that it is not needed any more.
_END_SECONDS = 1.0

#: Nobody forks between the making of a pipe and the note of it.
_forking = threading.RLock()


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
        with _forking:
            read, self._write = os.pipe()
            _lines.add(self)
        try:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            try:
                argv = ("/bin/sh", "-c", _WATCH, "wlcg-isolate-lifeline", str(launcher))
                pid = process.spawn(argv, {"LC_ALL": "C"}, {0: read, 1: null, 2: null})
            finally:
                os.close(null)
        except BaseException:
            self._drop()
            raise
        finally:
            os.close(read)
        self._watcher = Child(pid)

    def release(self) -> None:
        """
        Tell the watcher that the runtime has ended, and reap it.
        """
        if self._write < 0:
            return
        with contextlib.suppress(OSError):
            os.write(self._write, b"ended\n")
        self._drop()
        # One that somebody has stopped would never end.
        if not self._watcher.wait(_END_SECONDS):
            self._watcher.kill()
        self._watcher.close()

    def _drop(self) -> None:
        if self._write >= 0:
            os.close(self._write)
        self._write = -1


def watch(launcher: int) -> Lifeline:
    """
    Start the watcher of a runtime.

    Raises:
        LaunchError: It cannot be started.
    """
    try:
        return Lifeline(launcher)
    except OSError as e:
        raise not_started("runtime-failed", f"no process can watch the pilot: {e.strerror}", "the node") from e


_lines: weakref.WeakSet[Lifeline] = weakref.WeakSet()


def _drop_all() -> None:
    for line in list(_lines):
        line._drop()  # noqa: SLF001 - its other half
    _forking.release()


os.register_at_fork(before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_drop_all)

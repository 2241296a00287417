"""
Let no payload outlive its pilot.

When a pilot is killed with KILL nothing of it can run any more, and a parent
death signal does not survive the runtime's change of user namespace
(prctl(2), PR_SET_PDEATHSIG; seen with Apptainer 1.4.5).  So a tiny watcher
waits at a pipe whose other end only the pilot holds, and kills the runtimes
that it was told of, and with them the containers, when the pipe closes; then
what else is in the runtimes' sessions: Apptainer 1.4.5 leaves
``squashfuse_ll`` behind.

Rules:

1. One watcher serves all payloads of a process, from the start of the first
   to the end of the last: a process that runs no payload has no child.
2. A number is killed only while it is the process that was meant.
3. A watcher that was killed, or does not read, is replaced when the next
   payload starts or ends.  Nobody waits for one.
4. A child that the pilot forks would hold the pipe's end as well, and keep
   payloads alive after their pilot: it closes its copy, and has a watcher of
   its own once it starts payloads.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Optional

from wlcg_isolate.host import procfs
from wlcg_isolate.launch import process
from wlcg_isolate.launch.child import Child
from wlcg_isolate.launch.verdict import not_started

#: Batch systems send TERM to every process of a slot before they send KILL.
#: The fields of stat are those of proc(5), without the first two: 4 is the
#: session, 20 the start.
_WATCH = r"""trap "" HUP INT QUIT TERM USR1 USR2
left=$*
while read -r word one; do
    if [ "$word" = add ]; then
        left="$left $one"
        continue
    fi
    rest=
    for other in $left; do
        [ "$other" = "$one" ] || rest="$rest $other"
    done
    left=$rest
done
sessions=
for one in $left; do
    pid=${one%:*}
    if read -r line <"/proc/$pid/stat"; then
        set -- ${line##*) }
        [ "${20}" = "${one#*:}" ] || continue
    fi
    kill -9 "$pid"
    sessions="$sessions $pid"
done
[ -n "$sessions" ] || exit
for file in /proc/[0-9]*/stat; do
    read -r line <"$file" || continue
    set -- ${line##*) }
    case "$sessions " in *" $4 "*) ;; *) continue ;; esac
    pid=${file#/proc/}
    kill -9 "${pid%/stat}"
done"""


class Lifeline:
    """
    What the watcher knows of one runtime process.
    """

    def __init__(self, launcher: int) -> None:
        """
        Have it watched.

        Raises:
            OSError: No watcher can be started.
        """
        # Where the kernel hides the process, the watcher cannot compare either.
        self.text = f"{launcher}:{procfs.start_ticks(launcher) or '-'}"
        _all.add(self)

    def release(self) -> None:
        """
        Say that the runtime has ended.
        """
        _all.drop(self)


class _Watch:
    """
    The watcher of this process, while there is something to watch.
    """

    def __init__(self) -> None:
        #: Nobody forks between the making of a pipe and the note of it.
        self.lock = threading.RLock()
        self._lines: list[Lifeline] = []
        self._watcher: Optional[Child] = None
        self._pipe: tuple[int, ...] = ()

    def add(self, line: Lifeline) -> None:
        with self.lock:
            self._lines.append(line)
            try:
                if not self._tell("add", line):
                    self._start()
            except BaseException:
                self.drop(line)
                raise

    def drop(self, line: Lifeline) -> None:
        with self.lock:
            # Not in a forked child.
            if line not in self._lines:
                return
            self._lines.remove(line)
            if not self._lines:
                self._end(self._watcher, self._pipe)
                self._watcher, self._pipe = None, ()
            elif not self._tell("drop", line):
                with contextlib.suppress(OSError):
                    self._start()

    def forget(self) -> None:
        """
        Leave all to the process that this one was forked from.
        """
        self._lines.clear()
        if self._watcher is not None:
            self._watcher.close()
        for fd in self._pipe:
            os.close(fd)
        self._watcher, self._pipe = None, ()

    def _tell(self, word: str, line: Lifeline) -> bool:
        watcher = self._watcher
        if watcher is None or watcher.poll():
            return False
        # One that somebody has stopped goes on.
        process.send(watcher.pidfd, watcher.pid, signal.SIGCONT)
        try:
            os.write(self._pipe[1], f"{word} {line.text}\n".encode())
        except BlockingIOError:
            return False

        return True

    def _start(self) -> None:
        """
        Start a watcher of all that is to be watched, in place of what there
        is.

        Raises:
            OSError: It cannot be started; what there is stays.
        """
        before = self._watcher, self._pipe
        # Both ends stay here: without a reader, a pipe would kill who writes.
        self._pipe = os.pipe()
        try:
            os.set_blocking(self._pipe[1], False)
            self._watcher = Child(self._spawn(self._pipe[0]))
        except BaseException:
            self._end(None, self._pipe)
            self._watcher, self._pipe = before
            raise
        self._end(*before)

    def _spawn(self, read: int) -> int:
        argv = ("/bin/sh", "-c", _WATCH, "wlcg-isolate-lifeline", *(line.text for line in self._lines))
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            return process.spawn(argv, {"LC_ALL": "C"}, {0: read, 1: null, 2: null})
        finally:
            os.close(null)

    @staticmethod
    def _end(watcher: Optional[Child], pipe: tuple[int, ...]) -> None:
        # Before its pipe closes, since it may not have read all.
        if watcher is not None:
            watcher.kill()
            watcher.close()
        for fd in pipe:
            os.close(fd)


_all = _Watch()


def watch(launcher: int) -> Lifeline:
    """
    Have a runtime watched.

    Raises:
        LaunchError: No watcher can be started.
    """
    try:
        return Lifeline(launcher)
    except OSError as e:
        raise not_started("runtime-failed", f"no process can watch the pilot: {e.strerror}", "the node") from e


def _forked() -> None:
    _all.forget()
    _all.lock.release()


os.register_at_fork(before=_all.lock.acquire, after_in_parent=_all.lock.release, after_in_child=_forked)

"""
The life of one payload: start, watch, signal, reap, time out.

Rules:

1. The payload's first instruction comes after the start marker, the check
   from outside, and whatever the caller does in *on_ready*.
2. Nothing outlives `Container.wait`: no process, no descriptor, no private
   directory.
3. The caller's signal handlers, environment and directory are not touched.
4. One thread waits and brings about the end; all others, and signal handlers,
   only ask for it.
5. A child that the pilot forks owns none of its payloads, and ends none.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
from typing import Callable, Optional, cast

from wlcg_isolate.launch import descriptors, handshake, leftovers, process, verdict
from wlcg_isolate.launch.bell import Bell
from wlcg_isolate.launch.child import Child
from wlcg_isolate.launch.confinement import check_confinement
from wlcg_isolate.launch.copies import read_credentials
from wlcg_isolate.launch.ending import bring_about
from wlcg_isolate.launch.held import Held
from wlcg_isolate.launch.limits import Limiter
from wlcg_isolate.launch.making import Wanted, stand_up
from wlcg_isolate.launch.memory import Peak
from wlcg_isolate.launch.promises import check_promises
from wlcg_isolate.launch.scratch import Scratch
from wlcg_isolate.launch.standing import Standing
from wlcg_isolate.launch.tree import Tree
from wlcg_isolate.launch.verdict import not_started
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.plan import Plan

Ready = handshake.Payload

#: Why no private directory can be made.
_NO_SCRATCH = {errno.ENOENT: "workdir-missing", errno.ENOSPC: "no-space", errno.EDQUOT: "no-space"}

#: Signals that are meant as an end.
_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGKILL, signal.SIGTERM, signal.SIGXCPU)

#: What the kernel says to a process that has too much of something.
_OWN_LIMITS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}


def start(
    plan: Plan,
    *,
    stdin: descriptors.Stream = 0,
    stdout: descriptors.Stream = 1,
    stderr: descriptors.Stream = 2,
    terminal: Optional[str] = None,
    on_ready: Optional[Callable[[Ready], None]] = None,
    cancelled: Optional[Callable[[], bool]] = None,
) -> Container:
    """
    Start a plan's payload.

    Args:
        plan: The plan.

        stdin: The payload's standard input: a descriptor or a file.

        stdout: Its standard output.

        stderr: Its standard error.

        terminal: Path of a terminal that becomes the payload's controlling
            one and is nobody's yet, such as the other side of a pseudo
            terminal.  Without, it has none: a terminal among its streams can
            be read and written, and nothing else.

        on_ready: Called when the container stands and before the payload's
            first instruction; when it raises, the payload never runs.

        cancelled: Asked now and then while the container is being made; once
            it says yes, the payload is not started.

    Returns:
        The running payload.  The caller must call `Container.wait`.

    Raises:
        LaunchError: The payload was not started, and nothing is left.
    """
    container = None
    try:
        container = Container(plan)
        with contextlib.ExitStack() as opened:
            streams = tuple(descriptors.parked(stream, opened) for stream in (stdin, stdout, stderr))
            wanted = Wanted(streams=streams, terminal=terminal, on_ready=on_ready, cancelled=cancelled)
            container._start(wanted)  # noqa: SLF001 - its other half
    except BaseException as e:
        if container is not None:
            container.kill()
        if isinstance(e, OSError) and e.errno in _OWN_LIMITS:
            reason = f"the pilot's own process is at a limit: {e.strerror}"
            raise not_started("runtime-failed", reason, "the pilot", "raise its limits (ulimit -n, ulimit -u)") from e
        raise

    return container


class Container:
    """
    A payload that was started.

    Attributes:
        plan: Its plan.

        on_kill: Called before the payload is told to end, with the reason
            and the signal; it may be called from a signal handler.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.on_kill: Callable[[str, int], None] = lambda _reason, _number: None
        self._owner = os.getpid()
        self._payload: Optional[Ready] = None
        self._resources = contextlib.ExitStack()
        self._launcher: Optional[Child] = None
        self._tree: Optional[Tree] = None
        self._standing: Optional[Standing] = None
        self._payload_fd: Optional[int] = None
        self._peak: Optional[Peak] = None
        self._released = 0.0
        self._runs = False
        self._end = verdict.End(plan=plan)
        self._outcome: Optional[Outcome] = None
        #: Around what a signal handler may touch, and around the end.
        self._guard = threading.RLock()
        self._ending = threading.RLock()
        self._bell: Optional[Bell] = Bell()
        self._resources.callback(self._bell.close)

    @property
    def payload(self) -> Ready:
        """
        The payload's process.
        """
        return cast("Ready", self._payload)

    @property
    def pid(self) -> int:
        """
        The payload's process id on the host.
        """
        return self.payload.pid

    @property
    def is_ours(self) -> bool:
        """
        Whether this process started it, and is no child that was forked since.
        """
        return os.getpid() == self._owner

    def send_signal(self, number: int) -> bool:
        """
        Pass a signal on to the payload; one that lets it go on, to all of its
        processes, since all of them may have been stopped.

        Returns:
            Whether it was still there.
        """
        with self._guard:
            if self._bell is None or not self.is_ours:
                return False
            if number in _ENDING:
                self.on_kill("signal", number)
            self._end.passed_on.add(number)
            if number == signal.SIGCONT and self._tree is not None:
                self._tree.send(number)

            return process.send(self._payload_fd, self.pid, number)

    def suspend(self) -> None:
        """
        Stop all processes of the payload until `SIGCONT` is passed on.
        """
        with self._guard:
            if self._bell is not None and self._tree is not None and self.is_ours:
                self._tree.send(signal.SIGSTOP)

    def stop(self, grace: Optional[float] = None) -> None:
        """
        Ask for the end of the payload, and return at once: TERM to all of its
        processes, the grace, then KILL.

        Args:
            grace: Seconds; the plan's when nothing else is said.  0 kills at
                once.
        """
        if not self.is_ours:
            # In a child of the pilot a thread that is not here may hold the lock.
            return
        with self._guard:
            wanted = self.plan.grace if grace is None else max(0.0, grace)
            self._end.asked = wanted if self._end.asked is None else min(self._end.asked, wanted)
            if self._bell is not None:
                self._bell.ring()

    def wait(self) -> Outcome:
        """
        Wait for the end, keeping the request's time limit and what `stop`
        asked for.

        Returns:
            What happened.  Everything is reaped and removed by then.

        Raises:
            RuntimeError: Another process started the payload.
        """
        if not self.is_ours:
            msg = "a payload can be waited for only by the process that started it"
            raise RuntimeError(msg)
        with self._ending:
            if self._outcome is None:
                try:
                    bring_about(
                        self._end,
                        cast("Tree", self._tree),
                        cast("Bell", self._bell),
                        released=self._released,
                        on_kill=self.on_kill,
                    )
                except BaseException:
                    self.kill()
                    raise
                self._judge()

            return cast("Outcome", self._outcome)

    def kill(self) -> None:
        """
        End everything at once and leave nothing behind.
        """
        if not self.is_ours:
            return
        self.stop(0)
        with self._ending:
            if self._outcome is not None:
                return
            if self._tree is not None:
                if not cast("Child", self._launcher).poll():
                    self.on_kill("kill", signal.SIGKILL)
                    self._end.cause = self._end.cause or "stop"
                    self._end.killed = True
                self._tree.kill()
            if self._runs:
                self._judge()
            self._close()

    def _judge(self) -> None:
        self._end.wall = time.monotonic() - self._released
        self._end.peak = None if self._peak is None else self._peak.read()
        self._end.not_executed = None if self._standing is None else self._standing.not_executed()
        self._outcome = verdict.judge(self._end, cast("Child", self._launcher), process.exit_of(self._payload_fd))
        self._close()

    def _start(self, wanted: Wanted) -> None:
        plan = self.plan
        leftovers.clean(plan.trace_dirs)
        credentials = read_credentials(plan)
        self._resources.enter_context(Held(plan))
        try:
            self._resources.enter_context(Scratch(plan, credentials))
        except OSError as e:
            kind = _NO_SCRATCH.get(e.errno or 0, "workdir-not-writable")
            raise not_started(kind, f"{plan.scratch} cannot be made: {e.strerror}", "this node") from e
        limiter = self._resources.enter_context(Limiter(plan))
        standing, self._payload = stand_up(plan, wanted)
        self._resources.callback(standing.close)
        self._launcher = standing.launcher
        self._tree = Tree(standing.launcher, self._payload, plan.grace)
        self._payload_fd = process.open_pidfd(self._payload.pid)
        release = standing.release_for(self._payload)
        replaced = handshake.replaced_image(plan)
        if replaced:
            raise not_started("image-changed", replaced, plan.image.requested)
        self._payload = self._payload._replace(differences=check_confinement(plan, self._payload))
        check_promises(plan, self._payload.pid)
        self._payload = limiter.apply(self._payload)
        self._peak = Peak(self._payload.pid)
        self._resources.callback(self._peak.close)
        if wanted.on_ready is not None:
            wanted.on_ready(self._payload)
        standing.launcher.mark()
        self._released = time.monotonic()
        standing.let_go(release)
        self._standing = standing
        self._runs = True

    def _close(self) -> None:
        with self._guard:
            # From here on the process numbers may be somebody else's.
            self._bell = None
            if self._payload_fd is not None:
                os.close(self._payload_fd)
                self._payload_fd = None
        self._resources.close()

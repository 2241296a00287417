"""
The life of one payload: start, watch, signal, reap, time out.

Rules:

1. The payload's first instruction comes after the start marker, the check
   from outside, and whatever the caller does in *on_ready*.
2. Nothing outlives `Container.wait`: no process, no descriptor, no private
   directory.
3. The caller's signal handlers, environment and directory are not touched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from typing import Callable, Optional, cast

from wlcg_isolate.environment import fits_shell
from wlcg_isolate.errors import LaunchError, Problem
from wlcg_isolate.launch import descriptors, handshake, process, verdict
from wlcg_isolate.launch.confinement import check_confinement
from wlcg_isolate.launch.copies import read_credentials
from wlcg_isolate.launch.held import Held
from wlcg_isolate.launch.limits import Limiter
from wlcg_isolate.launch.promises import check_promises
from wlcg_isolate.launch.scratch import Scratch
from wlcg_isolate.launch.standing import NoMarkerError, Standing
from wlcg_isolate.launch.starters import Loader, LoaderError, Shell, Starter
from wlcg_isolate.launch.sweep import sweep
from wlcg_isolate.launch.verdict import not_started
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.plan import Plan

Ready = handshake.Payload

#: Why no private directory can be made.
_NO_SCRATCH = {errno.ENOENT: "workdir-missing", errno.ENOSPC: "no-space", errno.EDQUOT: "no-space"}

#: Signals that are meant as an end.
_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGKILL, signal.SIGTERM, signal.SIGXCPU)


def start(
    plan: Plan,
    *,
    stdin: descriptors.Stream = 0,
    stdout: descriptors.Stream = 1,
    stderr: descriptors.Stream = 2,
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

        on_ready: Called when the container stands and before the payload's
            first instruction; when it raises, the payload never runs.

        cancelled: Asked now and then while the container is being made; once
            it says yes, the payload is not started.

    Returns:
        The running payload.  The caller must call `Container.wait`.

    Raises:
        LaunchError: The payload was not started, and nothing is left.
    """
    container = Container(plan)
    try:
        with contextlib.ExitStack() as opened:
            streams = tuple(descriptors.parked(stream, opened) for stream in (stdin, stdout, stderr))
            container._start(streams, on_ready, cancelled)  # noqa: SLF001 - its other half
    except BaseException:
        container.kill()
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
        self._payload: Optional[Ready] = None
        self._resources = contextlib.ExitStack()
        self._launcher: Optional[process.Child] = None
        self._standing: Optional[Standing] = None
        self._payload_fd: Optional[int] = None
        self._released = 0.0
        self._passed_on: Optional[int] = None
        self._timed_out = False
        self._reason = ""
        self._ended = False
        self._outcome: Optional[Outcome] = None

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

    def send_signal(self, number: int) -> bool:
        """
        Pass a signal on to the payload.

        Returns:
            Whether it was still there.
        """
        if self._ended:
            return False
        if number in _ENDING:
            self.on_kill(self._reason or "signal", number)
        self._passed_on = number

        return process.send(self._payload_fd, self.pid, number)

    def stop(self) -> None:
        """
        End the payload: TERM, the plan's grace, then KILL to everything.
        """
        self._reason = self._reason or "stop"
        self.send_signal(signal.SIGTERM)
        launcher = cast("process.Child", self._launcher)
        if not launcher.wait(self.plan.grace):
            self.on_kill(self._reason, signal.SIGKILL)
            self._passed_on = signal.SIGKILL
            self._kill_all(launcher)

    def wait(self) -> Outcome:
        """
        Wait for the end, keeping the request's time limit.

        Returns:
            What happened.  Everything is reaped and removed by then.
        """
        if self._outcome is not None:
            return self._outcome
        launcher = cast("process.Child", self._launcher)
        try:
            limit = self.plan.timeout
            left = None if limit is None else limit - (time.monotonic() - self._released)
            if not launcher.wait(left):
                self._timed_out = True
                self._reason = "time-limit"
                self.stop()
            sweep(self.plan, self._payload)
            wall = time.monotonic() - self._released
        except BaseException:
            self.kill()
            raise
        self._outcome = verdict.judge(
            self.plan,
            launcher,
            process.exit_of(self._payload_fd),
            wall=wall,
            timed_out=self._timed_out,
            passed_on=self._passed_on,
            not_executed=self._standing.not_executed() if self._standing else None,
        )
        self._close()

        return self._outcome

    def kill(self) -> None:
        """
        End everything at once and leave nothing behind.
        """
        if self._launcher is not None:
            if not self._ended:
                self.on_kill(self._reason or "kill", signal.SIGKILL)
                self._passed_on = signal.SIGKILL
            self._kill_all(self._launcher)
        self._close()

    def _start(
        self,
        streams: tuple[int, ...],
        on_ready: Optional[Callable[[Ready], None]],
        cancelled: Optional[Callable[[], bool]],
    ) -> None:
        plan = self.plan
        credentials = read_credentials(plan)
        self._resources.enter_context(Held(plan))
        try:
            self._resources.enter_context(Scratch(plan, credentials))
        except OSError as e:
            kind = _NO_SCRATCH.get(e.errno or 0, "workdir-not-writable")
            raise not_started(kind, f"{plan.scratch} cannot be made: {e.strerror}", "this node") from e
        limiter = self._resources.enter_context(Limiter(plan))
        with contextlib.ExitStack() as opened:
            standing, self._payload = self._stand_up(streams, cancelled, opened)
        self._payload_fd = process.open_pidfd(self._payload.pid)
        release = standing.release_for(self._payload)
        replaced = handshake.replaced_image(plan)
        if replaced:
            raise not_started("image-changed", replaced, plan.image.requested)
        self._payload = self._payload._replace(differences=check_confinement(plan, self._payload))
        check_promises(plan, self._payload.pid)
        self._payload = limiter.apply(self._payload)
        if on_ready is not None:
            on_ready(self._payload)
        standing.launcher.mark()
        self._released = time.monotonic()
        standing.let_go(release)
        self._standing = standing

    def _stand_up(
        self, streams: tuple[int, ...], cancelled: Optional[Callable[[], bool]], opened: contextlib.ExitStack
    ) -> tuple[Standing, Ready]:
        """
        Make the container, with a shell in it where the loader is not to be
        had; the record tells why.
        """
        reason = self.plan.starter_reason
        refusal: tuple[Problem, ...] = ()
        if self.plan.starter == "loader":
            try:
                return self._stand(Loader(opened), streams, cancelled)
            except LoaderError as e:
                reason = f"the loader cannot be made: {e}"
            except NoMarkerError as e:
                # Runtimes do not say what they cannot execute, so anything
                # unknown may be it; whatever has a name of its own is not.
                if e.problems[0].kind != "runtime-failed":
                    raise
                refusal = e.problems
                reason = f"no start marker of the loader: {refusal[0].message}"
            self._shell_must_fit(reason)
        try:
            standing, payload = self._stand(Shell(), streams, cancelled)
        except NoMarkerError as e:
            raise LaunchError(dict.fromkeys((*e.problems, *refusal))) from None

        return standing, payload._replace(starter_reason=reason)

    def _shell_must_fit(self, reason: str) -> None:
        if self.plan.isolation.filtered:
            raise not_started("nesting-refused", f"{reason}; no shell keeps a payload from nesting", "the node")
        unfit = [name for name in self.plan.payload_environ if not fits_shell(name)]
        if unfit:
            raise not_started("loader-refused", f"{reason}; no shell can deliver {', '.join(unfit)}", "the node")

    def _stand(
        self, starter: Starter, streams: tuple[int, ...], cancelled: Optional[Callable[[], bool]]
    ) -> tuple[Standing, Ready]:
        standing = Standing(self.plan, starter, streams)
        self._resources.callback(standing.close)
        self._launcher = standing.launcher
        try:
            return standing, standing.await_payload(cancelled)
        except NoMarkerError:
            # Its runtime has ended, and its number may be somebody else's.
            self._launcher = None
            standing.close()
            raise

    def _kill_all(self, launcher: process.Child) -> None:
        """
        End every process of the container, then the runtime.

        The end of the container's process 1 ends all others in it
        (pid_namespaces(7)).
        """
        if self._payload is not None and self._payload.init is not None and not launcher.poll():
            process.send(None, self._payload.init, signal.SIGKILL)
            launcher.wait(self.plan.grace)
        launcher.kill()
        sweep(self.plan, self._payload)

    def _close(self) -> None:
        # From here on the process numbers may be somebody else's.
        self._ended = True
        if self._payload_fd is not None:
            os.close(self._payload_fd)
            self._payload_fd = None
        self._resources.close()

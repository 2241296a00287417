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
import os
import signal
import time
from typing import BinaryIO, Callable, Optional, cast

from wlcg_isolate import _render
from wlcg_isolate.errors import LaunchError
from wlcg_isolate.launch import descriptors, handshake, process, verdict
from wlcg_isolate.launch.copies import read_credentials
from wlcg_isolate.launch.lifeline import watch
from wlcg_isolate.launch.scratch import Scratch
from wlcg_isolate.launch.sweep import sweep
from wlcg_isolate.launch.verdict import not_started
from wlcg_isolate.outcome import Outcome, runtime_failure
from wlcg_isolate.plan import Plan

Ready = handshake.Payload

#: How long a wish to stop may wait while the container is being made.
_CANCEL_SECONDS = 0.1


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
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._payload: Optional[Ready] = None
        self._resources = contextlib.ExitStack()
        self._launcher: Optional[process.Child] = None
        self._payload_fd: Optional[int] = None
        self._released = 0.0
        self._passed_on: Optional[int] = None
        self._timed_out = False
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
        self._passed_on = number

        return process.send(self._payload_fd, self.pid, number)

    def stop(self) -> None:
        """
        End the payload: TERM, the plan's grace, then KILL to everything.
        """
        self.send_signal(signal.SIGTERM)
        launcher = cast("process.Child", self._launcher)
        if not launcher.wait(self.plan.grace):
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
        )
        self._close()

        return self._outcome

    def kill(self) -> None:
        """
        End everything at once and leave nothing behind.
        """
        if self._launcher is not None:
            if not self._ended:
                self._passed_on = signal.SIGKILL
            self._kill_all(self._launcher)
        self._close()

    def _start(
        self,
        streams: tuple[int, ...],
        on_ready: Optional[Callable[[Ready], None]],
        cancelled: Optional[Callable[[], bool]],
    ) -> None:
        plan, keep = self.plan, self._resources
        credentials = read_credentials(plan)
        try:
            keep.enter_context(Scratch(plan, credentials))
        except OSError as e:
            raise not_started(
                "workdir-not-writable", f"{plan.scratch} cannot be made: {e.strerror}", "this node"
            ) from e
        with contextlib.ExitStack() as pipes:
            words = pipes.enter_context(descriptors.own_file())
            null = pipes.enter_context(open(os.devnull, "rb"))
            release_read, release_write = descriptors.pipe(pipes)
            ready_read, ready_write = descriptors.pipe(pipes)
            numbers: dict[int, int] = {0: null.fileno(), 1: words.fileno(), 2: words.fileno()}
            numbers.update({handshake.RELEASE_FD: release_read.fileno(), handshake.READY_FD: ready_write.fileno()})
            numbers.update(zip(handshake.WAITING_FDS, streams))
            argv = (*_render.runtime_argv(plan, plan.scratch), "/bin/sh", "-c", handshake.SHIM)
            try:
                pid = process.spawn(argv, _render.runtime_environ(plan, plan.scratch), numbers)
            except OSError as e:
                reason = f"{plan.runtime.path} cannot be executed: {e.strerror}"
                raise not_started("runtime-vanished", reason, "this node") from e
            self._launcher = process.Child(pid)
            keep.callback(self._launcher.close)
            keep.callback(watch(pid).release)
            ready_write.close()
            release_read.close()
            self._payload = self._await_marker(ready_read, words, cancelled)
            self._payload_fd = process.open_pidfd(self._payload.pid)
            excess = handshake.oversize(plan, self._payload)
            if excess:
                reason = f"arguments and variables are {excess} bytes more than the kernel passes on"
                raise not_started("argument-undeliverable", reason, "request", "hand them over in a file")
            replaced = handshake.replaced_image(plan)
            if replaced:
                raise not_started("image-changed", replaced, plan.image.requested)
            if on_ready is not None:
                on_ready(self._payload)
            self._released = time.monotonic()
            self._release(release_write, ready_read)

    def _await_marker(self, ready: BinaryIO, words: BinaryIO, cancelled: Optional[Callable[[], bool]]) -> Ready:
        """
        Wait for the start marker and check who wrote it.
        """
        launcher = cast("process.Child", self._launcher)
        deadline = time.monotonic() + self.plan.start_deadline
        marker = b""
        while not marker.endswith(b"\n"):
            if cancelled is not None and cancelled():
                raise not_started("stopped-before-start", "the pilot was told to stop", "a signal")
            left = deadline - time.monotonic()
            if left <= 0:
                raise not_started(
                    "runtime-hung", f"no start marker within {self.plan.start_deadline:g} s", "the runtime"
                )
            if not process.wait_readable([ready.fileno()], min(left, _CANCEL_SECONDS)):
                continue
            chunk = os.read(ready.fileno(), 64)
            if not chunk:
                raise self._no_marker(launcher, words)
            marker += chunk
        payload = handshake.find_payload(launcher.pid, marker)
        if payload is None:
            raise not_started(
                "isolation-incomplete", "the payload's process was not found below the runtime's", "the node"
            )
        runtime = self.plan.runtime
        shared = handshake.shared_namespaces(payload, userns=runtime.mode == "userns", pid=runtime.pid)
        if shared:
            reason = f"the container has no {', '.join(shared)} namespace of its own"
            raise not_started("isolation-incomplete", reason, "the runtime's configuration")

        return payload

    def _no_marker(self, launcher: process.Child, words: BinaryIO) -> LaunchError:
        """
        Say why the runtime ended without a start marker.
        """
        launcher.wait(self.plan.grace)
        launcher.kill()
        words.seek(0)

        return LaunchError([runtime_failure(words.read(), killed_by=launcher.ended.signal if launcher.ended else None)])

    def _release(self, pipe: BinaryIO, ready: BinaryIO) -> None:
        """
        Tell the waiting shell what to become; one that does not read in time,
        or has gone, is a runtime failure: nothing of the payload has run.
        """
        text = handshake.release_text(self.plan, self.payload)
        try:
            descriptors.write_within(pipe.fileno(), text, self.plan.start_deadline)
            pipe.close()
            handshake.await_taken(ready.fileno(), self.plan.start_deadline)
        except TimeoutError:
            raise not_started("runtime-hung", "the container stopped reading before the start", "the node") from None
        except BrokenPipeError:
            raise not_started("runtime-killed", "the container was ended before the start", "the node") from None

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

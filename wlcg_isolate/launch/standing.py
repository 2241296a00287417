"""
A container that is made and stands, with a starter that waits in it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from typing import Callable, Optional

from wlcg_isolate import _render
from wlcg_isolate.errors import LaunchError
from wlcg_isolate.host import procfs
from wlcg_isolate.launch import descriptors, handshake, inherited, process
from wlcg_isolate.launch.child import Child
from wlcg_isolate.launch.confinement import shared_namespaces
from wlcg_isolate.launch.lifeline import watch
from wlcg_isolate.launch.starters import Starter
from wlcg_isolate.launch.verdict import not_started
from wlcg_isolate.loader.program import MARKER_FD, RELEASE_FD, WAITING_FDS
from wlcg_isolate.outcome import runtime_failure
from wlcg_isolate.plan import Plan

#: How long a wish to stop may wait while the container is being made.
_CANCEL_SECONDS = 0.1

#: Longer than any process number with its newline.
_MOST_MARKER = 32


class NoMarkerError(LaunchError):
    """
    The runtime ended without a start marker.
    """


class Standing:
    """
    One try to make a container.

    Attributes:
        launcher: The runtime's process.
    """

    launcher: Child

    def __init__(self, plan: Plan, starter: Starter, streams: Sequence[int], terminal: Optional[str] = None) -> None:
        """
        Start the runtime.

        Raises:
            LaunchError: It cannot be started.
        """
        self._plan = plan
        self._starter = starter
        self._pipes = contextlib.ExitStack()
        self._life = contextlib.ExitStack()
        try:
            self._start(streams, terminal)
        except BaseException:
            self.close()
            raise

    def await_payload(self, cancelled: Optional[Callable[[], bool]]) -> handshake.Payload:
        """
        Wait for the start marker and check who wrote it.

        Raises:
            LaunchError: The container does not stand, or is not isolated;
                `NoMarkerError` when its runtime ended.
        """
        marker = self._marker(cancelled)
        payload = handshake.find_payload(self.launcher.pid, marker)
        if payload is None:
            raise not_started(
                "isolation-incomplete", "the payload's process was not found below the runtime's", "the node"
            )
        # Without these it is no container, whatever policy says of differences.
        lacking = list(shared_namespaces(self._plan, payload))
        if {"mnt", "user"} & set(lacking):
            reason = f"the container has no {', '.join(lacking)} namespace of its own"
            raise not_started("isolation-incomplete", reason, "the runtime's configuration")
        if not self._starter.is_program_of(payload.pid):
            raise not_started("start-forged", "another program than the loader wrote the start marker", "the image")

        return payload._replace(starter=self._starter.name)

    def release_for(self, payload: handshake.Payload) -> bytes:
        """
        Write the release.

        Raises:
            LaunchError: The payload cannot get what was decided.
        """
        found: Optional[inherited.Environ] = inherited.environ_of(payload.pid)
        if found is None:
            found = self._starter.assumed
        if found is None:
            raise not_started("runtime-failed", "the kernel hides what the image sets as variables", "the node")
        environ = inherited.payload_environ(self._plan, found)
        excess = handshake.oversize(self._plan.request.payload.command, environ)
        if excess:
            reason = f"arguments and variables are {excess} bytes more than the kernel passes on"
            raise not_started("argument-undeliverable", reason, "request", "hand them over in a file")

        return self._starter.release(payload.pid, self._plan, found, environ)

    def let_go(self, release: bytes) -> None:
        """
        Tell the starter what to become; one that does not read in time, or
        has gone, is a runtime failure: nothing of the payload has run.

        Raises:
            LaunchError: It did not become the payload.
        """
        seconds = self._plan.start_deadline
        try:
            descriptors.write_within(self._release.fileno(), release, seconds)
            self._release.close()
            handshake.await_taken(self._ready.fileno(), seconds)
        except TimeoutError:
            raise not_started("runtime-hung", "the container stopped reading before the start", "the node") from None
        except BrokenPipeError:
            raise not_started("runtime-killed", "the container was ended before the start", "the node") from None
        finally:
            self._pipes.close()

    def not_executed(self) -> Optional[int]:
        """
        Give the exit status by which the starter said that it could execute
        nothing; None when it did, or is no loader.
        """
        try:
            os.set_blocking(self._ready.fileno(), False)
            said = os.read(self._ready.fileno(), 1)
        except (OSError, ValueError):
            return None

        return said[0] if said else None

    def abandon(self) -> None:
        """
        End what was begun.
        """
        self.launcher.kill()
        for pid in procfs.in_session(self.launcher.pid):
            process.send(None, pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """
        Release everything but the process itself, which must have ended.
        """
        self._pipes.close()
        self._life.close()

    def _start(self, streams: Sequence[int], terminal: Optional[str]) -> None:
        plan, pipes = self._plan, self._pipes
        self._words = pipes.enter_context(descriptors.own_file())
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        pipes.callback(os.close, null)
        release_read, self._release = descriptors.pipe(pipes)
        # Stays open to the end: what could not be executed is told on it.
        self._ready, ready_write = descriptors.pipe(self._life)
        numbers = {0: null, 1: self._words.fileno(), 2: self._words.fileno()}
        numbers.update({RELEASE_FD: release_read.fileno(), MARKER_FD: ready_write.fileno()})
        numbers.update(zip(WAITING_FDS, streams))
        numbers.update(self._starter.descriptors)
        argv = (*_render.runtime_argv(plan, plan.scratch), *self._starter.command)
        try:
            pid = process.spawn(argv, _render.runtime_environ(plan, plan.scratch), numbers, terminal)
        except OSError as e:
            reason = f"{plan.runtime.path} cannot be executed: {e.strerror}"
            raise not_started("runtime-vanished", reason, "this node") from e
        self.launcher = Child(pid)
        self._life.callback(self.launcher.close)
        try:
            self._life.callback(watch(pid).release)
        except BaseException:
            self.launcher.kill()
            raise
        ready_write.close()
        release_read.close()

    def _marker(self, cancelled: Optional[Callable[[], bool]]) -> bytes:
        deadline = time.monotonic() + self._plan.start_deadline
        marker = b""
        while not marker.endswith(b"\n"):
            if cancelled is not None and cancelled():
                raise not_started("stopped-before-start", "the pilot was told to stop", "a signal")
            left = deadline - time.monotonic()
            if left <= 0:
                raise not_started(
                    "runtime-hung", f"no start marker within {self._plan.start_deadline:g} s", "the runtime"
                )
            if not process.wait_readable([self._ready.fileno()], min(left, _CANCEL_SECONDS)):
                # A child that the pilot forked meanwhile may hold the other end.
                if self.launcher.poll() and not process.wait_readable([self._ready.fileno()], 0):
                    raise self._no_marker()
                continue
            chunk = os.read(self._ready.fileno(), _MOST_MARKER)
            if not chunk:
                raise self._no_marker()
            marker += chunk
            if len(marker) > _MOST_MARKER:
                raise not_started("start-forged", "what was written is no start marker", "the image")

        return marker

    def _no_marker(self) -> NoMarkerError:
        """
        Say why the runtime ended without a start marker.
        """
        self.launcher.wait(self._plan.grace)
        self.launcher.kill()
        ended = self.launcher.ended or process.Ended(None, None)
        words = descriptors.words_in(self._words)

        return NoMarkerError([runtime_failure(words, killed_by=ended.signal)])

"""
Wait for a payload's end, and bring it about when it is time.
"""

from __future__ import annotations

import signal
import time
from typing import Callable, Optional

from wlcg_isolate.launch.bell import Bell
from wlcg_isolate.launch.child import Child
from wlcg_isolate.launch.tree import Tree
from wlcg_isolate.launch.verdict import End


def bring_about(end: End, tree: Tree, bell: Bell, *, released: float, on_kill: Callable[[str, int], None]) -> None:
    """
    Wait until a runtime has ended; when the time limit is over, or somebody
    asks for it, TERM to all processes of the container, the grace, then KILL.

    Args:
        end: Where it is noted what was done.

        tree: The processes.

        bell: Rings when *end* was changed.

        released: When the payload was released.

        on_kill: Told why and by which signal, before each.
    """
    limit, launcher = end.plan.timeout, tree.launcher
    due = None if limit is None else released + limit
    if not _ended_by(launcher, bell, lambda: due if end.asked is None else 0.0):
        end.cause = "time-limit" if end.asked is None else "stop"
        began = time.monotonic()
        if end.asked != 0:
            on_kill(end.cause, signal.SIGTERM)
            tree.send(signal.SIGTERM)
            # One that is stopped cannot answer.
            tree.send(signal.SIGCONT)
        if not _ended_by(launcher, bell, lambda: began + (end.plan.grace if end.asked is None else end.asked)):
            on_kill(end.cause, signal.SIGKILL)
            end.killed = True
            tree.kill()
    launcher.wait(None)
    tree.sweep()


def _ended_by(launcher: Child, bell: Bell, due: Callable[[], Optional[float]]) -> bool:
    """
    Wait for the runtime's end until a moment, which may change whenever the
    bell rings.
    """
    while True:
        bell.hush()
        moment = due()
        left = None if moment is None else max(0.0, moment - time.monotonic())
        if launcher.wait(left, bell.fileno()):
            return True
        if moment is not None and time.monotonic() >= moment:
            return False

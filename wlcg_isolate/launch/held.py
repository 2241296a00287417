"""
Hold open what is mounted on demand, until the payload has ended.

autofs unmounts what nothing uses.  A use in a container's own mount namespace
does not always count, and what has gone there cannot come back: the payload
would read "Too many levels of symbolic links" (cvmfs/cvmfs#3151).
"""

from __future__ import annotations

import os
import threading
from typing import Optional

from wlcg_isolate._deadline import within
from wlcg_isolate.launch.verdict import not_started
from wlcg_isolate.plan import Plan


class Held:
    """
    Keeps paths open; use as a context manager around the payload's life.
    """

    def __init__(self, plan: Plan) -> None:
        """
        Prepare for a plan.
        """
        self._plan = plan
        self._opened: list[int] = []
        self._lock = threading.Lock()
        self._over = False

    def __enter__(self) -> Held:
        """
        Open everything.

        Raises:
            LaunchError: A path has gone, or gives no answer.
        """
        try:
            for path in self._plan.held:
                self._hold(path)
        except BaseException:
            self.__exit__()
            raise

        return self

    def __exit__(self, *_: object) -> None:
        """
        Close everything.
        """
        with self._lock:
            self._over = True
            for fd in self._opened:
                os.close(fd)
            self._opened.clear()

    def _hold(self, path: str) -> None:
        seconds = self._plan.start_deadline
        try:
            answer: Optional[bool] = within(seconds, lambda: self._open(path))
        except OSError as e:
            raise not_started("bind-source-missing", f"{path} has gone: {e.strerror}", "this node") from e
        if answer is None:
            reason = f"{path} gives no answer within {seconds:g} s"
            raise not_started("bind-source-no-answer", reason, "this node")

    def _open(self, path: str) -> bool:
        try:
            # The dot makes the kernel mount it.
            fd = os.open(f"{path}/.", os.O_PATH | os.O_CLOEXEC)
        except NotADirectoryError:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        with self._lock:
            if self._over:
                # Nobody waits for it any more.
                os.close(fd)
            else:
                self._opened.append(fd)

        return True

"""
The job's proxy, renewed while the job runs.

Rules:

1. DIRAC renews a copy that no job sees, and the job is handed what came of
   it.  Whose proxy is asked for is never read from what a job could have
   written.
2. A renewal that does not end, or fails, is no matter of the job, nor of the
   next one's renewal.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

#: Seconds between two looks at a proxy, at least.  Source: DIRACGrid/DIRAC, Core/Utilities/ThreadScheduler.py.
_LEAST_PERIOD = 60.0

#: Seconds that a renewal has when the job has ended.
_PATIENCE = 10.0

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def renewing(
    proxy: str, place: str, *, area: str, renew: Callable[[str], Any], period: float, log: Any
) -> Iterator[None]:
    """
    Renew a proxy for as long as the context lasts.

    Args:
        proxy: The proxy, as text.

        place: File where the job has it.

        area: Directory that the job does not see, on the same file system.

        renew: Renews the proxy in a file, if it is time; what it answers is
            DIRAC's ``S_OK`` or ``S_ERROR``.

        period: Seconds between two calls.

        log: Logger of DIRAC.
    """
    copy, over = os.path.join(area, "proxy"), threading.Event()
    _write(copy, proxy.encode())

    def work() -> None:
        known = proxy.encode()
        while not over.wait(max(period, _LEAST_PERIOD)):
            try:
                answer = renew(copy)
                if isinstance(answer, dict) and not answer["OK"]:
                    log.warn("The proxy was not renewed", answer["Message"])
                known = _hand_over(copy, place, known)
            except Exception as e:  # noqa: BLE001 - the next one may succeed
                log.warn("The proxy was not renewed", repr(e))

    thread = threading.Thread(target=work, name="proxy renewal", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_PATIENCE)


def _hand_over(copy: str, place: str, known: bytes) -> bytes:
    """
    Put the proxy in its place, if it is another one now.

    Whatever the job has put there is replaced, and neither read nor followed.
    """
    with open(copy, "rb") as file:
        content = file.read()
    if content and content != known:
        new = f"{copy}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        _write(new, content)
        os.replace(new, place)

    return content or known


def _write(path: str, content: bytes) -> None:
    with open(os.open(path, _NEW, 0o600), "wb") as file:
        file.write(content)

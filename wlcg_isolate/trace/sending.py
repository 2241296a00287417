"""
Send what the journal writes to the receivers that policy names.

Nothing of `wlcg_isolate.trace.export` is loaded where policy names none.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from wlcg_isolate.policy import Policy
from wlcg_isolate.trace.journal import Journal

if TYPE_CHECKING:
    from wlcg_isolate.trace.export import Dispatch

#: What is told to whom; kept for `flush`.
_used: dict[str, tuple[int, Policy]] = {}


def attach(journal: Journal, policy: Policy) -> None:
    """
    Have everything that a journal has written and writes sent, and what
    pilots that are dead left unsent in its directory.

    The journal itself does without: a receiver that cannot be used must not
    cost the record on this node.

    Raises:
        TraceError: A receiver cannot be used.
    """
    if not policy.trace_receivers:
        return
    directory = os.path.dirname(journal.path)
    dispatch = _dispatch(directory, policy)
    if journal.listener != dispatch.wrote:
        journal.listener = dispatch.wrote
        dispatch.wrote(*journal.stand())
    if _used.get(directory, (0, policy))[0] != os.getpid():
        _used[directory] = (os.getpid(), policy)
        # Looking at many old files must not hold up the first payload.
        threading.Thread(target=dispatch.adopt, args=(directory,), name="trace-adopt", daemon=True).start()


def require(journal: Journal, policy: Policy) -> None:
    """
    Wait until the required receivers have all that was written.

    Raises:
        TraceError: One has not within ``trace.deliver_seconds``.
    """
    if policy.trace_required:
        path, size = journal.stand()
        dispatch = _dispatch(os.path.dirname(path), policy)
        dispatch.require(policy.trace_required, path, size, policy.trace_deliver_seconds)


def flush() -> None:
    """
    Give the receivers of this process ``trace.flush_seconds`` to take what is
    left; the rest stays in the journal for the next pilot.
    """
    begin = time.monotonic()
    for directory, (pid, policy) in list(_used.items()):
        if pid == os.getpid():
            left = policy.trace_flush_seconds - (time.monotonic() - begin)
            dispatch = _dispatch(directory, policy)
            dispatch.drain(max(0.0, left))
            dispatch.close(0.0)


def _dispatch(directory: str, policy: Policy) -> Dispatch:
    from wlcg_isolate.trace.export import dispatch_for

    return dispatch_for(directory, policy.trace_receivers)

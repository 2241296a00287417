"""
Tell the outcome of a payload that its pilot started itself, from what the
start has left (`Plan.supervised`, `Plan.shell`).

Rules:

1. Whether the payload started is read from the file ``started``, which was
   written before its first instruction where no container sees it.  Nothing
   that a payload prints counts.
2. Any process of the same user can ask, the plan's own or another one with
   the plan's JSON; the first answer is kept, and given again.
3. While the payload runs there is no answer: a wrong one would be kept, and
   its directories taken from under it.
"""

from __future__ import annotations

import json
import time
from typing import Optional, Union

from wlcg_isolate.outcome import Outcome, of_dict
from wlcg_isolate.plan import Plan
from wlcg_isolate.remains.judging import judge, left_nothing
from wlcg_isolate.remains.left import opened_for, prune, read, refuse_early, remove, see, write
from wlcg_isolate.remains.records import write_records
from wlcg_isolate.remains.start import Start, invalid

__all__ = ["Start", "outcome_of"]

#: How long to wait for the watcher to tidy up, once the caller says it is over.
_WAIT_SECONDS = 2.0

#: An exit status has eight bits (wait(2)), and the last signal is 64 (signal(7)).
_LOWEST, _HIGHEST = -64, 255


def outcome_of(start: Union[Plan, Start], exit_code: Optional[int] = None) -> Outcome:
    """
    Tell what became of a payload that the caller has started itself.

    The trace records are written, and what is left of the payload's private
    directory is removed.

    Args:
        start: The plan, or what `Start.from_dict` read of its JSON.

        exit_code: Of the process that was started, as
            `subprocess.Popen.returncode` has it: negative for a signal.  Not
            needed after `Plan.shell`, which leaves it.

    Raises:
        RequestError: The exit status is needed, or cannot be one, or the
            payload still runs.
    """
    if exit_code is not None and not _LOWEST <= exit_code <= _HIGHEST:
        raise invalid(f"no process ends with the exit status {exit_code}", origin="--exit-code")
    if isinstance(start, Plan):
        start = Start.of(start, over=True)
    with opened_for(start) as left:
        if left is None:
            outcome = left_nothing(start, exit_code)
            return write_records(start, None, outcome)
        known = read(left, "outcome")
        if known is not None:
            return of_dict(json.loads(known))
        deadline = time.monotonic() + _WAIT_SECONDS
        while exit_code is not None and read(left, "end") is None and time.monotonic() < deadline:
            time.sleep(0.005)
        refuse_early(left)
        seen = see(left, exit_code)
        outcome = judge(start, seen)
        remove(start.scratch)
        outcome = write_records(start, seen, outcome)
        write(left, "outcome", json.dumps(outcome.to_dict()))
    prune(start)

    return outcome

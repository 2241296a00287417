"""
Decide first, look at the decision, then launch it.

Usage: ``python plan_first.py IMAGE``, with a runtime in PATH.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from wlcg_isolate import Payload, PlanError, Request, launch_plan, load_policy, make_plan


def main(image: str) -> int:
    """
    Plan two payloads, of which one cannot run, and launch the other.
    """
    with tempfile.TemporaryDirectory() as place:
        work = Path(place, "work")
        work.mkdir()
        policy = load_policy()
        good = Request(payload=Payload(command=("true",)), image=image, workdir=work, trace_dir=Path(place, "trace"))
        bad = Request(payload=Payload(command=("true",)), image="/nosuch", workdir="/nosuch", trace_dir=place)
        try:
            make_plan(bad, policy)
        except PlanError as error:
            for problem in error.problems:
                print("refused:", problem.kind, "-", problem.message)

        plan = make_plan(good, policy)
        print(plan.explain())
        outcome = launch_plan(plan)
        print("outcome:", outcome.kind)

    return outcome.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

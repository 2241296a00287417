"""
A pilot that starts processes itself: it takes the command from a plan, and the
outcome from what the start leaves.

Usage: ``python own_process.py IMAGE``, with a runtime in PATH.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from wlcg_isolate import Payload, Request, load_policy, make_plan, outcome_of


def main(image: str) -> int:
    """
    Run a payload that looks like a failed runtime, and a runtime that fails.
    """
    with tempfile.TemporaryDirectory() as place:
        work = Path(place, "work")
        work.mkdir()
        request = Request(
            payload=Payload(command=("sh", "-c", "echo 'FATAL: no such image' >&2; exit 255")),
            image=image,
            workdir=work,
            trace_dir=Path(place, "trace"),
        )
        plan = make_plan(request, load_policy())
        command = plan.supervised
        broken = tuple("/nosuch/image" if word == plan.image.resolved_path else word for word in command.argv)
        for argv in (command.argv, broken):
            # Exactly this environment: each variable of the pilot could act on the runtime.
            process = subprocess.Popen(argv, env=command.environ, stderr=subprocess.DEVNULL)
            outcome = outcome_of(plan, process.wait())
            print(f"exit status {process.returncode}: failed by {outcome.failed_by} ({outcome.kind})")

    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

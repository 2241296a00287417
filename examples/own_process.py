"""
A pilot that starts processes itself: it takes the command from a plan.

Usage: ``python own_process.py IMAGE``, with a runtime in PATH.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from wlcg_isolate import Payload, Request, classify, load_policy, make_plan


def main(image: str) -> int:
    """
    Run a plan's command, and one that the runtime cannot start.
    """
    with tempfile.TemporaryDirectory() as place:
        work = Path(place, "work")
        work.mkdir()
        request = Request(
            payload=Payload(command=("sh", "-c", "exit 255")),
            image=image,
            workdir=work,
            trace_dir=Path(place, "trace"),
        )
        plan = make_plan(request, load_policy())
        broken = tuple("/nosuch/image" if word == plan.image.resolved_path else word for word in plan.argv)
        for argv in (plan.argv, broken):
            # Exactly this environment: each variable of the pilot could act on the runtime.
            done = subprocess.run(argv, env=plan.environ, stderr=subprocess.PIPE, check=False)
            outcome = classify(done.returncode, done.stderr)
            print(f"exit status {done.returncode}: failed by {outcome.failed_by} ({outcome.kind})")

    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

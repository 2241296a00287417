"""
Run one payload and look at all that came of it.

Usage: ``python run_payload.py IMAGE``, with a runtime in PATH.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from wlcg_isolate import Bind, Identity, Payload, Request, load_policy, run_isolated


def main(image: str) -> int:
    """
    Run a payload that fails on purpose, and say who failed.
    """
    with tempfile.TemporaryDirectory() as place:
        work, trace = Path(place, "work"), Path(place, "trace")
        work.mkdir()
        request = Request(
            payload=Payload(command=("sh", "-c", 'echo "$GREETING from $(pwd)" >result; exit 3')),
            image=image,
            workdir=work,
            env={"GREETING": "hello"},
            binds=(Bind(source="/data/of/this/site", required=False, origin="site"),),
            identity=Identity(vo="atlas", job_id="4711", user_dn="/DC=org/DC=example/CN=Jane Doe"),
            trace_dir=trace,
            timeout=60,
        )
        outcome = run_isolated(request, load_policy())

        print(f"started: {outcome.started}, failed by: {outcome.failed_by}, exit status: {outcome.exit_code}")
        if not outcome.started:
            print(outcome.message)
            return 1
        print("result:", (work / "result").read_text().strip())
        for file in trace.iterdir():
            for line in file.read_text().splitlines():
                record = json.loads(line)
                print("record:", record["@timestamp"], record["event.action"], record.get("wlcg.job.id", ""))

    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

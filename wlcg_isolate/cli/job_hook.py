"""
``wlcg-isolate job-hook``: say before a job of HTCondor begins whether it can
run here, as its prepare hook.

HTCondor gives the hook the job's ad on standard input, in the scratch
directory, and merges what it prints into the ad; ``HookStatusCode`` decides:
1 to 299 hold the job, 300 and above put it back into the queue.
Source: HTCondor manual, Hooks, prepare job.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from wlcg_isolate import mappings
from wlcg_isolate.cli.output import report
from wlcg_isolate.errors import IsolateError
from wlcg_isolate.outcome import of_refusal
from wlcg_isolate.pilots import glidein
from wlcg_isolate.pilots.classads import Ad, parse_ad, read_ad
from wlcg_isolate.plan import make_plan
from wlcg_isolate.policy import load_policy

_HELP = """\
usage: wlcg-isolate job-hook <JOB_AD

Say whether a job of HTCondor can run isolated on this node, as its prepare
hook; start nothing.
"""


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    if list(argv[:1]) in (["-h"], ["--help"]):
        print(_HELP, end="")
        return 0
    try:
        job = parse_ad(sys.stdin.buffer.read().decode("utf-8", "surrogateescape"))
        machine = os.environ.get("_CONDOR_MACHINE_AD")
        ads = (job, read_ad(machine) if machine else Ad(values={}))
        # What the job's command is does not matter for what it runs in.
        make_plan(glidein.request_for(("true",), os.environ, ads=ads), load_policy())
    except IsolateError as e:
        answer = mappings.osg_hook(of_refusal(e))
        report(answer.message)
        message = answer.message.replace("\\", "\\\\").replace('"', '\\"')
        print(f'HookStatusCode = {answer.status}\nHookStatusMessage = "{message}"')
        return 0
    print("HookStatusCode = 0")

    return 0

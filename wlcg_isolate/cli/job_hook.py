"""
``wlcg-isolate job-hook``: say before a job of HTCondor begins whether it can
run here, as its prepare hook; and keep its ads where the job cannot reach
them.

HTCondor gives the hook the job's ad on standard input, in the scratch
directory, and merges what it prints into the ad; ``HookStatusCode`` decides:
1 to 299 hold the job, 300 and above put it back into the queue.
Source: HTCondor manual, Hooks, prepare job.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from wlcg_isolate import mappings
from wlcg_isolate._codes import LOCAL_PERMANENT
from wlcg_isolate.cli.output import report
from wlcg_isolate.errors import IsolateError
from wlcg_isolate.mappings import Hook
from wlcg_isolate.outcome import of_refusal
from wlcg_isolate.pilots import glidein, glidein_trust
from wlcg_isolate.pilots.classads import parse_ad
from wlcg_isolate.pilots.starters import Starter, parent
from wlcg_isolate.plan import make_plan
from wlcg_isolate.policy import load_policy


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = argparse.ArgumentParser(
        prog="wlcg-isolate job-hook",
        usage="wlcg-isolate job-hook [--before-transfer] [--missing-image hold|requeue] <JOB_AD",
        description="Say whether a job of HTCondor can run isolated on this node, as its prepare hook; start nothing.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--before-transfer",
        action="store_true",
        help="keep the ads for the other hook and the wrapper; do not judge the job, whose files may hold its image",
    )
    parser.add_argument(
        "--missing-image",
        choices=("hold", "requeue"),
        default="hold",
        help="what becomes of a job whose image is missing (default: hold)",
    )
    options = parser.parse_args(list(argv))
    text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    starter = parent()
    answer = _keep(starter, text) if options.before_transfer else _judge(starter, text, options.missing_image)
    if answer.status:
        report(answer.message)
        message = answer.message.replace("\\", "\\\\").replace('"', '\\"')
        print(f'HookStatusCode = {answer.status}\nHookStatusMessage = "{message}"')
    else:
        print("HookStatusCode = 0")

    return 0


def _keep(starter: Starter, job: str) -> Hook:
    """
    Keep both ads while the scratch directory still holds HTCondor's own.
    """
    machine = os.environ.get("_CONDOR_MACHINE_AD")
    try:
        # Also what starters before this one left is in the way now.
        starter.forget()
        starter.keep("job.ad", job)
        if machine:
            with open(machine, encoding="utf-8", errors="surrogateescape") as file:
                starter.keep("machine.ad", file.read())
    except OSError as e:
        return _unkept(starter, e)

    return Hook(0, "", 0)


def _judge(starter: Starter, job: str, missing_image: str) -> Hook:
    try:
        # The hook before the transfer may not be configured: the job's own ad is true here, too.
        starter.keep("job.ad", job)
        _, machine = glidein_trust.ads_of(os.environ, starter)
        ads = (parse_ad(job), machine)
        # What the job's command is does not matter for what it runs in.
        make_plan(glidein.request_for(("true",), os.environ, ads=ads), load_policy())
    except OSError as e:
        return _unkept(starter, e)
    except IsolateError as e:
        refusal = of_refusal(e)
        return mappings.htcondor_hook(refusal) if missing_image == "hold" else mappings.osg_hook(refusal)

    return Hook(0, "", 0)


def _unkept(starter: Starter, error: OSError) -> Hook:
    reason = f"job-unproven: the ads cannot be kept in {starter.path}: {error.strerror or error}"

    return Hook(LOCAL_PERMANENT, reason, 100)

"""
``wlcg-isolate job-wrapper``: run a job of HTCondor isolated, as its
``USER_JOB_WRAPPER``.

HTCondor calls a wrapper with the job's command as its arguments, in the
scratch directory.  What went wrong before the job began goes into the file
that ``_CONDOR_WRAPPER_ERROR_FILE`` names.
Source: HTCondor manual, USER_JOB_WRAPPER.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Callable

from wlcg_isolate import mappings
from wlcg_isolate.cli.output import report
from wlcg_isolate.cli.run import run_and_tell
from wlcg_isolate.errors import IsolateError, Problem, RequestError
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.pilots import glidein
from wlcg_isolate.policy import Policy, load_policy
from wlcg_isolate.request import Request
from wlcg_isolate.run import refuse, trace_places

_HELP = """\
usage: wlcg-isolate job-wrapper [--] COMMAND [ARG...]

Run a job of HTCondor isolated, as its USER_JOB_WRAPPER.  The image, the
binds and the variables are what the pilot and the job's ad say; policy is
what WLCG_ISOLATE_SITE and WLCG_ISOLATE_EXPERIMENT name.
"""


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    words = list(argv)
    if words[:1] in (["-h"], ["--help"]):
        print(_HELP, end="")
        return 0
    words = words[1:] if words[:1] == ["--"] else words
    error_file = os.environ.get("_CONDOR_WRAPPER_ERROR_FILE")
    if error_file:
        # One of an earlier try would count for this job.
        with contextlib.suppress(OSError):
            os.unlink(error_file)
    outcome = run_and_tell(lambda start: _run(words, start))
    told = mappings.htcondor(outcome)
    if error_file and told.wrapper_error is not None:
        _write(error_file, told.wrapper_error)

    return mappings.sysexit(outcome)


def _run(words: Sequence[str], start: Callable[[Request, Policy], Outcome]) -> Outcome:
    policy = None
    try:
        policy = load_policy()
        if not words:
            message = "there is no job: its command is the wrapper's arguments"
            raise RequestError([Problem(kind="usage", message=message, origin="job-wrapper")])
        request = glidein.request_for(words, os.environ)
    except IsolateError as e:
        return refuse(e, None, trace_places(None, policy or Policy()), policy)

    return start(request, policy)


def _write(path: str, line: str) -> None:
    try:
        with open(path, "a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{line}\n")
    except OSError as e:
        report(f"{path} cannot be written: {e.strerror}")
    sys.stdout.flush()

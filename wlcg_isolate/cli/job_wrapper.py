"""
``wlcg-isolate job-wrapper``: run a job of HTCondor isolated, as its
``USER_JOB_WRAPPER``.

HTCondor calls a wrapper with the job's command as its arguments, in the
scratch directory.  What went wrong before the job began goes into the file
that ``_CONDOR_WRAPPER_ERROR_FILE`` names.  It lies where the payload can
write: no link that the payload plants is followed, and what it puts there
itself is taken away.
Source: HTCondor manual, USER_JOB_WRAPPER.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Callable, Optional

from wlcg_isolate import mappings
from wlcg_isolate.cli.output import report
from wlcg_isolate.cli.run import run_and_tell
from wlcg_isolate.errors import IsolateError, Problem, RequestError
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.pilots import glidein
from wlcg_isolate.policy import Policy, load_policy
from wlcg_isolate.request import Request
from wlcg_isolate.run import refuse, trace_places

#: Where the runtime is looked for when the job has set PATH.
_PATH = "/usr/local/bin:/usr/bin:/bin"

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
    path = os.environ.get("_CONDOR_WRAPPER_ERROR_FILE")
    file = _ErrorFile(path) if path else None
    outcome = run_and_tell(lambda start: _run(words, start))
    if file is not None:
        file.write(mappings.htcondor(outcome).wrapper_error)

    return mappings.sysexit(outcome)


def _run(words: Sequence[str], start: Callable[[Request, Policy], Outcome]) -> Outcome:
    policy = None
    try:
        # First of all: a job could name a policy of its own.
        if "PATH" in glidein.check_settings(os.environ):
            # Neither could it put a runtime of its own there.
            os.environ["PATH"] = _PATH
        policy = load_policy()
        if not words:
            message = "there is no job: its command is the wrapper's arguments"
            raise RequestError([Problem(kind="usage", message=message, origin="job-wrapper")])
        request = glidein.request_for(words, os.environ)
    except IsolateError as e:
        return refuse(e, None, trace_places(None, policy or Policy()), policy)

    return start(request, policy)


class _ErrorFile:
    """
    The file by which a wrapper says that the job could not be started.
    """

    def __init__(self, path: str) -> None:
        """
        Open its directory before the payload runs.
        """
        self._path = path
        directory, self._name = os.path.split(os.path.abspath(path))
        self._directory: Optional[int] = None
        try:
            self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as e:
            report(f"{path} cannot be written: {e.strerror}")
        # One of an earlier try would count for this job.
        self._remove()

    def write(self, line: Optional[str]) -> None:
        """
        Write one line; None for a job that needs no other try.
        """
        self._remove()
        if line is None or self._directory is None:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self._name, flags, 0o644, dir_fd=self._directory)
            with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(f"{line}\n")
        except OSError as e:
            report(f"{self._path} cannot be written: {e.strerror}")

    def _remove(self) -> None:
        if self._directory is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._directory)

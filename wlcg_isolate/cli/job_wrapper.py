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
from wlcg_isolate._codes import SYSEXITS
from wlcg_isolate.cli.output import report
from wlcg_isolate.cli.run import run_and_tell
from wlcg_isolate.errors import IsolateError, Problem, RequestError
from wlcg_isolate.host.procfs import start_ticks
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.pilots import glidein, glidein_trust, sessions
from wlcg_isolate.pilots._again import command_line
from wlcg_isolate.pilots.classads import Ad, environment_of
from wlcg_isolate.pilots.starters import Starter, parent
from wlcg_isolate.policy import Policy, load_policy
from wlcg_isolate.request import Request
from wlcg_isolate.run import refuse, trace_places

#: HTCondor's default for SSH_TO_JOB_SSHD.
_SSHD = "/usr/sbin/sshd"

_HELP = """\
usage: wlcg-isolate job-wrapper [--require-hook] [--sshd PROGRAM] [--] COMMAND [ARG...]

Run a job of HTCondor isolated, as its USER_JOB_WRAPPER.  The image, the
binds and the variables are what the pilot and the job's ad say; policy is
what WLCG_ISOLATE_SITE and WLCG_ISOLATE_EXPERIMENT name.

options:
  --require-hook   refuse a job whose ads wlcg-isolate job-hook did not keep
  --sshd PROGRAM   the node's server for condor_ssh_to_job, which HTCondor
                   hands to the wrapper too (default: /usr/sbin/sshd)
"""


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    if list(argv)[:1] in (["-h"], ["--help"]):
        print(_HELP, end="")
        return 0
    called = _Called(list(argv))
    starter = parent()
    keys = sessions.session_directory(called.words, called.sshd)
    if keys is not None:
        return _serve(called.words, starter, keys)
    path = os.environ.get("_CONDOR_WRAPPER_ERROR_FILE")
    file = _ErrorFile(path) if path else None
    outcome = run_and_tell(lambda start: _run(called, starter, start))
    starter.forget()
    if file is not None:
        file.write(mappings.htcondor(outcome).wrapper_error)

    return mappings.sysexit(outcome)


class _Called:
    """
    What this program was called with: its options stand before the job's
    command, which may look like any of them.
    """

    def __init__(self, words: list[str]) -> None:
        self.require_hook, self.sshd = False, _SSHD
        while words:
            if words[0] == "--require-hook":
                self.require_hook = True
                del words[:1]
            elif words[0] == "--sshd" and len(words) > 1:
                self.sshd = words[1]
                del words[:2]
            else:
                break
        self.words = words[1:] if words[:1] == ["--"] else words


def _run(called: _Called, starter: Starter, start: Callable[[Request, Policy], Outcome]) -> Outcome:
    policy = None
    given = dict(os.environ)
    # Until it is known what the job set, nothing counts: it could name a policy, or a place for records.
    _go_by({})
    try:
        ads = glidein_trust.ads_of(given, starter, proven=called.require_hook)
        asked = environment_of(ads[0])
        _go_by({**glidein_trust.own_environ(given, asked), **_known(starter)})
        glidein_trust.check_settings(asked)
        policy = load_policy()
        if not called.words:
            message = "there is no job: its command is the wrapper's arguments"
            raise RequestError([Problem(kind="usage", message=message, origin="job-wrapper")])
        request = glidein.request_for(called.words, given, ads=ads)
    except IsolateError as e:
        return refuse(e, None, trace_places(None, policy or Policy()), policy)
    _keep(starter, request, ads[0], asked.get("LD_PRELOAD"))

    return start(request, policy)


def _known(starter: Starter) -> dict[str, str]:
    """
    Let records name the job as the hook heard of it.
    """
    path = f"{starter.path}/job.ad"

    return {"_CONDOR_JOB_AD": path} if os.path.exists(path) else {}


def _go_by(environ: dict[str, str]) -> None:
    """
    Let the library see these variables only.
    """
    for name in set(os.environ) - set(environ):
        del os.environ[name]
    os.environ.update(environ)


def _keep(starter: Starter, request: Request, job: Ad, preload: Optional[str]) -> None:
    """
    Keep what a session into this job needs.
    """
    ticks = start_ticks(os.getpid())
    dummy = (os.getpid(), ticks) if job.truth("InteractiveJob") and ticks is not None else None
    session = sessions.Session(request=request, environ=dict(os.environ), preload=preload, dummy=dummy)
    try:
        sessions.keep(starter, session)
    except OSError as e:
        report(f"condor_ssh_to_job will not work: {starter.path} cannot be written: {e.strerror or e}")


def _serve(words: Sequence[str], starter: Starter, keys: str) -> int:
    """
    Become the node's server for a session into the job that runs.
    """
    try:
        session = sessions.kept(starter)
        config, environ = sessions.begin(starter, keys, command_line("job-session"))
        environ.update(sessions.preload(os.environ, session.preload))
        # What is on standard input is HTCondor's connection to the user.
        os.execve(words[0], [words[0], "-i", "-e", "-f", config], environ)  # noqa: S606 (no shell is wanted)
    except IsolateError as e:
        report(str(e))
    except OSError as e:
        report(f"condor_ssh_to_job: {words[0]} cannot be started: {e.strerror}")

    return SYSEXITS["EX_UNAVAILABLE"]


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

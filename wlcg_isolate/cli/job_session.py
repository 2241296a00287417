"""
``wlcg-isolate job-session``: what the ``sshd`` of ``condor_ssh_to_job`` runs:
a container like the job's, for its user to look around in.

`wlcg_isolate.pilots.sessions` tells how it comes to be called.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Callable, Optional

from wlcg_isolate._codes import SYSEXITS
from wlcg_isolate.cli.output import report
from wlcg_isolate.cli.run import run_and_tell
from wlcg_isolate.errors import IsolateError
from wlcg_isolate.host.procfs import start_ticks
from wlcg_isolate.launch import Container
from wlcg_isolate.mappings import sysexit
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.pilots import sessions
from wlcg_isolate.pilots.starters import Starter
from wlcg_isolate.policy import Policy, load_policy
from wlcg_isolate.request import Request
from wlcg_isolate.run import refuse, trace_places

_HELP = """\
usage: wlcg-isolate job-session DIRECTORY

Run what the user of condor_ssh_to_job wants, in a container like the job's.
The job wrapper tells the node's sshd to start it.
"""


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    words = list(argv)
    if len(words) != 1 or words[0].startswith("-"):
        print(_HELP, end="")
        return 0 if words in (["-h"], ["--help"]) else SYSEXITS["EX_USAGE"]
    line, term = os.environ.get("SSH_ORIGINAL_COMMAND"), os.environ.get("TERM")
    try:
        session = sessions.kept(Starter(path=words[0]))
    except IsolateError as e:
        report(str(e))
        return SYSEXITS["EX_UNAVAILABLE"]
    # What sshd has of its own is not what the job's container was made with.
    os.environ.clear()
    os.environ.update(session.environ)
    server = os.getppid()
    outcome = run_and_tell(lambda start: _run(session, line, term, start), lambda container: _watch(server, container))

    return sysexit(outcome)


def _run(
    session: sessions.Session, line: Optional[str], term: Optional[str], start: Callable[[Request, Policy], Outcome]
) -> Outcome:
    policy = None
    try:
        policy = load_policy()
        request = session.request_for(line, term)
    except IsolateError as e:
        return refuse(e, None, trace_places(None, policy or Policy()), policy)
    _end_dummy(session)

    return start(request, policy)


def _watch(server: int, container: Container) -> None:
    """
    Stop the payload when the server has gone: sshd tells nobody, and HTCondor
    does not find what its children leave.
    """

    def watch() -> None:
        while os.getppid() == server:
            time.sleep(1)
        container.stop()

    threading.Thread(target=watch, daemon=True).start()


def _end_dummy(session: sessions.Session) -> None:
    """
    End what an interactive job runs until somebody comes.
    """
    if session.dummy is not None and start_ticks(session.dummy[0]) == session.dummy[1]:
        with contextlib.suppress(OSError):
            os.kill(session.dummy[0], signal.SIGTERM)

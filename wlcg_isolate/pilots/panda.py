"""
The container module of a user plug-in of PanDA's pilot 3.

A plug-in's ``container.py`` is ``from wlcg_isolate.pilots.panda import *``;
see ``examples/panda``.

Rules:

1. The pilot is imported where its list of errors is needed, and nowhere else.
2. There is no way to the host: what cannot be isolated is not run, and the
   job has the error code that says why.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import tempfile
from typing import Any, Optional

import attrs

from wlcg_isolate import mappings
from wlcg_isolate.errors import IsolateError, RequestError
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.pilots._again import command_line
from wlcg_isolate.pilots.cric import invalid, registry_logins, request_for
from wlcg_isolate.pilots.panda_outcomes import FileStart, interpret, outcome_for, remember, resolve_transform_error
from wlcg_isolate.pilots.panda_transfers import is_transfer, of_the_site, trusted
from wlcg_isolate.plan import make_plan
from wlcg_isolate.policy import Policy, load_policy
from wlcg_isolate.remains import Start
from wlcg_isolate.request import Credential, Request
from wlcg_isolate.run import refuse, trace_places

__all__ = [
    "create_middleware_container_command",
    "create_stagein_container_command",
    "do_use_container",
    "interpret",
    "outcome_for",
    "request_for",
    "resolve_transform_error",
    "wrapper",
]

#: What the pilot starts in a container for transfers.  Source: PanDAWMS/pilot3, pilot/util/default.cfg.
MIDDLEWARE_PLATFORM = "el9"

#: What runs in the job's own image.
_PAYLOAD = "payload"
_OWN_IMAGE = (_PAYLOAD, "setup")

#: Where the pilot names the payload's own proxy, on queues that serve all kinds of jobs; that in ``X509_USER_PROXY`` is
#: the pilot's.  Source: PanDAWMS/pilot3, pilot/control/job.py and pilot/user/atlas/container.py.
OWN_PROXY = "X509_UNIFIED_DISPATCH"


def do_use_container(**_kwargs: Any) -> bool:
    """
    Say that a container is used: whatever the job, none runs on the host.
    """
    return True


def wrapper(executable: str, **kwargs: Any) -> str:
    """
    Wrap a command: the line for bash that runs it isolated.

    The line names a private script beside the job's working directory, so
    that the values of variables are in no argument; the script is gone once
    it runs.  The payload gets a private copy of its own proxy, if the pilot
    names one (``X509_UNIFIED_DISPATCH``); never the pilot's.

    Args:
        executable: Line for bash.

        **kwargs: The pilot's; *job* is needed.

    Returns:
        The line; empty when the job cannot be isolated, and then the job has
        the error code that says why.
    """
    job = kwargs.get("job")
    if job is None:
        raise RequestError([invalid("wrapper", "is called without a job")])

    return _wrapped(executable, job)


def create_middleware_container_command(
    job: Any, cmd: str, label: str = "stage-in", proxy: bool = True, *, setup: str = ""
) -> str:
    """
    Wrap a transfer, which needs the pilot's own proxy and software: it runs
    in the middleware's image.

    Args:
        job: The pilot's ``JobData``.

        cmd: Line for bash.  A script of the pilot's (``./stagein.py``) runs
            from the pilot's own source: what a payload has left in the working
            directory is not executed.

        label: ``stage-in``, ``stage-out``, ``setup`` or ``general``; a
            ``setup`` runs in the job's own image.

        proxy: Whether it gets a private copy of the proxy that ``X509_USER_PROXY`` names.  A
            ``setup`` never does.

        setup: Line for bash that comes first, such as ``lsetup rucio``, for
            plug-ins that call this.

    Raises:
        PilotException: Of the pilot.  It cannot be isolated; the job has the
            error code that says why.
    """
    line = _wrapped(cmd, job, label, proxy=proxy, setup=setup)
    if line:
        return line
    from pilot.common.exception import PilotException

    # The pilot would execute an empty line, which succeeds.
    raise PilotException(f"{label} cannot be isolated", code=job.piloterrorcodes[0])


def create_stagein_container_command(workdir: str, cmd: str) -> str:
    """
    Refuse: there is no job, and so no queue, to say what may be seen.

    Raises:
        RequestError: Always.
    """
    raise RequestError([invalid("create_stagein_container_command", f"has no job for {workdir}: {cmd[:40]!r}")])


def _wrapped(executable: str, job: Any, label: str = _PAYLOAD, *, proxy: bool = False, setup: str = "") -> str:
    policy, request, outcome_file = None, None, ""
    private = _Private(job.workdir)
    try:
        policy = load_policy()
        executable, binds = trusted(executable) if is_transfer(executable, label) else (executable, ())
        executable = f"{setup}\n{executable}" if setup else executable
        request = _asked(executable, job, label, proxy, policy)
        request = attrs.evolve(request, binds=(*request.binds, *binds))
        logins = registry_logins(job) if (request.image or "").startswith("docker://") else None
        settings = [f"image.registry_credentials={private.file('.auth', logins)}"] if logins else []
        plan = make_plan(request, load_policy(operator=settings) if settings else policy)
        if request.credentials or settings:
            outcome_file = private.file(".outcome", "") if label in _OWN_IMAGE else ""
            line = _line_of_run(request, settings, private, outcome_file)
        else:
            line = plan.shell()
    except IsolateError as e:
        private.remove()
        outcome = refuse(e, request, trace_places(request, policy or Policy()), policy)
        _give_up(job, outcome, label)
        return ""
    script = private.file(".sh", _ONCE + line)
    if label in _OWN_IMAGE:
        kept = FileStart(outcome=outcome_file, files=private.files, trace_dirs=plan.trace_dirs)
        remember(job, kept if outcome_file else Start.of(plan, over=True))

    return f"exec /bin/sh {shlex.quote(script)}"


def _asked(executable: str, job: Any, label: str, proxy: bool, policy: Policy) -> Request:
    platform: Optional[str] = None
    env: dict[str, str] = {}
    if label not in _OWN_IMAGE:
        platform, env = MIDDLEWARE_PLATFORM, of_the_site()
    request = request_for(_without_export(executable), job, platform=platform, policy=policy)
    # Whoever made the job's image gets no proxy of the pilot's, whatever the pilot asks for.
    variable = OWN_PROXY if label in _OWN_IMAGE else "X509_USER_PROXY" if proxy else ""
    source = os.environ.get(variable)
    credentials = (Credential(variable="X509_USER_PROXY", source=source),) if source else ()

    return attrs.evolve(request, env={**env, **request.env}, credentials=credentials)


def _without_export(executable: str) -> str:
    """
    Take out what the pilot puts before a payload's command: a path of the
    host, where the payload finds nothing.
    """
    value = os.environ.get("X509_USER_PROXY")

    return executable.replace(f"export X509_USER_PROXY={value};", "") if value else executable


class _Private:
    """
    Files beside the working directory, where no container sees them.
    """

    def __init__(self, workdir: str) -> None:
        self._place = os.path.dirname(os.path.realpath(workdir))
        self.files: list[str] = []

    def file(self, suffix: str, text: str) -> str:
        """
        Write one, that only this user can read.
        """
        place = self._place if os.access(self._place, os.W_OK) else None
        fd, path = tempfile.mkstemp(prefix=".wlcg-isolate-", suffix=suffix, dir=place)
        self.files.append(path)
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{text}\n")

        return path

    def remove(self) -> None:
        """
        Remove all of them.
        """
        for path in self.files:
            with contextlib.suppress(OSError):
                os.unlink(path)


#: A shell reads a script as it goes, from the open file.
_ONCE = 'rm -f -- "$0"\n'

#: A number that any shell takes in a redirection.
_REQUEST_FD = 3


def _line_of_run(request: Request, settings: list[str], private: _Private, outcome: str) -> str:
    """
    Write a line that lets the command line do it all, which private copies of
    credentials need.

    It is executed in the shell's place, so that the pilot's signals reach it,
    and it reads a file that is gone already.
    """
    file = shlex.quote(private.file(".json", json.dumps(request.to_dict())))
    words = command_line("run", "--request", f"/dev/fd/{_REQUEST_FD}")
    words += ["--outcome", outcome] if outcome else []
    for setting in settings:
        words += ["--set", setting]

    return f"exec {_REQUEST_FD}<{file} && rm -f -- {file} && exec {shlex.join(words)}"


def _give_up(job: Any, outcome: Outcome, label: str) -> None:
    from pilot.common.errorcodes import ErrorCodes

    if label in _OWN_IMAGE:
        remember(job, outcome)
    code, text = mappings.panda(outcome)
    job.piloterrorcodes, job.piloterrordiags = ErrorCodes().add_error_code(code, priority=True, msg=text)

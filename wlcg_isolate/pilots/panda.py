"""
The container module of a user plug-in of PanDA's pilot 3.

A plug-in's ``container.py`` is ``from wlcg_isolate.pilots.panda import *``;
see ``examples/panda``.

Rules:

1. The pilot is imported where its list of errors is needed, and nowhere else.
2. There is no way to the host: what cannot be isolated is not run, and the
   job has the error code that says why.
3. The start of each job is remembered here, in the pilot's memory, where no
   payload reaches it.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import tempfile
from importlib import import_module
from typing import Any, Optional, Union

import attrs

from wlcg_isolate import mappings
from wlcg_isolate.errors import IsolateError, RequestError
from wlcg_isolate.outcome import Outcome, classify, of_dict
from wlcg_isolate.pilots.cric import invalid, request_for, text_of
from wlcg_isolate.plan import make_plan
from wlcg_isolate.policy import Policy, load_policy
from wlcg_isolate.remains import Start, outcome_of
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

#: Of a process; codes of the pilot are larger.
_LARGEST_STATUS = 255

#: What the pilot has for a process that it never saw end, and no signal 1.
#: Source: PanDAWMS/pilot3, pilot/control/payloads/generic.py, run.
_UNSEEN = -1

#: Source: PanDAWMS/pilot3, pilot/common/errorcodes.py, UNKNOWNTRFFAILURE.
_UNKNOWN_FAILURE = 1315

#: What the pilot starts in a container for transfers.  Source: PanDAWMS/pilot3, pilot/util/default.cfg.
MIDDLEWARE_PLATFORM = "el9"

#: Where the pilot names the payload's own proxy, on queues that serve all kinds of jobs; that in ``X509_USER_PROXY`` is
#: the pilot's.  Source: PanDAWMS/pilot3, pilot/control/job.py and pilot/user/atlas/container.py.
OWN_PROXY = "X509_UNIFIED_DISPATCH"

#: By the job: what its start leaves, or the file with its outcome, or that.
_starts: dict[str, Union[Start, Outcome, str]] = {}


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


def create_middleware_container_command(job: Any, cmd: str, label: str = "stage-in", proxy: bool = True) -> str:
    """
    Wrap a transfer, which needs the pilot's own proxy and software: it runs
    in the middleware's image.

    Args:
        job: The pilot's ``JobData``.

        cmd: Line for bash.

        label: ``stage-in``, ``stage-out``, ``setup`` or ``general``; a
            ``setup`` runs in the job's own image.

        proxy: Whether it gets a private copy of the proxy that ``X509_USER_PROXY`` names.
    """
    return _wrapped(cmd, job, platform=None if label == "setup" else MIDDLEWARE_PLATFORM, proxy=proxy)


def create_stagein_container_command(workdir: str, cmd: str) -> str:
    """
    Refuse: there is no job, and so no queue, to say what may be seen.

    Raises:
        RequestError: Always.
    """
    raise RequestError([invalid("create_stagein_container_command", f"has no job for {workdir}: {cmd[:40]!r}")])


def _wrapped(executable: str, job: Any, *, platform: Optional[str] = None, proxy: bool = False) -> str:
    policy, request, outcome_file = None, None, ""
    source = os.environ.get("X509_USER_PROXY" if proxy else OWN_PROXY)
    try:
        policy = load_policy()
        request = request_for(_without_export(executable), job, platform=platform)
        if source:
            request = attrs.evolve(request, credentials=(Credential(variable="X509_USER_PROXY", source=source),))
        plan = make_plan(request, policy)
        if source:
            outcome_file = _private(plan.workdir, ".outcome", "") if platform is None else ""
            line = _line_of_run(request, outcome_file)
        else:
            line = plan.shell()
    except IsolateError as e:
        _give_up(job, refuse(e, request, trace_places(request, policy or Policy()), policy))
        return ""
    if platform is None:
        _starts[text_of(job, "jobid")] = outcome_file or Start.of(plan, over=True)

    return f"exec /bin/sh {shlex.quote(_private(plan.workdir, '.sh', _ONCE + line))}"


def _without_export(executable: str) -> str:
    """
    Take out what the pilot puts before a payload's command: a path of the
    host, where the payload finds nothing.
    """
    value = os.environ.get("X509_USER_PROXY")

    return executable.replace(f"export X509_USER_PROXY={value};", "") if value else executable


#: A shell reads a script as it goes, from the open file.
_ONCE = 'rm -f -- "$0"\n'

_MAIN = "import sys; sys.path[:0] = {}; import wlcg_isolate.__main__"


def _line_of_run(request: Request, outcome_file: str) -> str:
    """
    Write a line that lets the command line do it all, which private copies of
    credentials need.
    """
    places = {os.path.dirname(os.path.dirname(import_module(name).__file__ or "")) for name in _NEEDED}
    values = attrs.asdict(request, filter=lambda _field, value: value not in (None, (), {}))
    file = _private(str(request.workdir), ".json", json.dumps({**values, "settings": dict(request.settings)}))
    # Without -I, Python would look for modules in the payload's directory, which the pilot has in PYTHONPATH.
    words = [sys.executable, "-I", "-c", _MAIN.format(sorted(places)), "run", "--request", file]
    words += ["--outcome", outcome_file] if outcome_file else []

    return f"{shlex.join(words)}; status=$?; rm -f -- {shlex.quote(file)}; exit $status"


#: Where these are, is all that the command line needs.
_NEEDED = ("attrs", "cattrs", "spython", "structlog", "wlcg_isolate")


def _private(workdir: str, suffix: str, text: str) -> str:
    """
    Write a file beside the working directory, where no container sees it.
    """
    place = os.path.dirname(workdir)
    fd, path = tempfile.mkstemp(
        prefix=".wlcg-isolate-", suffix=suffix, dir=place if os.access(place, os.W_OK) else None
    )
    with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"{text}\n")

    return path


def outcome_for(job: Any) -> Optional[Outcome]:
    """
    Tell what became of the job's last command; None for a job that was never
    wrapped here.
    """
    start = _starts.get(text_of(job, "jobid"))

    if isinstance(start, str):
        start = _starts[text_of(job, "jobid")] = _outcome_in(start)
    if start is None or isinstance(start, Outcome):
        return start
    try:
        return outcome_of(start)
    except RequestError:
        # The line leaves its status unless its shell is ended, which the pilot does, with TERM first.
        return outcome_of(start, 128 + signal.SIGTERM)


def _outcome_in(file: str) -> Outcome:
    """
    Read the outcome that ``run`` has written: nobody else can write there.
    """
    try:
        with open(file, encoding="utf-8") as opened:
            data = json.load(opened)
        os.unlink(file)
    except (OSError, ValueError):
        return classify(-signal.SIGKILL, "", started=False)

    return of_dict(data)


def resolve_transform_error(exit_code: int, stderr: str, job: Any = None) -> int:
    """
    Give the pilot's error code, in place of its own function of this name.

    With a job that was wrapped here, what the start has left decides.
    Without one it is a guess from what was printed, which a payload can
    steer.  A code of the pilot's own, such as that of a time limit, stays.
    """
    if exit_code > _LARGEST_STATUS:
        return exit_code
    outcome = None if job is None else outcome_for(job)
    if outcome is None and exit_code == _UNSEEN:
        return _UNKNOWN_FAILURE
    if outcome is None:
        outcome = classify(exit_code, stderr)

    return mappings.panda(outcome)[0]


def interpret(job: Any) -> int:
    """
    Put the truth into the job, after the pilot's own look at what the payload
    printed: for the ``diagnose`` module of a plug-in.

    The error code that is reported first is the outcome's, and the exit
    status is the payload's own (the pilot takes it modulo 255).

    Returns:
        0 for a success.
    """
    outcome = outcome_for(job)
    if outcome is None:
        return 0
    code, text = mappings.panda(outcome)
    if outcome.exit_code is not None:
        job.transexitcode = outcome.exit_code
    from pilot.common.errorcodes import ErrorCodes

    errors = ErrorCodes()
    for guessed in _GUESSED:
        job.piloterrorcodes, job.piloterrordiags = errors.remove_error_code(guessed)
    if code:
        job.piloterrorcodes, job.piloterrordiags = errors.add_error_code(code, priority=True, msg=text)

    return int(code != 0)


#: What the pilot guesses from standard error and the exit status.
#: Source: PanDAWMS/pilot3, pilot/common/errorcodes.py, resolve_transform_error.
_GUESSED = (1103, 1110, 1199, 1305, 1306, 1307, 1308, 1309, 1315, 1325, 1345, 1372)


def _give_up(job: Any, outcome: Outcome) -> None:
    from pilot.common.errorcodes import ErrorCodes

    code, text = mappings.panda(outcome)
    job.piloterrorcodes, job.piloterrordiags = ErrorCodes().add_error_code(code, priority=True, msg=text)

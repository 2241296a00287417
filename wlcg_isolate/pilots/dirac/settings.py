"""
DIRAC's configuration as a request, and the outcome as DIRAC's answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Optional

import attrs

from wlcg_isolate.errors import Problem, RequestError, gather
from wlcg_isolate.mappings import one_line
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Bind, Identity, Payload, Request
from wlcg_isolate.variables import names_of

#: What every plan has, or isolates better.
_ALWAYS = frozenset("-c --contain -C --containall -e --cleanenv -i --ipc -p --pid -u --userns --no-home".split())

#: Options of the runtime to keys of policy and their values.
_SETTINGS: Mapping[str, tuple[str, Any]] = {
    "--nv": ("gpu.use", "nvidia"),
    "--rocm": ("gpu.use", "amd"),
}

#: Set here for every payload, needed by DIRAC to start the runtime, or the pilot's own token itself.
_NOT_PASSED = ("PATH", "TMPDIR", "BEARER_TOKEN")

#: Names of the pilot's variables that an installation in the container does
#: not get (DIRACGrid/DIRAC, SingularityComputingElement.py, ENV_VAR_WHITELIST).
_OF_HOST = ("BEARER_TOKEN*", "DIRAC_*", "VOMS_*", "X509_*", "XRD_*", "Xrd*")

#: Where DIRAC has everything: its script, its wrapper, its proxy.  They are
#: in the working directory, so that a proxy that is renewed is seen; the
#: payload's ``/tmp`` leads to them.
#:
#: The status is kept at once: DIRAC's script that installs DIRAC ends before
#: it writes any but 0.
_BEGIN = r"""
for one in *; do
    [ "$one" = "$1" ] || ln -s "$PWD/$one" "/tmp/$one" || exit
done
printf '%s\n' "bash '$PWD/$1'" 'status=$?' "echo \$status >'$PWD/retcode'" 'exit $status' >"/tmp/$1" &&
ln -s "$PWD/retcode" /tmp/retcode &&
exec bash /tmp/dirac_container.sh
"""

#: Kinds to the words with which DIRAC's computing element says so.
_WORDS = {"runtime-missing": "Failed to find singularity"}
_IMAGE_WORDS = "Failed to find singularity image to exec"
_OTHER_WORDS = "Error running singularity command"
_NO_STATUS_WORDS = "Failed to get return code from inner wrapper"
_IMAGE_KINDS = ("image-missing", "image-not-named", "image-no-answer", "image-unreadable")


class Options(NamedTuple):
    """
    What ``ContainerOptions`` asks for.

    Attributes:
        settings: Keys of policy to values.

        binds: Binds in the runtime's own notation.
    """

    settings: dict[str, Any]
    binds: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Job:
    """
    One job, as DIRAC's computing element has prepared it.

    Attributes:
        directory: Directory with DIRAC's scripts, wrapper and proxy.

        image: Path of the image, or a name that policy knows.

        environ: Variables that DIRAC gives its jobs.

        binds: Binds in DIRAC's notation, or the runtime's.

        options: ``ContainerOptions``.

        installation: Directory of DIRAC's installation, when the job uses
            it.

        runtime: Path of the runtime, when it is not searched for.

        job_id: DIRAC's id of the job.

        vo: The community.

        pilot_id: The pilot's reference.

        has_proxy: Whether there is a proxy in the directory.
    """

    directory: str
    image: str
    environ: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    binds: tuple[str, ...] = ()
    options: str = ""
    installation: Optional[str] = None
    runtime: Optional[str] = None
    job_id: str = "0"
    vo: Optional[str] = None
    pilot_id: Optional[str] = None
    has_proxy: bool = False


def request_for(job: Job, policy: Policy) -> Request:
    """
    Make the request for one job.

    Args:
        job: The job.

        policy: What holds here; the variables that it drops do not pass.

    Raises:
        RequestError: With every option and bind that cannot be served.
    """
    options = options_of(job.options)
    installed = [] if job.installation is None else [f"{job.installation}:{job.installation}:ro"]
    proxy = os.path.join(job.directory, "proxy") if job.has_proxy else None
    dropped = names_of((*_NOT_PASSED, *policy.environment_drop, *policy.environment_secret))

    return Request(
        payload=Payload(command=("bash", "-c", _BEGIN.strip(), "dirac", f"Job{job.job_id}")),
        image=job.image,
        workdir=job.directory,
        binds=binds_of([*installed, *job.binds, *options.binds]),
        env={name: value for name, value in job.environ.items() if name not in dropped},
        identity=Identity(vo=job.vo, job_id=job.job_id, pilot_id=job.pilot_id, user_proxy=proxy),
        runtime=job.runtime,
        # A job with an installation of its own gets nothing that is of another.
        settings=options.settings if installed else {**options.settings, "environment.drop": _OF_HOST},
    )


def binds_of(texts: Iterable[str], cwd: Optional[str] = None) -> tuple[Bind, ...]:
    """
    Read binds: ``source``, ``source:::target``, ``source:::target:::options``,
    or with single colons, as the runtime has them.

    A bind is writable unless it says ``ro``, and its source must be there:
    so it is with the runtime.

    Args:
        texts: What the configuration holds.

        cwd: Whence relative sources are taken; the current directory when
            not given.

    Raises:
        RequestError: With every one that cannot be read.
    """
    place = cwd or os.getcwd()
    binds, problems = gather(filter(None, map(str.strip, texts)), lambda text: _bind(text, place))
    if problems:
        raise RequestError(problems)

    return tuple(binds)


def _bind(text: str, cwd: str) -> Bind:
    parts = [part.strip() for part in text.split(":::" if ":::" in text else ":")]
    modes = set(parts[2:])
    if len(parts) > 3 or not all(parts) or not modes <= {"ro", "rw"}:
        raise RequestError([_problem(f"ContainerBind holds {text!r}, which is no SOURCE:::TARGET:::ro|rw")])
    source = os.path.join(cwd, parts[0])

    return Bind(
        source=source,
        target=parts[1] if len(parts) > 1 else source,
        writable="ro" not in modes,
        origin="ContainerBind",
    )


def options_of(text: str) -> Options:
    """
    Read ``ContainerOptions``: words for the runtime, separated by commas.

    Raises:
        RequestError: With every one that has no meaning here.
    """
    settings: dict[str, Any] = {}
    binds: list[str] = []
    unknown: list[str] = []
    options = list(_options(text))
    for name, value in options:
        if name in ("-B", "--bind") and value:
            binds.append(value)
        elif name in _SETTINGS:
            key, item = _SETTINGS[name]
            settings[key] = [*settings.get(key, []), item]
        elif (name, value) == ("--network", "none"):
            settings["isolation.network"] = "none"
        # Alone it would be a network that the runtime makes.
        elif name not in _ALWAYS and (name != "--net" or ("--network", "none") not in options):
            unknown.append(name)
    if unknown:
        raise RequestError([_problem(f"ContainerOptions holds {name!r}, which is not served") for name in unknown])

    return Options(settings, tuple(binds))


def _options(text: str) -> Iterator[tuple[str, str]]:
    """
    Give options and their values, which are words of their own or come after
    an equals sign.
    """
    words = iter([word.strip() for word in text.split(",") if word.strip()])
    for word in words:
        name, _, value = word.partition("=")
        if name in ("-B", "--bind", "--network") and not value:
            value = next(words, "")
        yield name, value


def _problem(message: str) -> Problem:
    return Problem(
        kind="request-invalid",
        message=message,
        origin="DIRAC's configuration",
        advice="correct the option in /Resources/Computing/Singularity, the site's section or the pilot's file",
    )


def result_of(outcome: Outcome, status: Optional[int]) -> dict[str, Any]:
    """
    Give DIRAC's answer: ``S_OK`` with the job's exit status, or ``S_ERROR``
    with DIRAC's words and the cause.

    Args:
        outcome: What became of the container.

        status: The exit status that the job left, or None.
    """
    if outcome.started and status is not None:
        return {"OK": True, "Value": status}
    words = _NO_STATUS_WORDS if outcome.started else _words(outcome)

    return {"OK": False, "Errno": 0, "Message": f"{words}: {one_line(outcome)}", "CallStack": []}


def _words(outcome: Outcome) -> str:
    return _IMAGE_WORDS if outcome.kind in _IMAGE_KINDS else _WORDS.get(outcome.kind, _OTHER_WORDS)

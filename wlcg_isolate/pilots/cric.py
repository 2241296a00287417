"""
What PanDA says of a job and its queue (CRIC), read into a request.

Rules:

1. The pilot's own objects are taken as they are (``JobData``, ``QueueData``),
   by the names of their attributes.
2. One error tells every problem of all fields.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from typing import Any, Optional

import attrs

from wlcg_isolate.errors import IsolateError, Problem, RequestError
from wlcg_isolate.pilots.alrb import alrb_problems
from wlcg_isolate.pilots.options import ExecOptions, parse_options
from wlcg_isolate.pilots.shell_words import rewritten
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Identity, Payload, Request

#: Source: PanDAWMS/pilot3, pilot/info/queuedata.py, clean.
_CATCHALL = re.compile(r"""(\w+)=('[^']*'|"[^"]*"|[^\s,]*)""")

#: Source: PanDAWMS/pilot3, pilot/info/queuedata.py, clean.
_ADDED = ",${workdir} --contain"

#: Source: PanDAWMS/pilot3, pilot/user/atlas/common.py, get_key_values.
_ENVIRON = re.compile(r"\b(\w+)=(.*?)(?=\s\w+=\s*|$)", re.DOTALL)


@attrs.frozen(kw_only=True)
class QueueSettings:
    """
    What a queue of CRIC says of containers.

    Attributes:
        options: Of ``container_options``, or of ``catchall`` in its place.

        environ: Variables for every payload.

        exports: Commands for a shell, each with ``;``: those variables from
            the first on whose value names others.

        image_base: Directory of unpacked images, or None.

        runtime: ``apptainer`` or ``singularity``, where the queue names one
            for the pilot, or None.
    """

    options: ExecOptions = attrs.field(factory=ExecOptions)
    environ: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    exports: str = attrs.field(default="", repr=False)
    image_base: Optional[str] = None
    runtime: Optional[str] = None


def read_queue(queuedata: Any, workdir: str) -> QueueSettings:
    """
    Read CRIC's queue data: ``container_type``, ``container_options``,
    ``catchall`` and ``environ``.

    Raises:
        RequestError: With every problem of all of them.
    """
    problems: list[Problem] = []
    catchall = {key: value.strip("'\"") for key, value in _CATCHALL.findall(text_of(queuedata, "catchall"))}
    text = text_of(queuedata, "container_options") or catchall.get(
        "singularity_options", catchall.get("apptainer_options", "")
    )
    options = ExecOptions()
    # The pilot adds the working directory, which is shown anyway, to whatever stands there: a flag, or the last bind.
    text = text.replace(_ADDED, " --contain")
    try:
        # The pilot writes "none" for an empty field.
        options = parse_options("" if text.lower() == "none" else text, "container_options", {"workdir": workdir})
    except IsolateError as e:
        problems += e.problems
    environ, exports, faults = _environ(text_of(queuedata, "environ"))
    problems += faults
    runtime = (getattr(queuedata, "container_type", None) or {}).get("pilot")
    if runtime not in (None, "", "apptainer", "singularity", "container"):
        problems.append(invalid("container_type", f"names {runtime!r} for the pilot"))
    if problems:
        raise RequestError(problems)

    return QueueSettings(
        options=options,
        environ=environ,
        exports=exports,
        image_base=os.environ.get("IMAGE_BASE") or catchall.get("IMAGE_BASE") or None,
        runtime=runtime if runtime in ("apptainer", "singularity") else None,
    )


def _environ(text: str) -> tuple[dict[str, str], str, list[Problem]]:
    """
    Read the variables of a queue.

    The pilot exports them in their order in front of the payload's command,
    inside the container.  So are those whose value names other variables, and
    all after these.
    """
    environ: dict[str, str] = {}
    exports: list[str] = []
    problems = []
    for name, value in _ENVIRON.findall(text):
        try:
            literal, line = rewritten(value.strip().rstrip(";"))
        except ValueError as e:
            problems.append(invalid("environ", f"{name} {e}"))
            continue
        if not name.isidentifier() or not name.isascii():
            problems.append(invalid("environ", f"holds {name!r}, which is no name of a variable"))
        elif literal is None or exports:
            exports.append(f"export {name}={line}; ")
        else:
            environ[name] = literal

    return environ, "".join(exports), problems


def request_for(
    executable: str, job: Any, *, platform: Optional[str] = None, policy: Optional[Policy] = None
) -> Request:
    """
    Make the request for a job's command.

    Args:
        executable: Line for bash, which is not looked into, except to refuse
            one that starts ATLASLocalRootBase's own containers.

        job: The pilot's ``JobData``.

        platform: Instead of the job's own image.

        policy: What holds on this node: where names are looked up after
            ``IMAGE_BASE``, and whether images may be pulled.

    Raises:
        RequestError: With every problem of job and queue.
    """
    queue = read_queue(getattr(getattr(job, "infosys", None), "queuedata", None), job.workdir)
    problems = list(alrb_problems(executable))
    if problems:
        raise RequestError(problems)
    policy = policy or Policy()
    image = None if platform else _image(job, pulled="docker" in policy.image_pull)

    return Request(
        payload=Payload(command=("/bin/bash", "-c", queue.exports + executable)),
        image=image,
        platform=platform or (None if image else _platform(job)),
        workdir=job.workdir,
        binds=tuple(bind for bind in queue.options.binds if bind.source != job.workdir or bind.target != job.workdir),
        env={**queue.environ, **queue.options.env},
        identity=Identity(
            vo=text_of(job, "vo") or None,
            job_id=text_of(job, "jobid") or None,
            user_dn=text_of(job, "produserid") or None,
            source="wms-asserted" if text_of(job, "produserid") else None,
        ),
        settings=_settings(queue, image, policy),
    )


def registry_logins(job: Any) -> Optional[str]:
    """
    Give a user's logins at registries as a runtime reads them from a file, or
    None when the job has none.

    Raises:
        RequestError: The secrets of the job cannot be read.
    """
    secrets = text_of(job, "pandasecrets")
    if "DOCKER_TOKENS" not in secrets:
        return None
    try:
        tokens = json.loads(secrets)["DOCKER_TOKENS"]
        tokens = json.loads(tokens) if isinstance(tokens, str) else tokens
        logins = {
            _registry(token["registry_path"]): {"auth": _basic(token["username"], token["token"])} for token in tokens
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        # What is wrong with it would show it.
        raise RequestError([invalid("pandasecrets", "holds DOCKER_TOKENS that cannot be read")]) from None

    return json.dumps({"auths": logins}) if logins else None


def _registry(path: str) -> str:
    return path.rpartition("://")[2].partition("/")[0]


def _basic(user: str, token: str) -> str:
    return base64.b64encode(f"{user}:{token}".encode()).decode()


def _settings(queue: QueueSettings, image: Optional[str], policy: Policy) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if queue.options.gpus:
        settings["gpu.use"] = queue.options.gpus
    if queue.image_base and image and not image.startswith("/"):
        tag = ":{tag}" if ":" in image.rpartition("/")[2] else ""
        first = (f"{queue.image_base}/{part}{tag}" for part in ("{name}", "{repository}"))
        settings["image.search"] = (*first, *policy.image_search)
    if queue.runtime:
        # Queues go on to say "singularity" where that has become Apptainer.
        settings["runtime.search"] = tuple(dict.fromkeys((queue.runtime, *policy.runtime_search)))

    return settings


def _image(job: Any, *, pulled: bool) -> Optional[str]:
    name = text_of(job, "imagename")
    if text_of(job, "alrbuserplatform") or name in ("", "NULL"):
        return None

    return name.partition("://")[2] if name.startswith("docker://") and not pulled else name


def _platform(job: Any) -> Optional[str]:
    return text_of(job, "alrbuserplatform") or text_of(job, "platform") or None


def text_of(thing: Any, name: str) -> str:
    """
    Give an attribute as text; empty for one that is not there.
    """
    value = getattr(thing, name, None)

    return "" if value is None else str(value)


def invalid(origin: str, message: str) -> Problem:
    """
    Make the problem of a field that is wrong.
    """
    return Problem(
        kind="request-invalid", message=f"{origin} {message}", origin=origin, advice="correct the queue or job"
    )

"""
What PanDA says of a job and its queue (CRIC), read into a request.

Rules:

1. The pilot's own objects are taken as they are (``JobData``, ``QueueData``),
   by the names of their attributes.
2. One error tells every problem of all fields.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Optional

import attrs

from wlcg_isolate.errors import IsolateError, Problem, RequestError
from wlcg_isolate.pilots.options import ExecOptions, parse_options
from wlcg_isolate.request import Identity, Payload, Request

#: Source: PanDAWMS/pilot3, pilot/info/queuedata.py, clean.
_CATCHALL = re.compile(r"""(\w+)=('[^']*'|"[^"]*"|[^\s,]*)""")

#: Source: PanDAWMS/pilot3, pilot/user/atlas/common.py, get_key_values.
_ENVIRON = re.compile(r"\b(\w+)=(.*?)(?=\s\w+=\s*|$)", re.DOTALL)


@attrs.frozen(kw_only=True)
class QueueSettings:
    """
    What a queue of CRIC says of containers.

    Attributes:
        options: Of ``container_options``, or of ``catchall`` in its place.

        environ: Variables for every payload.

        image_base: Directory of unpacked images, or None.

        runtime: ``apptainer`` or ``singularity``, where the queue names one
            for the pilot, or None.
    """

    options: ExecOptions = attrs.field(factory=ExecOptions)
    environ: Mapping[str, str] = attrs.field(factory=dict, repr=False)
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
    try:
        # The pilot writes "none" for an empty field.
        options = parse_options("" if text.lower() == "none" else text, "container_options", {"workdir": workdir})
    except IsolateError as e:
        problems += e.problems
    environ = dict(_ENVIRON.findall(text_of(queuedata, "environ")))
    for name, value in environ.items():
        environ[name] = _unquoted(value)
        if "$" in value or "`" in value:
            problems.append(invalid("environ", f"{name} holds what a shell would execute"))
    runtime = (getattr(queuedata, "container_type", None) or {}).get("pilot")
    if runtime not in (None, "", "apptainer", "singularity", "container"):
        problems.append(invalid("container_type", f"names {runtime!r} for the pilot"))
    if problems:
        raise RequestError(problems)

    return QueueSettings(
        options=options,
        environ=environ,
        image_base=catchall.get("IMAGE_BASE") or os.environ.get("IMAGE_BASE") or None,
        runtime=runtime if runtime in ("apptainer", "singularity") else None,
    )


def request_for(executable: str, job: Any, *, platform: Optional[str] = None) -> Request:
    """
    Make the request for a job's command.

    Args:
        executable: Line for bash, which is not looked into, except to refuse
            one that starts ATLASLocalRootBase's own containers.

        job: The pilot's ``JobData``.

        platform: Instead of the job's own image.

    Raises:
        RequestError: With every problem of job and queue.
    """
    queue = read_queue(getattr(getattr(job, "infosys", None), "queuedata", None), job.workdir)
    problems = list(alrb_problems(executable))
    if problems:
        raise RequestError(problems)
    image = None if platform else _image(job)

    return Request(
        payload=Payload(command=("/bin/bash", "-c", executable)),
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
        settings=_settings(queue, image),
    )


def _settings(queue: QueueSettings, image: Optional[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if queue.options.gpus:
        settings["gpu.use"] = queue.options.gpus
    if queue.image_base and image and not image.startswith("/"):
        settings["image.search"] = (f"{queue.image_base}/{{repository}}:{{tag}}",)
    if queue.runtime:
        settings["runtime.search"] = (queue.runtime,)

    return settings


def alrb_problems(executable: str) -> Iterator[Problem]:
    """
    List what a command asks of ATLASLocalRootBase that starts a container.

    Its set-up of software (``asetup``, ``lsetup``) runs inside as it is;
    ``atlasLocalSetup.sh -c`` and the variables ``ALRB_CONT_*`` would start a
    second container in this one.
    """
    for name in sorted(set(re.findall(r"\bALRB_CONT_[A-Z]+(?==)", executable))):
        yield invalid("the command", f"sets {name}, which is for containers of ATLASLocalRootBase")
    for found in re.finditer(r"atlasLocalSetup\.sh\b([^;&|\n]*)", executable):
        options = re.findall(r"(?<!\S)(-c|--container|-s|-r|-e|-d|-m)(?=[\s=]|$)", found[1])
        for option in dict.fromkeys(options):
            if option in ("-c", "--container") or "-c" in options:
                yield invalid("the command", f"has option {option} of atlasLocalSetup.sh, which starts a container")


def _image(job: Any) -> Optional[str]:
    name = text_of(job, "imagename")
    if text_of(job, "alrbuserplatform") or name in ("", "NULL"):
        return None

    return name.partition("://")[2] if name.startswith("docker://") else name


def _platform(job: Any) -> Optional[str]:
    return text_of(job, "alrbuserplatform") or text_of(job, "platform") or None


def text_of(thing: Any, name: str) -> str:
    """
    Give an attribute as text; empty for one that is not there.
    """
    value = getattr(thing, name, None)

    return "" if value is None else str(value)


def _unquoted(value: str) -> str:
    value = value.strip().rstrip(";")

    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def invalid(origin: str, message: str) -> Problem:
    """
    Make the problem of a field that is wrong.
    """
    return Problem(
        kind="request-invalid", message=f"{origin} {message}", origin=origin, advice="correct the queue or job"
    )

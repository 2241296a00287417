"""
What a GlideinWMS pilot, or one of the OSG, says of containers: the factory's
and the frontend's settings, the job's and the machine's ads, read into a
request.

Rules:

1. The settings keep their names and forms; what upstream's own code does and
   its documentation does not mean is not repeated, see
   ``docs/reference/compatibility.md``.
2. There is no fall-back to the host: PREFERRED is as REQUIRED.
3. Nothing here touches the machine but to read the two ads, to see whether an
   image is there, and to resolve the working directory's spellings.
4. A wrapper has the job's environment: what a job may have set itself is
   never a setting of the pilot, and one that tries is refused.  Nothing here
   goes by a variable of the job's, whatever its value has become.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

from wlcg_isolate._values import is_below
from wlcg_isolate.errors import IsolateError, PlanError, Problem, RequestError
from wlcg_isolate.pilots.classads import Ad, environment_of, parse_ad, read_ad
from wlcg_isolate.pilots.glidein_environment import CREDENTIALS, kept_names, passing, read_tokens
from wlcg_isolate.pilots.glidein_images import choose_image
from wlcg_isolate.pilots.glidein_runtime import find_runtime
from wlcg_isolate.pilots.options import parse_bind
from wlcg_isolate.pilots.places import Places, outside_places
from wlcg_isolate.pilots.starters import PLACE, Starter
from wlcg_isolate.request import Bind, Identity, Payload, Request

__all__ = [
    "ads_of",
    "binds_of",
    "check_settings",
    "kept_names",
    "negotiate",
    "own_environ",
    "read_tokens",
    "request_for",
]

#: Frontend (rows) against factory (columns).
#: Source: glideinWMS, doc/factory/configuration.html, Singularity; web_base/singularity_setup.sh.
_SITE = ("NEVER", "OPTIONAL", "PREFERRED", "REQUIRED", "REQUIRED_GWMS")
_NEGOTIATED: Mapping[str, Sequence[str]] = {
    "DISABLE_GWMS": ("DISABLE", "DISABLE", "DISABLE", "DISABLE", "FAIL"),
    "NEVER": ("NEVER", "NEVER", "NEVER", "FAIL", "FAIL"),
    "OPTIONAL": ("NEVER", "NEVER", "PREFERRED", "REQUIRED", "REQUIRED"),
    "PREFERRED": ("NEVER", "PREFERRED", "PREFERRED", "REQUIRED", "REQUIRED"),
    "REQUIRED": ("FAIL", "REQUIRED", "REQUIRED", "REQUIRED", "REQUIRED"),
}

#: Source: the same, singularity_prepare_and_invoke and get_default_binds.
DEFAULT_BINDS = "/hadoop,/ceph,/hdfs,/lizard,/mnt/hadoop,/mnt/hdfs,/etc/hosts,/etc/localtime"

#: Settings of the pilot and of this library, or how their names begin.
_SETTINGS = (
    "WLCG_ISOLATE_",
    "GLIDEIN_SINGULARITY_",
    "GLIDEIN_CONTAINER_ENV",
    "GLIDEIN_REQUIRED_OS",
    "SINGULARITY_IMAGE",
    "SINGULARITY_BIN",
    "OSG_SINGULARITY_BINARY",
    "CONDOR_DIR",
    "GWMS_SINGULARITY_STATUS",
    "CVMFS_MOUNT_DIR",
    "_CONDOR_JOB_AD",
    "_CONDOR_MACHINE_AD",
    "_CONDOR_SCRATCH_DIR",
    "_CONDOR_WRAPPER_ERROR_FILE",
)


#: Where programs are looked for when the job has set PATH.
_PATH = "/usr/local/bin:/usr/bin:/bin"

#: Words for the runtime; a site's stand in its file, where no job can write.
_RUNTIME = ("APPTAINER", "SINGULARITY")


def ads_of(environ: Mapping[str, str], starter: Optional[Starter] = None, *, proven: bool = False) -> tuple[Ad, Ad]:
    """
    Read the job's and the machine's ad.

    Args:
        environ: ``_CONDOR_JOB_AD`` and ``_CONDOR_MACHINE_AD`` name the files
            of those that the hook did not keep.

        starter: Where a hook may have kept them.

        proven: Whether they must have been.

    Raises:
        RequestError: An ad cannot be read.
        PlanError: The hook did not keep one.
    """
    texts = {name: _kept(starter, name) for name in ("job.ad", "machine.ad")}
    missing = [name for name, text in texts.items() if text is None]
    if proven and missing:
        raise PlanError(
            [
                Problem(
                    kind="job-unproven",
                    message=f"no hook kept {name}, and the one in the scratch directory may be the job's own",
                    origin="--require-hook",
                    advice="configure the hook wlcg-isolate job-hook --before-transfer",
                )
                for name in missing
            ]
        )
    job, machine = (
        _ad(environ.get(variable)) if text is None else parse_ad(text)
        for text, variable in zip(texts.values(), ("_CONDOR_JOB_AD", "_CONDOR_MACHINE_AD"))
    )

    return job, machine


def _kept(starter: Optional[Starter], name: str) -> Optional[str]:
    try:
        return starter.kept(name) if starter is not None else None
    except OSError as e:
        message = f"{name}, which the hook kept, cannot be read: {e.strerror or e}"
        raise RequestError(
            [Problem(kind="request-invalid", message=message, origin=name, advice="look at /var/tmp of this node")]
        ) from e


def check_settings(asked: Iterable[str]) -> None:
    """
    Refuse a job that would set for itself what is the pilot's or the site's
    to set.

    Args:
        asked: Names of the variables that the job sets.

    Raises:
        RequestError: With every such variable.
    """
    steering = [name for name in asked if name.startswith(_SETTINGS)]
    if steering:
        raise RequestError(
            [
                Problem(
                    kind="variable-forbidden",
                    message=f"{name} is a setting of the pilot, and the job sets it",
                    origin="job ad",
                    advice="take it out of the job's Environment",
                )
                for name in steering
            ]
        )


def own_environ(environ: Mapping[str, str], asked: Iterable[str]) -> dict[str, str]:
    """
    Give what the library may go by: a wrapper's environment without the
    job's variables and the runtime's.

    By name: HTCondor changes values on their way (``#CoNdOrScRaTcHdIr#``).

    Args:
        environ: The wrapper's environment.

        asked: Names that the job sets.
    """
    jobs = frozenset(asked)
    own = {name: value for name, value in environ.items() if name not in jobs and not name.startswith(_RUNTIME)}
    if "PATH" in jobs:
        own["PATH"] = _PATH

    return own


def negotiate(vo: str, site: str) -> str:
    """
    Settle what frontend (``GLIDEIN_Singularity_Use``) and factory
    (``GLIDEIN_SINGULARITY_REQUIRE``) want.

    Returns:
        ``DISABLE``, ``NEVER``, ``PREFERRED``, ``REQUIRED``, or ``FAIL``, also
        for a word that is none.
    """
    row = _NEGOTIATED.get(vo)

    return row[_SITE.index(site)] if row is not None and site in _SITE else "FAIL"


def binds_of(job: Ad, environ: Mapping[str, str]) -> list[Bind]:
    """
    List the binds of the frontend, the factory and the defaults; the first on
    a target counts.

    What is missing on the node is left out, visibly, when the plan is made.

    Raises:
        RequestError: With every bind that cannot be read.
    """
    mount = environ.get("CVMFS_MOUNT_DIR", "").rstrip("/")
    names = ("GLIDEIN_SINGULARITY_BINDPATH", "GLIDEIN_SINGULARITY_BINDPATH_DEFAULT")
    texts = [(name, environ.get(name, "")) for name in names]
    texts.append(("the pilot's defaults", DEFAULT_BINDS))
    if job.truth("SingularityBindCVMFS", default=True):
        texts.append(("the pilot's defaults", f"{mount or '/cvmfs'}:/cvmfs:ro"))
    binds: dict[str, Bind] = {}
    problems: list[Problem] = []
    for origin, text in texts:
        for item in filter(None, text.split(",")):
            try:
                bind = parse_bind(_on_mount(item, mount), origin, {})
            except IsolateError as e:
                problems += e.problems
            else:
                binds.setdefault(bind.target, bind)
    if problems:
        raise RequestError(problems)

    return list(binds.values())


def _on_mount(item: str, mount: str) -> str:
    """
    Take the source of a bind from where CVMFS is mounted, under its usual name.
    """
    source, colon, rest = item.partition(":")
    if not mount or not is_below(source, "/cvmfs"):
        return item

    return f"{mount}{source[len('/cvmfs') :]}:{rest if colon else source}"


def request_for(
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    workdir: Optional[str] = None,
    ads: Optional[tuple[Ad, Ad]] = None,
) -> Request:
    """
    Make the request for a job that HTCondor's starter hands to its wrapper.

    Args:
        command: The job's command; paths of the scratch directory in it are
            rewritten.

        environ: The wrapper's environment.  ``_CONDOR_JOB_AD`` and
            ``_CONDOR_MACHINE_AD`` name the ads.

        workdir: The scratch directory; the current one when not given.

        ads: The job's and the machine's ad, instead of those in files.
            HTCondor writes these before the job's own files arrive, which
            may replace them: see `ads_of`.

    Where the pilot has no images of its own, the names of policy hold: of the
    first operating system that the job takes, or ``default``.

    Raises:
        RequestError: With every problem of all settings.
        PlanError: There is no image.
    """
    job, machine = ads or ads_of(environ)
    check_settings(environment_of(job))
    status = machine.text("GWMS_SINGULARITY_STATUS") or environ.get("GWMS_SINGULARITY_STATUS", "")
    if status in ("FAIL", "NEVER", "DISABLE"):
        raise PlanError([_problem(f"is {status}, and nothing runs without isolation", "GWMS_SINGULARITY_STATUS")])
    here = workdir or os.getcwd()
    places = Places(outside=outside_places(environ, here), inside="/srv")
    env = {name: places.rewrite_list(environ[name]) for name in passing(environ, job)}
    # HTCondor leaves a job's own credentials in its scratch directory; what names one elsewhere names the pilot's.
    env = {name: value for name, value in env.items() if name not in CREDENTIALS or is_below(value, "/srv")}

    return Request(
        payload=Payload(command=tuple(places.rewrite(word) for word in command)),
        image=choose_image(job, machine, environ, here),
        runtime=find_runtime(environ),
        workdir=here,
        binds=tuple(binds_of(job, environ)),
        env=env,
        identity=_identity(job, machine),
        settings={
            "bind.forbidden_sources": (PLACE.format(uid=os.geteuid()),),
            **({"gpu.use": ("nvidia",)} if _has_gpu(job, machine, environ) else {}),
        },
    )


def _identity(job: Ad, machine: Ad) -> Identity:
    dn, subject, issuer = (job.text(x) or None for x in ("x509userproxysubject", "AuthTokenSubject", "AuthTokenIssuer"))
    known = subject is not None and issuer is not None

    return Identity(
        vo=job.text("x509UserProxyVOName") or None,
        job_id=job.text("GlobalJobId") or None,
        user_dn=dn,
        user_sub=subject if known else None,
        user_iss=issuer if known else None,
        pilot_id=machine.text("Name") or None,
        source="wms-asserted" if dn or known else None,
    )


def _has_gpu(job: Ad, machine: Ad, environ: Mapping[str, str]) -> bool:
    if not job.truth("SingularityBindGPULibs", default=True):
        return False

    return machine.truth("GPUs") or bool(machine.text("AssignedGPUs")) or environ.get("GPU_USE") == "1"


def _ad(path: Optional[str]) -> Ad:
    return read_ad(path) if path else Ad(values={})


def _problem(message: str, origin: str) -> Problem:
    return Problem(
        kind="request-invalid", message=f"{origin} {message}", origin=origin, advice="correct the pilot's settings"
    )

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
4. What a job may have set itself is no setting: `glidein_trust`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Optional

from wlcg_isolate._values import is_below
from wlcg_isolate.errors import IsolateError, PlanError, Problem, RequestError
from wlcg_isolate.host.pilot import named_path
from wlcg_isolate.pilots.classads import Ad, environment_of
from wlcg_isolate.pilots.glidein_environment import CREDENTIALS, kept_names, passing, read_tokens
from wlcg_isolate.pilots.glidein_images import choose_image
from wlcg_isolate.pilots.glidein_runtime import find_runtime
from wlcg_isolate.pilots.glidein_trust import ads_of, check_settings
from wlcg_isolate.pilots.options import parse_bind
from wlcg_isolate.pilots.places import Places, outside_places
from wlcg_isolate.pilots.starters import PLACE
from wlcg_isolate.request import Bind, Identity, Payload, Request

__all__ = ["binds_of", "kept_names", "negotiate", "read_tokens", "request_for"]

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
    env = {name: places.rewrite_list(named_path(name, environ[name])) for name in passing(environ, job)}
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
        settings=_settings(job, machine, environ),
    )


def _settings(job: Ad, machine: Ad, environ: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """
    Give what policy is asked for besides.

    Repositories that the job needs and that are not there refuse it, as
    upstream's cvmfs_test_and_open does.
    """
    settings: dict[str, tuple[str, ...]] = {"bind.forbidden_sources": (PLACE.format(uid=os.geteuid()),)}
    needed = tuple(job.text("CVMFSReposList").replace(",", " ").split())
    if needed:
        settings["cvmfs.repositories"] = needed
    if _has_gpu(job, machine, environ):
        settings["gpu.use"] = ("nvidia",)

    return settings


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


def _problem(message: str, origin: str) -> Problem:
    return Problem(
        kind="request-invalid", message=f"{origin} {message}", origin=origin, advice="correct the pilot's settings"
    )

"""
What of a job wrapper's surroundings is the job's own.

Rules:

1. A wrapper has the job's environment: what a job may have set itself is
   never a setting of the pilot, and one that tries is refused.  Nothing goes
   by a variable of the job's, whatever its value has become.
2. The ads in the scratch directory may be the job's own as well; those that a
   hook kept count before them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

from wlcg_isolate.errors import PlanError, Problem, RequestError
from wlcg_isolate.pilots.classads import Ad, parse_ad, read_ad
from wlcg_isolate.pilots.starters import Starter

__all__ = ["ads_of", "check_settings", "own_environ"]

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


def _ad(path: Optional[str]) -> Ad:
    return read_ad(path) if path else Ad(values={})

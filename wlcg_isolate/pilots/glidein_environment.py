"""
Which variables a GlideinWMS pilot lets a job have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from wlcg_isolate.environment.values import RESERVED, fits_shell
from wlcg_isolate.pilots.classads import Ad, environment_of
from wlcg_isolate.pilots.glidein_images import names_of
from wlcg_isolate.variables import family_of

__all__ = ["CREDENTIALS", "kept_names", "passing", "read_tokens"]

#: What GLIDEIN_CONTAINER_ENV lets pass.  Source: glideinWMS, web_base/singularity_lib.sh, env_preserve.
_SETS: Mapping[str, tuple[str, ...]] = {
    "gwmsset": tuple(
        "GWMS_SINGULARITY_REEXEC GLIDEIN_Proxy_URL MODULE_USE InitializeModulesEnv XRD_PLUGINCONFDIR POSIXSTASHCACHE "
        "STASHCACHE STASHCACHE_WRITABLE LoadModules GWMS_AUX_SUBDIR GWMS_BASE_SUBDIR GWMS_SUBDIR GWMS_DIR".split()
    ),
    "osgset": tuple(
        "OSG_SINGULARITY_REEXEC _CHIRP_DELAYED_UPDATE_PREFIX APPTAINER_WORKDIR CONDOR_PARENT_ID GLIDEIN_ResourceName "
        "GLIDEIN_Site HAS_SINGULARITY http_proxy InitializeModulesEnv LIGO_DATAFIND_SERVER OSG_MACHINE_GPUS "
        "OSG_SINGULARITY_AUTOLOAD OSG_SINGULARITY_BIND_CVMFS OSG_SINGULARITY_CLEAN_ENV OSG_SINGULARITY_IMAGE "
        "OSG_SINGULARITY_IMAGE_DEFAULT OSG_SINGULARITY_IMAGE_HUMAN OSG_SINGULARITY_OUTSIDE_PWD OSG_SINGULARITY_PATH "
        "OSG_SITE_NAME OSGVO_PROJECT_NAME OSGVO_SUBMITTER OSG_WN_TMP POSIXSTASHCACHE SINGULARITY_WORKDIR STASHCACHE "
        "STASHCACHE_WRITABLE TZ X509_USER_CERT X509_USER_KEY X509_USER_PROXY".split()
    ),
    "condorset": (),
}
_IMPLIED = {"osgset": ("condorset", "gwmsset"), "condorset": ("gwmsset",)}
_CLEAR = ("clearall", "gwmsset", "osgset", "condorset")

#: Steer the runtime or the wrapper itself: never a payload's.
_STEERING = (
    *("SINGULARITYENV_", "APPTAINERENV_", "SINGULARITY_WORKDIR", "APPTAINER_WORKDIR"),
    *("_CONDOR_ANCESTOR_", "_CONDOR_WRAPPER_ERROR_FILE"),
)

#: Name what the payload may use of the user's; the pilot's own never passes.
CREDENTIALS = (
    "X509_USER_PROXY",
    "X509_USER_CERT",
    "X509_USER_KEY",
    "BEARER_TOKEN_FILE",
    "KRB5CCNAME",
    "_CONDOR_CREDS",
)

#: The container has its own.
_FIXED = (*RESERVED, "PATH", "TMPDIR", "TMP", "TEMP", "TEMPDIR", "PYTHONPATH")


def read_tokens(text: str) -> list[str]:
    """
    Read ``GLIDEIN_CONTAINER_ENV``: its words and those that follow from them.

    ``clear`` wins over ``keepall``; without a word it is ``clearpaths``.
    """
    tokens = names_of(text) or ["clearpaths"]
    if "clear" in tokens:
        tokens += [name for name in _CLEAR if name not in tokens]
    for token, implied in _IMPLIED.items():
        if token in tokens:
            tokens += [name for name in implied if name not in tokens]

    return tokens


def kept_names(tokens: Iterable[str], environ: Mapping[str, str], job: Ad) -> list[str]:
    """
    List the variables of the host that pass because of `read_tokens`.

    Always those of HTCondor itself and those that the job asked for: it is a
    job's own environment.  What steers the runtime never passes.
    """
    names = [name for token in tokens for name in _SETS.get(token, ())]
    names += _SETS["gwmsset"]
    names += [name for name in environ if name.startswith("_CONDOR_")]
    names += environment_of(job)

    return [name for name in dict.fromkeys(names) if name in environ and not name.startswith(_STEERING)]


def passing(environ: Mapping[str, str], job: Ad) -> Iterator[str]:
    """
    List the variables of the wrapper's environment that a job gets.
    """
    cleared = names_of(environ.get("GLIDEIN_CONTAINER_ENV_CLEARLIST", ""))
    kept = kept_names(read_tokens(environ.get("GLIDEIN_CONTAINER_ENV", "")), environ, job)
    for name in dict.fromkeys([*kept, *(name for name in CREDENTIALS if name in environ)]):
        # What steers runtime, loader or shells is of no use inside, and would refuse the job.
        harmless = re.fullmatch(r"[A-Za-z_]\w*", name) and fits_shell(name) and family_of(name).kind != "never"
        if harmless and name not in cleared and name not in _FIXED:
            yield name

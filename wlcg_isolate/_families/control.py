"""
What steers runtime, loader and shell: right for the host's system only.
"""

from __future__ import annotations

from wlcg_isolate._families.row import Family

CONTROL: tuple[Family, ...] = (
    Family(
        "runtime-control",
        "never",
        "APPTAINER* SINGULARITY*",
        "acts as an option of the runtime",
        "apptainer pkg/cmdline/flag.go; HTCondor HTCONDOR-3865",
    ),
    Family(
        "loader",
        "never",
        "LD_* GCONV_PATH LOCPATH NLSPATH GLIBC_TUNABLES HOSTALIASES RES_OPTIONS LOCALDOMAIN RESOLV_*",
        "makes the image's programs load the host's libraries or settings of its libc",
        "ld.so(8), apptainer 2537, singularity 1287",
    ),
    Family(
        "shell-function",
        "never",
        "BASH_FUNC_* which_declare",
        "is a shell function of the host",
        "singularity 177, 535, 5253; CoverM 207",
    ),
    Family(
        "shell-start",
        "never",
        "BASH_ENV ENV SHELLOPTS BASHOPTS PROMPT_COMMAND PS0 PS1 PS2 PS3 PS4 BASH_COMPAT POSIXLY_CORRECT IFS CDPATH "
        "GLOBIGNORE EXECIGNORE INPUTRC ZDOTDIR KSH_VERSION FPATH",
        "changes how each shell in the container starts",
        "bash(1), dash(1)",
    ),
    Family(
        "already-inside",
        "never",
        "WLCG_ISOLATE_* GWMS_SINGULARITY_* GWMS_OLDENV_* OSG_SINGULARITY_* ALRB_CONT_RUNPAYLOAD JOB_CONTAINER_PATH "
        "UNPACKED_IMAGE",
        "tells a wrapper about an outer container, or chooses an image",
        "glideinwms singularity_lib.sh; JAliEn; cmssw-env",
    ),
    Family(
        "batch-inherit",
        "never",
        "CONDOR_INHERIT CONDOR_PRIVATE_INHERIT _CONDOR_ANCESTOR_*",
        "hands the pilot's connections to its batch system down",
        "gwms 274",
    ),
)

"""
Families of variables: what a host has, what becomes of it, and who found out.

Rules:

1. The first row that matches a name counts.
2. A row says what a variable *is*; whether it passes is for policy and
   request.  Only ``never`` and ``secret`` stand above them.
3. Patterns are names, with ``*`` for any part of one.

Sources that are issue threads are named as project and number.
"""

from __future__ import annotations

from typing import NamedTuple

#: What a row can say.
#:
#: never       does not pass from a host, whoever asks
#: secret      passes only as the payload's own credential, by a private copy
#: drop        belongs to the host's system; passes when somebody asks for it
#: value       a plain value, the same inside
#: path        a path, or several with ``:``; kept where it can be seen inside
#: locale      kept where the image has that locale
#: gpu         kept, sanitised, where the payload gets GPUs
#: mpi         kept in the profile "mpi"
CLASSES = ("never", "secret", "drop", "value", "path", "locale", "gpu", "mpi")


class Family(NamedTuple):
    """
    Variables of one kind.

    Attributes:
        rule: Name of the row.

        kind: One of `CLASSES`.

        names: Names and patterns, separated by blanks.

        reason: What is wrong with them inside, or why they pass.

        source: Who says so.
    """

    rule: str
    kind: str
    names: str
    reason: str
    source: str


FAMILIES: tuple[Family, ...] = (
    # What steers runtime, loader and shell: it comes from the host's system.
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
        "LD_* GCONV_PATH LOCPATH NLSPATH GLIBC_TUNABLES MALLOC_* HOSTALIASES RES_OPTIONS LOCALDOMAIN RESOLV_*",
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
        "GLOBIGNORE EXECIGNORE INPUTRC ZDOTDIR KSH_VERSION",
        "changes how each shell in the container starts",
        "bash(1), dash(1)",
    ),
    Family(
        "already-inside",
        "never",
        "WLCG_ISOLATE_* GWMS_SINGULARITY_* OSG_SINGULARITY_* ALRB_CONT_RUNPAYLOAD JOB_CONTAINER_PATH UNPACKED_IMAGE",
        "tells a wrapper about an outer container, or chooses an image",
        "glideinwms singularity_lib.sh; JAliEn; cmssw-env",
    ),
    # Secrets of the pilot.
    Family(
        "credential",
        "secret",
        "X509_USER_PROXY BEARER_TOKEN_FILE BEARER_TOKEN KRB5CCNAME",
        "is a credential: the payload gets its own by a private copy",
        "WLCG bearer token discovery; gwms 57",
    ),
    Family(
        "pilot-secret",
        "secret",
        "X509_USER_CERT X509_USER_KEY PANDA_AUTH_TOKEN* PANDA_AUTH_ORIGIN OIDC_* _CONDOR_CREDS JALIEN_TOKEN_* "
        "ALIEN_JOB_TOKEN HARVESTER_TOKEN* RUCIO_AUTH_TOKEN* VAULT_* AWS_SECRET_* AWS_SESSION_* S3_SECRET* "
        "*PASSWORD* *PASSWD* *SECRET* *_TOKEN *_TOKENS *_API_KEY *_PRIVATE_KEY SSH_AUTH_SOCK SSH_AGENT_PID GPG_AGENT_INFO",
        "is a secret of the pilot",
        "panda-pilot util/https.py; gwms 57; HTCondor credd",
    ),
    Family(
        "batch-inherit",
        "never",
        "CONDOR_INHERIT CONDOR_PRIVATE_INHERIT _CONDOR_ANCESTOR_*",
        "hands the pilot's connections to its batch system down",
        "gwms 274",
    ),
    # The host's software.
    Family("path", "drop", "PATH", "names the host's programs; the image has its own", "apptainer create.go"),
    Family(
        "working-directory",
        "drop",
        "PWD OLDPWD INIT_CWD",
        "names a directory of the host; some runtimes take it for the payload's",
        "LbPlatformUtils; DIRAC 8269",
    ),
    Family("shell-own", "drop", "SHLVL _ SHELL BASH HISTFILE HIST*", "is the host shell's own", "bash(1)"),
    Family(
        "python",
        "drop",
        "PYTHONHOME PYTHONPATH PYTHONUSERBASE PYTHONSTARTUP PYTHONEXECUTABLE PYTHONPLATLIBDIR PYTHONPYCACHEPREFIX "
        "PYTHONBREAKPOINT PYTHONWARNINGS PYTHONOPTIMIZE VIRTUAL_ENV* CONDA_* _CE_CONDA _CE_M PYENV_* PIP_* PIPENV_* "
        "POETRY_* UV_* __PYVENV_LAUNCHER__",
        "leads the image's Python to modules of the host's",
        "glideinwms clear list; mriqc 775; blackfish 366",
    ),
    Family(
        "perl",
        "drop",
        "PERL5LIB PERLLIB PERL5OPT PERL5DB PERL_MB_OPT PERL_MM_OPT PERL_LOCAL_LIB_ROOT",
        "leads the image's Perl to modules of the host's",
        "singularity 3594, 3058",
    ),
    Family(
        "r",
        "drop",
        "R_LIBS* R_HOME R_PROFILE* R_ENVIRON*",
        "leads the image's R to packages of the host's",
        "SubPhaser 25",
    ),
    Family(
        "other-languages",
        "drop",
        "RUBYLIB RUBYOPT GEM_* BUNDLE_* NODE_PATH NODE_OPTIONS NPM_CONFIG_* npm_config_* GOPATH GOROOT GOFLAGS CARGO_* "
        "RUSTUP_* CLASSPATH JAVA_HOME JRE_HOME JDK_HOME TCLLIBPATH TCL_LIBRARY TK_LIBRARY LUA_PATH* LUA_CPATH*",
        "leads an interpreter of the image to files of the host's",
        "singularity 1287 and its like",
    ),
    Family(
        "java-options",
        "drop",
        "_JAVA_OPTIONS JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS JAVA_OPTS",
        "gives flags of the host's Java to another one",
        "OpenJDK launcher",
    ),
    Family(
        "modules",
        "drop",
        "MODULEPATH* MODULESHOME MODULE_* MODULES_* LOADEDMODULES* _LMFILES_* LMOD_* __LMOD_* ENABLE_LMOD _ModuleTable* "
        "__MODULES_* MODULERCFILE BASH_MODULES* SPACK_* EASYBUILD_* EB* module switchml",
        "tells of a module system that the image does not have",
        "singularity 177, 6296; osg-flock denylist",
    ),
    Family(
        "toolchain",
        "drop",
        "CC CXX FC F77 CFLAGS CXXFLAGS CPPFLAGS LDFLAGS FFLAGS CPATH C_INCLUDE_PATH CPLUS_INCLUDE_PATH LIBRARY_PATH "
        "PKG_CONFIG_* CMAKE_* ACLOCAL_PATH MAKEFLAGS MAKELEVEL MFLAGS COMPILER_PATH GCC_* MKLROOT MKL_ROOT INTEL_* ROCM_* "
        "CUDA_HOME CUDA_PATH CUDA_ROOT ROOTSYS CLING_* ROOT_INCLUDE_PATH",
        "names the host's compilers and libraries",
        "gcc(1), ld(1)",
    ),
    Family(
        "host-software",
        "drop",
        "XALT_* OPENSSL_CONF OPENSSL_MODULES MANPATH INFOPATH TERMINFO* MAGIC LESSOPEN LESSCLOSE LESS PAGER EDITOR VISUAL "
        "BROWSER LS_COLORS DIRCOLORS MAIL MAILPATH HOSTNAME HOSTTYPE MACHTYPE OSTYPE KDEDIRS QTDIR QTINC QTLIB GTK_* QT_*",
        "names programs or files of the host",
        "apptainer 2537; singularity 5488",
    ),
    Family(
        "session",
        "drop",
        "XDG_* DBUS_* SSH_* SESSION_MANAGER GNOME_* DISPLAY XAUTHORITY WAYLAND_* DESKTOP_SESSION WINDOWID TMUX* STY "
        "VSCODE_* INVOCATION_ID JOURNAL_STREAM NOTIFY_SOCKET LISTEN_* MANAGERPID SYSTEMD_* SUDO_* KUBERNETES_* *_SERVICE_HOST "
        "*_SERVICE_PORT* *_PORT_*_TCP*",
        "belongs to a session or service of the host",
        "singularity 5068, sylabs 114; systemd.exec(5); Kubernetes services",
    ),
    Family(
        "middleware",
        "drop",
        "GLOBUS_LOCATION GLOBUS_PATH GT_* GLITE_* EMI_* LCG_* GFAL_* MYPROXY_* EDG_* ARC_* DIRAC DIRACOS DIRACOS_* RUCIO_HOME "
        "PANDA_HOME",
        "names middleware of the host, which shadows the image's",
        "gwms 341; DIRAC 4764, 4773, 7135",
    ),
    Family(
        "set-up-done",
        "drop",
        "LBENV_SOURCED ATLAS_LOCAL_ROOT_BASE ALRB_* AtlasSetup* CMSSW_* CMS_PATH SCRAM_ARCH LCG_VERSION O2_ROOT ALIBUILD_*",
        "says that software is set up, which keeps the image's from being",
        "LHCb lessons; cmssw-env; ATLASLocalRootBase",
    ),
    Family("home", "drop", "HOME", "is set for each payload", "apptainer --home"),
    # What names places, and is right inside when the place can be seen there.
    Family(
        "temporary",
        "drop",
        "TMPDIR TMP TEMP TEMPDIR GFORTRAN_TMPDIR OSG_WN_TMP",
        "names a directory of the host; TMPDIR is set for each payload",
        "gwms 61; nextflow 1997, 4587",
    ),
    Family(
        "certificates",
        "path",
        "X509_CERT_DIR X509_VOMS_DIR X509_VOMSES VOMS_USERCONF SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE "
        "REQUESTS_CA_BUNDLE GIT_SSL_CAINFO NODE_EXTRA_CA_CERTS PIP_CERT AWS_CA_BUNDLE",
        "names certificates, which must be visible inside",
        "DIRAC 4721, 7135; hermes-agent 94402",
    ),
    Family(
        "settings-files",
        "path",
        "XRD_PLUGINCONFDIR XRD_CONFDIR KRB5_CONFIG CONDOR_CONFIG DIRACSYSCONFIG RUCIO_CONFIG FRONTIER_LOG_FILE",
        "names settings, which must be visible inside",
        "glideinwms singularity_setup_inside; DIRAC 7135",
    ),
    Family(
        "batch-paths",
        "path",
        "_CONDOR_JOB_AD _CONDOR_MACHINE_AD _CONDOR_SCRATCH_DIR _CONDOR_JOB_IWD _CONDOR_EXECUTE _CONDOR_CHIRP_CONFIG "
        "_CONDOR_WRAPPER_ERROR_FILE _CONDOR_STDOUT _CONDOR_STDERR PBS_O_WORKDIR SLURM_SUBMIT_DIR LS_SUBCWD SGE_O_WORKDIR",
        "names a place of the batch job",
        "glideinwms singularity_lib.sh; HTCondor retargetEnvs",
    ),
    Family(
        "software-areas",
        "path",
        "CVMFS_MOUNT_DIR ATLAS_SW_BASE ATLAS_LOCAL_AREA VO_*_SW_DIR OSG_APP OSG_GRID",
        "names an area of software",
        "glideinwms; pilot-wrapper",
    ),
    # What depends on the image, or on how the payload runs.
    Family(
        "locale",
        "locale",
        "LC_* LANG LANGUAGE",
        "names a locale that the image may not have",
        "singularity 11, 645",
    ),
    Family(
        "gpu",
        "gpu",
        "CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES ROCR_VISIBLE_DEVICES "
        "HIP_VISIBLE_DEVICES GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK",
        "says which GPUs are meant",
        "osg-flock default-image",
    ),
    Family(
        "mpi",
        "mpi",
        "SLURM_* SLURMD_* PBS_* PALS_* LSB_* LSF_* LS_* SGE_* PE_HOSTFILE NSLOTS NHOSTS PMI_* PMIX_* PMI2_* OMPI_* MPI_* MPICH_* "
        "I_MPI_* MV2_* HYDRA_* HYDI_* UCX_* FI_* ORTE_* PRTE_*",
        "makes programs think that a batch system started them as part of a parallel job",
        "singularity 5118, 5203",
    ),
    # Plain values.
    Family(
        "identity",
        "value",
        "USER LOGNAME TERM COLORTERM TZ COLUMNS LINES",
        "means the same in every image",
        "apptainer create.go; glideinwms (TZ)",
    ),
    Family(
        "network",
        "value",
        "http_proxy https_proxy ftp_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY FTP_PROXY NO_PROXY ALL_PROXY "
        "GLOBUS_TCP_PORT_RANGE GLOBUS_TCP_SOURCE_RANGE FRONTIER_SERVER",
        "says how the network is reached from here",
        "apptainer create.go; Globus",
    ),
    Family(
        "resources",
        "value",
        "OMP_* MKL_NUM_THREADS MKL_DYNAMIC OPENBLAS_NUM_THREADS NUMEXPR_NUM_THREADS BLIS_NUM_THREADS VECLIB_MAXIMUM_THREADS "
        "GOMAXPROCS RAYON_NUM_THREADS ATHENA_* ncores",
        "says how much of the node is meant",
        "OpenMP; ATLAS pilot",
    ),
    Family(
        "experiment",
        "value",
        "XRD_* Xrd* RUCIO_* PANDA* Panda* ATLAS_* HARVESTER_* CMS* LHCB* ALICE_* ALIEN_* DIRAC* GLIDEIN_* OSG_* GWMS_* JALIEN_* "
        "APMON_* PILOT_* SITE_NAME GTAG VO CVMFS_* STASHCACHE*",
        "belongs to an experiment, whose profile says whether it passes",
        "DIRAC 7135; pilot-wrapper; glideinwms",
    ),
)

"""
The table of variables: what each row takes, and that none takes what is another's.
"""

from __future__ import annotations

import pytest

from wlcg_isolate import load_policy
from wlcg_isolate._families import CLASSES, FAMILIES
from wlcg_isolate.variables import Names, family_of

BY_RULE = {family.rule: family for family in FAMILIES}

#: Names that are in use somewhere, by the row that must take them.
SAMPLES = {
    "runtime-control": "APPTAINER_BIND APPTAINERENV_PATH SINGULARITY_NV SINGULARITYENV_LD_PRELOAD",
    "loader": "LD_LIBRARY_PATH LD_PRELOAD LD_AUDIT LD_DEBUG LD_BIND_NOW LD_ORIGIN_PATH LD_RUN_PATH GLIBC_TUNABLES "
    "GCONV_PATH LOCPATH NLSPATH HOSTALIASES RES_OPTIONS",
    "shell-function": "BASH_FUNC_which%% BASH_FUNC_module() BASH_FUNC_ml%% which_declare",
    "shell-start": "BASH_ENV ENV SHELLOPTS BASHOPTS PROMPT_COMMAND PS1 PS4 FPATH",
    "already-inside": "WLCG_ISOLATE_ID GWMS_SINGULARITY_REEXEC GWMS_OLDENV_PATH OSG_SINGULARITY_REEXEC UNPACKED_IMAGE",
    "batch-inherit": "CONDOR_INHERIT CONDOR_PRIVATE_INHERIT _CONDOR_ANCESTOR_4711",
    "credential": "X509_USER_PROXY BEARER_TOKEN BEARER_TOKEN_FILE KRB5CCNAME",
    "pilot-secret": "PANDA_AUTH_TOKEN PANDA_AUTH_TOKEN_KEY OIDC_REFRESHED_AUTH_TOKEN X509_USER_KEY _CONDOR_CREDS "
    "JALIEN_TOKEN_CERT RUCIO_AUTH_TOKEN_FILE_PATH AWS_SECRET_ACCESS_KEY XrdSecGSIUSERPROXY SSH_AUTH_SOCK VAULT_TOKEN",
    "secret-name": "GITHUB_TOKEN PGPASSWORD MY_SECRET OPENAI_API_KEY GOOGLE_APPLICATION_CREDENTIALS db_password "
    "CONDOR_PASSWORD_FILE WLCG_TOKEN_FILE",
    "certificates": "X509_CERT_DIR VOMS_USERCONF VOMS_DIR SSL_CERT_FILE CURL_CA_BUNDLE PIP_CERT NODE_EXTRA_CA_CERTS",
    "settings-files": "XRD_PLUGINCONFDIR KRB5_CONFIG CONDOR_CONFIG DIRACSYSCONFIG RUCIO_CONFIG",
    "batch-paths": "_CONDOR_JOB_AD _CONDOR_MACHINE_AD _CONDOR_SCRATCH_DIR _CONDOR_EXECUTE",
    "batch-output": "_CONDOR_WRAPPER_ERROR_FILE _CONDOR_STDOUT FRONTIER_LOG_FILE",
    "software-areas": "VO_ATLAS_SW_DIR CVMFS_MOUNT_DIR ATLAS_SW_BASE OSG_APP",
    "temporary": "TMPDIR TMP TEMP TEMPDIR OSG_WN_TMP",
    "path": "PATH",
    "home": "HOME",
    "working-directory": "PWD OLDPWD INIT_CWD",
    "shell-own": "SHLVL _ HISTSIZE SHELL",
    "python": "PYTHONPATH PYTHONHOME PYTHONUSERBASE VIRTUAL_ENV_PROMPT CONDA_PREFIX PIP_INDEX_URL PYENV_ROOT",
    "perl": "PERL5LIB PERLLIB PERL5OPT",
    "r": "R_LIBS R_LIBS_USER R_HOME",
    "other-languages": "RUBYLIB GEM_HOME NODE_PATH CLASSPATH JAVA_HOME TCLLIBPATH",
    "java-options": "_JAVA_OPTIONS JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS",
    "allocator": "MALLOC_ARENA_MAX MALLOC_CHECK_ MALLOC_CONF",
    "modules": "MODULEPATH MODULESHOME LOADEDMODULES _LMFILES_ LMOD_CMD __MODULES_LMINIT _ModuleTable001_ "
    "__LMOD_REF_COUNT_PATH EBROOTGCC EBVERSIONGCC MODULE_USE",
    "toolchain": "CC CXX CFLAGS CPATH LIBRARY_PATH PKG_CONFIG_PATH CMAKE_PREFIX_PATH ACLOCAL_PATH MKLROOT ROOTSYS",
    "host-software": "XALT_DIR LESSOPEN MANPATH LS_COLORS MAIL HOSTNAME",
    "session": "XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS DISPLAY SSH_CONNECTION KUBERNETES_PORT DB_SERVICE_HOST "
    "DB_PORT_5432_TCP_ADDR",
    "middleware": "GLOBUS_LOCATION GLITE_LOCATION EMI_WN_CONF GFAL_PLUGIN_DIR DIRAC DIRACOS LCG_GFAL_INFOSYS",
    "set-up-done": "LBENV_SOURCED ALRB_initialSetup AtlasSetupSite CMSSW_BASE SCRAM_ARCH CMS_PATH",
    "batch-settings": "_CONDOR_SLOT _CONDOR_LOCAL_DIR _condor_COLLECTOR_HOST",
    "locale": "LC_ALL LC_CTYPE LANG LANGUAGE",
    "gpu": "CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES",
    "mpi": "SLURM_JOB_ID SLURM_SUBMIT_DIR PBS_JOBID LSB_JOBID SGE_TASK_ID PMI_RANK PMIX_RANK OMPI_MCA_btl MPI_HOME "
    "I_MPI_ROOT MV2_USE_CUDA HYDRA_BOOTSTRAP",
    "identity": "USER LOGNAME TERM TZ",
    "network": "http_proxy HTTPS_PROXY no_proxy ALL_PROXY GLOBUS_TCP_PORT_RANGE FRONTIER_SERVER",
    "resources": "OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS ATHENA_PROC_NUMBER ncores",
    "experiment": "XRD_REQUESTTIMEOUT XrdSecPROTOCOL RUCIO_ACCOUNT PANDA_RESOURCE PandaID PanDA_TaskID GLIDEIN_Site "
    "OSG_SITE_NAME DIRAC_SITE SITE_NAME ALIEN_SITE",
}


def test_every_row_has_samples():
    """Each row is tried with three names, or with all that it has."""
    assert list(BY_RULE) == [rule for rule in BY_RULE if rule in SAMPLES]
    assert set(SAMPLES) == set(BY_RULE)
    assert all(len(SAMPLES[rule].split()) >= min(3, len(family.names.split())) for rule, family in BY_RULE.items())


@pytest.mark.parametrize("rule", SAMPLES)
def test_samples(rule):
    """Names in use belong to the row that knows them."""
    assert dict.fromkeys(SAMPLES[rule].split(), rule) == {name: family_of(name).rule for name in SAMPLES[rule].split()}


def words():
    """List every name and pattern with its row, a star filled in."""
    for family in FAMILIES:
        for word in family.names.split():
            yield family, word, word.replace("*", "Q7")


def test_within_reach():
    """Each name and pattern of each row is the first match of some name."""
    assert [] == [(family.rule, word) for family, word, name in words() if family_of(name) is not family]


#: Rows that take names of a wider pattern below them, on purpose.
OVERLAPS = {
    ("already-inside", "experiment"),  # GWMS_*, OSG_*
    ("already-inside", "set-up-done"),  # ALRB_*
    ("batch-inherit", "batch-settings"),  # _CONDOR_*
    ("batch-output", "batch-settings"),
    ("batch-paths", "batch-settings"),
    ("certificates", "python"),  # PIP_*
    ("credential", "pilot-secret"),  # BEARER_TOKEN_*
    ("credential", "secret-name"),  # *_TOKEN
    ("middleware", "experiment"),  # RUCIO_*, PANDA*
    ("pilot-secret", "batch-settings"),
    ("pilot-secret", "experiment"),
    ("pilot-secret", "session"),  # SSH_*
    ("pilot-secret", "secret-name"),
    ("set-up-done", "experiment"),  # ATLAS_*, CMS_*
    ("settings-files", "experiment"),  # XRD_*
    ("software-areas", "experiment"),
    ("temporary", "experiment"),  # OSG_*
}


def test_overlaps():
    """No row takes what is another's, but for what is meant."""
    rows = [(family, Names(family.names.split())) for family in FAMILIES]
    found = {
        (family.rule, other.rule)
        for family, _, name in words()
        for other, names in rows
        if other is not family and name in names
    }

    assert found == OVERLAPS


def test_classes():
    """Each row has a class that is described, and each class a row; no rule has the name of another."""
    assert set(CLASSES) == {family.kind for family in FAMILIES}
    assert len(BY_RULE) == len(FAMILIES)
    assert all(family.reason and family.source for family in FAMILIES)


@pytest.mark.parametrize(
    "name",
    "TOKENIZERS_PARALLELISM KEYBOARD XKB_DEFAULT_LAYOUT LDFLAGS ENVIRONMENT BASH_VERSION PS5 EBOOK EBAY CMSG VOTE "
    "TOKEN_COUNT MONKEY_PATCH SECOND SECRETS_ARE_UPPER SINGULAR APPTAIN GCONV LOCALES X509_USER_NAME MALLOC_ARENA_MAX "
    "CONDOR_JOB BEARER AWS_REGION AWS_PROFILE S3_ENDPOINT_URL KRB5_TRACE OIDCX PANDA_SITE_NAME RUCIO_AUTH_TYPE".split(),
)
def test_harmless(name):
    """A name that only resembles one that must not pass can be asked for."""
    harmful = family_of(name).kind in ("never", "secret")

    # Better one too many than a secret in a payload: nobody is known to need this one.
    assert harmful == (name == "SECRETS_ARE_UPPER")


#: What an analysis of the host variables of seven systems asked for: names, and the classes that do it.
DROPPED = ("drop", "never")
ASKED_FOR = [
    ("APPTAINERENV_A SINGULARITYENV_A APPTAINER_BIND SINGULARITY_BIND", ("never",)),
    ("LD_PRELOAD LD_LIBRARY_PATH LD_RUN_PATH LD_AUDIT LD_DEBUG LD_BIND_NOW LD_ORIGIN_PATH GLIBC_TUNABLES", ("never",)),
    ("GCONV_PATH LOCPATH NLSPATH HOSTALIASES RES_OPTIONS", DROPPED),
    ("PATH PYTHONPATH PYTHONHOME PYTHONUSERBASE", DROPPED),
    ("PYTHONSTARTUP PYTHONOPTIMIZE VIRTUAL_ENV CONDA_PREFIX PYENV_ROOT PIP_INDEX_URL", DROPPED),
    ("PERL5LIB PERLLIB PERL5OPT R_LIBS R_LIBS_USER R_HOME", DROPPED),
    ("RUBYLIB GEM_HOME NODE_PATH CLASSPATH JAVA_HOME TCLLIBPATH _JAVA_OPTIONS JAVA_TOOL_OPTIONS", DROPPED),
    ("BASH_ENV ENV BASH_FUNC_a() BASH_FUNC_a%% which_declare", ("never",)),
    ("PROMPT_COMMAND PS1 PS2 PS3 PS4 SHELLOPTS BASHOPTS", ("never",)),
    ("MODULEPATH MODULESHOME LOADEDMODULES _LMFILES_ LMOD_A MODULES_A __MODULES_A _ModuleTable1_", DROPPED),
    ("LC_ALL LANG LC_TIME LANGUAGE", ("locale",)),
    ("TZ TERM USER LOGNAME", ("value",)),
    ("HOME PWD OLDPWD", DROPPED),
    ("TMPDIR TMP TEMP TEMPDIR OSG_WN_TMP", ("scratch",)),
    ("MAIL SHELL EDITOR PAGER LS_COLORS LESSOPEN LESSCLOSE MANPATH INFOPATH HISTSIZE", DROPPED),
    ("XDG_A DBUS_SESSION_BUS_ADDRESS SSH_TTY SESSION_MANAGER GNOME_A DISPLAY XAUTHORITY", DROPPED),
    ("KRB5CCNAME X509_USER_PROXY BEARER_TOKEN BEARER_TOKEN_FILE", ("secret",)),
    ("KRB5_CONFIG X509_CERT_DIR X509_VOMS_DIR X509_VOMSES VOMS_A CONDOR_CONFIG", ("path",)),
    ("X509_USER_CERT X509_USER_KEY _CONDOR_CREDS PANDA_AUTH_TOKEN_KEY", ("secret",)),
    ("XRD_A XrdA", ("value",)),
    ("XRD_PLUGINCONFDIR", ("path",)),
    ("http_proxy https_proxy no_proxy ftp_proxy all_proxy HTTP_PROXY HTTPS_PROXY", ("value",)),
    ("FRONTIER_SERVER CVMFS_A RUCIO_A SITE_NAME PANDA_A HARVESTER_A GTAG", ("value",)),
    ("CVMFS_MOUNT_DIR ATLAS_SW_BASE ATLAS_LOCAL_AREA VO_CMS_SW_DIR OSG_APP", ("path",)),
    ("SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE REQUESTS_CA_BUNDLE", ("path",)),
    ("PIP_CERT NODE_EXTRA_CA_CERTS GIT_SSL_CAINFO", ("path",)),
    ("GLOBUS_LOCATION GLOBUS_PATH GT_A GLITE_A EMI_A", DROPPED),
    ("GLOBUS_TCP_PORT_RANGE GLOBUS_TCP_SOURCE_RANGE", ("value",)),
    ("_CONDOR_JOB_AD _CONDOR_MACHINE_AD _CONDOR_SCRATCH_DIR", ("path",)),
    ("_CONDOR_JOB_IWD _CONDOR_EXECUTE _CONDOR_CHIRP_CONFIG", ("path",)),
    ("SLURM_A PBS_A LSB_A SGE_A PMI_A PMIX_A OMPI_A MPI_A I_MPI_A MV2_A HYDRA_A", ("mpi",)),
    ("OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS ATHENA_A ncores", ("value",)),
    ("MKL_ROOT MKLROOT INTEL_A CPATH LIBRARY_PATH PKG_CONFIG_PATH CMAKE_PREFIX_PATH ACLOCAL_PATH", DROPPED),
    ("CC CXX CFLAGS LDFLAGS", DROPPED),
    ("CUDA_VISIBLE_DEVICES NVIDIA_A ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES", ("gpu",)),
    ("SCRAM_ARCH CMSSW_A CMS_PATH DIRAC DIRACOS LBENV_SOURCED ALRB_A ALRB_CONT_OPTS AtlasSetupA", DROPPED),
    ("DIRAC_A", ("value",)),
    ("DIRACSYSCONFIG", ("path",)),
    ("JOB_CONTAINER_PATH UNPACKED_IMAGE", ("never",)),
    ("ANYTHING_ELSE", DROPPED),
]  # fmt: skip


@pytest.mark.parametrize(("names", "kinds"), ASKED_FOR, ids=[row[0].split()[0] for row in ASKED_FOR])
def test_asked_for(names, kinds):
    """What was asked for of each kind of variable is what the table says."""
    assert {} == {name: family_of(name).kind for name in names.split() if family_of(name).kind not in kinds}


@pytest.mark.parametrize("profile", ["alice", "atlas", "cms", "dirac", "lhcb", "osg"])
def test_profiles_ask_for_what_may_pass(profile):
    """No profile asks for a variable that never passes: it would read as if it did."""
    asked = [name.replace("*", "Q7") for name in load_policy(None, profile).environment_keep]

    assert [] == [name for name in asked if family_of(name).kind in ("never", "secret")]

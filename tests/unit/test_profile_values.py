"""
The values of the shipped profiles: their sources, what they let through, and which image a name leads to.
"""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import wlcg_isolate
from wlcg_isolate.platforms import parse_platform, spell_architecture
from wlcg_isolate.variables import family_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROFILES = Path(wlcg_isolate.__file__).resolve().parent / "policy" / "profiles"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EXPERIMENTS = sorted(path.stem for path in PROFILES.glob("*.toml"))
FILES = sorted((*PROFILES.glob("*.toml"), *EXAMPLES.glob("*/*.toml")))


def load(path):
    """Read a file."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def profile(name):
    """Read a shipped profile."""
    return load(PROFILES / f"{name}.toml")


# --- sources

#: Projects and pages whose word is taken.
PROJECTS = re.compile(
    r"PanDAWMS/pilot3|PanDAWMS/pilot-wrapper|ATLASLocalRootBase|cms-sw/[a-z.-]+|dmwm/WMCore|cmssw-env|"
    r"roksys/CMSglideinWMSValidation|glideinWMS/glideinwms|opensciencegrid/[a-z-]+|osg-htc/user-documentation|"
    r"HTCondor manual|DIRACGrid/DIRAC|LbPlatformUtils|LbNightlyTools|xrootd/xrootd|EGI Operations Portal|JAliEn|"
    r"AliceO2Group/O2DPG|alisw\.github\.io"
)


def unsourced(text, comment):
    """List the numbers of lines with a value before which, in their paragraph, no comment as wanted stands."""
    bad, seen = [], False
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line.startswith("#"):
            seen = bool(line) and (seen or comment(line))
        elif not (line.startswith("[") or line in ("]", "keep = [", "search = [", "version = 1")) and not seen:
            bad.append(number)

    return bad


def is_source(line):
    """Tell whether a comment names a public source."""
    return line.startswith("# Source: ") and (PROJECTS.search(line) is not None)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_sources(name):
    """Every value of a profile has a comment that names its public source, in its paragraph and before it."""
    text = (PROFILES / f"{name}.toml").read_text(encoding="utf-8")

    assert [] == unsourced(text, is_source)
    assert [] == [line for line in text.splitlines() if "# Source:" in line and not is_source(line.strip())]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/*.toml")), ids=lambda path: path.stem)
def test_examples_are_explained(path):
    """Every value of an example has a comment before it."""
    assert [] == unsourced(path.read_text(encoding="utf-8"), lambda line: len(line) > len("# x"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Source: dmwm/WMCore\na = 1\nb = 2", []),
        ("# because\na = 1", [2]),
        ("# Source: somebody\na = 1", [2]),
        ("# Source: dmwm/WMCore\na = 1\n\nb = 2", [4]),
        ("a = 1 # Source: dmwm/WMCore", [1]),
        ('keep = [\n    # Source: dmwm/WMCore\n    "A",\n\n    "B",\n]', [5]),
    ],
)
def test_unsourced_sees(text, expected):
    """The check of sources finds a value without one."""
    assert expected == unsourced(text, is_source)


# --- the environment

#: Names that none may keep: what steers loaders, interpreters and shells, and the pilot's own credentials.
FORBIDDEN = """
    LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT LD_RUN_PATH GCONV_PATH LOCPATH NLSPATH GLIBC_TUNABLES HOSTALIASES
    PYTHONHOME PYTHONPATH PYTHONSTARTUP PYTHONUSERBASE VIRTUAL_ENV CONDA_PREFIX PERL5LIB PERLLIB PERL5OPT RUBYLIB
    R_LIBS R_HOME NODE_PATH CLASSPATH JAVA_HOME _JAVA_OPTIONS JAVA_TOOL_OPTIONS ROOTSYS
    BASH_ENV ENV BASH_FUNC_module SHELLOPTS BASHOPTS PROMPT_COMMAND PS1 PS4 which_declare
    PATH HOME PWD OLDPWD MODULEPATH LOADEDMODULES LMOD_CMD
    APPTAINER_BIND APPTAINER_CACHEDIR APPTAINERENV_PATH SINGULARITY_BINDPATH SINGULARITYENV_LD_PRELOAD
    X509_USER_PROXY X509_USER_CERT X509_USER_KEY X509_UNIFIED_DISPATCH BEARER_TOKEN BEARER_TOKEN_FILE
    PANDA_AUTH_TOKEN PANDA_AUTH_ORIGIN PANDA_AUTH_TOKEN_KEY OIDC_AUTH_TOKEN OIDC_REFRESHED_AUTH_TOKEN
    JALIEN_TOKEN_CERT JALIEN_TOKEN_KEY _CONDOR_CREDS CONDOR_INHERIT CONDOR_PRIVATE_INHERIT RUCIO_AUTH_TOKEN
    RUCIO_CFG_CLIENT_PASSWORD XrdSecCREDS XrdSecGSIUSERPROXY XrdSecGSIUSERKEY XrdSecSSSKT XrdSecsssKT KRB5CCNAME
    DIRAC DIRACOS DIRACSYSCONFIG LBENV_SOURCED JOB_CONTAINER_PATH UNPACKED_IMAGE SSH_AUTH_SOCK
""".split()

#: How the names of whole families begin.
STEMS = ("APPTAINER", "SINGULARITY", "LD_", "BASH_FUNC_")


def leaks(keep, drop):
    """List what the patterns in *keep* would let through and *drop* does not stop."""
    named = [
        name
        for name in FORBIDDEN
        if any(fnmatchcase(name, p) for p in keep) and not any(fnmatchcase(name, p) for p in drop)
    ]
    families = [
        pattern
        for pattern in keep
        if family_of(pattern.replace("*", "")).kind in ("never", "secret")
        or ("*" in pattern and any(stem.startswith(pattern.partition("*")[0]) for stem in STEMS))
    ]

    return named + families


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_leaks(path):
    """No pattern lets through what makes the host's programs run inside, or a credential of the pilot."""
    environment = load(path).get("environment", {})

    assert [] == leaks(environment.get("keep", []), environment.get("drop", []))
    assert [] == leaks(environment.get("set", {}), [])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_keep_and_drop_agree(path):
    """Nothing is kept by its name and dropped in the same file."""
    environment = load(path).get("environment", {})
    kept = [name for name in (*environment.get("keep", []), *environment.get("set", {})) if "*" not in name]

    assert [] == [name for name in kept for pattern in environment.get("drop", []) if fnmatchcase(name, pattern)]


@pytest.mark.parametrize(
    ("keep", "drop", "expected"),
    [
        (["XRD_*"], [], []),
        (["LD_*"], [], ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "LD_RUN_PATH", "LD_*"]),
        (["*"], [], None),
        (["APPTAINER_NV"], [], ["APPTAINER_NV"]),
        (["APP*_NV"], [], ["APP*_NV"]),
        (["PYTHONHOME"], [], ["PYTHONHOME"]),
        (["X509_*"], [], ["X509_USER_PROXY", "X509_USER_CERT", "X509_USER_KEY", "X509_UNIFIED_DISPATCH"]),
        (["Xrd*"], ["XrdSec*"], []),
        (["Xrd*"], [], ["XrdSecCREDS", "XrdSecGSIUSERPROXY", "XrdSecGSIUSERKEY", "XrdSecSSSKT", "XrdSecsssKT"]),
    ],
)
def test_leaks_seen(keep, drop, expected):
    """The search for leaks finds them, in patterns as well."""
    found = leaks(keep, drop)

    assert (len(found) > 3) if expected is None else (expected == found)


# Names without which payloads broke, by the experiments' own accounts: those that a too short list lost.
NEEDED = {
    "dirac": "XRD_NETWORKSTACK XrdSecPROTOCOL X509_CERT_DIR X509_VOMS_DIR VOMS_USERCONF DIRAC_PILOT_STAMP",
    "lhcb": "XRD_NETWORKSTACK XrdSecPROTOCOL X509_CERT_DIR X509_VOMS_DIR DIRAC_X",
    "atlas": "FRONTIER_SERVER PandaID ATHENA_PROC_NUMBER ALRB_rucioVersion X509_CERT_DIR XRD_LOGLEVEL HARVESTER_ID",
    "cms": "SITECONFIG_PATH GLIDEIN_Site _CONDOR_JOB_AD X509_CERT_DIR OMP_NUM_THREADS CUDA_VISIBLE_DEVICES",
    "osg": "OSG_SITE_NAME OSG_SQUID_LOCATION GLIDEIN_ResourceName OSGVO_PROJECT_NAME CUDA_VISIBLE_DEVICES",
    "alice": "ALIEN_SITE APMON_CONFIG CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES",
}


@pytest.mark.parametrize(("name", "variable"), [(name, v) for name, row in NEEDED.items() for v in row.split()])
def test_needed_passes(name, variable):
    """What an experiment's payloads were seen to need passes."""
    environment = profile(name)["environment"]

    assert any(fnmatchcase(variable, pattern) for pattern in environment["keep"])
    assert not any(fnmatchcase(variable, pattern) for pattern in environment.get("drop", []))


# --- images


def find_image(data, name, architecture):
    """Find an image's path as a request's platform or image name leads to it, or None."""
    names = data["image"]["names"]
    entry = names.get(name)
    if entry is None:
        platform = parse_platform(data["image"].get("platforms", {}).get(name, name))
        if platform is None or platform.architecture not in (None, architecture):
            return None
        entry = names.get(platform.os)
    path = entry.get(architecture) if isinstance(entry, dict) else entry

    return path and path.format(arch=architecture, goarch=spell_architecture(architecture, "go"))


ATLAS = "/cvmfs/atlas.cern.ch/repo/containers/fs/singularity/"
CMS = "/cvmfs/singularity.opensciencegrid.org/cmssw/cms:"
LHCB = "/cvmfs/lhcb.cern.ch/containers/os-base/"
ALICE = "/cvmfs/alice.cern.ch/containers/fs/"
OSG = "/cvmfs/singularity.opensciencegrid.org/opensciencegrid/"
CVM = "/cvmfs/cernvm-prod.cern.ch/"

#: Experiment, names that its jobs and tools use, path on x86_64.
FOUND = [
    ("atlas", "el9 x86_64-el9 x86_64-el9-gcc13-opt x86_64-almalinux9 rhel9", ATLAS + "x86_64-almalinux9"),
    ("atlas", "centos7 slc7 sl7 rhel7 x86_64-centos7-gcc8-opt x86_64-centos7-gcc62-opt", ATLAS + "x86_64-centos7"),
    ("atlas", "slc6 sl6 rhel6 centos6 x86_64-slc6-gcc48-opt x86_64-slc6", ATLAS + "x86_64-centos6"),
    ("atlas", "slc5 x86_64-slc5-gcc43-opt", ATLAS + "x86_64-slc5"),
    ("cms", "rhel10 el10 el10_amd64_gcc14 rhel10-x86_64", CMS + "rhel10-x86_64"),
    ("cms", "rhel9 el9 el9_amd64_gcc12 cs9_amd64_gcc12 rhel9-x86_64 el9:x86_64", CMS + "rhel9-x86_64"),
    ("cms", "rhel8 el8_amd64_gcc12 cc8_amd64_gcc9 cs8_amd64_gcc10 alma8_amd64_gcc12", CMS + "rhel8-x86_64"),
    ("cms", "rhel7 slc7_amd64_gcc700 cc7 rhel7_x86_64 cc7:amd64", CMS + "rhel7-x86_64"),
    ("cms", "rhel6 slc6_amd64_gcc530 slc5_amd64_gcc434", CMS + "rhel6-x86_64"),
    ("cms", "rhel9-itb", CMS + "rhel9-itb-x86_64"),
    ("cms", "cmssw/el8", "/cvmfs/unpacked.cern.ch/registry.hub.docker.com/cmssw/el8:x86_64"),
    ("lhcb", "x86_64_v2-el9-gcc13-opt x86_64_v3-el9-gcc12+detdesc-opt+g x86_64-el9", LHCB + "alma9-devel/prod/amd64"),
    ("lhcb", "x86_64-centos7 x86_64+avx2+fma-centos7-gcc12-opt sl7", LHCB + "centos7-devel/prod/amd64"),
    ("lhcb", "x86_64-slc6-gcc49-opt sl6 x86_64-slc5-gcc43-opt", LHCB + "slc6-devel/prod/amd64"),
    ("lhcb", "cvm4", CVM + "cvm4"),
    ("alice", "el9-x86_64 SLC9 slc9_x86-64", ALICE + "apptainer/compat_el9-x86_64"),
    ("alice", "el7-x86_64 SLC7 slc7_x86-64", ALICE + "apptainer/compat_el7-x86_64"),
    ("alice", "default", ALICE + "singularity/default"),
    ("dirac", "default sl7 x86_64-centos7", CVM + "cvm4"),
    ("dirac", "sl6", CVM + "cvm3"),
    ("osg", "rhel9", OSG + "osgvo-el9:latest"),
    ("osg", "rhel8", OSG + "osgvo-el8:latest"),
    ("osg", "rhel7", OSG + "osgvo-el7:latest"),
    ("osg", "rhel6", OSG + "osgvo-el6:latest"),
    ("osg", "default htc/rocky:9", "/cvmfs/singularity.opensciencegrid.org/htc/rocky:9"),
    ("osg", "ubuntu-22.04", "/cvmfs/singularity.opensciencegrid.org/htc/ubuntu:22.04"),
]

#: Experiment, architecture, name, path; None where there is no such image.
ELSEWHERE = [
    ("atlas", "aarch64", "aarch64-el9-gcc13-opt", ATLAS + "aarch64-almalinux9"),
    ("atlas", "aarch64", "aarch64-centos7-gcc11-opt", None),
    ("cms", "aarch64", "el9_aarch64_gcc12", CMS + "rhel9-aarch64"),
    ("cms", "aarch64", "rhel10-aarch64", CMS + "rhel10-aarch64"),
    ("cms", "aarch64", "rhel10-itb", None),
    ("cms", "ppc64le", "el8_ppc64le_gcc12", CMS + "rhel8-ppc64le"),
    ("cms", "aarch64", "slc7_aarch64_gcc700", None),
    ("cms", "aarch64", "el9_amd64_gcc12", None),
    ("lhcb", "aarch64", "armv8.1_a-el9-gcc13-opt", LHCB + "alma9-devel/prod/arm64v8"),
    ("lhcb", "aarch64", "armv8.1_a-centos7-gcc11-opt", LHCB + "centos7-devel/prod/arm64v8"),
    ("alice", "aarch64", "el9-aarch64", ALICE + "apptainer/compat_el9-aarch64"),
    ("alice", "aarch64", "default", ALICE + "singularity/default-aarch64"),
    ("alice", "aarch64", "el7-aarch64", None),
    ("dirac", "aarch64", "default", None),
    ("dirac", "x86_64", "Linux_x86_64_glibc-2.17", None),
    ("osg", "aarch64", "rhel9", None),
    ("atlas", "x86_64", "el8", None),
]


@pytest.mark.parametrize(
    ("experiment", "name", "path"), [(e, name, path) for e, names, path in FOUND for name in names.split()]
)
def test_images(experiment, name, path):
    """The names that an experiment uses lead to its image on x86_64."""
    assert path == find_image(profile(experiment), name, "x86_64")


@pytest.mark.parametrize(("experiment", "architecture", "name", "path"), ELSEWHERE)
def test_images_elsewhere(experiment, architecture, name, path):
    """On other architectures they lead to an image for it, or to none; never to one for another."""
    assert path == find_image(profile(experiment), name, architecture)


def test_every_image_is_tested():
    """Each system in a profile's image map is one that a test asks for."""
    asked = {(e, find_image(profile(e), name, "x86_64")) for e, names, _ in FOUND for name in names.split()}
    systems = {(e, find_image(profile(e), s, "x86_64")) for e in EXPERIMENTS for s in profile(e)["image"]["names"]}
    untested = re.compile(r"-itb|/cmssw/|/cvm3|/htc/|osgvo-(debian|ubuntu)|rucio-clients")

    assert [] == [path for _, path in systems - asked if path is not None and not untested.search(path)]

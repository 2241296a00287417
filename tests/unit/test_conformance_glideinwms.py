"""
The environment as GlideinWMS has it: its own test cases, with the same result or one that differences.md explains.

Source: glideinWMS/glideinwms, unittests/bats/singularity_lib.bats, and what its code does with the same input.
"""

from __future__ import annotations

import os

import attrs
import pytest

from wlcg_isolate import Credential, load_policy, make_plan
from wlcg_isolate.environment import Place, Surroundings, decide_environment

#: The working directory in its two spellings, as at a site that starts jobs through a bind.
A = "/condor/execute/dir_29865/glide_8QOQl2"
B = f"/export/data1{A}"


@pytest.fixture
def decide(request_for, facts, present):
    """Decide under the profile of OSG; *links* tells where paths lead."""

    def make(host, *, outside=(A, B), links=None, profile="osg", **overrides):
        paths = {path: present(path, resolved=target) for path, target in (links or {}).items()}
        around = Surroundings(
            facts=facts(environ=host, paths=paths), places=tuple(Place(place, "/srv") for place in outside)
        )
        policy = load_policy(None, profile)
        decisions, problems = decide_environment(request_for(**overrides), policy, around)
        return {d.name: d.value for d in decisions if d.value is not None}, problems

    return make


UPDATE_PATH = [
    (("/notexist/test1",), "/notexist/test1", "/srv"),
    (("/notexist/test1",), "/notexist/test11", "/notexist/test11"),
    (("/notexist/test1",), "/notexist/test1/dir1", "/srv/dir1"),
    (("/notexist/test1",), "/root/notexist/test1/dir2", "/root/notexist/test1/dir2"),
    (("/notexist/test1",), "notexist/test1/dir2", "notexist/test1/dir2"),
    (("/notexist/test1", "/notexist/test2"), "/notexist/test1", "/srv"),
    (("/notexist/test1", "/notexist/test2"), "/notexist/test2", "/srv"),
    (("/notexist/test1", "/notexist/test2"), "/notexist/test2/dir1", "/srv/dir1"),
    *((("/tmp/t/dir1",), word, word) for word in ("../dir1", "sub1/fout", "output", "sub1", "sub2", "-n", "-e", "a:b")),
    (("/tmp/t/dir1",), "/tmp/t/dir1", "/srv"),
    (("/tmp/t/dir1",), "/tmp/t/dir2/fout", "/srv/fout"),
    (("/tmp/t/dir1",), "/tmp/t/dir1/sub1", "/srv/sub1"),
    (("/tmp/t/dir1",), "/tmp/t/dir1/sub2", "/srv/sub2"),
    # Measured on its code; the last four differ.
    (("/w/dir_1",), "--in=/w/dir_1/a", "--in=/w/dir_1/a"),
    (("/w/dir_1",), "/w/dir_1/sp ace", "/srv/sp ace"),
    (("/w/dir_1",), "", ""),
    (("/w/dir_1",), "/w/dir_1/", "/srv"),
    (("/w/dir_1",), "/w/dir_1:/w/dir_1/c", "/srv:/srv/c"),
    (("/w/dir_1",), "/w/dir_1/../x", "/w/dir_1/../x"),
    (("/home/u/my dir",), "/home/u/my dir/px", "/srv/px"),
]


@pytest.mark.parametrize(("outside", "value", "expected"), UPDATE_PATH)
def test_update_path(decide, outside, value, expected):
    """singularity_update_path: paths become those of the container, on path boundaries."""
    links = {"/tmp/t/dir2/fout": "/tmp/t/dir1/fout"}
    found, _ = decide({"MINE": value}, outside=outside, links=links, keep_env=["MINE"])

    assert expected == found["MINE"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("_CONDOR_MACHINE_AD", f"{A}/execute/dir_9182/.machine.ad", "/srv/execute/dir_9182/.machine.ad"),
        ("_CONDOR_EXECUTE", f"{A}/execute", "/srv/execute"),
        ("_CONDOR_JOB_AD", f"{B}/execute/dir_9182/.job.ad", "/srv/execute/dir_9182/.job.ad"),
        ("_CONDOR_SCRATCH_DIR", f"{A}/execute/dir_9182", "/srv/execute/dir_9182"),
        ("_CONDOR_CHIRP_CONFIG", f"{A}/execute/dir_9182/.chirp.config", "/srv/execute/dir_9182/.chirp.config"),
        ("_CONDOR_JOB_IWD", f"{B}/execute/dir_9182", "/srv/execute/dir_9182"),
        # In singularity_setup_inside.
        ("OSG_WN_TMP", "/osg/tmp", "/tmp"),
        ("TMPDIR", "/osg/tmp", "/tmp"),
        ("TMP", "/osg/tmp", None),
        ("TEMP", "/osg/tmp", None),
        ("TEMPDIR", "/osg/tmp", None),
        ("CONDOR_CONFIG", "/etc/condor/condor_config", None),
        ("X509_CERT_DIR", "/etc/grid-security/certificates", None),
        # Secrets differ: they pass by name only, as copies.
        ("_CONDOR_CREDS", "", None),
        ("X509_USER_PROXY", f"{A}/execute/dir_9182/602e17", None),
        ("X509_USER_CERT", f"{A}/hostcert.pem", None),
        ("X509_USER_KEY", f"{A}/hostkey.pem", None),
    ],
)
def test_setup_inside(decide, name, value, expected):
    """singularity_setup_inside_env and singularity_setup_inside: what names places names them as they are inside."""
    found, _ = decide({name: value})

    assert expected == found.get(name)


def test_proxy(facts, request_for, present):
    """singularity_setup_inside_env: the payload's proxy is where its variable says, below the working directory."""
    proxy = f"{A}/execute/dir_9182/602e17"
    given = facts(environ={"X509_USER_PROXY": proxy}, paths={proxy: present(proxy, kind="file")})
    plan = make_plan(request_for(credentials=[Credential(variable="X509_USER_PROXY")]), load_policy(), given)

    assert f"/srv/.wlcg-isolate-{plan.trace_id}/credentials/x509_user_proxy" == plan.payload_environ["X509_USER_PROXY"]


def test_clear_one_and_clearlist(decide):
    """env_clear_one, env_clearlist: what is cleared is gone, and leaves no copy under another name."""
    host = {"TEST_VAR": "testvalue", "VAR1": "value1", "VAR2": "complex var, with_spaces"}
    found, _ = decide({**host, "GWMS_OLDENV_PATH": "/bin"})

    assert [] == [name for name in found if "VAR" in name or name.startswith("GWMS_OLDENV_")]


@pytest.mark.parametrize("profile", [None, "osg", "cms"])
def test_clear_paths(decide, profile):
    """env_process_options: what "clear" takes away is never there, whatever the options."""
    paths = {"PATH": "/opt/bin", "LD_LIBRARY_PATH": "x", "PYTHONPATH": "x", "LD_PRELOAD": "x"}
    found, _ = decide(paths, profile=profile)

    assert set() == set(paths) & set(found)


def test_restore(decide):
    """env_restore, env_restorelist: nothing is to be restored, because the pilot's own environment never changes."""
    before = dict(os.environ)
    decide({"PATH": "/bin:/usr/bin:path with:spaces", "LD_LIBRARY_PATH": "oldldlib", "PYTHONPATH": "waspythonpath"})

    assert before == dict(os.environ)


GWMSSET = (
    "GWMS_SINGULARITY_REEXEC GLIDEIN_Proxy_URL MODULE_USE InitializeModulesEnv XRD_PLUGINCONFDIR POSIXSTASHCACHE "
    "STASHCACHE STASHCACHE_WRITABLE LoadModules GWMS_AUX_SUBDIR GWMS_BASE_SUBDIR GWMS_SUBDIR GWMS_DIR"
).split()
OSGSET = (
    "OSG_SINGULARITY_REEXEC _CHIRP_DELAYED_UPDATE_PREFIX APPTAINER_WORKDIR CONDOR_PARENT_ID GLIDEIN_ResourceName "
    "GLIDEIN_Site HAS_SINGULARITY http_proxy InitializeModulesEnv LIGO_DATAFIND_SERVER OSG_MACHINE_GPUS "
    "OSG_SINGULARITY_AUTOLOAD OSG_SINGULARITY_BIND_CVMFS OSG_SINGULARITY_CLEAN_ENV OSG_SINGULARITY_IMAGE "
    "OSG_SINGULARITY_IMAGE_DEFAULT OSG_SINGULARITY_IMAGE_HUMAN OSG_SINGULARITY_OUTSIDE_PWD OSG_SINGULARITY_PATH "
    "OSG_SITE_NAME OSGVO_PROJECT_NAME OSGVO_SUBMITTER OSG_WN_TMP POSIXSTASHCACHE SINGULARITY_WORKDIR STASHCACHE "
    "STASHCACHE_WRITABLE TZ X509_USER_CERT X509_USER_KEY X509_USER_PROXY"
).split()

#: Of the above, what arrives under the profile of OSG.
PRESERVED = (
    "CONDOR_PARENT_ID GLIDEIN_ResourceName GLIDEIN_Site LIGO_DATAFIND_SERVER OSGVO_PROJECT_NAME OSGVO_SUBMITTER "
    "OSG_MACHINE_GPUS OSG_SITE_NAME OSG_WN_TMP POSIXSTASHCACHE STASHCACHE STASHCACHE_WRITABLE TZ "
    "_CHIRP_DELAYED_UPDATE_PREFIX http_proxy"
).split()


def test_preserve(decide):
    """env_preserve: what a payload needs arrives, set but empty ones too; what the wrapper tells itself does not."""
    names = sorted({*GWMSSET, *OSGSET})
    found, _ = decide({name: "" if name == "STASHCACHE" else "v" for name in names})
    missing, _ = decide({name: "v" for name in names if not name.startswith("STASHCACHE")})

    assert (13, 31, 40) == (len(GWMSSET), len(OSGSET), len(names))
    assert sorted(PRESERVED) == sorted(set(names) & set(found))
    assert "" == found["STASHCACHE"]
    assert sorted(name for name in PRESERVED if not name.startswith("STASHCACHE")) == sorted(set(names) & set(missing))


def test_variables_for_the_runtime(decide):
    """env_preserve, golden H: what a job sets for the runtime is refused, and what the host has of it never passes."""
    job = {"SINGULARITYENV_PATH": "/evil", "APPTAINERENV_LD_PRELOAD": "/evil.so"}
    found, _ = decide({**job, "SINGULARITYENV_STASHCACHE": "val_notfromfile", "STASHCACHE": "1"})
    _, problems = decide({}, env=job)

    assert "1" == found["STASHCACHE"]
    assert [] == [name for name in found if "ENV_" in name]
    assert ["variable-forbidden"] * 2 == [problem.kind for problem in problems]


def test_environment_of_the_job(decide):
    """Golden H: every variable that the job itself sets arrives, under every name and with every value."""
    job = {"A": "1", "B": "x y", "C": "it's", "D": "a=b", "FOO": "something", "BAR": "yes=no"}
    found, problems = decide({"FOOBAR": "DO_NOT_PROPAGATE", "LD_LIBRARY_PATH": "DO_NOT_PROPAGATE"}, env=job)

    assert [] == problems
    assert job == {name: found.get(name) for name in job}
    assert "DO_NOT_PROPAGATE" not in found.values()


def test_cvmfs_elsewhere(decide, request_for, facts):
    """cvmfs_resolve_path: where the host has CVMFS elsewhere, variables name it as it is inside."""
    around = Surroundings(
        facts=facts(
            environ={"X509_CERT_DIR": "/altcvmfs/grid/certs", "CVMFS_MOUNT_DIR": "/altcvmfs", "A": "/altcvmfs_dir"}
        ),
        places=(Place("/altcvmfs", "/cvmfs"),),
    )
    request = attrs.evolve(request_for(), keep_env=("A",))
    found = {d.name: d.value for d in decide_environment(request, load_policy(), around)[0]}

    assert ("/cvmfs/grid/certs", "/cvmfs", "/altcvmfs_dir") == (
        found["X509_CERT_DIR"], found["CVMFS_MOUNT_DIR"], found["A"],
    )  # fmt: skip

"""
Nothing of the host passes but what a rule names, and each variable has its reason.
"""

from __future__ import annotations

import time

import pytest

from wlcg_isolate import Policy
from wlcg_isolate._families import FAMILIES
from wlcg_isolate.environment import EnvDecision, Place, Surroundings, decide_environment
from wlcg_isolate.host import TargetFact
from wlcg_isolate.variables import Names

#: A batch node, with a grid client and some modules loaded.
BATCH_NODE = {
    "APPTAINER_BIND": "/etc:/host",
    "BASH_ENV": "/usr/share/lmod/init/bash",
    "BASH_FUNC_module%%": "() { eval; }",
    "GCONV_PATH": "/usr/lib64/gconv",
    "HOME": "/home/pilot",
    "HTTP_PROXY": "http://squid:3128",
    "LANG": "de_DE.UTF-8",
    "LC_ALL": "de_DE.UTF-8",
    "LD_LIBRARY_PATH": "/opt/lib",
    "LD_PRELOAD": "libpilot.so",
    "LOGNAME": "pilot",
    "LS_COLORS": "di=01;34",
    "PATH": "/usr/bin:/bin",
    "PS1": "$ ",
    "PWD": "/scratch/17",
    "PYTHONPATH": "/opt/pilot",
    "ROOT_INCLUDE_PATH": "/opt/root",
    "SHLVL": "3",
    "SINGULARITYENV_PATH": "/host/bin",
    "SLURM_JOB_ID": "17",
    "TERM": "dumb",
    "TMPDIR": "/scratch/17/tmp",
    "TZ": "Europe/Berlin",
    "USER": "pilot",
    "X509_USER_PROXY": "/tmp/x509up_u1000",
    "UNHEARD_OF": "x",
    "_CONDOR_SLOT": "slot1",
    "not a name": "x",
}

CONTROL = "acts as an option of the runtime"
LOADER = "makes the image's programs load the host's libraries or settings of its libc"
FUNCTION = "is a shell function of the host"
START = "changes how each shell in the container starts"
BASE = "policy lets it pass"
DEFAULT = "no rule and no request asks for it"

REASONS = {family.rule: family.reason for family in FAMILIES}

EXPECTED = [
    ("APPTAINER_BIND", "drop", "runtime-control", CONTROL, None),
    ("BASH_ENV", "drop", "shell-start", START, None),
    ("BASH_FUNC_module%%", "drop", "shell-function", FUNCTION, None),
    ("EXTRA", "set", "request", "the request sets it", "a=b\nc"),
    ("GCONV_PATH", "drop", "loader", LOADER, None),
    ("HOME", "set", "library", "the working directory is the payload's home", "/srv"),
    ("HTTP_PROXY", "keep", "policy-keep", BASE, "http://squid:3128"),
    ("LANG", "drop", "locale", REASONS["locale"], None),
    ("LC_ALL", "set", "library", "the one locale that every image has", "C"),
    ("LD_LIBRARY_PATH", "drop", "loader", LOADER, None),
    ("LD_PRELOAD", "drop", "loader", LOADER, None),
    ("LOGNAME", "keep", "policy-keep", BASE, "pilot"),
    ("LS_COLORS", "drop", "host-software", REASONS["host-software"], None),
    ("PATH", "drop", "path", REASONS["path"], None),
    ("PS1", "drop", "shell-start", START, None),
    ("PWD", "set", "library", "the payload starts there", "/srv"),
    ("PYTHONPATH", "drop", "python", REASONS["python"], None),
    ("ROOT_INCLUDE_PATH", "drop", "toolchain", REASONS["toolchain"], None),
    ("SHLVL", "drop", "shell-own", REASONS["shell-own"], None),
    ("SINGULARITYENV_PATH", "drop", "runtime-control", CONTROL, None),
    ("SLURM_JOB_ID", "keep", "request-keep", "the request asks for it", "17"),
    ("TERM", "keep", "policy-keep", BASE, "dumb"),
    ("TMPDIR", "set", "library", "a private directory on the working directory's disk", "/tmp"),
    ("TZ", "keep", "policy-keep", BASE, "Europe/Berlin"),
    ("UNHEARD_OF", "drop", "default", DEFAULT, None),
    ("USER", "keep", "policy-keep", BASE, "pilot"),
    ("WLCG_ISOLATE_ID", "set", "library", "ties every process of the payload to its trace record", "id-1"),
    ("X509_USER_PROXY", "drop", "credential", REASONS["credential"], None),
    ("_CONDOR_SLOT", "drop", "batch-settings", REASONS["batch-settings"], None),
    ("not a name", "drop", "name", "its name is not one that a shell can hold", None),
]


@pytest.fixture
def decide(request_for, facts):
    """Decide on a host's variables and a request; the policy is the built-in one."""

    def make(host, policy=None, places=(), given=None, **overrides):
        around = Surroundings(facts=facts(environ=host, **(given or {})), places=places, trace_id="id-1")
        decisions, problems = decide_environment(request_for(**overrides), policy or Policy(), around)
        return {decision.name: decision for decision in decisions}, problems

    return make


def test_batch_node(request_for, facts):
    """Every variable of a batch node gets one decision, sorted by name."""
    request = request_for(env={"EXTRA": "a=b\nc"}, keep_env=["SLURM_JOB_ID", "NOT_THERE"])
    expected = tuple(
        EnvDecision(name=name, decision=decision, rule=rule, reason=reason, value=value)
        for name, decision, rule, reason, value in EXPECTED
    )

    around = Surroundings(facts=facts(environ=BATCH_NODE), trace_id="id-1")

    assert (expected, []) == decide_environment(request, Policy(), around)


NEVER = [
    ("APPTAINER_BIND", "runtime-control"),
    ("APPTAINERENV_PATH", "runtime-control"),
    ("SINGULARITY_NV", "runtime-control"),
    ("SINGULARITYENV_X", "runtime-control"),
    ("LD_PRELOAD", "loader"),
    ("LD_AUDIT", "loader"),
    ("GCONV_PATH", "loader"),
    ("LOCPATH", "loader"),
    ("NLSPATH", "loader"),
    ("GLIBC_TUNABLES", "loader"),
    ("BASH_FUNC_x", "shell-function"),
    ("BASH_ENV", "shell-start"),
    ("ENV", "shell-start"),
    ("SHELLOPTS", "shell-start"),
    ("BASHOPTS", "shell-start"),
    ("PROMPT_COMMAND", "shell-start"),
    ("PS0", "shell-start"),
    ("PS4", "shell-start"),
]


@pytest.mark.parametrize(("name", "rule"), NEVER)
def test_never(decide, name, rule):
    """What never passes does not pass though policy and request ask for it, and the request is refused."""
    decisions, problems = decide({name: "x"}, Policy(environment_keep=[name]), keep_env=[name])

    assert ("drop", rule, None) == (decisions[name].decision, decisions[name].rule, decisions[name].value)
    assert [("variable-forbidden", "--keep-env")] == [(problem.kind, problem.origin) for problem in problems]


@pytest.mark.parametrize("name", ["MY_LD_PATH", "ENVIRONMENT", "PS5", "PS10", "LOCPATHS", "NOT_APPTAINER", "BASH_ENVY"])
def test_not_in_a_family(decide, name):
    """A name that only resembles one that never passes can be kept."""
    decisions, problems = decide({name: "x"}, keep_env=[name])

    assert [] == problems
    assert ("keep", "request-keep", "x") == (decisions[name].decision, decisions[name].rule, decisions[name].value)


@pytest.mark.parametrize(
    ("host", "policy_keep", "keep_env", "env", "expected"),
    [
        pytest.param("h", [], [], None, ("drop", "default", None), id="nobody asks"),
        pytest.param("h", ["NAME"], [], None, ("keep", "policy-keep", "h"), id="policy keeps"),
        pytest.param("h", ["NAME"], ["NAME"], None, ("keep", "request-keep", "h"), id="request before policy"),
        pytest.param("h", [], ["NAME"], "r", ("set", "request", "r"), id="set before keep"),
        pytest.param("h", ["NAME"], [], "r", ("set", "request", "r"), id="set before policy"),
        pytest.param(None, [], ["NAME"], "r", ("set", "request", "r"), id="only set"),
        pytest.param(None, ["NAME"], ["NAME"], None, None, id="not on the host"),
        pytest.param("h", [], [], "", ("set", "request", ""), id="set to nothing"),
        pytest.param("", [], ["NAME"], None, ("keep", "request-keep", ""), id="nothing kept"),
    ],
)
def test_precedence(decide, host, policy_keep, keep_env, env, expected):
    """The request goes before policy, and setting before keeping."""
    decisions, problems = decide(
        {} if host is None else {"NAME": host},
        Policy(environment_keep=policy_keep),
        keep_env=keep_env,
        env={} if env is None else {"NAME": env},
    )
    found = decisions.get("NAME")

    assert [] == problems
    assert expected == (found and (found.decision, found.rule, found.value))


@pytest.mark.parametrize(
    ("name", "default"),
    [("LC_ALL", "C"), ("TMPDIR", "/tmp")],
)
@pytest.mark.parametrize("on_host", [True, False])
def test_keep_of_a_default(decide, name, default, on_host):
    """A default of the library gives way to the host's value where the request keeps it."""
    decisions, problems = decide({name: "POSIX"} if on_host else {}, keep_env=[name])
    expected = ("keep", "POSIX") if on_host else ("set", default)

    assert [] == problems
    assert expected == (decisions[name].decision, decisions[name].value)


@pytest.mark.parametrize(
    "name", ["LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "X509_USER_PROXY", "X_TOKEN"]
)
def test_request_may_set(decide, name):
    """The payload's own value is its own affair."""
    decisions, problems = decide({name: "host's"}, env={name: "own"})

    assert [] == problems
    assert ("set", "request", "own") == (decisions[name].decision, decisions[name].rule, decisions[name].value)


RESERVED = ["HOME", "WLCG_ISOLATE_ID", "PWD", "OLDPWD", "SHLVL", "_"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "variable-reserved") for name in RESERVED),
        *(
            (name, "variable-undeliverable")
            for name in ("UID", "PPID", "RANDOM", "SHELLOPTS", "OPTIND", "EPOCHSECONDS")
        ),
        *((name, "variable-forbidden") for name in ("APPTAINER_BIND", "SINGULARITYENV_PATH", "LD_PRELOAD", "BASH_ENV")),
    ],
)
def test_refused_set(decide, name, kind):
    """What cannot be set is refused by the kind of its reason."""
    _, problems = decide({}, env={name: "x"})

    assert [(kind, "--env", name)] == [(p.kind, p.origin, p.message.split()[0]) for p in problems]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "variable-forbidden") for name in RESERVED),
        *((name, "variable-undeliverable") for name in ("UID", "PPID", "RANDOM", "OPTIND", "EPOCHSECONDS")),
    ],
)
def test_refused_keep(decide, name, kind):
    """What cannot be kept is refused by the kind of its reason."""
    _, problems = decide({name: "x"}, keep_env=[name])

    assert [(kind, "--keep-env", name)] == [(p.kind, p.origin, p.message.split()[0]) for p in problems]


@pytest.mark.parametrize("name", ["UID", "PPID", "RANDOM", "OPTIND"])
def test_loader_delivers_what_shells_own(decide, name):
    """Where the loader starts the payload, no name is refused for what shells do with it."""
    given = {"loader_fault": None}
    kept, none = decide({name: "host's"}, given=given, keep_env=[name])
    dropped, _ = decide({name: "host's"}, given=given)
    own, neither = decide({name: "host's"}, given=given, env={name: "own"})

    assert ([], []) == (none, neither)
    assert ["host's", None, "own"] == [decisions[name].value for decisions in (kept, dropped, own)]


ODD = ["a.b", "1A", "new\nline", "\udcff"]


@pytest.mark.parametrize("name", ODD)
def test_odd_names(decide, name):
    """A name that is no identifier never passes from a host; a request sets it where policy says so."""
    given = {"loader_fault": None}
    kept, refused = decide({name: "host's"}, given=given, keep_env=[name])
    _, forbidden = decide({name: "host's"}, given=given, env={name: "own"})
    own, none = decide({name: "host's"}, Policy(environment_any_names=True), given=given, env={name: "own"})

    assert [("variable-forbidden", "--keep-env")] == [(problem.kind, problem.origin) for problem in refused]
    assert (None, "name", []) == (kept[name].value, kept[name].rule, none)
    assert "own" == own[name].value
    assert [("variable-forbidden", "--env")] == [(problem.kind, problem.origin) for problem in forbidden]


@pytest.mark.parametrize("name", ODD)
def test_shell_delivers_identifiers_only(decide, name):
    """Where a shell starts the payload, a name that is no identifier is refused."""
    _, problems = decide({}, env={name: "x"}, given={"loader_fault": "not here"})

    assert [("variable-undeliverable", "--env")] == [(problem.kind, problem.origin) for problem in problems]


def test_all_refusals_at_once(decide):
    """All that is refused is told together, what is set first."""
    _, problems = decide({}, env={"HOME": "/x", "UID": "0"}, keep_env=["LD_PRELOAD"])

    assert ["variable-reserved", "variable-undeliverable", "variable-forbidden"] == [p.kind for p in problems]


def test_values_are_not_in_a_repr(decide):
    """A value may be a secret: neither decision nor problem shows it."""
    decisions, problems = decide(
        {"A": "s3cret", "HOME": "s3cret"}, keep_env=["A"], env={"B": "s3cret", "UID": "s3cret"}
    )

    assert ["s3cret", "s3cret"] == [decisions["A"].value, decisions["B"].value]
    assert "s3cret" not in repr((decisions, problems))


def test_request_may_set_what_policy_lets_it(decide):
    """What never passes from a host a request may set where policy says so, but never what steers the runtime."""
    policy = Policy(environment_settable=["LD_*", "BASH_ENV", "APPTAINER*"])
    _, problems = decide({}, policy, env={"LD_PRELOAD": "x", "BASH_ENV": "y", "APPTAINER_BIND": "z"})

    assert ["APPTAINER_BIND"] == [problem.message.split()[0] for problem in problems]


PLACES = (
    Place("/export/data1/condor/dir_1", "/srv"),
    Place("/condor/dir_1", "/srv"),
    Place("/data", "/data"),
    Place("/opt/ca", "/etc/grid-security/certificates"),
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/condor/dir_1/x", "/srv/x"),
        ("/condor/dir_1", "/srv"),
        ("/condor/dir_1/", "/srv"),
        ("/condor/dir_11/x", "/condor/dir_11/x"),
        ("/condor//dir_1/./a/../b", "/srv/b"),
        ("/export/data1/condor/dir_1/x", "/srv/x"),
        ("/elsewhere/link/x", "/srv/real/x"),
        ("/condor/dir_1/a:/usr/lib:/condor/dir_1/b", "/srv/a:/usr/lib:/srv/b"),
        ("/condor/dir_1/a::/usr/lib", "/srv/a::/usr/lib"),
        ("/data/x", "/data/x"),
        ("/data/x/", "/data/x/"),
        ("https://host/condor/dir_1/x", "https://host/condor/dir_1/x"),
        ("a=/condor/dir_1/x", "a=/condor/dir_1/x"),
        ("rel/condor/dir_1:/condor/dir_1", "rel/condor/dir_1:/condor/dir_1"),
        ("", ""),
        ("/root/condor/dir_1", "/root/condor/dir_1"),
    ],
)
def test_translate(decide, present, value, expected):
    """Paths become those that the payload sees, on path boundaries, in every element, by every spelling."""
    given = {"paths": {"/elsewhere/link/x": present("/elsewhere/link/x", resolved="/condor/dir_1/real/x")}}
    decisions, _ = decide({"MINE": value}, keep_env=["MINE"], places=PLACES, given=given)

    assert (expected, "keep" if value == expected else "translate") == (
        decisions["MINE"].value,
        decisions["MINE"].decision,
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("X509_CERT_DIR", "/opt/ca", "/etc/grid-security/certificates"),
        ("X509_CERT_DIR", "/in/image", "/in/image"),
        ("X509_CERT_DIR", "/nowhere", None),
        ("SSL_CERT_DIR", "/nowhere:/in/image:/opt/ca/x", "/in/image:/etc/grid-security/certificates/x"),
        ("SSL_CERT_DIR", "/nowhere:/no", None),
        ("_CONDOR_JOB_AD", "/condor/dir_1/.job.ad", "/srv/.job.ad"),
        ("_CONDOR_JOB_AD", "/condor/dir_2/.job.ad", None),
        ("SSL_CERT_FILE", "", None),
    ],
)
def test_path_check(decide, image_fact, name, value, expected):
    """What names files passes as far as they can be seen inside, and is never left dangling."""
    image = image_fact(targets={"/in/image": TargetFact(path="/in/image", kind="directory")})
    decisions, _ = decide({name: value}, places=PLACES, given={"image": image})

    assert expected == decisions[name].value


@pytest.mark.parametrize(
    ("environ", "known", "expected"),
    [
        ({"LC_ALL": "de_DE.UTF-8"}, ("de_DE.utf8",), {"LC_ALL": "de_DE.UTF-8"}),
        ({"LC_ALL": "de_DE.UTF-8"}, ("de_DE.UTF-8",), {"LC_ALL": "de_DE.UTF-8"}),
        ({"LC_ALL": "de_DE.utf8"}, ("de_DE.UTF-8",), {"LC_ALL": "C"}),
        ({"LC_ALL": "de_DE.ISO-8859-15@euro"}, ("de_DE.iso885915@euro",), {"LC_ALL": "de_DE.ISO-8859-15@euro"}),
        ({"LC_ALL": "de_DE.UTF-8"}, ("en_US.utf8",), {"LC_ALL": "C"}),
        ({"LC_ALL": "de_DE.UTF-8"}, None, {"LC_ALL": "C"}),
        ({"LC_ALL": "C"}, None, {"LC_ALL": "C"}),
        ({"LANG": "de_DE.UTF-8"}, ("de_DE.utf8",), {"LANG": "de_DE.UTF-8", "LC_ALL": None}),
        ({"LANG": "de_DE.UTF-8"}, (), {"LANG": None, "LC_ALL": "C"}),
    ],
)
def test_locale(decide, image_fact, environ, known, expected):
    """A locale that is asked for passes where the image has it; otherwise it is the one that every image has."""
    decisions, _ = decide(environ, keep_env=list(environ), given={"image": image_fact(locales=known)})

    assert expected == {name: decisions[name].value for name in expected}


@pytest.mark.parametrize(
    ("value", "use", "expected"),
    [("0,1", ["nvidia"], "0,1"), ("0", [], None), *((word, ["nvidia"], None) for word in ("", "na", "-1", "10000"))],
)
def test_gpu(decide, value, use, expected):
    """GPUs are named to those that get some, and only by names of GPUs."""
    decisions, _ = decide({"CUDA_VISIBLE_DEVICES": value}, Policy(gpu_use=use))

    assert expected == decisions["CUDA_VISIBLE_DEVICES"].value


def test_mpi(decide):
    """A parallel job keeps what its batch system told it; others do not."""
    host = {"SLURM_PROCID": "3", "PMI_RANK": "3"}

    assert {None} == {d.value for name, d in decide(host)[0].items() if name in host}
    assert {"3"} == {
        d.value for name, d in decide(host, Policy(environment_profiles=["mpi"]))[0].items() if name in host
    }


def test_secret_of_policy(decide):
    """What policy calls a secret passes by no rule, and no request gets it."""
    policy = Policy(environment_secret=["SITE_*"], environment_keep=["SITE_KEY"])
    decisions, problems = decide({"SITE_KEY": "s"}, policy, keep_env=["SITE_KEY"])

    assert ("drop", "policy-secret") == (decisions["SITE_KEY"].decision, decisions["SITE_KEY"].rule)
    assert ["name it with --credential SITE_KEY when it is the payload's own"] == [p.advice for p in problems]


def test_set_by_policy(decide):
    """What policy sets gives way to the request, and the library's defaults give way to it."""
    policy = Policy(environment_set={"A": "policy", "TMPDIR": "/policy", "B": "policy"})
    decisions, _ = decide({"A": "host"}, policy, env={"B": "request"}, keep_env=["A"])

    assert {"A": "policy", "TMPDIR": "/policy", "B": "request"} == {
        name: decisions[name].value for name in ("A", "TMPDIR", "B")
    }


def test_pattern_that_would_take_for_ever():
    """No pattern of a policy file makes the look at a name take long."""
    begin = time.process_time()

    assert "A" * 1000 not in Names(["A*" * 20 + "B"])
    assert time.process_time() - begin < 1

"""The whole decision as one value, and every way it is written down."""

from __future__ import annotations

import json
import shlex

import pytest

from wlcg_isolate import Bind, PlanError, Policy, make_plan
from wlcg_isolate.host import PathFact

PLAN_KEYS = (
    "trace_id argv environ supervised runtime image starter workdir isolation gpus timeout binds environment warnings"
).split()

SECRET = "hunter2-secret"


@pytest.fixture
def plan(facts, request_for):
    """Make a plan of a command on the good node."""

    def make(*command, given=None, **overrides):
        return make_plan(request_for(*command, **overrides), Policy(), facts(**(given or {})))

    return make


def kinds_of(error):
    """List the kinds of an error's problems."""
    return [problem.kind for problem in error.value.problems]


def missing(path):
    """Make the look at a path where nothing is."""
    return PathFact(path=path, state="missing", reason="No such file or directory")


def test_command_of_a_plain_plan(plan):
    """The command is the runtime's, isolated, with the payload at its end."""
    made = plan("tool", "--flag", "a b")
    *options, image, shell, minus_c, shim, name = made.argv[:-3]

    assert (
        "/usr/bin/apptainer exec --userns --contain --pid --ipc --no-eval --no-home --workdir /work --pwd /srv "
        "--mount type=bind,src=/work,dst=/srv --mount type=bind,src=/cvmfs,dst=/cvmfs,ro"
    ).split() == options
    assert ("/image", "/bin/sh", "-c", "sh") == (image, shell, minus_c, name)
    assert shim.endswith('HOME=/srv; PWD=$HOME; export HOME PWD; exec "$@"')
    assert ("tool", "--flag", "a b") == made.argv[-3:]


def test_longest_words(plan):
    """What the kernel passes on is planned to the last byte, and one byte more is refused."""
    longest = 131_071
    assert () == plan("tool", "x" * longest, env={"A": "\u00e4" * ((longest - 2) // 2)}).unrenderable
    with pytest.raises(PlanError) as caught:
        plan("tool", "x" * (longest + 1), env={"A": "x" * (longest - 1)})

    assert ["argument-undeliverable", "variable-undeliverable"] == kinds_of(caught)
    assert "argument 1 is longer than the 131071 bytes" in str(caught.value)


def test_environment_of_a_plain_plan(plan):
    """The runtime's environment is complete, and holds nothing of the pilot's but what passes."""
    host = {"TZ": "UTC", "TOKEN": SECRET, "LD_PRELOAD": "/x.so", "APPTAINER_BIND": "/etc"}
    made = plan(env={"MINE": "1"}, given={"environ": host})

    assert {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C",
        "APPTAINER_CONFIGDIR": "/proc/wlcg_isolate",
        "SINGULARITY_CONFIGDIR": "/proc/wlcg_isolate",
        "APPTAINERENV_LC_ALL": "C",
        "APPTAINERENV_TMPDIR": "/tmp",
        "APPTAINERENV_MINE": "1",
        "APPTAINERENV_TZ": "UTC",
        "APPTAINERENV_WLCG_ISOLATE_ID": made.trace_id,
    } == made.environ


def test_each_plan_has_an_identity(plan):
    """Two payloads never share a trace id or a private directory."""
    one, two = plan(), plan()

    assert one.trace_id != two.trace_id
    assert f"/work/.wlcg-isolate-{one.trace_id}" == one.scratch


def test_plan_in_plain_types(plan):
    """The keys are those of the interface, with trace id and working directory."""
    made = plan(env={"TOKEN": SECRET}, binds=[Bind(source="/none", required=False)], given={"environ": {"A": SECRET}})
    shown = json.loads(json.dumps(made.to_dict()))
    environment = shown["environment"]
    assert set(PLAN_KEYS) == set(shown)
    assert SECRET in shown.pop("environ").values()
    assert SECRET in "".join(shown["supervised"].pop("environ").values())
    assert {"path", "flavour", "version", "mode", "reason", "layer", "pid_namespace"} == set(shown["runtime"])
    assert {
        "requested",
        "path",
        "resolved_path",
        "form",
        "architecture",
        "digest",
        "verified_by",
        "mount",
        "looked_at",
    } == set(shown["image"])
    assert {"source", "target", "writable", "origin", "decision", "reason"} == set().union(*shown["binds"])
    assert ["mount", "mount", "skip", *["mount"] * 3] == [bind["decision"] for bind in shown["binds"]]
    assert [{"name", "decision", "rule", "reason"}] * len(environment) == [set(decision) for decision in environment]
    assert {"A", "TOKEN"} <= {decision["name"] for decision in environment}
    assert SECRET not in json.dumps(shown)
    assert [made.trace_id, "/work", list(made.argv)] == [shown[key] for key in ("trace_id", "workdir", "argv")]


ODD = ("two words", "'", '"', "$(id)", "`id`", "\\", "new\nline", "*", "~", "", "ünï", "a;b&c|d", "!")


def test_shell_line_is_exact(plan):
    """The shell line carries every odd character of arguments and values."""
    made = plan("tool", *ODD, env={"ODD": "".join(ODD)})
    release = next(word for word in shlex.split(made.shell()) if word.startswith("WLCG_ISOLATE_RELEASE_0="))

    newline = """'"$wlcg_isolate_newline"'"""
    assert f"; export ODD={shlex.quote(''.join(ODD))}; ".replace("\n", newline) in release
    assert f"; set -- {shlex.join(['tool', *ODD])}; ".replace("\n", newline) in release


def test_starter(plan):
    """A plan says what starts its payload, and why it is not the loader."""
    loader, shell = plan(given={"loader_fault": None}), plan(given={"loader_fault": "not on this node"})

    assert [("loader", ""), ("shell", "not on this node")] == [(p.starter, p.starter_reason) for p in (loader, shell)]
    assert {"name": "shell", "reason": "not on this node"} == shell.to_dict()["starter"]
    assert "started   by the loader" in loader.explain().splitlines()
    assert "started   by the shell: not on this node" in shell.explain().splitlines()


def test_explanation_names_what_is_skipped_and_warned_of(plan):
    """A person reads of each bind left out, and of each warning."""
    given = {"uid": 0, "paths": {"/cvmfs": missing("/cvmfs")}}
    text = plan("tool", "a b", keep_env=["ABSENT"], binds=[Bind(source="/n", required=False)], given=given).explain()
    lines = text.splitlines()
    forging = plan(binds=[Bind(source="/n\nwarning   \x1b[31m", required=False)], given=given).explain()

    assert "payload   tool 'a b'" == lines[0]
    assert "\x1b" not in forging
    assert 1 == sum(line.startswith("warning") for line in forging.splitlines())
    assert ["/n", "/cvmfs"] == [line.split()[0] for line in lines if "  skip: " in line]
    assert [
        "warning   the pilot is root: its payloads are confined; run pilots as plain users",
        "warning   --keep-env ABSENT: the host has no such variable",
    ] == [line for line in lines if line.startswith("warning")]


@pytest.mark.parametrize(("uid", "warned"), [(0, True), (1000, False)], ids=["root", "user"])
def test_root_is_warned(plan, uid, warned):
    """A pilot that is root is told what that means."""
    assert warned == any("the pilot is root" in warning for warning in plan(given={"uid": uid}).warnings)


HOME_TRACE = "/home/u/.local/state/wlcg_isolate/trace"
TMP_TRACE = "/var/tmp/wlcg_isolate.1000/trace"


@pytest.mark.parametrize(
    ("environ", "binds", "expected"),
    [
        ({"HOME": "/home/u"}, [], (HOME_TRACE, TMP_TRACE)),
        ({"HOME": "/work"}, [], (TMP_TRACE,)),
        ({}, [], (TMP_TRACE,)),
        ({"HOME": "/h", "XDG_STATE_HOME": "/s"}, [], ("/s/wlcg_isolate/trace", TMP_TRACE)),
        ({"HOME": "/home/u", "XDG_STATE_HOME": "relative"}, [], (TMP_TRACE,)),
        ({"HOME": "/home/u"}, ["/home"], (TMP_TRACE,)),
        ({"HOME": "/home/u"}, [HOME_TRACE + "/below"], (TMP_TRACE,)),
        ({"HOME": "/home/u"}, ["/home/u2"], (HOME_TRACE, TMP_TRACE)),
    ],
    ids=["home", "home-is-workdir", "no-home", "xdg", "xdg-relative", "bind-above", "bind-below", "similar-name"],
)
def test_default_trace_directories(plan, present, environ, binds, expected):
    """Of the default directories those that the payload could see are passed over."""
    given = {"environ": environ, "paths": {path: present(path) for path in binds}}
    made = plan(trace_dir=None, binds=[Bind(source=path, target=f"/data{path}") for path in binds], given=given)

    assert expected == made.trace_dirs


@pytest.mark.parametrize(
    ("trace_dir", "resolved"), [("/work", "/work"), ("/work/t", None), ("/link", "/work/t")], ids=["same", "in", "link"]
)
def test_visible_trace_directory_is_refused(plan, present, trace_dir, resolved):
    """A trace directory that was asked for and that the payload would see refuses."""
    given = {"paths": {trace_dir: present(trace_dir, resolved=resolved)}}

    with pytest.raises(PlanError) as caught:
        plan(trace_dir=trace_dir, given=given)
    assert ["trace-visible"] == kinds_of(caught)
    assert ["--trace-dir"] == [problem.origin for problem in caught.value.problems]


def test_all_default_trace_directories_visible(plan, present):
    """When no directory is left, each is named."""
    shared = "/var/tmp/wlcg_isolate.1000"
    given = {"environ": {"HOME": "/work"}, "paths": {shared: present(shared)}}

    with pytest.raises(PlanError) as caught:
        plan(trace_dir=None, binds=[Bind(source=shared, target="/data")], given=given)
    assert ["trace-visible", "trace-visible"] == kinds_of(caught)


def test_all_problems_at_once(plan):
    """One refusal names everything that stands against the plan."""
    given = {"runtimes": (), "image": None, "paths": {"/work": missing("/work")}}

    with pytest.raises(PlanError) as caught:
        plan(image=None, env={"HOME": "/x"}, binds=[Bind(source="/n")], given=given)
    assert {
        "runtime-missing",
        "image-not-named",
        "variable-reserved",
        "workdir-missing",
        "bind-source-missing",
    } == set(kinds_of(caught))


@pytest.mark.parametrize(
    ("command", "overrides", "link", "kinds"),
    [
        (("a", "\udcff"), {}, None, ["argument-undeliverable"]),
        (("a",), {"env": {"A": "\udcff"}}, None, ["variable-undeliverable"]),
        (("a",), {}, "/work/tmp", ["workdir-unsafe"]),
        (("a",), {}, "/work/var_tmp", ["workdir-unsafe"]),
        (("\udcff",), {"env": {"A": "\udcff"}}, "/work/tmp", ["argument-", "variable-", "workdir-unsafe"]),
    ],
    ids=["argument", "value", "tmp", "var_tmp", "all"],
)
def test_what_cannot_be_written_down(plan, present, command, overrides, link, kinds):
    """A plan that no command line can express exists, and refuses to be one."""
    given = {"paths": {link: present(link, is_link=True)}} if link else {}
    made = plan(*command, **overrides, given=given)

    for write in (lambda: made.argv, lambda: made.environ, made.shell, made.to_dict):
        with pytest.raises(PlanError) as caught:
            write()
        assert [True] * len(kinds) == [a.startswith(b) for a, b in zip(kinds_of(caught), kinds)]
        assert len(kinds) == len(kinds_of(caught))
    assert len(kinds) == made.explain().count("\nwarning   ")


def test_no_secret_in_a_repr(facts, request_for):
    """Values of variables show in no representation."""
    asked, known = request_for(env={"TOKEN": SECRET}), facts(environ={"TZ": SECRET, "X509_USER_PROXY": SECRET})
    made = make_plan(asked, Policy(), known)

    assert SECRET in made.payload_environ.values()
    assert "" == "".join(word for word in map(repr, (made, asked, known, made.environment)) if SECRET in word)

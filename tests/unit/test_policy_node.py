"""
What the node already says becomes the site's input.
"""

from __future__ import annotations

import attrs
import pytest

from wlcg_isolate import Bind, Policy, PolicyError
from wlcg_isolate.host import RuntimeFact, ask_runtimes
from wlcg_isolate.policy.explain import explain
from wlcg_isolate.policy.layers import Layer
from wlcg_isolate.policy.merge import merge
from wlcg_isolate.policy.node import ENVIRONMENT, node_layers
from wlcg_isolate.policy.settle import settle

FILE = "/etc/apptainer/apptainer.conf"


def binds_of(said, name="APPTAINER_BIND"):
    """Read one variable; list its binds and what was left out."""
    layers, inputs = node_layers({name: said}, {}, None)
    binds = [bind for layer in layers for bind in layer.values["bind.default"]]

    return [(b.source, b.target, b.writable) for b in binds], [found.reason for found in inputs if found.left_out]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("/opt", [("/opt", "/opt", True)]),
        ("/opt,/tmp/x", [("/opt", "/opt", True), ("/tmp/x", "/tmp/x", True)]),
        ("/opt:/other", [("/opt", "/other", True)]),
        ("/opt:/other,/x:/other2,", [("/opt", "/other", True), ("/x", "/other2", True)]),
        ("/opt:/other:ro", [("/opt", "/other", False)]),
        ("/opt:/other:rw", [("/opt", "/other", True)]),
        ("/opt:/other:ro,/x:/other2:ro", [("/opt", "/other", False), ("/x", "/other2", False)]),
        ("/opt:/other:rw,ro", [("/opt", "/other", False)]),
        (r"/a\:b,/c\,d", [("/a:b", "/a:b", True), ("/c,d", "/c,d", True)]),
        ("/a:", [("/a", "/a", True)]),
        ("/a//b/:/c/", [("/a//b/", "/c", True)]),
    ],
)
def test_binds(said, expected):
    """Binds are read as the runtime reads them, writable unless it says ro."""
    assert (expected, []) == binds_of(said)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("rel:/x", "its source is no absolute path"),
        (":/a", "its source is no absolute path"),
        ("/a:rel", "target must be an absolute path"),
        ("/a:/b:image-src=/c", "'image-src=/c' is no option that is known here"),
        ("/a:/b:ro:rw", "'rw' is no option that is known here"),
        ("/a:/b/../c", "target must not hold '..'"),
    ],
)
def test_bad_binds(said, reason):
    """What cannot be read is left out with its reason, and hides nothing else."""
    assert ([("/good", "/good", True)], [f"left out: {reason}"]) == binds_of(f"{said},/good")


def test_environment():
    """Each variable gives a layer of the site that names it, and nothing it says refuses a payload."""
    environ = {
        "APPTAINER_BIND": "/a",
        "SINGULARITY_BINDPATH": "/b",
        "SINGULARITY_CACHEDIR": "/cache",
        "APPTAINER_TMPDIR": "/tmp/x",
        "APPTAINER_NV": "1",
        "BIND": "/c",
    }
    layers, inputs = node_layers(environ, {}, None)

    assert [
        ("site", "variable APPTAINER_BIND"),
        ("site", "variable SINGULARITY_BINDPATH"),
        ("site", "variable SINGULARITY_CACHEDIR"),
        ("site", "variable APPTAINER_TMPDIR"),
    ] == [(layer.name, layer.file) for layer in layers]
    assert {"runtime.cachedir": "/cache"} == dict(layers[2].values)
    assert {"runtime.tmpdir": "/tmp/x"} == dict(layers[3].values)
    assert [False, False] == [bind.required for layer in layers[:2] for bind in layer.values["bind.default"]]
    assert {ENVIRONMENT} == {found.source for found in inputs}


def test_two_spellings():
    """Of two spellings the runtime's own comes first, and the other is told when it differs."""
    layers, inputs = node_layers({"APPTAINER_BIND": "/a", "SINGULARITY_BIND": "/b"}, {}, None)
    same, told = node_layers({"APPTAINER_BIND": "/a", "SINGULARITY_BIND": "/a"}, {}, None)

    assert ["/a"] == [bind.source for bind in layers[0].values["bind.default"]]
    assert ["left out: APPTAINER_BIND says something else, and comes first"] == [
        found.reason for found in inputs if found.left_out
    ]
    assert (1, []) == (len(same), [found for found in told if found.left_out])


@pytest.mark.parametrize("said", ["rel", "a\0b"])
def test_bad_directory(said):
    """A directory for the runtime that is none is left out."""
    layers, (found,) = node_layers({"APPTAINER_TMPDIR": said}, {}, None)

    assert ((), True, "") == (layers, found.left_out, found.key)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {}),
        ({"allow setuid": ("yes",), "enable overlay": ("try",), "enable underlay": ("yes",)}, {}),
        ({"allow setuid": ("no",)}, {"runtime.allow_setuid": False}),
        ({"user bind control": ("no",)}, {"runtime.user_binds": False}),
        ({"enable overlay": ("no",)}, {"runtime.layers": ("underlay",)}),
        ({"enable underlay": ("no",)}, {"runtime.layers": ("overlay",)}),
        ({"enable overlay": ("no",), "enable underlay": ("no",)}, {"runtime.layers": ()}),
        ({"enable overlay": ("driver",), "enable underlay": ("preferred",)}, {}),
        ({"mount home": ("yes",), "mount tmp": ("no",), "mount hostfs": ("yes",)}, {}),
        ({"bind path": ("/etc/localtime", "/etc/hosts")}, {}),
        ({"sessiondir max size": ("64",)}, {}),
    ],
    ids=str,
)
def test_config(config, expected):
    """The runtime's configuration becomes keys where they mean something here."""
    layers, _ = node_layers({}, config, FILE)

    assert expected == {key: value for layer in layers for key, value in layer.values.items()}


def test_config_binds():
    """What the administrator binds for everybody is bound, where it is present."""
    layers, inputs = node_layers({}, {"bind path": ("/etc/localtime", "/lustre:/data:ro", "bad")}, FILE)
    (bind,) = layers[0].values["bind.default"]

    assert Bind(source="/lustre", target="/data", required=False, origin="site") == bind
    assert [("bind path", ""), ("bind path", "bind.default"), ("bind path", "")] == [
        (found.name, found.key) for found in inputs
    ]
    assert [False, False, True] == [found.left_out for found in inputs]


def test_every_directive_has_a_reason():
    """What is read and not used says why."""
    _, inputs = node_layers({}, {"mount home": ("yes",), "mount hostfs": ("yes",), "mount tmp": ("yes",)}, FILE)

    assert [True] * 3 == [not found.key and found.reason.startswith("not ") for found in inputs]


def test_settle_is_free_without_input(request_for):
    """Where neither node nor request say anything, the policy is the same object."""
    policy = Policy()

    assert policy is settle(policy, request_for(trace_dir=None), {"PATH": "/bin", "APPTAINERENV_X": "1"})


def test_settle_order(request_for):
    """A variable of the host is the weakest voice of the site, and its bind loses against the site's, visibly."""
    environ = {"APPTAINER_TMPDIR": "/env", "APPTAINER_BIND": "/env:/data"}
    site = Layer(
        name="site",
        file="s",
        values={"runtime.tmpdir": "/site", "bind.default": (Bind(source="/site", target="/data", required=False),)},
    )
    policy = settle(merge([site]), request_for(), environ)

    assert "/site" == policy.runtime_tmpdir
    assert ["/site", "/cvmfs"] == [bind.source for bind in policy.bind_default]
    assert [
        "bind.default: site (variable APPTAINER_BIND) asks for /env at /data, where /site of site (s) comes first"
    ] == list(policy.warnings)
    assert {"layer": "site", "file": "variable APPTAINER_TMPDIR", "value": "/env"} in [
        said for row in explain(policy) if row.key == "runtime.tmpdir" for said in row.overrode
    ]


@pytest.mark.parametrize("severity", ["error", "warning"])
def test_lock_holds_against_variables(request_for, severity):
    """What a site locked, no variable of the host changes: anybody may have set it."""
    locks = {"bind.default": severity, "runtime.cachedir": severity, "runtime.tmpdir": severity}
    site = Layer(name="site", file="s", values={"runtime.tmpdir": "/site"}, locks=locks)
    environ = {"SINGULARITY_BINDPATH": "/data", "APPTAINER_CACHEDIR": "/env", "APPTAINER_TMPDIR": "/site"}
    told = [
        "bind.default: site (variable SINGULARITY_BINDPATH) asks for /data, and the value is locked by site (s)",
        "runtime.cachedir: site (variable APPTAINER_CACHEDIR) asks for /env, and the value is locked by site (s)",
    ]
    if severity == "warning":
        policy = settle(merge([site]), request_for(), environ)
        assert (["/cvmfs"], None) == ([bind.source for bind in policy.bind_default], policy.runtime_cachedir)
        assert told == list(policy.warnings)
    else:
        with pytest.raises(PolicyError) as caught:
            settle(merge([site]), request_for(), environ)
        assert told == [problem.message for problem in caught.value.problems]


def test_site_removes_what_a_variable_binds(request_for):
    """A site's file takes out what the environment of its jobs binds, though that speaks later."""
    site = Layer(name="site", file="s", remove={"bind.default": ("/data", "/none")})
    policy = settle(merge([site]), request_for(), {"SINGULARITY_BIND": "/data,/more"})
    row = next(row for row in explain(policy) if row.key == "bind.default")

    assert ["/more", "/cvmfs"] == [bind.source for bind in policy.bind_default]
    assert ["/data"] == [said["value"]["source"] for said in row.overrode]
    assert ["bind.default: site (s) removes '/none', which is not there"] == list(policy.warnings)


def test_settle_keeps_what_a_program_changed(request_for):
    """What a program changed in a loaded policy holds, also where the node says something; so do the site's locks."""
    locked = Layer(name="site", values={"container.workdir": "/x"}, locks={"container.workdir": "error"})
    loaded = merge([locked, Layer(name="experiment", values={"bind.forbidden_sources": ("/a",)})])
    changed = attrs.evolve(loaded, bind_forbidden_sources=("/a", "/secret"), image_allowed_roots=("/images",))
    policy = settle(changed, request_for(), {"APPTAINER_TMPDIR": "/env"})

    assert (("/a", "/secret"), ("/images",)) == (policy.bind_forbidden_sources, policy.image_allowed_roots)
    assert ("/x", "/env") == (policy.container_workdir, policy.runtime_tmpdir)
    with pytest.raises(PolicyError):
        settle(changed, request_for(settings={"container.workdir": "/y"}), {})


def test_settle_tells_what_was_left_out(request_for):
    """What the node says in vain is among the warnings."""
    policy = settle(Policy(), request_for(), {"APPTAINER_BIND": "rel"})

    assert ["APPTAINER_BIND = rel in the environment left out: its source is no absolute path"] == list(policy.warnings)


def test_settle_request(request_for):
    """A request's own fields and its settings are the layer of the request."""
    request = request_for(trace_dir="/t/", runtime="/r", settings={"container.workdir": "/w", "gpu.use": ["amd"]})
    policy = settle(Policy(), request, {})
    rows = {row.key: (row.layer, row.value) for row in explain(policy)}

    assert {
        "trace.directories": ("request", ["/t"]),
        "runtime.search": ("request", ["/r"]),
        "container.workdir": ("request", "/w"),
        "gpu.use": ("request", ["amd"]),
    } == {key: row for key, row in rows.items() if row[0] != "built-in"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"container.workdr": "/w"}, "container.workdr is no key of policy; did you mean container.workdir?"),
        ({"container.workdir": 7}, "container.workdir must be text, not int"),
        ({"runtime.tmpdir": "/x"}, "runtime.tmpdir cannot be set by the layer request"),
    ],
)
def test_settle_bad_settings(request_for, settings, expected):
    """What a request may not set is refused by name."""
    with pytest.raises(PolicyError) as caught:
        settle(Policy(), request_for(settings=settings), {})

    assert [(expected, "request.settings")] == [(p.message, p.origin) for p in caught.value.problems]


def test_settle_request_fields_come_last(request_for):
    """An option of the command line speaks after the settings of a request file."""
    settings = {"runtime.search": ["/other"], "trace.directories": ["/elsewhere"]}
    policy = settle(Policy(), request_for(trace_dir="/t", runtime="/r", settings=settings), {})

    assert (("/r",), ("/t",)) == (policy.runtime_search, policy.trace_directories)


def test_request_narrows_the_time_for_runtimes(request_for, mocker):
    """The deadline for a runtime's answer holds from the first question on."""
    silent = RuntimeFact(path="/bin/sh", verdict="no-answer", reason="no answer")
    ask_version = mocker.patch("wlcg_isolate.host.runtimes.ask_version", return_value=(silent, ()))
    ask_runtimes(request_for(runtime="/bin/sh", settings={"runtime.probe_seconds": 3.0}), Policy())

    assert ("/bin/sh", 3.0) == ask_version.call_args.args


def test_settle_lock(request_for):
    """A site's lock on the trace directory holds against the request."""
    site = Layer(name="site", values={"trace.directories": ("/site",)}, locks={"trace.directories": "warning"})
    policy = settle(merge([site]), request_for(trace_dir="/mine"), {})

    assert ("/site",) == policy.trace_directories
    assert ["trace.directories: request asks for /mine, and the value is locked by site"] == list(policy.warnings)

"""
The keys of policy, their defaults and what they refuse.
"""

from __future__ import annotations

import attrs
import pytest

from wlcg_isolate import Bind, Policy, PolicyError, load_policy
from wlcg_isolate.policy.explain import Explained, explain
from wlcg_isolate.policy.rules import fewer

SEARCH = [
    "apptainer",
    "singularity",
    "/usr/bin/apptainer",
    "/usr/local/bin/apptainer",
    "/usr/bin/singularity",
    "/usr/local/bin/singularity",
    "/cvmfs/oasis.opensciencegrid.org/mis/apptainer/bin/apptainer",
    "/cvmfs/atlas.cern.ch/repo/containers/sw/apptainer/{arch}-el9/current/bin/apptainer",
    "/cvmfs/alice.cern.ch/containers/bin/apptainer/current-{arch}/bin/apptainer",
    "/cvmfs/alice.cern.ch/containers/bin/apptainer/current/bin/apptainer",
    "{condor}/usr/libexec/apptainer",
]
KEEP = [
    "TERM",
    "TZ",
    "USER",
    "LOGNAME",
    "OMP_NUM_THREADS",
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "ftp_proxy",
    "FTP_PROXY",
    "no_proxy",
    "NO_PROXY",
    "all_proxy",
    "ALL_PROXY",
]
CVMFS = {
    "source": "/cvmfs",
    "target": "/cvmfs",
    "writable": False,
    "required": False,
    "origin": "built-in",
    "name": None,
}

DEFAULTS = {
    "image.names": {},
    "image.platforms": {},
    "image.allowed_roots": ["/"],
    "image.search": [
        "/cvmfs/unpacked.cern.ch/.multiarch/{goarch}/{registry}/{repository}:{tag}",
        "/cvmfs/unpacked.cern.ch/{registry}/{repository}:{tag}",
        "/cvmfs/singularity.opensciencegrid.org/{repository}:{tag}",
    ],
    "image.registries": ["registry.hub.docker.com"],
    "image.tags": ["{arch}", "{goarch}", "latest"],
    "image.goarch": {"aarch64": ["arm64", "arm64:v8"]},
    "image.fallback": [],
    "image.prefer": ["tree", "file"],
    "image.pull": [],
    "image.registry_credentials": None,
    "image.checksums": {},
    "image.checksum_files": [],
    "image.unlisted": True,
    "image.signature_keys": [],
    "image.sif_keys": [],
    "image.verify_seconds": 1800.0,
    "image.verified_directory": "/var/tmp/wlcg_isolate.{uid}/verified",
    "image.fuse_cores": 16,
    "runtime.search": SEARCH,
    "runtime.allow_setuid": True,
    "runtime.allow_shared_pids": True,
    "runtime.user_binds": True,
    "runtime.layers": ["overlay", "underlay"],
    "runtime.tmpdir": None,
    "runtime.cachedir": None,
    "runtime.probe_seconds": 20.0,
    "runtime.probe_starts": True,
    "runtime.probe_keep_seconds": 21600.0,
    "runtime.start_seconds": 300.0,
    "host.touch_seconds": 20.0,
    "host.network_file_systems": {"/cvmfs": 60.0},
    "host.cache_directories": ["{cache}/wlcg_isolate"],
    "environment.keep": KEEP,
    "environment.set": {},
    "environment.drop": [],
    "environment.settable": ["LD_LIBRARY_PATH"],
    "environment.any_names": False,
    "environment.secret": [],
    "environment.profiles": [],
    "environment.image": True,
    "environment.token_file": True,
    "bind.default": [CVMFS],
    "bind.forbidden_sources": [],
    "bind.forbidden_targets": [],
    "bind.read_only": [],
    "cvmfs.repositories": [],
    "cvmfs.root": "/cvmfs",
    "storage.posix": [],
    "storage.mapped": False,
    "isolation.on_difference": "refuse",
    "isolation.root": "confine",
    "isolation.network": "host",
    "isolation.allow_nesting": True,
    "isolation.nesting": False,
    "isolation.allow_keyrings": False,
    "limits.memory_bytes": None,
    "limits.processes": None,
    "limits.cpus": None,
    "limits.address_space_bytes": None,
    "limits.file_bytes": None,
    "limits.open_files": None,
    "limits.core_bytes": None,
    "limits.required": True,
    "limits.cgroup": None,
    "gpu.allowed": ["nvidia", "amd"],
    "gpu.use": [],
    "container.workdir": "/srv",
    "payload.grace_seconds": 10.0,
    "payload.limit_seconds": None,
    "trace.checkpoint_records": 128,
    "trace.directories": ["{state}/wlcg_isolate/trace", "/var/tmp/wlcg_isolate.{uid}/trace"],
    "trace.identity_ca_directory": None,
    "trace.identity_key_file": None,
    "trace.identity_mode": "clear",
    "trace.identity_seal_file": None,
    "trace.record_arguments": False,
    "trace.running_seconds": None,
    "trace.site": None,
    "trace.on_write_error": "refuse",
    "trace.receivers": {},
    "trace.required": [],
    "trace.deliver_seconds": 5.0,
    "trace.flush_seconds": 2.0,
    "trace.retention_days": 180,
    "trace.rotate_bytes": 67_108_864,
    "trace.seal_public_key": None,
}

SECONDS = ["runtime_probe_seconds", "runtime_start_seconds", "host_touch_seconds", "payload_grace_seconds"]


def faults(**values):
    """List the messages of the error that *values* raise."""
    with pytest.raises(PolicyError) as caught:
        Policy(**values)
    problems = caught.value.problems
    assert {("policy-invalid", "policy", "correct the policy")} == {(p.kind, p.origin, p.advice) for p in problems}

    return [p.message for p in problems]


def test_defaults():
    """The built-in layer holds these values, each under its dotted key."""
    assert DEFAULTS == {row.key: row.value for row in explain(Policy())}


def test_explain_names_the_layer():
    """Every row says that nothing but the built-in layer spoke."""
    rows = explain(Policy())

    assert sorted(DEFAULTS) == sorted(row.key for row in rows)
    assert {("built-in", None, ())} == {(row.layer, row.file, row.overrode) for row in rows}


def test_explain_shows_set_values():
    """A value given from Python shows in plain types."""
    policy = Policy(image_names={"a": "/b"}, bind_default=[], runtime_search=["x"], host_touch_seconds=1)
    expected = {
        **DEFAULTS,
        "image.names": {"a": "/b"},
        "bind.default": [],
        "runtime.search": ["x"],
        "host.touch_seconds": 1,
    }

    assert expected == {row.key: row.value for row in explain(policy)}


def test_explained_fields():
    """A row of explain has exactly the fixed fields."""
    assert ["key", "value", "layer", "file", "overrode", "parts"] == [field.name for field in attrs.fields(Explained)]


@pytest.mark.parametrize("field", SECONDS)
@pytest.mark.parametrize(
    "value", [0, 0.0, -1, float("nan"), float("inf"), float("-inf"), True, False, "9", None], ids=repr
)
def test_bad_seconds(field, value):
    """A deadline is a finite number above 0 and no truth value."""
    assert [f"{field.replace('_', '.', 1)} must be a number of seconds above 0"] == faults(**{field: value})


@pytest.mark.parametrize("field", SECONDS)
def test_huge_seconds(field):
    """A deadline that no float holds is refused as any other wrong one."""
    assert [f"{field.replace('_', '.', 1)} must be a number of seconds above 0"] == faults(**{field: 10**400})


@pytest.mark.parametrize("field", ["runtime_search", "trace_directories"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("apptainer", ["must be a list of text"]),
        (None, ["must be a list of text"]),
        (7, ["must be a list of text"]),
        ([""], ["must not be empty"]),
        (["a\0"], ["must not hold a NUL byte"]),
        (["a", 7], ["must be text, not int"]),
        (["", b"", "a"], ["must not be empty", "must be text, not bytes"]),
    ],
    ids=repr,
)
def test_bad_list_of_text(field, value, expected):
    """A list of programs or directories holds text only."""
    assert [f"{field.replace('_', '.', 1)} {fault}" for fault in expected] == faults(**{field: value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ["must map names to paths"]),
        ([("a", "/b")], ["must map names to paths"]),
        ({"": "/b"}, ["'': must not be empty"]),
        ({1: "/b"}, ["1: must be text, not int"]),
        ({"a": "b"}, ["'a': must be an absolute path"]),
        ({"a": ""}, ["'a': must not be empty"]),
        ({"a": "/b\0"}, ["'a': must not hold a NUL byte"]),
        ({"a": "/b\r"}, ["'a': must not hold a carriage return"]),
        ({"a": None, "c": "d"}, ["'a': must be text, not NoneType", "'c': must be an absolute path"]),
    ],
    ids=repr,
)
def test_bad_image_names(value, expected):
    """Images are mapped from a name to an absolute path."""
    assert [f"image.names {fault}" for fault in expected] == faults(image_names=value)


@pytest.mark.parametrize("name", ["", "A=B", "A-B", "1", "A\n", "é", "*", 7, None], ids=repr)
def test_bad_name_to_keep(name):
    """What no shell takes for a variable's name cannot pass."""
    assert [f"environment.keep holds {name!r}, which is no name of a variable"] == faults(environment_keep=["A", name])


@pytest.mark.parametrize("value", ["HOME", None, 7], ids=repr)
def test_bad_environment_keep(value):
    """The variables that pass are a list."""
    assert ["environment.keep must be a list of names"] == faults(environment_keep=value)


@pytest.mark.parametrize("value", ["/a", None, ["/a"], [None], Bind(source="/a"), {"/a": "/b"}], ids=repr)
def test_bad_bind_default(value):
    """The binds that every payload gets are a list of binds."""
    assert ["bind.default must be a list of Bind"] == faults(bind_default=value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "must not be empty"),
        ("srv", "must be an absolute path"),
        ("/", "must be a directory right below /"),
        ("//", "must be a directory right below /"),
        ("/srv/", "must be a directory right below /"),
        ("/a/b", "must be a directory right below /"),
        ("/a\0", "must not hold a NUL byte"),
        ("/a\r", "must not hold a carriage return"),
        (None, "must be text, not NoneType"),
    ],
    ids=repr,
)
def test_bad_container_workdir(value, expected):
    """The working directory in the container lies right below the root."""
    assert [f"container.workdir {expected}"] == faults(container_workdir=value)


@pytest.mark.parametrize("value", ["/.", "/.."])
def test_container_workdir_is_root(value):
    """Another spelling of the root is refused as the root is."""
    assert ["container.workdir must be a directory right below /"] == faults(container_workdir=value)


def test_all_faults():
    """A policy lists the faults of all its keys at once."""
    assert [
        "image.names must map names to paths",
        "container.workdir must be an absolute path",
        "runtime.search must be a list of text",
        "host.touch_seconds must be a number of seconds above 0",
    ] == faults(container_workdir="x", host_touch_seconds=0, image_names=1, runtime_search=1)


def test_load_policy_without_files():
    """Without files, the built-in layer holds."""
    assert Policy() == load_policy()


def test_policy_is_frozen():
    """A policy cannot be changed, nor can its mapping."""
    policy = Policy(image_names={"a": "/b"})

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        policy.container_workdir = "/x"
    with pytest.raises(TypeError):
        policy.image_names["a"] = "/c"


A = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("image_search", "x", ["must be a list of text"]),
        ("image_search", ["a/{repository}"], ["holds 'a/{repository}', which must be an absolute path"]),
        ("image_search", ["/a"], ["holds '/a', which must hold {repository} or {name}, and no .."]),
        (
            "image_search",
            ["/../{repository}"],
            ["holds '/../{repository}', which must hold {repository} or {name}, and no .."],
        ),
        ("image_search", ["/{repository}/{x}"], ["holds '/{repository}/{x}', which must not hold {x}"]),
        ("image_tags", [1], ["must be text, not int"]),
        ("image_goarch", [], ["must map architectures to spellings"]),
        ("image_goarch", {"a/b": ["arm"]}, ["'a/b' is no architecture as 'uname -m' spells it"]),
        ("image_goarch", {"aarch64": "x"}, ["aarch64: must be a list of text"]),
        ("image_goarch", {"aarch64": ["a/b"]}, ["aarch64: holds 'a/b', which is no name of a directory"]),
        ("image_prefer", [], ["must be a list of tree, file"]),
        ("image_prefer", ["sif"], ["must be a list of tree, file"]),
        ("image_checksums", [A], ["must map images to checksums"]),
        ("image_checksums", {"/a": "md5:1"}, ["'/a': must be sha256: and 64 hexadecimal digits"]),
        ("image_checksum_files", ["a"], ["holds 'a', which must be an absolute path"]),
        ("image_unlisted", 0, ["must be true or false"]),
        ("image_verified_directory", "a", ["must be an absolute path"]),
        ("image_verified_directory", "/a/{x}", ["may hold {uid}, and no other brace"]),
        ("image_fuse_cores", 0, ["must be a whole number above 0"]),
        ("image_fuse_cores", True, ["must be a whole number above 0"]),
        ("image_fuse_cores", 1.5, ["must be a whole number above 0"]),
        ("cvmfs_root", "/a/", ["holds '/a/', which must be written as /a"]),
        ("cvmfs_root", "a", ["holds 'a', which must be an absolute path"]),
    ],
)
def test_bad_image_keys(field, value, expected):
    """What a key about images cannot be is refused."""
    key = field.replace("_", ".", 1)

    assert [f"{key} {fault}" for fault in expected] == faults(**{field: value})


@pytest.mark.parametrize(
    ("held", "wanted", "expected", "lost"),
    [
        ((), (), (), ""),
        ((), ("a",), ("a",), ""),
        (("a",), (), ("a",), "none at all, where some are asked for"),
        (("a", "b"), ("b",), ("b",), ""),
        (("a",), ("b",), ("a",), "b"),
        (("a", "b"), ("b", "c"), ("b",), "c"),
    ],
)
def test_fewer(held, wanted, expected, lost):
    """Keys that somebody asks for can become fewer, and never none."""
    actual, words = fewer(held, wanted, {})

    assert (expected, bool(lost)) == (actual, bool(words))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trace_rotate_bytes", 100),
        ("trace_rotate_bytes", True),
        ("trace_checkpoint_records", 0),
        ("trace_retention_days", 1.5),
        ("trace_on_write_error", "ignore"),
        ("trace_seal_public_key", "AAAA"),
        ("trace_seal_public_key", "not base64"),
        ("trace_seal_public_key", 7),
    ],
)
def test_journal_values_are_checked(field, value):
    """What a journal cannot work with is refused."""
    with pytest.raises(PolicyError, match=field.replace("_", ".", 1)):
        Policy(**{field: value})

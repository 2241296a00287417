"""
Policy files: found, read, and refused with everything that is wrong.
"""

from __future__ import annotations

import copy
import os
import pickle
import random
import re

import pytest
from hypothesis import given, strategies as st

from wlcg_isolate import PolicyError, load_policy
from wlcg_isolate.policy import files
from wlcg_isolate.policy.explain import explain
from wlcg_isolate.policy.files import profiles
from wlcg_isolate.policy.model import RULES
from wlcg_isolate.policy.parse import layer_from_dict

SITE = """\
version = 1

[image]
allowed_roots = ["/cvmfs"]

[image.names]
el9 = "/cvmfs/site/{arch}-el9"

[environment]
keep = ["SITE_*"]

[environment.set]
SITE = "here"

[[bind.default]]
name = "storage"
source = "/data"
writable = true
required = false

[host.network_file_systems]
"/data" = 5.0

[lock]
"image.allowed_roots" = "error"
"""

EXPERIMENT = """\
version = 1

[image.names.el7]
x86_64 = "/cvmfs/vo/el7"

[container]
workdir = "/workdir"

[cvmfs]
repositories = ["vo.example.org"]

[remove]
"environment.keep" = ["TZ"]
"""


@pytest.fixture
def write(tmp_path):
    """Write a policy file and return its path."""

    def make(name, text, mode=0o644):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return str(path)

    return make


def faults(*args, **more):
    """List the problems that loading raises, as message and origin."""
    with pytest.raises(PolicyError) as caught:
        load_policy(*args, **more)

    return [(problem.message, problem.origin) for problem in caught.value.problems]


def origins(policy, key):
    """Return the layer and file of a key."""
    found = next(row for row in explain(policy) if row.key == key)

    return found.layer, found.file


def test_files_merge(write):
    """Site and experiment are read into one policy, each value with its file."""
    site, experiment = write("site.toml", SITE), write("vo.toml", EXPERIMENT)
    policy = load_policy(site, experiment)

    assert {"el9": "/cvmfs/site/{arch}-el9", "el7": {"x86_64": "/cvmfs/vo/el7"}} == dict(policy.image_names)
    assert ("/workdir", ("vo.example.org",)) == (policy.container_workdir, policy.cvmfs_repositories)
    assert [("/data", f"site ({site})"), ("/cvmfs", "built-in")] == [
        (bind.source, bind.origin) for bind in policy.bind_default
    ]
    assert ("lock", site) == origins(policy, "image.allowed_roots")
    assert ("experiment", experiment) == origins(policy, "container.workdir")
    assert {"SITE": "here"} == dict(policy.environment_set)


def test_drop_ins(write):
    """Files beside the site's are read in the order of their names, and come after it."""
    text = 'version = 1\n[container]\nworkdir = "/{}"\n'
    site = write("site.toml", text.format("a"))
    write("site.d/20-b.toml", text.format("b"))
    last = write("site.d/30-c.toml", text.format("c"))
    write("site.d/40-d.txt", text.format("d"))
    policy = load_policy(site)

    assert ("/c", ("site", last)) == (policy.container_workdir, origins(policy, "container.workdir"))


def test_experiment_then_its_files_for_the_site(write):
    """The first is the experiment's profile, the others are its files for this site."""
    text = 'version = 1\n[container]\nworkdir = "/{}"\n'
    paths = [write(f"{name}.toml", text.format(name)) for name in ("vo", "here", "now")]
    policy = load_policy(experiment=paths)
    found = next(row for row in explain(policy) if row.key == "container.workdir")

    assert ("/now", "experiment-site", paths[2]) == (policy.container_workdir, found.layer, found.file)
    assert ["built-in", "experiment", "experiment-site"] == [said["layer"] for said in found.overrode]


@pytest.mark.parametrize("name", ["alice", "atlas", "cms", "dirac", "lhcb", "osg"])
def test_shipped_profile(name):
    """Every shipped profile loads by its name, and says where its values are from."""
    policy = load_policy(experiment=name)
    layer, file = origins(policy, "image.names")

    assert name in profiles()
    assert "experiment" == layer
    assert file.endswith(f"/profiles/{name}.toml")


def test_experiment_file_beside_the_sites(write):
    """With the name of a profile, what the site keeps for that experiment is read as well."""
    site = write("site.toml", "version = 1\n")
    local = write("experiments/alice.toml", 'version = 1\n[container]\nworkdir = "/here"\n')
    policy = load_policy(site, "alice")

    assert ("/here", ("experiment-site", local)) == (policy.container_workdir, origins(policy, "container.workdir"))


def test_environment_names_files(write, monkeypatch):
    """Variables name the files when the caller does not, and the caller wins."""
    text = 'version = 1\n[container]\nworkdir = "/{}"\n'
    site, experiment, other = (write(f"{name}.toml", text.format(name)) for name in ("site", "vo", "other"))
    monkeypatch.setenv("WLCG_ISOLATE_SITE", site)
    from_site = load_policy().container_workdir
    monkeypatch.setenv("WLCG_ISOLATE_EXPERIMENT", f"{experiment}:{other}")

    assert ["/site", "/other", "/vo"] == [
        from_site,
        load_policy().container_workdir,
        load_policy(experiment=experiment).container_workdir,
    ]


def test_usual_place(write, monkeypatch):
    """The usual place is read when nobody names a file, and an empty variable means none."""
    site = write("site.toml", SITE)
    monkeypatch.setattr(files, "SITE_FILE", site)
    monkeypatch.setattr("wlcg_isolate.policy.places.SITE_FILE", site)
    without = load_policy().image_allowed_roots
    monkeypatch.delenv("WLCG_ISOLATE_SITE")

    assert (("/",), ("/cvmfs",)) == (without, load_policy().image_allowed_roots)


def test_loaded_policy_is_a_value(write):
    """What was loaded is equal to its copies, can be hashed with its layers, and nobody can change it."""
    policy = load_policy(write("site.toml", SITE), write("vo.toml", EXPERIMENT))
    copies = pickle.loads(pickle.dumps(policy)), copy.deepcopy(policy)

    assert {policy} == set(copies)
    assert {policy.layers} == {found.layers for found in copies}


def test_nothing_named_is_built_in():
    """Without any file the built-in policy holds."""
    assert None is load_policy().layers


@pytest.mark.parametrize(
    ("word", "field", "expected"),
    [
        ("container.workdir=/work", "container_workdir", "/work"),
        ('container.workdir="/work"', "container_workdir", "/work"),
        ("payload.limit_seconds=60", "payload_limit_seconds", 60),
        ("runtime.allow_setuid=false", "runtime_allow_setuid", False),
        ('gpu.use=["nvidia"]', "gpu_use", ("nvidia",)),
        ('image.names={el9 = "/x"}', "image_names", {"el9": "/x"}),
        ('remove.bind.default=["/cvmfs"]', "bind_default", ()),
        ("runtime.tmpdir=/a=b", "runtime_tmpdir", "/a=b"),
    ],
)
def test_operator(word, field, expected):
    """An operator's value is TOML, or else text."""
    assert expected == getattr(load_policy(operator=[word]), field)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("x", "--set 'x' is not KEY=VALUE"),
        ("=1", "--set '=1' is not KEY=VALUE"),
        ("container.workdr=/x", "container.workdr is no key of policy; did you mean container.workdir?"),
        ("container.workdir=7", "container.workdir must be text, not int"),
        ("container.workdir=/usr", "container.workdir must not be a directory of the image's system"),
        ("payload.limit_seconds=soon", "payload.limit_seconds must be a number, not str"),
        ("remove.container.workdir=[]", "remove.container.workdir is no list of policy"),
    ],
)
def test_bad_operator(word, expected):
    """A wrong word is refused with the option as its origin."""
    assert [(expected, "--set")] == faults(operator=[word])


HEAD = "version = 1\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["version is missing, and must be 1"]),
        ("version = 2\n", ["version is 2, and must be 1"]),
        ('version = "1"\n', ["version is '1', and must be 1"]),
        ("version = true\n", ["version is True, and must be 1"]),
        (HEAD + "image = 1\n", ["image must be a table"]),
        (HEAD + "imge = 1\n", ["imge is no section of policy; did you mean image?"]),
        (HEAD + "[imge]\nnames = {}\n", ["imge is no section of policy; did you mean image?"]),
        (HEAD + "[image]\nname = {}\n", ["image.name is no key of policy; did you mean image.names?"]),
        (HEAD + "[runtime]\nstart_seconds = -1\n", ["runtime.start_seconds must be a number of seconds above 0"]),
        (HEAD + "[runtime]\nstart_seconds = nan\n", ["runtime.start_seconds must be a number of seconds above 0"]),
        (HEAD + '[runtime]\nallow_setuid = "no"\n', ["runtime.allow_setuid must be true or false, not str"]),
        (HEAD + '[runtime]\nlayers = ["fuse"]\n', ["runtime.layers holds 'fuse', which is none of overlay, underlay"]),
        (HEAD + '[runtime]\nsearch = ["a/b"]\n', [
            "runtime.search holds 'a/b', which is neither a name nor an absolute path"
        ]),
        (HEAD + "[image]\nfuse_cores = inf\n", ["image.fuse_cores must be a whole number, not float"]),
        (HEAD + "[image]\nfuse_cores = true\n", ["image.fuse_cores must be a whole number, not bool"]),
        (HEAD + "[image]\nallowed_roots = 7\n", ["image.allowed_roots must be a list, not int"]),
        (HEAD + '[image]\nallowed_roots = ["a", "/b/"]\n', [
            "image.allowed_roots holds 'a', which must be an absolute path",
            "image.allowed_roots holds '/b/', which must be written as /b",
        ]),
        (HEAD + "[image.names]\nel9 = 7\n", [
            "image.names[el9] must be a path or a table of one path for each architecture, not int"
        ]),
        (HEAD + '[image.names.el9]\namd64 = "/x"\n', [
            "image.names 'el9': 'amd64' is no architecture as 'uname -m' spells it"
        ]),
        (HEAD + '[image.names]\nel9 = "/{os}/{arch}"\n', [
            "image.names 'el9': holds {os}, which is none of {arch}, {goarch}"
        ]),
        (HEAD + '[image.platforms]\nx = "el9/amd64"\n', [
            "image.platforms 'x': 'amd64' is no architecture as 'uname -m' spells it"
        ]),
        (HEAD + '[environment]\nkeep = ["A-B", "*"]\n', [
            "environment.keep holds 'A-B', which is no name of a variable",
            "environment.keep holds '*', which is no name of a variable",
        ]),
        (HEAD + '[environment.set]\n"A-B" = "x"\n', ["environment.set holds 'A-B', which is no name of a variable"]),
        (HEAD + '[cvmfs]\nrepositories = ["atlas"]\n', [
            "cvmfs.repositories holds 'atlas', which is no full name of a repository"
        ]),
        (HEAD + '[[bind.default]]\ntarget = "/x"\n', ["bind.default[0].source is missing"]),
        (HEAD + '[[bind.default]]\nsource = "x"\n', [
            "bind.default[0]: target must be an absolute path"
        ]),
        (HEAD + '[[bind.default]]\nsource = "x"\ntarget = "/x"\n', [
            "bind.default holds source 'x', which must be an absolute path"
        ]),
        (HEAD + '[[bind.default]]\nsource = "/x"\norigin = "me"\n', ["bind.default[0] has no field 'origin'"]),
        (HEAD + '[[bind.default]]\nsource = "/x"\nmode = "rw"\n', ["bind.default[0] has no field 'mode'"]),
        (HEAD + '[host.network_file_systems]\n"/x" = "1"\n', [
            "host.network_file_systems[/x] must be a number, not str"
        ]),
        (HEAD + '[lock]\n"image.name" = "error"\n', [
            "lock.image.name is no key of policy; did you mean image.names?"
        ]),
        (HEAD + '[lock]\n"image.names" = "no"\n', ["lock.image.names must be one of error, warning, not 'no'"]),
        (HEAD + "lock = 1\n", ["lock must be a table of keys"]),
        (HEAD + '[remove]\n"image.names" = ["x"]\n', ["remove.image.names is no list of policy"]),
        (HEAD + '[remove]\n"bind.default" = "x"\n', ["remove.bind.default must be a list of names"]),
        (HEAD + "remove = 1\n", ["remove must be a table of keys"]),
    ],
    ids=lambda value: re.sub(r"\W+", "-", value)[11:50] if isinstance(value, str) else "",
)  # fmt: skip
def test_bad_values(write, text, expected):
    """What is wrong is told with its key, and the file as its origin."""
    path = write("site.toml", text)

    assert [(message, path) for message in expected] == faults(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD + '[lock]\n"image.names" = "error"\n', "lock cannot be set by the layer experiment"),
        (HEAD + '[trace]\ndirectories = ["/x"]\n', "trace.directories cannot be set by the layer experiment"),
        (HEAD + '[runtime]\ntmpdir = "/x"\n', "runtime.tmpdir cannot be set by the layer experiment"),
    ],
)
def test_key_in_a_layer_that_may_not_set_it(write, text, expected):
    """What is the site's alone is refused from an experiment."""
    path = write("vo.toml", text)

    assert [(expected, path)] == faults(experiment=path)


def test_all_problems_of_all_files(write):
    """One error holds everything: of every file, of the options, and what could not be found."""
    site = write("site.toml", "version = 1\n[image]\nnme = 1\n[gpu]\nuse = [7]\n")
    drop_in = write("site.d/a.toml", "version = 1\n[x\n")
    found = faults(site, ["atlsa", write("vo.toml", "version = 3\n")], operator=["y"])

    assert ["--experiment", site, site, drop_in, write("vo.toml", ""), "--set"] == [origin for _, origin in found]
    assert "there is no profile 'atlsa'; did you mean atlas?" == found[0][0]
    assert found[3][0].startswith(f"site policy {drop_in} cannot be read: it is not TOML: ")


def test_unreadable(write, tmp_path):
    """A file that is not there, no text, no plain file or too large is refused."""
    (tmp_path / "directory.toml").mkdir()
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "link.toml").symlink_to("/no/such")
    bad = {
        str(tmp_path / "none.toml"): "No such file or directory",
        str(tmp_path / "directory.toml"): "Is a directory",
        str(tmp_path / "fifo.toml"): "it is no plain file",
        str(tmp_path / "link.toml"): "No such file or directory",
        write("binary.toml", b"version = 1 # \xff\n"): "it is not TOML: 'utf-8' codec can't decode byte",
        write("deep.toml", "version = 1\n[image]\nnames = " + "[" * 3000): "it is not TOML: ",
        write("large.toml", "#" * 1_000_001): "it has 1000001 bytes, more than 1000000",
    }
    for path, reason in bad.items():
        ((message, origin),) = faults(path)

        assert path == origin
        assert message.startswith(f"site policy {path} cannot be read: {reason}")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o622], ids=oct)
def test_writable_by_others(write, mode):
    """A file that others could have written is refused."""
    path = write("site.toml", SITE, mode)

    assert [
        (f"site policy {path} cannot be read: others than its owner may write it (mode {mode:04o})", path)
    ] == faults(path)


def test_owned_by_others(write, mocker):
    """A file of another user is refused, but for root's."""
    path = write("site.toml", SITE)
    mocker.patch("wlcg_isolate.policy.files.os.geteuid", return_value=os.geteuid() + 1)
    owner = os.stat(path).st_uid

    if owner == 0:
        assert ("/cvmfs",) == load_policy(path).image_allowed_roots
    else:
        assert f"it belongs to user {owner}, who is neither root nor this user" in faults(path)[0][0]


def test_silent_file_system(write, mocker):
    """A file that never answers is a problem like any other."""
    path = write("site.toml", SITE)
    mocker.patch("wlcg_isolate.policy.files.within", return_value=None)
    drop_ins = path.removesuffix(".toml") + ".d"

    assert [
        (f"policy in {drop_ins} cannot be read: no answer within 60 s", drop_ins),
        (f"site policy {path} cannot be read: no answer within 60 s", path),
    ] == faults(path)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777], ids=oct)
def test_drop_ins_that_others_can_take_away(write, tmp_path, mode):
    """Who can write the directory of drop-ins can remove a limit from it: it is held to what files are held to."""
    site = write("site.toml", SITE)
    write("site.d/limits.toml", HEAD)
    (tmp_path / "site.d").chmod(mode)
    reason = f"others than its owner may write it (mode {mode:04o})"

    assert [(f"policy in {tmp_path}/site.d cannot be read: {reason}", f"{tmp_path}/site.d")] == faults(site)


def test_drop_ins_that_cannot_be_listed(write, tmp_path, mocker):
    """Drop-ins that may be there and cannot be seen are a problem, not none."""
    site = write("site.toml", SITE)
    (tmp_path / "site.d").mkdir()
    mocker.patch("wlcg_isolate.policy.files.os.listdir", side_effect=PermissionError(13, "Permission denied"))

    assert [(f"policy in {tmp_path}/site.d cannot be read: Permission denied", f"{tmp_path}/site.d")] == faults(site)


def test_experiment_file_that_cannot_be_seen(write, mocker):
    """Neither is an experiment's file beside the site's that nobody can look for."""
    site = write("site.toml", HEAD)
    mocker.patch("wlcg_isolate.policy.files.os.lstat", side_effect=PermissionError(13, "Permission denied"))
    ((message, _),) = faults(site, "alice")

    assert message.endswith("/experiments/alice.toml cannot be read: Permission denied")


def test_name_that_is_no_path():
    """A name that no file can have is refused as one that has none."""
    assert {"a\0b.toml", "a\0b.d"} == {origin for _, origin in faults("a\0b.toml")}


@pytest.mark.parametrize("text", ["a" + ".a" * 30_000, "lock" + '."a"' * 30_000, "['x'" + ".'x'" * 30_000 + "]\n#"])
def test_key_of_many_parts(write, text):
    """A key that would take the parser all memory is refused before."""
    ((message, _),) = faults(write("site.toml", f"{HEAD}{text} = 1\n"))

    assert message.endswith("it is not TOML: line 2 has a key of more than 100 parts")


def test_dots_in_text(write):
    """Dots in text and remarks are no parts of keys."""
    dots = "a." * 200
    path = write("site.toml", f'{HEAD}image.names."x" = "/{dots}\\"{dots}" # {dots}\n# {dots}\n')

    assert {"x": f'/{dots}"{dots}'} == dict(load_policy(path).image_names)


@pytest.mark.parametrize("key", ["version", "lock.image.names", "image.allowed_roots", "payload.limit_seconds"])
def test_number_of_many_digits(write, key):
    """A number that Python does not even print is refused like any other."""
    text = f"{key} = 0x{'f' * 20_000}\n"
    ((message, _),) = faults(write("site.toml", text if key == "version" else HEAD + text))

    assert message.startswith(key)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[lock]\n"gpu.use" = "error"\ngpu.use = "warning"\n', "lock.gpu.use"),
        ('[remove]\n"bind.default" = ["a"]\nbind.default = ["b"]\n', "remove.bind.default"),
    ],
)
def test_given_twice(write, text, key):
    """Two spellings of one key in a file are a mistake: neither is dropped in silence."""
    assert [f"{key} is given twice"] == [message for message, _ in faults(write("site.toml", HEAD + text))]


def test_operator_says_it_twice():
    """Of two words of an operator for one key, lists add up, and the later choice wins visibly."""
    words = [f'bind.default=[{{source = "/{name}"}}]' for name in "ab"]
    policy = load_policy(operator=[*words, "container.workdir=/a", "container.workdir=/b"])
    row = next(row for row in explain(policy) if row.key == "container.workdir")

    assert ["/a", "/b", "/cvmfs"] == [bind.source for bind in policy.bind_default]
    assert ("/b", ["/srv", "/a"]) == (policy.container_workdir, [said["value"] for said in row.overrode])


@pytest.mark.parametrize(("site", "origin"), [("", "--site")])
def test_empty_name(site, origin):
    """An empty name is no file, and not the same as none."""
    assert [("no file is named", origin)] == faults(site)


#: Bytes that mean something in TOML, and some that do not.
_PIECES = [
    *(chr(c).encode() for c in b"[]{}\"'=.,#\n\\ 019-+tf"),
    b"[[",
    b"nan",
    b"inf",
    b"1e999",
    b"\xff",
    b"\0",
    b"[image]",
]


def mutate(text, rng):
    """Change a file in a few places."""
    data = bytearray(text)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        begin = rng.randrange(len(data) + 1)
        length, new = rng.choice(
            [
                (rng.randint(1, 20), b""),
                (0, rng.choice(_PIECES)),
                (1, bytes([rng.randrange(256)])),
                (0, bytes(data[begin : begin + rng.randint(1, 60)])),
                (len(data), b""),
            ]
        )
        data[at : at + length] = new

    return bytes(data)


def fuzz(path, count, seed):
    """Load mutated files; count those that are good, and list problems without origin or advice."""
    rng = random.Random(seed)
    texts = [SITE.encode(), EXPERIMENT.encode()]
    good, strange = 0, []
    for _ in range(count):
        path.write_bytes(mutate(rng.choice(texts), rng))
        try:
            load_policy(path)
            good += 1
        except PolicyError as e:
            strange += [problem for problem in e.problems if problem.origin != str(path) or not problem.advice]

    return good, strange


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just("/x")
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["source", "target", "name", "x86_64", "/x"]) | st.text(max_size=3), inner)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("key", [*RULES, "lock", "remove"])
@given(value=VALUES)
def test_any_value(key, value):
    """Any value of any key is taken or refused with the key in the message, and nothing else happens."""
    section, _, name = key.partition(".")
    layer, problems = layer_from_dict({"version": 1, section: {name: value} if name else value}, "site", "file")

    assert all(problem.message.startswith(key) for problem in problems)
    assert problems or key not in RULES or key in layer.values


def test_mutated_files(tmp_path):
    """Mutated files give typed errors only (the long version: make soak)."""
    path = tmp_path / "site.toml"
    path.touch(0o644)

    good, strange = fuzz(path, 500, 1)

    assert 0 < good < 500
    assert [] == strange


@pytest.mark.soak
def test_ten_thousand_mutated_files(tmp_path):
    """Ten thousand mutated files give typed errors only."""
    path = tmp_path / "site.toml"
    path.touch(0o644)

    good, strange = fuzz(path, 10_000, 2)

    assert 0 < good < 10_000
    assert [] == strange

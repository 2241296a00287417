"""
The form of the shipped profiles and the example files, and how they go together.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import wlcg_isolate
from wlcg_isolate import Bind, Policy
from wlcg_isolate._values import IDENTIFIER, SYSTEM_DIRECTORIES, path_fault
from wlcg_isolate.binds import EXPOSING
from wlcg_isolate.environment import RESERVED, SHELL_OWNED
from wlcg_isolate.platforms import canonical_architecture, canonical_os, parse_platform

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXPERIMENTS = ["alice", "atlas", "cms", "dirac", "lhcb", "osg"]
PROFILES = Path(wlcg_isolate.__file__).resolve().parent / "policy" / "profiles"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

FILES = {f"profile-{name}": PROFILES / f"{name}.toml" for name in EXPERIMENTS} | {
    f"{path.parent.name}-{path.stem}": path for path in sorted(EXAMPLES.glob("*/*.toml"))
}
SITES = [name for name in FILES if name.startswith("sites-")]


def load(name):
    """Read a file."""
    return tomllib.loads(FILES[name].read_text(encoding="utf-8"))


def profile(name):
    """Read a shipped profile."""
    return load(f"profile-{name}")


# --- form


def is_text(value):
    """Tell whether a value is text that says something."""
    return isinstance(value, str) and value.strip() == value != ""


def is_path(value):
    """Tell whether a value is an absolute path, perhaps with the architecture in it."""
    return is_text(value) and path_fault(value) is None and not re.search(r"\{(?!(arch|goarch|uid|state)\})", value)


def is_seconds(value):
    """Tell whether a value is a time."""
    return isinstance(value, float) and 0 < value <= 1_000_000


def list_of(check, *, empty=False):
    """Make a check of a list without repetitions."""
    return lambda value: isinstance(value, list) and all(map(check, value)) and len({*value}) == len(value) > -empty


def one_of(*words):
    """Make a check of a word."""
    return lambda value: value in words


def map_of(key, check):
    """Make a check of a table."""
    return lambda value: isinstance(value, dict) and value != {} and all(key(k) and check(v) for k, v in value.items())


def is_bool(value):
    """Tell whether a value is true or false."""
    return isinstance(value, bool)


def is_pattern(value):
    """Tell whether a value is a variable's name or a pattern of names."""
    return is_text(value) and re.fullmatch(r"[A-Za-z_*][A-Za-z0-9_*]*", value) is not None


def is_runtime(value):
    """Tell whether a value is a program to look for."""
    return is_path(value) or (is_text(value) and re.fullmatch(r"[a-z]+", value) is not None)


def is_image(value):
    """Tell whether a value is an image's path, or one for each architecture."""
    return is_path(value) or map_of(lambda key: canonical_architecture(key) == key, is_path)(value)


def is_repository(value):
    """Tell whether a value is a fully qualified repository name."""
    return is_text(value) and re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?){2,}", value)


def is_alias(key):
    """Tell whether a key of the image map is a canonical system, or no system at all."""
    return is_text(key) and canonical_os(key) in (None, key)


def is_bind(value):
    """Tell whether a value is a bind."""
    checks = {"name": is_text, "source": is_path, "target": is_path, "writable": is_bool, "required": is_bool}

    return set(checks) - set(value) <= {"name"} and all(checks[key](item) for key, item in value.items())


LAYERS = one_of("overlay", "underlay")
GPUS = one_of("nvidia", "amd")

FORM = {
    "version": lambda value: value == 1 and not isinstance(value, bool),
    "image.allowed_roots": list_of(is_path),
    "image.names": map_of(is_alias, is_image),
    "image.platforms": map_of(is_text, lambda value: str(parse_platform(value)) == value),
    "environment.keep": list_of(is_pattern),
    "environment.drop": list_of(is_pattern),
    "environment.set": map_of(lambda key: IDENTIFIER.match(key) is not None, is_text),
    "cvmfs.repositories": list_of(is_repository, empty=True),
    "container.workdir": lambda value: is_path(value) and value.count("/") == 1,
    "runtime.search": list_of(is_runtime),
    "runtime.allow_setuid": is_bool,
    "runtime.layers": list_of(LAYERS, empty=True),
    "runtime.tmpdir": is_path,
    "runtime.cachedir": is_path,
    "runtime.probe_seconds": is_seconds,
    "runtime.start_seconds": is_seconds,
    "host.touch_seconds": is_seconds,
    "host.network_file_systems": map_of(is_path, is_seconds),
    "bind.default": lambda value: isinstance(value, list) and all(map(is_bind, value)),
    "bind.forbidden_sources": list_of(is_path),
    "bind.forbidden_targets": list_of(is_path),
    "bind.read_only": list_of(is_path),
    "isolation.nesting": lambda value: isinstance(value, bool),
    "gpu.allowed": list_of(GPUS, empty=True),
    "gpu.use": list_of(GPUS, empty=True),
    "payload.grace_seconds": is_seconds,
    "payload.limit_seconds": is_seconds,
    "trace.directories": list_of(is_path),
}
FORM["lock"] = map_of(lambda key: key in FORM and "." in key, one_of("error", "warning"))
FORM["remove"] = map_of(lambda key: key in ("bind.default", "environment.keep", "cvmfs.repositories"), list_of(is_text))

#: Limits above what is built in would be passed over.
BUILT_IN = {
    "runtime.probe_seconds": 20.0,
    "runtime.start_seconds": 300.0,
    "host.touch_seconds": 20.0,
    "payload.grace_seconds": 10.0,
}


def keys_of(data):
    """Spread a file's values over their dotted keys."""
    return {
        key: value
        for section, table in data.items()
        for key, value in (
            [(section, table)] if section in FORM else [(f"{section}.{name}", item) for name, item in table.items()]
        )
    }


def faults(data):
    """List what does not have the form."""
    return [key for key, value in keys_of(data).items() if key not in FORM or not FORM[key](value)]


def test_all_files_are_there():
    """Every experiment has its profile, and nothing else lies beside them; the examples are complete."""
    assert EXPERIMENTS == sorted(path.stem for path in PROFILES.iterdir() if path.suffix == ".toml")
    assert ["el9-grid", "hpc-single-files", "nested-pilot", "setuid-automount"] == [
        name.partition("-")[2] for name in SITES
    ]
    assert "experiments-atlas-at-el9-grid" in FILES


@pytest.mark.parametrize("name", list(FILES))
def test_form(name):
    """A file says its version, and holds only what policy knows, in the right types."""
    data = load(name)

    assert 1 == data.get("version")
    assert [] == faults(data)


@pytest.mark.parametrize("name", list(FILES))
def test_limits_are_limits(name):
    """No file asks for a longer time than is built in."""
    keys = keys_of(load(name))

    assert {} == {key: keys[key] for key, most in BUILT_IN.items() if keys.get(key, 0) > most}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version = 2", ["version"]),
        ("version = true", ["version"]),
        ("[image]\nname = 'x'", ["image.name"]),
        ("[images]\nnames = {}", ["images.names"]),
        ("[image.names]\nrhel9 = '/x'", ["image.names"]),
        ("[image.names]\nel9 = 'x'", ["image.names"]),
        ("[image.names]\nel9 = '/x/{machine}'", ["image.names"]),
        ("[image.names.el9]\namd64 = '/x'", ["image.names"]),
        ("[image.platforms]\nx = 'rhel9'", ["image.platforms"]),
        ("[environment]\nkeep = ['A', 'A']", ["environment.keep"]),
        ("[environment]\nkeep = ['A B']", ["environment.keep"]),
        ("[environment]\nkeep = []", ["environment.keep"]),
        ("[environment.set]\n'A-B' = 'x'", ["environment.set"]),
        ("[cvmfs]\nrepositories = ['/cvmfs/cms.cern.ch']", ["cvmfs.repositories"]),
        ("[cvmfs]\nrepositories = ['cern.ch']", ["cvmfs.repositories"]),
        ("[container]\nworkdir = '/a/b'", ["container.workdir"]),
        ("[runtime]\nprobe_seconds = 20", ["runtime.probe_seconds"]),
        ("[[bind.default]]\nsource = '/a'\ntarget = '/a'\nwritable = true", ["bind.default"]),
        ("[lock]\n'image.name' = 'error'", ["lock"]),
        ("[lock]\n'image.names' = 'no'", ["lock"]),
        ("[remove]\n'image.names' = ['el9']", ["remove"]),
    ],
)
def test_form_sees(text, expected):
    """The check of the form finds each kind of fault."""
    assert expected == faults(tomllib.loads(text))


# --- how they fit together


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_profiles_leave_limits_to_sites(name):
    """A profile narrows no limit but what never passes: any site file goes with it."""
    limits = "image.allowed_roots runtime.allow_setuid runtime.layers host.network_file_systems bind.forbidden_sources"
    limits += " bind.forbidden_targets bind.read_only gpu.allowed payload.limit_seconds"

    assert set() == set(keys_of(profile(name))) & {*limits.split(), *BUILT_IN}


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_profiles_break_no_lock(site, experiment):
    """No profile is refused by a lock of an example site."""
    locks = load(site).get("lock", {})

    assert [] == [key for key in keys_of(profile(experiment)) if locks.get(key) == "error"]


@pytest.mark.parametrize("name", list(FILES))
def test_values_are_usable(name):
    """What this library itself refuses is not in a file: binds, working directory, variables."""
    keys = keys_of(load(name))
    binds = [Bind(**{k: v for k, v in bind.items() if k != "name"}) for bind in keys.get("bind.default", [])]
    policy = Policy(bind_default=binds, container_workdir=keys.get("container.workdir", "/srv"))

    assert [] == [b.target for b in policy.bind_default if b.target in SYSTEM_DIRECTORIES]
    assert [] == [b.source for b in policy.bind_default if b.source in EXPOSING]
    assert [] == [n for n in keys.get("environment.set", {}) if n in RESERVED or n in SHELL_OWNED]


@pytest.mark.parametrize(
    ("name", "workdir"), [("atlas", "/srv"), ("cms", "/srv"), ("osg", "/srv"), ("alice", "/workdir")]
)
def test_workdirs(name, workdir):
    """The working directory is where the experiment expects it."""
    assert workdir == profile(name)["container"]["workdir"]


def test_example_experiment_meets_the_site():
    """The experiment's file for a site differs from it, and is overruled, as its comments say."""
    site, experiment = keys_of(load("sites-el9-grid")), keys_of(load("experiments-atlas-at-el9-grid"))
    targets = {bind["target"] for bind in site["bind.default"]}

    assert "warning" == site["lock"]["runtime.search"]
    assert site["runtime.search"] != experiment["runtime.search"]
    assert site["host.touch_seconds"] > experiment["host.touch_seconds"]
    assert site["payload.limit_seconds"] > experiment["payload.limit_seconds"]
    assert [True] == [bind["target"] in targets for bind in experiment["bind.default"]]
    assert experiment["image.names"]["el9"] != profile("atlas")["image"]["names"]["el9"]
    assert set(experiment["remove"]["bind.default"]) <= {
        bind.get("name") for bind in profile("atlas")["bind"]["default"]
    }
    assert not set(experiment["remove"]["bind.default"]) & {bind.get("name") for bind in site["bind.default"]}


@pytest.mark.parametrize("name", list(FILES))
def test_no_hosts_nor_people(name):
    """Only reserved names of hosts stand in a file, and no address of a person."""
    text = FILES[name].read_text(encoding="utf-8")

    assert [] == re.findall(r"[\w.]+@[\w.]+", text)
    assert [] == [host for host in re.findall(r"https?://([\w.-]+)", text) if not host.endswith(".example")]

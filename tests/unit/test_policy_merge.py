"""
Layers on each other: who wins, what a lock does, and what is told of it.
"""

from __future__ import annotations

import time

import pytest

from wlcg_isolate import Bind, Policy, PolicyError
from wlcg_isolate.policy.explain import explain
from wlcg_isolate.policy.layers import Layer
from wlcg_isolate.policy.merge import layers_of, merge


def site(lock=None, **values):
    """Make a site's layer, keys written with two underscores for the dot."""
    return layer("site", "site.toml", lock=lock, **values)


def layer(name, file=None, lock=None, remove=None, **values):
    """Make a layer."""
    dotted = {key.replace("__", "."): value for key, value in values.items()}
    return Layer(name=name, file=file, values=dotted, locks=lock or {}, remove=remove or {})


def row(policy, key):
    """Explain one key."""
    return next(found for found in explain(policy) if found.key == key)


def bind(source, target=None, **more):
    """Make a bind that a layer wants."""
    return Bind(source=source, target=target or source, **{"required": False, **more})


#: Key, what the site says, what the experiment says, who wins.
CONFLICTS = {
    "limit": ("image.allowed_roots", ("/cvmfs/site",), ("/cvmfs",), ("/cvmfs/site",)),
    "choice": ("container.workdir", "/scratch", "/work", "/work"),
    "list": ("bind.default", (bind("/site/data", "/data"),), (bind("/vo/data", "/data"),), ("/site/data",)),
}


def value_of(policy, key):
    """Return a key's value; of binds, the sources that a file named."""
    value = getattr(policy, key.replace(".", "_", 1))
    if key == "bind.default":
        return tuple(found.source for found in value if found.origin != "built-in")

    return value


@pytest.mark.parametrize("kind", CONFLICTS)
def test_conflict(kind):
    """A limit is the site's, a choice the experiment's, and the first bind on a target wins."""
    key, ours, theirs, expected = CONFLICTS[kind]
    policy = merge([Layer(name="site", file="s", values={key: ours}), Layer(name="experiment", values={key: theirs})])

    assert expected == value_of(policy, key)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("limit", "image.allowed_roots: experiment (e) asks for /cvmfs, not allowed here"),
        ("choice", None),
        ("list", "bind.default: experiment (e) asks for /vo/data at /data, where /site/data of site (s) comes first"),
    ],
)
def test_conflict_is_told(kind, told):
    """What loses is in the warnings, but for a choice, and in explain with its layer and file."""
    key, ours, theirs, _ = CONFLICTS[kind]
    policy = merge(
        [Layer(name="site", file="s", values={key: ours}), Layer(name="experiment", file="e", values={key: theirs})]
    )
    layers = [(said["layer"], said["file"]) for said in row(policy, key).overrode if said["layer"] != "built-in"]

    assert ([told] if told else []) == list(policy.warnings)
    assert [("site", "s") if kind == "choice" else ("experiment", "e")] == layers


@pytest.mark.parametrize("kind", CONFLICTS)
def test_lock_warns(kind):
    """With a lock that warns, the site's value stays, and explain shows the lock and what it kept out."""
    key, ours, theirs, _ = CONFLICTS[kind]
    policy = merge(
        [
            Layer(name="site", file="s", values={key: ours}, locks={key: "warning"}),
            Layer(name="experiment", file="e", values={key: theirs}),
        ]
    )
    (warning,) = policy.warnings
    found = row(policy, key)

    assert (("/site/data",) if kind == "list" else ours) == value_of(policy, key)
    assert warning.startswith(f"{key}: experiment (e) asks for ")
    assert warning.endswith(", and the value is locked by site (s)")
    assert ("lock", "s") == (found.layer, found.file)
    assert {"layer": "experiment", "file": "e"}.items() <= found.overrode[-1].items()


@pytest.mark.parametrize("kind", CONFLICTS)
@pytest.mark.parametrize("name", ["experiment", "experiment-site", "request", "operator"])
def test_lock_refuses(kind, name):
    """With a lock that is an error, every later layer that disagrees is refused, and all are named."""
    key, ours, theirs, _ = CONFLICTS[kind]
    layers = [
        Layer(
            name="site", file="s", values={key: ours, "gpu.allowed": ()}, locks={key: "error", "gpu.allowed": "error"}
        ),
        Layer(name=name, file="x", values={key: theirs, "gpu.allowed": ("amd",)}),
    ]
    with pytest.raises(PolicyError) as caught:
        merge(layers)

    assert [("policy-locked", "x")] * 2 == [(problem.kind, problem.origin) for problem in caught.value.problems]
    assert [key, "gpu.allowed"] == [problem.message.partition(":")[0] for problem in caught.value.problems]


@pytest.mark.parametrize("kind", CONFLICTS)
def test_lock_kept(kind):
    """Who asks for what a lock holds is no conflict."""
    key, ours, _, _ = CONFLICTS[kind]
    policy = merge(
        [
            Layer(name="site", values={key: ours}, locks={key: "error"}),
            Layer(name="experiment", values={key: ours}),
        ]
    )

    assert () == policy.warnings


def test_lock_without_value():
    """A site can lock what is built in."""
    with pytest.raises(PolicyError):
        merge([site(lock={"container.workdir": "error"}), layer("request", container__workdir="/x")])


def test_lock_holds_a_list_together():
    """Of a locked list nothing can be taken out either."""
    policy = merge(
        [
            site(bind__default=(bind("/a"),), lock={"bind.default": "warning"}),
            layer("experiment", remove={"bind.default": ("/a",)}),
        ]
    )

    assert ["/a", "/cvmfs"] == [found.source for found in policy.bind_default]
    assert ["bind.default: experiment removes /a, and the value is locked by site (site.toml)"] == list(policy.warnings)


def test_lock_holds_what_a_list_asks_for():
    """Of a locked list no bind becomes required either; one that asks for less is no conflict."""
    locked = site(bind__default=(bind("/a"),), lock={"bind.default": "warning"})
    asks = layer("experiment", bind__default=(bind("/a", required=True),))
    policy = merge([locked, asks])

    assert [("/a", False), ("/cvmfs", False)] == [(found.source, found.required) for found in policy.bind_default]
    assert ["bind.default: experiment asks for /a, and the value is locked by site (site.toml)"] == list(
        policy.warnings
    )
    assert () == merge([locked, layer("experiment", bind__default=(bind("/a"),))]).warnings


def test_lock_holds_what_is_built_in():
    """A locked list keeps what is built in as it is."""
    policy = merge(
        [site(lock={"bind.default": "warning"}), layer("request", bind__default=(bind("/cvmfs", required=True),))]
    )

    assert ([("/cvmfs", False)], 1) == ([(b.source, b.required) for b in policy.bind_default], len(policy.warnings))


def test_replacement():
    """A layer can put its own bind in the place of one that it takes out."""
    ours = layer("experiment", bind__default=(bind("/b", "/d"),), remove={"bind.default": ("/d",)})
    policy = merge([site(bind__default=(bind("/a", "/d"),)), ours])

    assert (["/b", "/cvmfs"], ()) == ([found.source for found in policy.bind_default], policy.warnings)


def test_many_items():
    """The time for a list grows with its length, not faster."""
    items = tuple(bind(f"/{i}") for i in range(6000))
    begin = time.process_time()
    policy = merge([site(bind__default=items), layer("experiment", bind__default=items)])

    assert (6001, True) == (len(policy.bind_default), time.process_time() - begin < 2)


def test_order_of_layers():
    """Layers speak in their own order, whatever order they come in."""
    names = ["site", "experiment", "experiment-site", "request", "operator"]
    layers = [layer(name, container__workdir=f"/{name}") for name in names]
    policy = merge(reversed(layers))
    found = row(policy, "container.workdir")

    assert ("/operator", "operator") == (policy.container_workdir, found.layer)
    assert ["built-in", *names[:-1]] == [said["layer"] for said in found.overrode]
    assert ["/srv", *(f"/{name}" for name in names[:-1])] == [said["value"] for said in found.overrode]


def test_site_and_operator_set_limits_freely():
    """A later site file and the operator may also widen a limit."""
    policy = merge(
        [
            site(payload__limit_seconds=100.0),
            layer("site", "site.d/10.toml", payload__limit_seconds=200.0),
            layer("experiment", payload__limit_seconds=50.0),
            layer("operator", payload__limit_seconds=300.0),
        ]
    )

    assert (300.0, ()) == (policy.payload_limit_seconds, policy.warnings)


def test_what_is_forbidden_adds_up():
    """Nobody, site and operator included, takes out what somebody forbade."""
    names = ["site", "experiment", "operator"]
    policy = merge(layer(name, bind__forbidden_sources=(f"/{name}",)) for name in names)

    assert ("/site", "/experiment", "/operator") == policy.bind_forbidden_sources


@pytest.mark.parametrize(
    ("key", "ours", "theirs", "overrode"),
    [
        ("environment.drop", ("A",), ("B",), []),
        ("bind.forbidden_sources", ("/a",), ("/a", "/b"), []),
        ("host.network_file_systems", {"/a": 5.0}, {"/b": 3.0}, []),
        ("host.network_file_systems", {"/a": 5.0}, {"/a": 3.0}, [{"/a": 5.0}]),
        ("image.allowed_roots", ("/a",), ("/a/b",), [["/a"]]),
        ("payload.limit_seconds", 5.0, 3.0, [5.0]),
    ],
)
def test_what_still_holds_was_not_overridden(key, ours, theirs, overrode):
    """What adds up to a limit loses nothing, and explain does not say so."""
    policy = merge([Layer(name="site", values={key: ours}), Layer(name="experiment", values={key: theirs})])

    assert overrode == [said["value"] for said in row(policy, key).overrode if said["layer"] == "site"]


def test_entries_of_a_choice():
    """Maps merge entry by entry, and each entry has its layer."""
    policy = merge(
        [
            site(image__names={"el8": "/a", "el9": "/b"}),
            layer("experiment", "e", image__names={"el9": {"x86_64": "/c"}, "el7": "/d"}),
        ]
    )
    found = row(policy, "image.names")

    assert {"el8": "/a", "el9": {"x86_64": "/c"}, "el7": "/d"} == dict(policy.image_names)
    assert [("site", ["el8"]), ("experiment", ["el9"]), ("experiment", ["el7"])] == [
        (said["layer"], list(said["value"])) for said in found.parts
    ]
    assert [{"layer": "site", "file": "site.toml", "value": {"el9": "/b"}}] == list(found.overrode)


def test_lists_keep_their_order_and_origin():
    """Items come in the order of the layers, those built in last, and each says who wanted it."""
    policy = merge([layer("experiment", "e", bind__default=(bind("/b"),)), site(bind__default=(bind("/a"),))])

    assert [("/a", "site (site.toml)"), ("/b", "experiment (e)"), ("/cvmfs", "built-in")] == [
        (found.source, found.origin) for found in policy.bind_default
    ]


@pytest.mark.parametrize("required", [True, False])
def test_same_bind_twice(required):
    """The same bind of two layers is one, and required when one of them cannot do without."""
    policy = merge(
        [site(bind__default=(bind("/a"),)), layer("experiment", bind__default=(bind("/a", required=required),))]
    )

    assert [("/a", required), ("/cvmfs", False)] == [(found.source, found.required) for found in policy.bind_default]
    assert () == policy.warnings


def test_built_in_bind_gives_way():
    """What is built in is the weakest on a target, and is no loss."""
    policy = merge([site(bind__default=(bind("/opt/cvmfs", "/cvmfs"),))])

    assert (["/opt/cvmfs"], ()) == ([found.source for found in policy.bind_default], policy.warnings)
    assert ["built-in"] == [said["layer"] for said in row(policy, "bind.default").overrode]


def test_removal():
    """A later layer takes items out by name, visibly, and a name that is not there is told."""
    policy = merge(
        [
            site(bind__default=(bind("/a", name="storage"), bind("/b"))),
            layer("experiment", remove={"bind.default": ("storage", "/cvmfs", "/none"), "environment.keep": ("TZ",)}),
        ]
    )

    assert ["/b"] == [found.source for found in policy.bind_default]
    assert "TZ" not in policy.environment_keep
    assert ["/a", "/cvmfs"] == [said["value"]["source"] for said in row(policy, "bind.default").overrode]
    assert ["bind.default: experiment removes '/none', which is not there"] == list(policy.warnings)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy(image_names={"a": "/b"}, payload_limit_seconds=5, bind_default=[], environment_keep=["TERM", "X"]),
        Policy(bind_default=[bind("/x"), bind("/cvmfs", origin="built-in")], bind_forbidden_sources=["/y"]),
        Policy(bind_default=[bind("/opt/cvmfs", "/cvmfs")]),
    ],
    ids=["built-in", "values", "lists", "replacement"],
)
def test_policy_made_by_hand(policy):
    """A policy that a program made stands for the site's layer, and merges to itself."""
    again = merge(layers_of(policy))

    assert [found.source for found in policy.bind_default] == [found.source for found in again.bind_default]
    assert sorted(policy.environment_keep) == sorted(again.environment_keep)
    assert (policy.image_names, policy.payload_limit_seconds) == (again.image_names, again.payload_limit_seconds)
    assert policy.bind_forbidden_sources == again.bind_forbidden_sources

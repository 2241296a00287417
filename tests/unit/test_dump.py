"""
A node's facts leave it without secrets and names, and come back whole.
"""

from __future__ import annotations

import json

import attrs
import pytest

from wlcg_isolate import HostError
from wlcg_isolate.host.dump import dump, load, read
from wlcg_isolate.host.nodefacts import BatchFact, MountFact, NodeFacts

NODE = NodeFacts(
    user_name="jdoe",
    home="/home/jdoe",
    free={"/home/jdoe": 5, "/tmp": None},
    mounts=[MountFact(target="/home", source="filer07.example.org:/vol/home", fs_type="nfs4")],
    batch=BatchFact(system="slurm", job_id="4711"),
)
SECRETS = {
    "BEARER_TOKEN": "eyJsecret",
    "X509_USER_PROXY": "/tmp/x509up_u4242",
    "USER": "jdoe",
    "PATH": "/home/jdoe/bin:/usr/bin",
    "LANG": "C.UTF-8",
}


@pytest.fixture
def dumped(facts, present):
    """Dump a node on which somebody can be recognised."""
    node = facts(
        hostname="wn042.site.example",
        uid=4242,
        gid=4200,
        environ=SECRETS,
        node=NODE,
        paths={"/home/jdoe/work": present("/home/jdoe/work"), "/run/user/4242": present("/run/user/4242")},
    )
    return node, dump(node)


@pytest.mark.parametrize(
    "word", ["secret", "jdoe", "4242", "4200", "4711", "wn042", "site.example", "filer07", "x509up"]
)
def test_nothing_recognisable(dumped, word):
    """Neither secrets nor persons, numbers of users, nodes and servers are in a dump."""
    assert word not in json.dumps(dumped[1])


def test_what_stays(dumped):
    """What a plan needs stays: names of variables, harmless values, paths, file systems."""
    _, data = dumped

    assert set(SECRETS) == set(data["environ"])
    assert ("C.UTF-8", "/home/somebody/bin:/usr/bin") == (data["environ"]["LANG"], data["environ"]["PATH"])
    assert "/home/somebody/work" in data["paths"]
    assert {"target": "/home", "source": "server:/vol/home", "fs_type": "nfs4", "options": []} == data["node"][
        "mounts"
    ][0]
    assert {"system": "slurm", "job_id": "(removed)"} == data["node"]["batch"]


def test_root_stays_root(facts):
    """Whether the pilot is root decides much, and names nobody."""
    data = dump(facts(uid=0, gid=0, node=attrs.evolve(NODE, user_name="root", home="/root")))

    assert (0, 0) == (data["uid"], data["gid"])


def test_short_names_are_not_hunted(facts):
    """A node called 'n1' does not change every path with these letters."""
    data = dump(facts(hostname="n1", node=None))

    assert ("node", True) == (data["hostname"], "/work" in data["paths"])


def test_round_trip(dumped):
    """What was dumped is read back as the same values."""
    _, data = dumped
    again = load(json.loads(json.dumps(data)))

    assert data == dump(again)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.update(format=99), "no dump of facts in format 1"),
        (lambda data: data.pop("format"), "no dump of facts in format 1"),
        (lambda data: data.pop("kernel"), "facts lacks 'kernel'"),
        (lambda data: data.update(more=1), "facts has no field 'more'"),
        (lambda data: data.update(uid="0"), "facts.uid must be int, not str"),
        (lambda data: data.update(uid=True), "facts.uid must be int, not bool"),
        (lambda data: data.update(runtimes={}), "facts.runtimes must be a list"),
        (lambda data: data.update(paths=[]), "facts.paths must be an object"),
        (lambda data: data["runtimes"].append(7), "facts.runtimes[1] must be an object"),
        (lambda data: data["node"].update(free={"/": "much"}), "facts.node.free./ must be int, not str"),
        (lambda data: data["environ"].update(A=None), "facts.environ.A must be str, not NoneType"),
    ],
)
def test_wrong_dump(dumped, change, reason):
    """What is no dump is refused with the place where it is wrong."""
    _, data = dumped
    data = json.loads(json.dumps(data))
    change(data)

    with pytest.raises(HostError) as caught:
        load(data, "node.json")
    assert reason in str(caught.value)
    assert ["facts-invalid"] == [problem.kind for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "is not JSON"), ("[]", "no dump of facts"), ("[" * 100000, "is not JSON"), (None, "No such file")],
)
def test_wrong_file(tmp_path, text, reason):
    """A file that cannot be read is named."""
    path = tmp_path / "facts.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(HostError, match=reason):
        read(path)


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: {"able": True, "facts": data}])
def test_file(dumped, tmp_path, wrap):
    """The whole of the doctor's answer is taken, and its part as well."""
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(wrap(dumped[1])))

    assert dumped[1] == dump(read(path))

"""
Whole environments of hosts: one variable more or less than written down is a failure.
"""

from __future__ import annotations

from wlcg_isolate import load_policy
from wlcg_isolate.environment import Place, Surroundings, decide_environment
from wlcg_isolate.variables import family_of


def decided(host, facts, request_for, present):
    """Decide on all variables of a host."""
    workdir = host["workdir"]
    files = {f"{workdir}/{name}": "file" for name in host["files"]}
    files.update({f"{workdir}/{name}": "directory" for name in host["directories"]})
    given = facts(environ=host["environ"], paths={path: present(path, kind=kind) for path, kind in files.items()})
    policy = load_policy(None, host["experiment"])
    around = Surroundings(facts=given, places=(Place(workdir, "/srv"),), trace_id="id-1")

    return decide_environment(request_for(keep_env=host["keep_env"]), policy, around)


def test_whole_environment(batch_host, facts, request_for, present):
    """Exactly what is written down arrives."""
    decisions, problems = decided(batch_host, facts, request_for, present)

    assert [] == problems
    assert {**batch_host["arrives"], "WLCG_ISOLATE_ID": "id-1"} == {
        d.name: d.value for d in decisions if d.value is not None
    }


def test_every_variable_is_decided(batch_host, facts, request_for, present):
    """Each variable has one decision, its reason and its rule."""
    decisions, _ = decided(batch_host, facts, request_for, present)
    names = [d.name for d in decisions]

    assert sorted(names) == names
    assert len(set(names)) == len(names)
    assert set() == set(batch_host["environ"]) - set(names)
    assert all(d.rule and d.reason for d in decisions)


def test_fixture(batch_host):
    """A host has at least 150 variables and says where they are from."""
    assert len(batch_host["environ"]) >= 150
    assert len(batch_host["sources"]) >= 4


def test_most_names_are_known(all_hosts):
    """The table knows what most variables of hosts are; the rest is dropped without it."""
    names = {name for host in all_hosts.values() for name in host["environ"]}
    unknown = sorted(name for name in names if family_of(name).rule == "default")

    assert len(names) > 850
    assert len(unknown) < 0.2 * len(names), unknown

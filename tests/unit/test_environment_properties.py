"""
What holds of the decision on variables whatever the host has.
"""

from __future__ import annotations

import string

import pytest
from hypothesis import given, strategies as st

from wlcg_isolate import Payload, Policy, Request, make_plan
from wlcg_isolate._families import FAMILIES
from wlcg_isolate._values import IDENTIFIER
from wlcg_isolate.environment import Place, Surroundings, decide_environment
from wlcg_isolate.errors import PlanError
from wlcg_isolate.variables import family_of, paths_in

#: What nothing of may pass, said once more without the table.
HARMFUL = ("APPTAINER", "SINGULARITY", "LD_", "BASH_FUNC_")

WORDS = tuple(word for family in FAMILIES for word in family.names.split())

text = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)
letters = st.text(string.ascii_uppercase + "_", max_size=4)
#: Names of the table, its patterns filled in, names that only resemble them, and any others.
names = st.one_of(
    st.builds(lambda word, filler: word.replace("*", filler), st.sampled_from(WORDS), letters),
    st.builds(lambda word, more: word.replace("*", "") + more, st.sampled_from(WORDS), text),
    text,
).filter(lambda name: name and "=" not in name)
places = st.sampled_from(("/scratch/job", "/scratch/job/x", "/scratch/job1", "/cvmfs/a", "/nosuch", "/tmp", "rel", ""))
values = st.one_of(text, places, st.lists(places, max_size=3).map(":".join), st.sampled_from(("C", "de_DE.UTF-8", "0")))
hosts = st.dictionaries(names, values, max_size=20)
patterns = st.lists(
    st.sampled_from(("A*", "S*", "SLURM_*", "LD_*", "TMPDIR", "SITE_NAME", "LC_ALL")), max_size=2, unique=True
)
policies = st.builds(
    lambda keep, secret, drop, profiles, gpus: Policy(
        environment_keep=keep, environment_secret=secret, environment_drop=drop, environment_profiles=profiles,
        gpu_use=gpus, gpu_allowed=gpus,
    ),
    *(patterns,) * 3,
    st.sampled_from(((), ("mpi",))),
    st.sampled_from(((), ("nvidia",))),
)  # fmt: skip


@pytest.fixture(scope="module")
def surroundings():
    """Make the surroundings of a host; there are few, so that each example costs little."""
    from wlcg_isolate.host import HostFacts

    def make(environ):
        facts = HostFacts(
            hostname="node", machine="x86_64", kernel="6.1", uid=1000, gid=1000, cwd="/", environ=environ, runtimes=()
        )
        return Surroundings(
            facts=facts, places=(Place("/scratch/job", "/srv"), Place("/cvmfs", "/cvmfs")), trace_id="id-1"
        )

    return make


def asks(environ, **more):
    """Make a request that asks for the whole host, as far as names can be asked for."""
    return Request(
        payload=Payload(command=("true",)),
        image="/i",
        workdir="/scratch/job",
        keep_env=tuple(filter(IDENTIFIER.match, environ)),
        **more,
    )


@given(hosts, policies)
def test_nothing_harmful_passes(surroundings, environ, policy):
    """Whatever host and policy say, and though the request asks for all, no harmful variable has a value."""
    decisions, _ = decide_environment(asks(environ), policy, surroundings(environ))
    passed = [d for d in decisions if d.value is not None and d.decision != "set"]

    assert [] == [d.name for d in passed if d.name.startswith(HARMFUL) or family_of(d.name).kind in ("never", "secret")]


@given(hosts, policies)
def test_complete(surroundings, environ, policy):
    """Every variable of host and request has exactly one decision, in order, with rule and reason."""
    own = {"MINE": "1", "SITE_NAME": "own"}
    decisions, _ = decide_environment(asks(environ, env=own), policy, surroundings(environ))
    found = [d.name for d in decisions]

    assert sorted({*found}) == found
    assert {*environ, *own} <= {*found}
    assert all(d.rule and d.reason for d in decisions)
    assert all((d.value is None) == (d.decision == "drop") for d in decisions)


@given(hosts, policies)
def test_values(surroundings, environ, policy):
    """What is kept has its value to the byte; what is translated holds the same number of paths, or says that not."""
    decisions, _ = decide_environment(asks(environ), policy, surroundings(environ))
    for d in decisions:
        if d.decision == "keep":
            assert environ[d.name] == d.value
        elif d.decision == "translate":
            assert paths_in(environ[d.name])
            assert environ[d.name] != d.value
            assert "/scratch/job/" not in f"{d.value}/"
            assert environ[d.name].count(":") == d.value.count(":") or "cannot be seen" in d.reason


@given(hosts, policies)
def test_same_every_time(surroundings, environ, policy):
    """A decision depends on what is given and on nothing else, such as what was decided before."""
    first = decide_environment(asks(environ), policy, surroundings(environ))
    decide_environment(asks({}), Policy(), surroundings(environ))

    assert first == decide_environment(asks(environ), policy, surroundings(dict(reversed(environ.items()))))


@given(hosts, policies)
def test_decided_twice(surroundings, environ, policy):
    """What a payload got passes to one inside it as it is, but for what belongs to the outer one."""
    # Inside, there is nothing to translate any more.
    outer, _ = decide_environment(asks(environ), policy, surroundings(environ))
    arrived = {d.name: d.value for d in outer if d.value is not None}
    inner = {d.name: d.value for d in decide_environment(asks(arrived), policy, surroundings(arrived))[0]}

    for d in outer:
        if d.decision == "keep" and family_of(d.name).kind not in ("path", "output", "scratch", "locale"):
            assert d.value == inner[d.name]


@pytest.mark.parametrize("name", ["A", "B" * 100])
def test_too_long(facts, request_for, name):
    """One string of more than 128 KiB with its name, its sign and its end is refused before anything starts."""
    most = 131_071 - len(name) - 1
    plan = make_plan(request_for(env={name: "x" * most}), Policy(), facts())
    with pytest.raises(PlanError) as caught:
        make_plan(request_for(env={name: "x" * most + "x"}), Policy(), facts())

    assert most == len(plan.payload_environ[name])
    assert [("variable-undeliverable", f"the variable {name}")] == [
        (problem.kind, problem.message.split(" is ")[0]) for problem in caught.value.problems
    ]

"""
What experiments test their profiles with: nodes, assertions, outcomes for mocks.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import wlcg_isolate
from wlcg_isolate import Bind, HostError, Outcome, Payload, PlanError, Policy, Request, testing
from wlcg_isolate._kinds import KINDS
from wlcg_isolate.mappings import panda
from wlcg_isolate.products import FLAVOURS, known_options, parse_banner
from wlcg_isolate.testing import program
from wlcg_isolate.testing.harness import Ran

NAME = "el9-userns-apptainer"


def request(**more):
    """Make a request for an image that every node has."""
    values = {"payload": Payload(command=("true",)), "image": "/cvmfs/images/el9", "workdir": "/scratch/job"}

    return Request(**{**values, **more})


@pytest.mark.serves("testing", "fake nodes: twelve kinds of worker nodes")
@pytest.mark.parametrize("name", testing.node_names())
def test_nodes(name):
    """Each node says what it is; it refuses or gives a plan with its own runtime, and nothing else."""
    node = testing.load_node(name)
    try:
        plan = node.plan(request(), Policy())
    except PlanError as error:
        assert {problem.kind for problem in error.problems} <= set(KINDS)
    else:
        assert plan.runtime.path in {fact.path for fact in node.facts.runtimes}
    assert node.about.endswith(".")


def test_unknown_node():
    """A wrong name is told the right ones."""
    with pytest.raises(ValueError, match=f"there is no node 'el8'; there are: .*{NAME}"):
        testing.load_node("el8")


def test_first_place_that_is_there():
    """The profile's places are looked at in its order, and what the node lacks is told."""
    policy = Policy(image_search=("/cvmfs/a/{repository}:{tag}", "/cvmfs/b/{repository}:{tag}"))
    plan = testing.load_node(NAME, missing="/cvmfs/a/*").plan(request(image="vo/os:1"), policy)

    assert "/cvmfs/b/vo/os:1" == plan.image.path
    assert [("/cvmfs/a/vo/os:1", "does not exist"), ("/cvmfs/b/vo/os:1", "taken")] == [
        *map(tuple, plan.image.looked_at)
    ]


def test_image_of_another_processor():
    """A profile that names an image for one processor is refused on a node of another."""
    policy = Policy(image_names={"os": {"x86_64": "/cvmfs/x/os"}})

    with testing.refused("image-other-architecture"):
        testing.load_node("aarch64").plan(request(image="os"), policy)


def test_what_is_there():
    """Directories and files are there as the test says, and nothing else is."""
    binds = tuple(Bind(source=f"/data/{name}", required=False) for name in ("d", "f", "gone", "none"))
    node = testing.load_node(NAME, directories=["/data/*"], files=["/data/f"], missing=["/data/gone"])
    plan = node.plan(request(binds=(*binds, Bind(source="/other", required=False))), Policy())

    testing.assert_bound(plan, "/data/d", source="/data/d", writable=False)
    assert "file" == node.facts_for(request(binds=binds), Policy()).paths["/data/f"].kind
    testing.assert_not_bound(plan, "/data/gone")
    testing.assert_not_bound(plan, "/other")


@pytest.mark.serves("testing", "assertion: this variable does not arrive")
def test_variables_of_a_plan():
    """What arrives and what does not is told with the reason."""
    policy = Policy(environment_keep=("RELEASE",))
    plan = testing.load_node(environ={"RELEASE": "7", "BEARER_TOKEN": "x"}).plan(request(), policy)

    testing.assert_arrives(plan, "RELEASE", "7")
    testing.assert_absent(plan, "BEARER_TOKEN", "NOSUCH")
    with pytest.raises(AssertionError, match=r"RELEASE arrives at the payload\nRELEASE: keep"):
        testing.assert_absent(plan, "RELEASE")
    with pytest.raises(AssertionError, match=r"BEARER_TOKEN does not arrive at the payload\nBEARER_TOKEN: drop"):
        testing.assert_arrives(plan, "BEARER_TOKEN")
    with pytest.raises(AssertionError, match=r"RELEASE arrives as '7', not as '8'"):
        testing.assert_arrives(plan, "RELEASE", "8")


def test_binds_of_a_plan():
    """A bind that is not as the test says is told with what it is."""
    binds = (Bind(source="/data/x", target="/x", required=False), Bind(source="/gone", target="/g", required=False))
    plan = testing.load_node(directories="/data/x").plan(request(binds=binds), Policy())

    for wrong, words in (
        ({"target": "/g"}, "nothing is bound at /g .*/gone"),
        ({"target": "/x", "source": "/y"}, "/x shows /data/x, not /y"),
        ({"target": "/x", "writable": True}, "/x cannot be written"),
    ):
        with pytest.raises(AssertionError, match=words):
            testing.assert_bound(plan, **wrong)
    with pytest.raises(AssertionError, match="/x is bound"):
        testing.assert_not_bound(plan, "/x")


def test_refused():
    """A refusal for other reasons, and none at all, are no refusal for this one."""
    good, bad = testing.load_node(), testing.load_node(images="/none")
    with testing.refused("image-missing"):
        bad.plan(request(), Policy())
    with testing.refused():
        bad.plan(request(), Policy())
    other = pytest.raises(AssertionError, match="refused for image-missing, not for workdir-missing")
    with other, testing.refused("workdir-missing"):
        bad.plan(request(), Policy())
    with pytest.raises(AssertionError, match="not refused for image-missing"), testing.refused("image-missing"):
        good.plan(request(), Policy())


def test_nothing_is_known_of_what_did_not_start():
    """A payload that was never started has neither lost a variable nor a bind."""
    ran = Ran(outcome=testing.make_outcome("image-missing"), workdir=Path("/work"))

    for assertion in (
        lambda: testing.assert_absent(ran, "BEARER_TOKEN"),
        lambda: testing.assert_arrives(ran, "HOME"),
        lambda: testing.assert_bound(ran, "/srv"),
        lambda: testing.assert_not_bound(ran, "/data"),
    ):
        with pytest.raises(AssertionError, match="nothing is known of the payload's"):
            assertion()


@pytest.mark.serves("testing", "outcomes of every kind for mocks")
@pytest.mark.parametrize("kind", KINDS)
def test_outcomes(kind):
    """An outcome of a kind has what the kind implies, and pilots can map it."""
    outcome = testing.make_outcome(kind)

    assert (kind, KINDS[kind].failed_by, KINDS[kind].retry) == (outcome.kind, outcome.failed_by, outcome.retry)
    assert isinstance(panda(outcome)[0], int)


def test_unknown_kind():
    """A mock cannot return what the library never does."""
    with pytest.raises(ValueError, match="there is no kind 'no-image'"):
        testing.make_outcome("no-image")


def send(run):
    """A pilot's code: what it makes of a payload."""
    outcome = run(request(), Policy())

    return "retry elsewhere" if outcome.retry == "other-node" else outcome.kind


@pytest.mark.serves("testing", "pytest-mock: a pilot's code without any runtime")
def test_with_mocker(mocker):
    """A pilot mocks the one call that it makes, and sees what it was called with."""
    outcome = testing.make_outcome("user-namespaces-disabled")
    run = mocker.patch.object(wlcg_isolate, "run_isolated", autospec=True, return_value=outcome)

    assert "retry elsewhere" == send(wlcg_isolate.run_isolated)
    run.assert_called_once_with(request(), Policy())
    assert isinstance(outcome, Outcome)


def test_policy_is_of_no_machine(mocker, monkeypatch, tmp_path):
    """A policy under test depends neither on the machine's site file nor on its variables."""
    site = tmp_path / "site.toml"
    site.write_text('version = 1\n[environment]\nkeep = ["OF_THE_SITE"]\n')
    monkeypatch.setenv("WLCG_ISOLATE_SITE", str(site))
    monkeypatch.setenv("WLCG_ISOLATE_EXPERIMENT", "atlas")
    mocker.patch("wlcg_isolate.policy.places.SITE_FILE", str(site))

    assert Policy() == testing.policy_of()
    assert {"OF_THE_SITE"} == {*testing.policy_of(site=site).environment_keep} - {*Policy().environment_keep}
    assert "/srv" == testing.policy_of("atlas").container_workdir


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_fake_knows_the_options_of_its_release(tmp_path, flavour):
    """The fake takes what the table says of its release, and what it lacks it refuses."""
    text = Path(program.write_fake(str(tmp_path), f"{flavour} version 3.6.0").path).read_text()
    product = parse_banner(f"{flavour} version 3.6.0")
    absent = (
        next(line for line in text.splitlines() if "refuse" in line and "()" not in line).split(")")[0].split(" | ")
    )

    assert [option for option in known_options() if not product.has(option)] == [word.strip() for word in absent]


@pytest.mark.parametrize(
    ("banner", "words"), [("docker 27", "no runtime answers"), ("apptainer version 1.4.5", "this machine has no")]
)
def test_fake_cannot_be_made(tmp_path, mocker, banner, words):
    """What the fake cannot be, or be made of, is told with the way out."""
    mocker.patch("shutil.which", return_value=None)
    with pytest.raises(HostError, match=words) as caught:
        program.write_fake(str(tmp_path), banner)

    assert "--real-runtime" in str(caught.value)


def test_names():
    """All public names load, and only these are listed."""
    assert sorted(testing.__all__) == testing.__all__ == dir(testing)
    assert all(name == getattr(testing, name).__name__ for name in testing.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nosuch'"):
        _ = testing.nosuch

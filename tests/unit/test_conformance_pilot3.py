"""
The environment as the PanDA pilot has it: what its cases ask for, with the same result or one that differences.md
explains.

Source: PanDAWMS/pilot3, pilot/user/atlas/{setup,common,container}.py; ATLASLocalRootBase, utilities/startContainer.sh.
"""

from __future__ import annotations

import shlex

import attrs
import pytest

from wlcg_isolate import Payload, load_policy, make_plan


@pytest.fixture
def planned(facts, request_for):
    """Plan under the profile of ATLAS, on a node that has what it needs."""

    def make(environ=None, **overrides):
        policy = attrs.evolve(load_policy(None, "atlas"), cvmfs_repositories=(), bind_default=())
        return make_plan(request_for(**overrides), policy, facts(environ=environ or {}))

    return make


def test_environment_of_the_queue(planned):
    """13, kept: variables of a queue arrive, and the clock is UTC."""
    found = planned(env={"KEY1": "VALUE1", "KEY2": "VALUE2"}).payload_environ

    assert {"KEY1": "VALUE1", "KEY2": "VALUE2", "TZ": "UTC"} == {name: found[name] for name in ("KEY1", "KEY2", "TZ")}


@pytest.mark.parametrize("value", ["$(date)", "`id`", "/a b:/c", "it's", "x;y", "new\nline"])
def test_values_are_no_code(planned, value):
    """13, 17, differs: a value is never code, and blanks do not end it."""
    plan = planned(env={"X": value, "PATH": value})

    assert (value, value) == (plan.payload_environ["X"], plan.payload_environ["PATH"])
    assert value == plan.environ[f"{plan.runtime.prefix}ENV_X"]
    release = next(word for word in shlex.split(plan.shell()) if word.startswith("WLCG_ISOLATE_RELEASE_0="))
    quoted = shlex.quote(value).replace("\n", """'"$wlcg_isolate_newline"'""")
    assert f"; export X={quoted}; " in release


#: What never reaches a payload of any kind; the pilot takes some away from user jobs only.
NEVER = (
    "LD_LIBRARY_PATH PYTHONPATH LD_PRELOAD SINGULARITYENV_PATH APPTAINERENV_LD_PRELOAD APPTAINERENV_X509_USER_PROXY "
    "PANDA_AUTH_TOKEN PANDA_AUTH_ORIGIN PANDA_AUTH_TOKEN_KEY OIDC_AUTH_TOKEN OIDC_REFRESHED_AUTH_TOKEN "
    "X509_USER_PROXY SSH_AUTH_SOCK ALRB_CONT_RUNPAYLOAD ALRB_CONT_OPTS DISPLAY HARVESTER_LD_LIBRARY_PATH"
).split()


@pytest.mark.parametrize("command", [("runGen-00-00-02",), ("Reco_tf.py",), ("python3", "transform.py")])
def test_never(planned, command):
    """17, differs: the host's software and the pilot's secrets are dropped for all kinds of jobs."""
    plan = planned(dict.fromkeys(NEVER, "leak"), payload=Payload(command=command))

    assert [] == [name for name, value in plan.payload_environ.items() if value == "leak"]


@pytest.mark.parametrize("name", ["APPTAINER_BIND", "APPTAINER_BINDPATH", "SINGULARITY_BIND", "SINGULARITY_BINDPATH"])
def test_binds_of_the_host(planned, name):
    """17, differs: a bind that the host asks for is a bind of the plan with its origin, and no variable of anybody."""
    plan = planned({name: "/nosuch/data"})

    assert not any(variable.endswith(("BIND", "BINDPATH")) for variable in (*plan.payload_environ, *plan.environ))
    assert [f"site (variable {name})"] == [bind.origin for bind in plan.binds if bind.source == "/nosuch/data"]


def test_names_are_whole(planned):
    """17, differs: the list of the wrapper is not anchored; here USER lets no MYUSER pass."""
    found = planned(
        {"USER": "atlas", "MYUSER": "x", "USERX": "x", "SITE_NAME": "S", "MY_SITE_NAME": "x"}
    ).payload_environ

    assert ("atlas", "S") == (found["USER"], found["SITE_NAME"])
    assert set() == {"MYUSER", "USERX", "MY_SITE_NAME"} & set(found)


def test_value_of_many_lines(planned):
    """17, differs: a line of a value makes no variable."""
    found = planned({"SITE_NAME": "here\nLD_PRELOAD=/evil.so\nX=1"}).payload_environ

    assert "here\nLD_PRELOAD=/evil.so\nX=1" == found["SITE_NAME"]
    assert set() == {"LD_PRELOAD", "X"} & set(found)


def test_arguments_stay(planned):
    """12, differs: nothing is moved between the words of a command."""
    command = ("sh", "-c", "export X509_USER_PROXY=/tmp/x509;run")

    assert command == planned(payload=Payload(command=command)).request.payload.command

"""
The payload's own credentials reach it by private copies, or not at all.
"""

from __future__ import annotations

import pytest

from wlcg_isolate import Credential, PlanError, Policy, RequestError, make_plan
from wlcg_isolate.host import PathFact


@pytest.fixture
def planned(facts, request_for, present):
    """Plan with credentials, on the good node with the files that are named."""

    def make(*credentials, environ=None, files=(), policy=None, looked=None, **overrides):
        paths = {path: present(path, kind="file") for path in files}
        given = facts(environ=environ or {}, paths={**paths, **(looked or {})})
        made = [Credential(variable=one) if isinstance(one, str) else one for one in credentials]
        return make_plan(request_for(credentials=made, **overrides), policy or Policy(), given)

    return make


def inside(plan, name):
    """Return where a copy is in the container."""
    return f"/srv/.wlcg-isolate-{plan.trace_id}/credentials/{name}"


@pytest.mark.parametrize(
    ("variable", "value", "name", "prefix"),
    [
        ("X509_USER_PROXY", "/tmp/x509up", "x509_user_proxy", ""),
        ("BEARER_TOKEN_FILE", "/run/user/1/bt_u1", "bearer_token_file", ""),
        ("KRB5CCNAME", "/tmp/krb5cc_1", "krb5ccname", ""),
        ("KRB5CCNAME", "FILE:/tmp/krb5cc_1", "krb5ccname", "FILE:"),
        ("MY_KEY_FILE", "/keys//mine", "my_key_file", ""),
    ],
)
def test_file(planned, variable, value, name, prefix):
    """A file is copied, and the variable names the copy."""
    path = value.removeprefix("FILE:").replace("//", "/")
    plan = planned(variable, environ={variable: value}, files=[path])
    (copy,) = plan.credentials

    assert (path, name) == (copy.source, copy.name)
    assert prefix + inside(plan, name) == plan.payload_environ[variable]


def test_named_file(planned):
    """A file that the request names is taken instead of the host's."""
    credential = Credential(variable="X509_USER_PROXY", source="/pilot/jobs/1/proxy")
    plan = planned(credential, environ={"X509_USER_PROXY": "/pilot/proxy"}, files=["/pilot/jobs/1/proxy"])

    assert ["/pilot/jobs/1/proxy"] == [copy.source for copy in plan.credentials]


def test_token(planned):
    """A token in a variable becomes a file, so that no child inherits it."""
    plan = planned("BEARER_TOKEN", environ={"BEARER_TOKEN": "s3cret"})

    assert inside(plan, "bearer_token") == plan.payload_environ["BEARER_TOKEN_FILE"]
    assert "BEARER_TOKEN" not in plan.payload_environ
    assert "s3cret" not in repr(plan) + plan.explain()


def test_token_as_it_is(planned):
    """Where policy says so, a token stays in its variable."""
    policy = Policy(environment_token_file=False)
    plan = planned("BEARER_TOKEN", environ={"BEARER_TOKEN": "s3cret"}, policy=policy)

    assert "s3cret" == plan.payload_environ["BEARER_TOKEN"]


def test_not_named(planned):
    """What the request does not name stays with the pilot."""
    environ = {"X509_USER_PROXY": "/p", "BEARER_TOKEN": "t", "BEARER_TOKEN_FILE": "/b", "KRB5CCNAME": "/k"}
    plan = planned(environ=environ, files=["/p", "/b", "/k"])

    assert set() == set(environ) & set(plan.payload_environ)


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("X509_USER_PROXY", None, "the host has no such variable"),
        ("X509_USER_PROXY", "", "the host's variable is empty"),
        ("X509_USER_PROXY", "proxy", "it names no absolute path"),
        ("X509_USER_PROXY", "/gone", "/gone: nobody looked"),
        ("KRB5CCNAME", "KEYRING:persistent:1", "a cache of type KEYRING cannot be copied; only files can"),
        ("KRB5CCNAME", "KCM:", "a cache of type KCM cannot be copied; only files can"),
        ("BEARER_TOKEN", None, "the host has no such variable"),
    ],
)
def test_refused(planned, variable, value, why):
    """A credential that cannot be had refuses the payload; nothing is left dangling."""
    with pytest.raises(PlanError) as caught:
        planned(variable, environ={} if value is None else {variable: value})
    (problem,) = caught.value.problems

    assert ("credential-missing", "--credential") == (problem.kind, problem.origin)
    assert f"the credential {variable} cannot be handed over: {why}" == problem.message


@pytest.mark.parametrize(
    ("fact", "why"),
    [
        ({"state": "missing", "reason": "No such file or directory"}, "No such file"),
        ({"state": "no-answer", "reason": "no answer within 20 s"}, "no answer"),
        ({"state": "present", "kind": "directory", "resolved": "/p", "readable": True}, "is no plain file"),
        ({"state": "present", "kind": "file", "resolved": "/p"}, "cannot be read"),
    ],
)
def test_unusable_file(planned, fact, why):
    """A file that cannot be copied is refused with the reason."""
    with pytest.raises(PlanError) as caught:
        planned("X509_USER_PROXY", environ={"X509_USER_PROXY": "/p"}, looked={"/p": PathFact(path="/p", **fact)})

    assert why in str(caught.value)


def test_link_out_of_the_working_directory(planned, present):
    """A link that an earlier payload left is not followed to what the pilot can read."""
    fact = present("/work/proxy", kind="file", resolved="/home/pilot/proxy")
    with pytest.raises(PlanError) as caught:
        planned("X509_USER_PROXY", environ={"X509_USER_PROXY": "/work/proxy"}, looked={"/work/proxy": fact})

    assert "is a link out of the working directory" in str(caught.value)


def test_argv(planned):
    """A command alone cannot make copies, and says so."""
    plan = planned("X509_USER_PROXY", environ={"X509_USER_PROXY": "/p"}, files=["/p"])
    with pytest.raises(PlanError):
        _ = plan.argv

    assert ["credential-missing"] == [problem.kind for problem in plan.unrenderable]


@pytest.mark.parametrize("variable", ["", "A-B", "1", None])
def test_bad_name(variable):
    """A credential has a variable's name."""
    with pytest.raises(RequestError):
        Credential(variable=variable)


def test_named_twice(request_for):
    """Each variable names one credential."""
    with pytest.raises(RequestError):
        request_for(credentials=[Credential(variable="A"), Credential(variable="A", source="/x")])

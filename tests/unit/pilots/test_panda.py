"""PanDA's jobs and queues, read by their attributes."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from wlcg_isolate.errors import Problem, RequestError
from wlcg_isolate.outcome import classify
from wlcg_isolate.pilots import cric, panda, panda_outcomes
from wlcg_isolate.pilots.alrb import alrb_problems
from wlcg_isolate.policy import Policy
from wlcg_isolate.remains import Start


def job(**more):
    """Make a job; its queue's fields are those of *queue*."""
    queue = SimpleNamespace(**more.pop("queue", {}))
    fields = {"workdir": "/pilot/job", "jobid": "1", "imagename": "/images/x"}

    return SimpleNamespace(**{**fields, "infosys": SimpleNamespace(queuedata=queue), **more})


IMAGES = {
    "path": ({"imagename": "/cvmfs/x"}, "/cvmfs/x", None),
    "docker": ({"imagename": "docker://atlas/x:1"}, "atlas/x:1", None),
    "name": ({"imagename": "atlas/x:1"}, "atlas/x:1", None),
    "null": ({"imagename": "NULL", "platform": "x86_64-el9-gcc13-opt"}, None, "x86_64-el9-gcc13-opt"),
    "platform": ({"imagename": "", "platform": "x86_64-slc6-gcc49-opt"}, None, "x86_64-slc6-gcc49-opt"),
    "user's-platform": ({"imagename": "/x", "platform": "a", "alrbuserplatform": "el9"}, None, "el9"),
    "nothing": ({"imagename": ""}, None, None),
}


@pytest.mark.serves("panda", "order of imagename, alrbuserplatform and platform")
@pytest.mark.parametrize("name", IMAGES)
def test_image(name):
    """The image is chosen in the pilot's own order."""
    fields, image, platform = IMAGES[name]
    request = cric.request_for("x", job(**fields))

    assert (image, platform) == (request.image, request.platform)


@pytest.mark.serves("panda", "container_options: --nv")
def test_settings():
    """What a queue says becomes binds, variables and settings."""
    queue = {
        "container_options": "--nv -B /data",
        "container_type": {"pilot": "singularity", "wrapper": "docker"},
        "environ": "A=1 B='two words' C=3;",
    }
    request = cric.request_for("x", job(queue=queue))

    assert {"A": "1", "B": "two words", "C": "3"} == dict(request.env)
    assert ["/data"] == [bind.source for bind in request.binds]
    others = [name for name in Policy().runtime_search if name != "singularity"]
    assert {"gpu.use": ("nvidia",), "runtime.search": ("singularity", *others)} == dict(request.settings)


IMAGE_BASES = {
    "a/b:c": ["/images/{name}:{tag}", "/images/{repository}:{tag}"],
    "docker://host.x/a/b:c": ["/images/{name}:{tag}", "/images/{repository}:{tag}"],
    "host.x:5000/a/b": ["/images/{name}", "/images/{repository}"],
}


@pytest.mark.parametrize("name", IMAGE_BASES)
def test_image_base(name):
    """Names are looked up where the queue has its unpacked images, by the last part first, then elsewhere."""
    queue = {"catchall": "IMAGE_BASE=/images,other=1"}
    settings = cric.request_for("x", job(imagename=name, queue=queue)).settings

    assert (*IMAGE_BASES[name], *Policy().image_search) == settings["image.search"]
    assert "image.search" not in cric.request_for("x", job(queue=queue)).settings


def test_image_base_of_the_node(monkeypatch):
    """The pilot's own variable comes before what the queue says."""
    monkeypatch.setenv("IMAGE_BASE", "/node")
    settings = cric.request_for("x", job(imagename="a/b:c", queue={"catchall": "IMAGE_BASE=/queue"})).settings

    assert "/node/{name}:{tag}" == settings["image.search"][0]


EXPORTS = {
    "A=1 B='x y'": ({"A": "1", "B": "x y"}, "x"),
    "A=1 B=$A/x C=2;": ({"A": "1"}, 'export B="${A}"/x; export C=2; x'),
    "A='$B'": ({"A": "$B"}, "x"),
}


@pytest.mark.parametrize("environ", EXPORTS)
def test_environ(environ):
    """What names no other variable is a variable; what does, and all after it, is exported in front of the command."""
    request = cric.request_for("x", job(queue={"environ": environ}))

    assert EXPORTS[environ] == (dict(request.env), request.payload.command[-1])


@pytest.mark.differs("panda", "environ that a shell would execute", "refused; the pilot executes it")
def test_all_problems_are_told():
    """One error tells what is wrong with every field."""
    queue = {
        "container_options": "--frob",
        "environ": "A=$(date) B=`id` 1C=2",
        "container_type": {"pilot": "docker"},
    }
    with pytest.raises(RequestError) as caught:
        cric.request_for("x", job(queue=queue))

    assert {"container_options", "environ", "container_type"} == {p.origin for p in caught.value.problems}
    assert 5 == len(caught.value.problems)


ALRB = {
    "source ${ATLAS_LOCAL_ROOT_BASE}/user/atlasLocalSetup.sh --quiet; asetup x": [],
    "lsetup rucio; ./runGen -c x; cat <<E\ndon't source atlasLocalSetup.sh\nE": [],
    "source atlasLocalSetup.sh -c el9 -s /srv/s.sh -r /srv/r.sh -d -e '-c -i'": ["-c", "-s", "-r", "-d", "-e"],
    "export ALRB_CONT_RUNPAYLOAD='x'; source atlasLocalSetup.sh --container=el9": [
        "ALRB_CONT_RUNPAYLOAD",
        "--container",
    ],
    "source atlasLocalSetup.sh -r x": [],
    "setupATLAS -q; setupATLAS -cel7 -m /data:/data": ["-c", "-m"],
    "source atlasLocalSetup.sh -c el9 -e '--frob -B /a:/b:ro --writable'": ["-c", "-e", "--frob", "--writable"],
    'source atlasLocalSetup.sh -c el9 -e "-B $PWD:/x"': ["-c", "-e", "$PWD"],
    "export ALRB_CONT_CMDOPTS='-C --frob'; x": ["ALRB_CONT_CMDOPTS", "--frob"],
    'bash -c "source atlasLocalSetup.sh -c el9"': ["-c"],
    "cat <<E\ndon't\nE\nsource atlasLocalSetup.sh -c el9": ["-c"],
    "echo $(source atlasLocalSetup.sh -c el9) | cat": ["-c"],
}


@pytest.mark.differs(
    "panda",
    "ALRB's own containers (atlasLocalSetup.sh -c)",
    "refused, each option named, and what of those for the runtime has no counterpart: it is in a container already",
)
@pytest.mark.parametrize("command", ALRB)
def test_alrb(command):
    """A command that would start ALRB's container is refused, and says by what."""
    problems = [str(problem) for problem in alrb_problems(command)]

    assert len(ALRB[command]) == len(problems)
    assert [] == [word for word, problem in zip(ALRB[command], problems) if word not in problem]


LOGINS = {
    "one": ([{"username": "u", "token": "t", "registry_path": "docker://reg.x/a/b"}], {"reg.x": {"auth": "dTp0"}}),
    "as-text": ('[{"username": "u", "token": "t", "registry_path": "docker://reg.x/"}]', {"reg.x": {"auth": "dTp0"}}),
    "none": ([], None),
}


@pytest.mark.parametrize("name", LOGINS)
def test_registry_logins(name):
    """A user's tokens are written as the runtime reads them."""
    tokens, auths = LOGINS[name]
    text = cric.registry_logins(job(pandasecrets=json.dumps({"DOCKER_TOKENS": tokens, "other": "x"})))

    assert auths == (text and json.loads(text)["auths"])


@pytest.mark.parametrize("secrets", ["", None, '{"other": "x"}'])
def test_no_registry_logins(secrets):
    """A job without them has none."""
    assert cric.registry_logins(job(pandasecrets=secrets)) is None


@pytest.mark.parametrize(
    "secrets", ["DOCKER_TOKENS", '{"DOCKER_TOKENS": "hunter2"}', '{"DOCKER_TOKENS": [{"token": "hunter2"}]}']
)
def test_registry_logins_that_cannot_be_read(secrets):
    """They refuse, and nothing of them is shown."""
    with pytest.raises(RequestError, match="DOCKER_TOKENS") as caught:
        cric.registry_logins(job(pandasecrets=secrets))

    assert "hunter2" not in str(caught.value)


def test_starts_are_forgotten():
    """What is remembered of jobs does not grow without end; the latest stays."""
    for number in range(1000):
        panda_outcomes.remember(job(jobid=str(number)), classify(number % 2, ""))
    panda_outcomes.remember(job(jobid="990"), classify(3, ""))
    for number in range(1000, 1200):
        panda_outcomes.remember(job(jobid=str(number)), classify(0, ""))

    assert panda.outcome_for(job(jobid="0")) is None
    assert 3 == panda.outcome_for(job(jobid="990")).exit_code
    assert 300 > len(panda_outcomes._starts)


ERRORS = {
    "success": (0, "FATAL: whatever", 0),
    "payload": (2, "", 1305),
    "user-namespace": (
        255,
        "ERROR  : Failed to create user namespace: maximum number of user namespaces exceeded",
        1345,
    ),
    "payload-prints": (1, "Failed to create user namespace", 1305),
    "killed": (-11, "", 1328),
    "time-limit-of-the-pilot": (1367, "subprocess communicate sent TimeoutExpired", 1367),
    "own-code-and-words-of-a-runtime": (1110, "Failed to create user namespace", 1110),
    "never-seen-to-end": (-1, "", 1315),
}


@pytest.mark.serves("panda", "resolve_transform_error by classify")
@pytest.mark.parametrize("name", ERRORS)
def test_resolve_transform_error(name):
    """Without a job of ours, exit status and text are classified."""
    exit_code, stderr, code = ERRORS[name]

    assert code == panda.resolve_transform_error(exit_code, stderr)


def test_needs_a_job():
    """What cannot be isolated is an error, never the command itself."""
    with pytest.raises(RequestError, match="without a job"):
        panda.wrapper("echo x")
    with pytest.raises(RequestError, match="has no job"):
        panda.create_stagein_container_command("/x", "echo x")
    assert panda.do_use_container(job=None)
    assert panda.outcome_for(job(jobid="unknown")) is None


def test_job_that_takes_long_to_end(mocker):
    """Where a payload outlives all patience, it is told that it was stopped, and by whom."""
    start = mocker.Mock(spec=Start)
    running = RequestError([Problem(kind="request-invalid", message="the payload still runs")])
    mocker.patch.object(panda_outcomes, "outcome_of", side_effect=running)
    mocker.patch.object(panda_outcomes, "_STOP_SECONDS", -1.0)
    job = SimpleNamespace(jobid="slow")
    panda_outcomes.remember(job, start)
    outcome = panda_outcomes.outcome_for(job)

    assert ("stopped", True, 15) == (outcome.kind, outcome.started, outcome.signal)
    assert [mocker.call(start, None), mocker.call(start, 143)] == panda_outcomes.outcome_of.call_args_list

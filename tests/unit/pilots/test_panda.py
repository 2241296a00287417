"""PanDA's jobs and queues, read by their attributes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from wlcg_isolate.errors import RequestError
from wlcg_isolate.pilots import cric, panda


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
    assert {"gpu.use": ("nvidia",), "runtime.search": ("singularity",)} == dict(request.settings)


@pytest.mark.differs(
    "panda", "IMAGE_BASE", "looked up as IMAGE_BASE/name:tag only; the pilot tries the name's last part first"
)
def test_image_base():
    """Names are looked up where the queue has its unpacked images."""
    queue = {"catchall": "IMAGE_BASE=/images,other=1"}

    assert ("/images/{repository}:{tag}",) == cric.request_for("x", job(imagename="a/b:c", queue=queue)).settings[
        "image.search"
    ]
    assert "image.search" not in cric.request_for("x", job(queue=queue)).settings


@pytest.mark.differs("panda", "environ that a shell would execute", "refused; the pilot executes it")
def test_all_problems_are_told():
    """One error tells what is wrong with every field."""
    queue = {"container_options": "--frob", "environ": "A=$(date) B=`id`", "container_type": {"pilot": "docker"}}
    with pytest.raises(RequestError) as caught:
        cric.request_for("x", job(queue=queue))

    assert {"container_options", "environ", "container_type"} == {p.origin for p in caught.value.problems}
    assert 4 == len(caught.value.problems)


ALRB = {
    "source ${ATLAS_LOCAL_ROOT_BASE}/user/atlasLocalSetup.sh --quiet; asetup x": [],
    "lsetup rucio; ./runGen -c x": [],
    "source atlasLocalSetup.sh -c el9 -s /srv/s.sh -r /srv/r.sh -e '-c -i'": ["-c", "-s", "-r", "-e"],
    "export ALRB_CONT_RUNPAYLOAD='x'; source atlasLocalSetup.sh --container el9": [
        "ALRB_CONT_RUNPAYLOAD",
        "--container",
    ],
    "source atlasLocalSetup.sh -r x": [],
}


@pytest.mark.differs(
    "panda",
    "ALRB's own containers (atlasLocalSetup.sh -c)",
    "refused, and each option named: it is in a container already",
)
@pytest.mark.parametrize("command", ALRB)
def test_alrb(command):
    """A command that would start ALRB's container is refused, and says by what."""
    problems = [str(problem) for problem in cric.alrb_problems(command)]

    assert len(ALRB[command]) == len(problems)
    assert [] == [word for word, problem in zip(ALRB[command], problems) if word not in problem]


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

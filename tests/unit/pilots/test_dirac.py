"""
DIRAC's configuration and answers, as tables.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wlcg_isolate import Bind, Policy, RequestError
from wlcg_isolate.outcome import of_kind, of_payload
from wlcg_isolate.pilots.dirac import Job, binds_of, images, options_of, request_for, resolve_image, result_of
from wlcg_isolate.pilots.dirac.images import directories_of

BINDS = {
    "": [],
    " , ": [],
    "/etc/grid-security": [("/etc/grid-security", "/etc/grid-security", True)],
    "/a:::/b": [("/a", "/b", True)],
    "/a:::/b:::ro": [("/a", "/b", False)],
    " /a ::: /b ::: ro ": [("/a", "/b", False)],
    "/a:/b:ro": [("/a", "/b", False)],
    "/a:/b:rw": [("/a", "/b", True)],
    "someDir:::/BoundHere": [("/pilot/someDir", "/BoundHere", True)],
    "/a,/b:::/c": [("/a", "/a", True), ("/b", "/c", True)],
}


@pytest.mark.serves("dirac", "ContainerBind: a:::b:::ro")
@pytest.mark.parametrize(("text", "expected"), BINDS.items())
def test_binds(text, expected):
    """Binds are read as DIRAC and the runtime read them; none stands for no bind."""
    binds = binds_of(text.split(","), "/pilot")

    assert expected == [(bind.source, bind.target, bind.writable) for bind in binds]
    assert all(bind.required for bind in binds)


@pytest.mark.differs("dirac", "ContainerBind: four parts", "refuses the job; DIRAC leaves the bind out in silence")
@pytest.mark.parametrize(
    "text", ["/a:::/b:::ro:::x", "/a:::", ":::/b", "/a:::/b:::readonly", "/a:::relative", "/a:::/../b"]
)
def test_bad_binds(text):
    """A bind that means nothing is named, together with all others."""
    with pytest.raises(RequestError) as caught:
        binds_of([text, "/x:::/y:::no"])

    assert 2 == len(caught.value.problems)


OPTIONS = {
    "": ({}, ()),
    "--nv": ({"gpu.use": ["nvidia"]}, ()),
    "--rocm, --nv": ({"gpu.use": ["amd", "nvidia"]}, ()),
    "--pid,-c,--cleanenv": ({}, ()),
    "--bind,/a:/b,--bind=/c,-B,/d": ({}, ("/a:/b", "/c", "/d")),
    "--net,--network,none": ({"isolation.network": "none"}, ()),
    "--net,--network=none": ({"isolation.network": "none"}, ()),
}


@pytest.mark.serves("dirac", "ContainerOptions: GPUs, binds, namespaces")
@pytest.mark.parametrize(("text", "expected"), OPTIONS.items())
def test_options(text, expected):
    """Options of the runtime become what they mean."""
    assert expected == options_of(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("--writable", ["--writable"]),
        ("--nv,--nosuch,x", ["--nosuch", "x"]),
        ("--bind", ["--bind"]),
        ("--net", ["--net"]),
        ("--net,--network=bridge", ["--net", "--network"]),
        ("--nv /x", ["--nv /x"]),
    ],
)
def test_unknown_options(text, names):
    """An option that has no meaning here refuses the job, all of them by name."""
    with pytest.raises(RequestError) as caught:
        options_of(text)

    assert [f"ContainerOptions holds {name!r}, which is not served" for name in names] == [
        problem.message for problem in caught.value.problems
    ]


@pytest.mark.differs("dirac", "BEARER_TOKEN of the pilot", "never arrives: it is the pilot's, and DIRAC's list has it")
def test_request():
    """A job becomes one request; the token of the pilot is not in it."""
    job = Job(
        directory="/pilot/area/tmp", image="/image",
        environ={"PATH": "/x", "TMPDIR": "/tmp", "XRD_A": "1", "X509_B": "2", "BEARER_TOKEN": "3"},
        binds=("/data:::/d:::ro",), options="--nv,--bind=/e", installation="/pilot/diracos", runtime="/r/apptainer",
        job_id="12", vo="lhcb", pilot_id="p", has_proxy=True,
    )  # fmt: skip

    request = request_for(job, Policy(environment_secret=("X509_B",)))

    assert {"XRD_A": "1"} == dict(request.env)
    assert "Job12" == request.payload.command[-1]
    assert [
        Bind(source="/pilot/diracos", target="/pilot/diracos", origin="ContainerBind"),
        Bind(source="/data", target="/d", origin="ContainerBind"),
        Bind(source="/e", target="/e", writable=True, origin="ContainerBind"),
    ] == list(request.binds)
    assert ("/image", "/pilot/area/tmp", "/r/apptainer") == (request.image, request.workdir, request.runtime)
    assert {"gpu.use": ("nvidia",)} == {key: tuple(value) for key, value in request.settings.items()}
    assert ("12", "lhcb", "p", "/pilot/area/tmp/proxy") == (
        request.identity.job_id, request.identity.vo, request.identity.pilot_id, request.identity.user_proxy,
    )  # fmt: skip


def test_own_installation():
    """A job that has DIRAC installed gets no variable of another one, and no bind of an installation."""
    request = request_for(Job(directory="/d", image="/i", options="--nv"), Policy())

    assert {"XRD_*", "DIRAC_*", "X509_*"} < set(request.settings["environment.drop"])
    assert ("nvidia",) == tuple(request.settings["gpu.use"])
    assert () == request.binds
    assert request.identity.user_proxy is None


RESULTS = {
    "ran": (of_payload(0, None), 5, 5),
    "other status of the script": (of_payload(5, None), 5, 5),
    "killed after its end": (of_payload(None, 9), 0, 0),
    "no status": (of_payload(0, None), None, "Failed to get return code from inner wrapper: success: "),
    "killed": (of_payload(None, 9), None, "Failed to get return code from inner wrapper: ended-by-signal: "),
    "image": (of_kind("image-missing", started=False), None, "Failed to find singularity image to exec: image-missing"),
    "no runtime": (of_kind("runtime-missing", started=False), None, "Failed to find singularity: runtime-missing: "),
    "runtime": (of_kind("bind-failed", started=False), None, "Error running singularity command: bind-failed: "),
    "left over": (of_kind("bind-failed", started=False), 0, "Error running singularity command: bind-failed: "),
    "no bash": (
        of_kind("command-not-found", started=False), None, "Error running singularity command: command-not-found: ",
    ),
    "never": (of_kind("policy-locked", started=False), None, "Error running singularity command: policy-locked: "),
}  # fmt: skip


@pytest.mark.serves("dirac", "S_OK with the job's exit status")
@pytest.mark.parametrize(("outcome", "status", "expected"), RESULTS.values(), ids=RESULTS)
def test_results(outcome, status, expected):
    """A job that ran gives its status; one that did not gives DIRAC's words, and the cause."""
    result = result_of(outcome, status)

    if isinstance(expected, int):
        assert {"OK": True, "Value": expected} == result
    else:
        assert (False, expected) == (result["OK"], result["Message"][: len(expected)])


class Log:
    """A logger of DIRAC's form, which remembers."""

    def __init__(self) -> None:
        self.said = []

    def warn(self, message, about=""):
        """Remember a warning."""
        self.said.append(("warn", message, about))

    def error(self, message, about=""):
        """Remember an error."""
        self.said.append(("error", message, about))


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("x86_64", ("amd64",)),
        ("amd64", ("amd64",)),
        ("X86_64", ("amd64",)),
        ("aarch64", ("arm64", "arm64:v8")),
        ("arm64", ("arm64", "arm64:v8")),
        ("i686", ("386",)),
        ("armv7l", ("arm:v7", "arm")),
        ("ppc64le", ("ppc64le",)),
        ("s390x", ("s390x",)),
        ("riscv64", ("riscv64",)),
        ("sparc", ("sparc",)),
    ],
)
def test_directories(arch, expected):
    """Architectures have the directories that CVMFS publishes, as DIRAC's resolver has them."""
    assert expected == directories_of(arch)


@pytest.fixture
def published(tmp_path):
    """Images as they are published, and one of the old kind."""
    for name in ("amd64/reg/alma:9", "arm64:v8/reg/alma:9", "s390x/reg/alma:9"):
        (tmp_path / "base" / name).mkdir(parents=True)
    (tmp_path / "root").mkdir()

    return tmp_path


RESOLVED = {
    "by name": (("reg/alma:9", "x86_64"), "base/amd64/reg/alma:9"),
    "by its variant": (("reg/alma:9", "aarch64"), "base/arm64:v8/reg/alma:9"),
    "other machine": (("reg/alma:9", " s390x "), "base/s390x/reg/alma:9"),
    "falls back": (("reg/nosuch:1", "x86_64"), "root"),
    "no name": ((None, "x86_64"), "root"),
    "unknown machine": ((None, "x86_9"), "root"),
    "root cannot run there": (("reg/nosuch:1", "aarch64"), None),
    "nor there": ((None, "armv7l"), None),
    "absolute": (("/reg/alma:9", "x86_64"), "root"),
    "leads out": (("../amd64/reg/alma:9", "aarch64"), None),
}


@pytest.mark.serves("dirac", "resolve_image: arguments and order of the multi-arch resolver")
@pytest.mark.parametrize(("asked", "expected"), RESOLVED.values(), ids=RESOLVED)
def test_resolve_image(published, asked, expected):
    """The image is the one that DIRAC's resolver finds."""
    found = resolve_image(
        imageRef=asked[0], basePath=str(published / "base"), containerRoot=str(published / "root"), arch=asked[1]
    )

    assert (None if expected is None else published / expected) == found


def test_resolve_nothing(published):
    """Without any image there is none; the default stands in for a root that is not configured."""
    assert resolve_image("reg/no:1", str(published), "/nosuch", "x86_64") is None
    assert resolve_image(arch="x86_64", defaultRoot=None) is None
    assert published / "root" == resolve_image(arch="x86_64", defaultRoot=str(published / "root"))
    assert Path("/") == resolve_image(arch=os.uname().machine.replace("aarch64", "x86_64"), defaultRoot="/")


def test_resolve_says_why(published):
    """What was looked at, and what cannot be, is logged."""
    log = Log()

    resolve_image("reg/nosuch:1", str(published / "base"), str(published / "root"), "aarch64", log=log)
    resolve_image("/abs", str(published / "base"), "/nosuch", "x86_64", log=log)

    levels = [level for level, _, _ in log.said]
    assert ["warn", "error", "error", "warn"] == levels
    assert f"{published}/base/arm64/reg/nosuch:1, {published}/base/arm64:v8/reg/nosuch:1" in log.said[0][2]


def test_resolve_without_answer(published, mocker):
    """A file system that does not answer is not waited for, and logged."""
    mocker.patch.object(images, "within", return_value=None)
    log = Log()

    assert resolve_image("reg/alma:9", str(published / "base"), str(published / "root"), "x86_64", log=log) is None
    assert 2 == len([about for level, message, about in log.said if message.startswith("No answer")])

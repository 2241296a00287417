"""What a queue's options ask."""

from __future__ import annotations

import pytest

from wlcg_isolate.errors import RequestError
from wlcg_isolate.pilots.options import parse_options
from wlcg_isolate.request import Bind


def binds(*words):
    """Make the binds of a queue: source, target, and whether it may be written."""
    return tuple(Bind(source=s, target=t, writable=w, required=False, origin="queue") for s, t, w in words)


BINDS = {
    "-B /a": [("/a", "/a", True)],
    "-B/a": [("/a", "/a", True)],
    "--bind=/a:/b:ro": [("/a", "/b", False)],
    "-B /a,/b:/c --bind /d:/e:rw": [("/a", "/a", True), ("/b", "/c", True), ("/d", "/e", True)],
    "-B /a,${workdir} --contain": [("/a", "/a", True), ("/job", "/job", True)],
    "-B '/with blank':/b": [("/with blank", "/b", True)],
    "-B /foo-C/bar -C": [("/foo-C/bar", "/foo-C/bar", True)],
    "--contain -B /a": [("/a", "/a", True)],
    "": [],
}


@pytest.mark.parametrize("text", BINDS)
def test_binds(text):
    """Binds are read as the runtime reads them."""
    assert binds(*BINDS[text]) == parse_options(text, "queue", {"workdir": "/job"}).binds


def test_all_else():
    """Variables, GPUs, and what is done anyway."""
    options = parse_options("--nv --rocm --env A=1 --env B=x=y -c -i --pid -e --no-home --no-mount tmp", "queue")

    assert {"A": "1", "B": "x=y"} == options.env
    assert ("nvidia", "amd") == options.gpus
    assert ("--contain", "--cleanenv", "--ipc", "--pid", "--no-home", "--no-mount") == options.already


REFUSED = {
    "--frobnicate": ["--frobnicate"],
    "--writable --fakeroot": ["--writable", "--fakeroot"],
    "-H /home --pwd /x --overlay o.img": ["--home", "--cwd", "--overlay"],
    "-B /a:/b:ro:more": ["/a:/b:ro:more"],
    "-B /a:/b:nosuid": ["nosuid"],
    "-B $HOME": ["$HOME"],
    "-B ${other}": ["${other}"],
    "-B relative:also": ["target"],
    "-B": ["cannot be read"],
    "-B '/open": ["cannot be read"],
    "--env NAME": ["--env 'NAME'"],
    "stray words": ["stray", "words"],
    "--contai": ["--contai"],
    "--add-caps CAP_SYS_ADMIN --security seccomp:x": ["--add-caps", "--security"],
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text):
    """Nothing unknown passes, and every problem is told."""
    with pytest.raises(RequestError) as caught:
        parse_options(text, "queue")

    assert [] == [word for word in REFUSED[text] if word not in str(caught.value)]
    assert {"queue"} <= {problem.origin for problem in caught.value.problems} | {"queue"}

"""
What becomes of the arguments of Singularity Python's client.
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import pytest
from spython.image import Image
from spython.instance import Instance
from spython.main import Client

from wlcg_isolate import Bind, Policy, RequestError
from wlcg_isolate.pilots import spython
from wlcg_isolate.testing import load_node

OUT_OF_SCOPE = {
    ("spython", "execute: app (SCIF applications)"): "a program of an image is named by its path",
    ("spython", "execute: writable"): "an image is read by many payloads, and what one writes another would run",
    ("spython", "execute: sudo"): "payloads never have more rights than their pilot",
    ("spython", "instances, OCI bundles, shell"): "one payload has one container, which ends with it",
    ("spython", "build, pull, inspect"): "Singularity Python does it; what it makes is used directly",
}


def test_same_arguments():
    """Each argument of the client's method is one here, by the same name."""
    theirs = set(inspect.signature(Client.execute).parameters)
    ours = {*inspect.signature(spython.execute).parameters, *inspect.signature(spython.request_of).parameters}

    assert set() == theirs - ours


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/data/x.sif", "/data/x.sif"),
        ("x.sif", "/here/x.sif"),
        ("./box", "/here/box"),
        ("el9", "el9"),
        ("cmssw/el9:x86_64", "cmssw/el9:x86_64"),
        ("docker://cmssw/el9", "docker://cmssw/el9"),
        (Image("/data/x.sif"), "/data/x.sif"),
        (Image("docker://cmssw/el9"), "docker://cmssw/el9"),
        (None, None),
    ],
    ids=str,
)
@pytest.mark.serves("spython", "execute: image as path, URI or object of the client")
def test_image(monkeypatch, given, expected):
    """An image is what the client takes, or a name that policy knows."""
    monkeypatch.setattr("os.getcwd", lambda: "/here")

    assert expected == spython.request_of(given, ["true"]).image


@pytest.mark.serves("spython", "execute: command as list or text")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("x.sif", ["echo", "a b"]), ("echo", "a b")),
        (("x.sif", "echo a  b"), ("echo", "a", "b")),
        ((["echo", "a"],), ("echo", "a")),
    ],
    ids=["list", "text", "first"],
)
def test_command(given, expected):
    """A command is a list or a text; a list in the image's place is the command."""
    assert expected == spython.request_of(*given).payload.command


@pytest.mark.serves("spython", "execute: bind")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/a", [("/a", "/a", True)]),
        ("here:/b", [(os.path.abspath("here"), "/b", True)]),
        ("/a:/b", [("/a", "/b", True)]),
        ("/a:/b:ro", [("/a", "/b", False)]),
        ("/a:/b:rw /c", [("/a", "/b", True), ("/c", "/c", True)]),
        (["/a:/b", "/c::ro"], [("/a", "/b", True), ("/c", "/c", False)]),
        ("/a,/b:/c", [("/a", "/a", True), ("/b", "/c", True)]),
        (None, []),
        ([], []),
    ],
    ids=str,
)
def test_binds(given, expected):
    """Binds are written as there, and can be written to where nothing else is said."""
    found = spython.request_of("el9", ["true"], bind=given).binds

    assert expected == [(bind.source, bind.target, bind.writable) for bind in found]
    assert all(bind.required for bind in found)


@pytest.mark.serves("spython", "execute: options (bind, env, GPUs, isolation)")
def test_options():
    """Options that say what can be had are read; those for what every container has mean nothing."""
    options = ["--containall", "-e", "-u", "--bind", "/a:/b", "--env", "A=1,B=2", "--rocm", "--env=C=x=y"]
    request = spython.request_of(
        "el9", ["true"], options=options, singularity_options=["--quiet"], nv=True, contain=True
    )

    assert [Bind(source="/a", target="/b", writable=True, origin="options")] == list(request.binds)
    assert {"A": "1", "B": "2", "C": "x=y"} == dict(request.env)
    assert ["nvidia", "amd"] == list(request.settings["gpu.use"])


@pytest.mark.differs(
    "spython", "execute: environ", "it is what differs from the pilot's environment; the rest passes as policy says"
)
def test_environ(monkeypatch):
    """What the caller has added is the payload's, with or without the runtime's prefix."""
    monkeypatch.setenv("PILOT", "secret")
    given = {"PILOT": "secret", "OWN": "1", "SINGULARITYENV_A": "2", "APPTAINERENV_B": "3"}
    # These are for the runtime itself, unless they have its prefix.
    given.update({"PATH": "/opt/apptainer/bin", "HOME": "/x", "LD_LIBRARY_PATH": "/x", "SINGULARITYENV_PATH": "/bin"})

    assert {"OWN": "1", "A": "2", "B": "3", "PATH": "/bin"} == dict(
        spython.request_of("el9", ["true"], environ=given).env
    )


def test_other_fields():
    """What the client does not know is given beside its arguments, and adds to them."""
    request = spython.request_of(
        "el9", ["true"], bind="/a", binds=[Bind(source="/z")], environ={"A": "1"}, env={"B": "2"}, nv=True,
        settings={"container.workdir": "/w"}, workdir="/scratch/job", timeout=5,
    )  # fmt: skip

    assert ["/a", "/z"] == [bind.source for bind in request.binds]
    assert {"A": "1", "B": "2"} == dict(request.env)
    assert {"gpu.use", "container.workdir"} == set(request.settings)
    assert ("/scratch/job", 5) == (request.workdir, request.timeout)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"app": "x", "writable": True, "sudo": True, "sudo_options": "-E"},
            ["app", "writable", "sudo", "sudo_options"],
        ),
        (
            {"options": ["--overlay", "x.img", "--fakeroot"]},
            ["options holds --overlay: ", "options holds --fakeroot: "],
        ),
        ({"options": ["stray"]}, ["options holds 'stray', which is no option"]),
        ({"options": ["--bind"]}, ["options cannot be read: argument -B/--bind: expected one argument"]),
        ({"options": ["--env", "A"]}, ["options holds --env 'A', which must be NAME=VALUE"]),
        ({"bind": "/a:/b:xx"}, ["bind holds the bind '/a:/b:xx', which must be"]),
        ({"bind": ["/a:/b:ro:x", ":/b"]}, ["bind holds the bind '/a:/b:ro:x'", "bind holds the bind ':/b'"]),
        ({"singularity_options": ["--quiet", "--debug"]}, ["option --debug cannot be given"]),
        ({"environ": {"APPTAINER_BIND": "/x"}}, ["environ holds APPTAINER_BIND"]),
        ({"image": Instance("instance://x", start=False)}, ["instance cannot"]),
        ({"command": None}, ["command is missing"]),
        (
            {"bind": {"/a": "/b"}, "options": "--nv", "singularity_options": "-q"},
            ["singularity_options is no list", "options is no list", "bind is no list"],
        ),
        ({"bind": [Path("/a")]}, ["bind is no list of words"]),
    ],
    ids=[
        *(
            "arguments",
            "options",
            "stray",
            "half",
            "env",
            "access",
            "binds",
            "before",
            "environ",
            "instance",
            "command",
        ),
        *("lists", "paths"),
    ],
)
def test_refused(given, words):
    """What cannot be had is refused by name, all at once, and nothing exits."""
    values = {"image": "el9", "command": ["true"], **given}
    with pytest.raises(RequestError) as caught:
        spython.request_of(values.pop("image"), values.pop("command"), **values)

    found = [problem.message for problem in caught.value.problems]
    assert [True] * len(words) == [message.startswith(word) for message, word in zip(found, words)]
    assert len(words) == len(found)
    assert all(problem.advice for problem in caught.value.problems)


def test_unknown_stream():
    """A stream that there is not is refused at once."""
    with pytest.raises(RequestError, match="stream_type holds 'all'"):
        spython.execute("el9", ["true"], stream_type="all")


def test_plan():
    """The request leads to a plan on a node like any other."""
    request = spython.request_of("/data/x.sif", "echo a", bind="/data:/data:ro", workdir="/scratch/job")
    node = load_node("el9-userns-apptainer", directories="/data")
    facts = node.facts_for(request, Policy())

    assert ("/data/x.sif", "sif") == (facts.image.root.path, facts.image.form)
    assert "/data" in facts.paths

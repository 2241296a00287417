"""
Singularity Python beside this library: its images, and its calls.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from spython.main import get_client

from wlcg_isolate import LaunchError, Policy
from wlcg_isolate.pilots.spython import execute


@pytest.fixture(scope="module")
def client(runtime, tmp_path_factory):
    """The client with the real runtime, which it knows as ``singularity``."""
    place = tmp_path_factory.mktemp("client")
    (place / "singularity").symlink_to(runtime)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{place}:{os.environ['PATH']}:/usr/sbin:/sbin")
        patch.setenv("APPTAINER_CACHEDIR", str(place / "cache"))
        patch.setenv("APPTAINER_CONFIGDIR", str(place / "config"))
        yield get_client(quiet=True)


@pytest.fixture(scope="module")
def built(client, image, tmp_path_factory):
    """A SIF and a sandbox that the client has built."""
    place = tmp_path_factory.mktemp("images")
    more = {"sudo": False, "quiet": True}
    sif = client.build(recipe=image("tiny"), image=str(place / "built.sif"), **more)
    box = client.build(recipe=image("tiny"), image=str(place / "box"), sandbox=True, **more)

    return {"sif": sif, "sandbox": box}


@pytest.fixture
def given(tmp_path, runtime):
    """What each call has beside the client's arguments."""
    workdir = tmp_path / "work"
    workdir.mkdir()

    return {"policy": Policy(), "workdir": workdir, "trace_dir": tmp_path / "trace", "runtime": runtime}


@pytest.mark.serves("spython", "images that it has built are used directly")
@pytest.mark.parametrize("form", ["sif", "sandbox"])
def test_built_image(client, built, given, form):
    """What the client has built and inspected runs, by its path and as the client's own object."""
    labels = client.inspect(built[form])["attributes"]["labels"]
    client.load(built[form])

    assert "org.label-schema.build-arch" in labels
    assert "/srv\n" == execute(built[form], ["pwd"], **given)
    assert "/srv\n" == execute(client.simage, "pwd", **given)


@pytest.mark.serves("spython", "execute: results")
@pytest.mark.parametrize(
    "script",
    ["echo out", "echo err >&2", "echo out; echo err >&2", "true", "echo out; exit 3", "kill -9 $$"],
)
def test_same_result(client, image, given, script):
    """A payload that does not depend on isolation gives the result that the client gives."""
    command = ["sh", "-c", script]
    theirs = client.execute(image("tiny"), command, return_result=True, options=["--userns"])
    ours = execute(image("tiny"), command, return_result=True, **given)
    outcome = ours.pop("outcome")

    assert theirs == ours
    assert outcome["started"]


def test_plain_result(image, given):
    """Without failure the text alone comes back; with one, the whole result."""
    assert "x\n" == execute(image("tiny"), "echo x", **given)
    assert [] == execute(image("tiny"), "true", **given)
    assert 4 == execute(image("tiny"), ["sh", "-c", "exit 4"], **given)["return_code"]


@pytest.mark.differs(
    "spython", "execute: failures of the runtime", "125 with the cause, and an outcome that says who failed"
)
def test_never_started(image, given):
    """What the client reports as the payload's own 255 is told apart from it."""
    result = execute("/nosuch.sif", ["true"], **given)

    assert (125, "image-missing", "policy") == (
        result["return_code"],
        result["outcome"]["kind"],
        result["outcome"]["failed_by"],
    )
    assert "/nosuch.sif does not exist" in result["message"]


@pytest.mark.differs("spython", "what is seen of the host", "home, /tmp and the current directory stay outside")
def test_isolation(client, image, given, tmp_path, monkeypatch):
    """What the client shows of the host by itself, the payload does not see here."""
    monkeypatch.setenv("PILOT_SECRET", "x")
    monkeypatch.setenv("BEARER_TOKEN", "x")
    (tmp_path / "theirs").touch()
    command = ["sh", "-c", f"test -e {tmp_path}/theirs && echo seen; echo $BEARER_TOKEN$PILOT_SECRET"]

    assert "seen\nxx\n" == client.execute(image("tiny"), command, options=["--userns"], bind="/tmp:/tmp")
    assert "\n" == execute(image("tiny"), command, **given)


def test_binds_and_variables(image, given, tmp_path):
    """Binds and variables arrive as the client's do."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    script = "echo x >/data/a/x && ! touch /data/b/x 2>/dev/null && echo $OWN"
    binds = [f"{tmp_path}/a:/data/a", f"{tmp_path}/b:/data/b:ro"]
    environ = {**os.environ, "SINGULARITYENV_OWN": "mine"}

    assert "mine\n" == execute(image("tiny"), ["sh", "-c", script], bind=binds, environ=environ, **given)
    assert "x\n" == (tmp_path / "a" / "x").read_text()


def test_variables_of_the_runtime(client, image, given):
    """What the caller's environ holds for the runtime alone does not reach the payload, as with the client."""
    environ = {**os.environ, "LD_LIBRARY_PATH": "/nosuch", "PATH": f"/nosuch:{os.environ['PATH']}"}
    command = ["sh", "-c", "echo $PATH; echo $LD_LIBRARY_PATH"]
    theirs = client.execute(image("tiny"), command, options=["--userns"], environ=environ)
    ours = execute(image("tiny"), command, environ=environ, **given)

    assert "/nosuch" not in theirs + ours


def test_refused_stream(given):
    """A payload that is refused is an error of the iterator, and on record."""
    with pytest.raises(LaunchError, match="image-missing: "):
        next(execute("/nosuch.sif", ["true"], stream=True, **given))
    records = "".join(file.read_text() for file in Path(given["trace_dir"]).glob("*.jsonl"))

    assert '"event.action":"payload.refused"' in records


@pytest.mark.serves("spython", "execute: stream")
@pytest.mark.parametrize(
    ("stream_type", "expected"),
    [("stdout", ["out\n"]), ("stderr", ["err\n"]), ("both", ["out\n", "err\n"])],
)
def test_stream(image, given, stream_type, expected):
    """Lines come one by one, while the payload still runs."""
    script = "echo out; echo err >&2; while [ ! -e /srv/go ]; do sleep 0.05; done"
    lines = execute(image("tiny"), ["sh", "-c", script], stream=True, stream_type=stream_type, **given)
    first = [next(lines) for _ in expected]
    Path(given["workdir"], "go").touch()

    assert expected == first
    assert [] == list(lines)


@pytest.mark.differs("spython", "execute: stream of what fails", "LaunchError, with the kind of failure")
@pytest.mark.parametrize(("command", "kind"), [("false", "exit-nonzero"), ("/nosuch", "command-not-found")])
def test_failed_stream(image, given, command, kind):
    """A failure is raised when all lines were read."""
    lines = execute(image("tiny"), command, stream=True, **given)
    with pytest.raises(LaunchError) as caught:
        list(lines)

    assert [kind] == [problem.kind for problem in caught.value.problems]


def test_stream_that_nobody_reads_on(image, given):
    """A payload ends with the iterator that is given up."""
    lines = execute(image("tiny"), ["sh", "-c", "echo $$; exec sleep 1000"], stream=True, **given)
    next(lines)
    lines.close()
    records = "".join(file.read_text() for file in Path(given["trace_dir"]).glob("*.jsonl"))

    assert '"event.action":"payload.end"' in records

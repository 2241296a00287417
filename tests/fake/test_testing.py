"""The plug-in of pytest and its fake runtime, as an experiment uses them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wlcg_isolate import Bind, Policy
from wlcg_isolate.testing import Harness, assert_absent, assert_arrives, assert_bound, assert_not_bound

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "testing"


@pytest.fixture
def watched():
    """Ask for all looks at a container: this fake needs no exception."""


@pytest.fixture
def harness(tmp_path, watched):
    """A harness as the fixture of the plug-in makes it."""
    place = tmp_path / "isolate"
    place.mkdir()

    return Harness(place)


def run_pytest(place, *words):
    """Run pytest as an experiment does: the plug-in comes by its entry point, and every warning is an error."""
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "-c", os.devnull]
    argv += ["--rootdir", str(place), f"--basetemp={place}/base", *words, str(place)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}

    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=place, env=environ, timeout=120)


@pytest.mark.serves("testing", "pytest plug-in, found by itself")
def test_example(tmp_path):
    """The tests of the example pass under the fake, and those of the how-to page as they stand there."""
    place = tmp_path / "example"
    shutil.copytree(EXAMPLE, place, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "our.toml").write_text((place / "profile.toml").read_text())
    (place / "our_pilot.py").write_text("from wlcg_isolate import run_isolated\n")
    page = (EXAMPLE.parents[1] / "docs/how-to/test-a-profile.md").read_text()
    (place / "test_page.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)))
    done = run_pytest(place)

    assert "8 passed" in done.stdout, done.stdout + done.stderr


WRONG = """
from wlcg_isolate.testing import assert_absent

def test_leak(isolate):
    from wlcg_isolate import Policy
    ran = isolate.run(Policy(environment_keep=("SITE_NAME",)), environ={"SITE_NAME": "x"})
    assert_absent(ran, "SITE_NAME")

def test_never_started(isolate):
    from wlcg_isolate import Policy
    assert_absent(isolate.run(Policy(), image="/nosuch"), "SITE_NAME")
"""


def test_defects_fail(tmp_path):
    """A variable that does arrive fails the test, and so does a payload that was never started."""
    (tmp_path / "test_x.py").write_text(WRONG)
    done = run_pytest(tmp_path)

    assert "2 failed" in done.stdout
    assert "SITE_NAME arrives at the payload" in done.stdout
    assert "nothing is known of the payload's variables" in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--real-runtime", "--isolate-runtime=/nosuch/apptainer"], "--real-runtime: there is no /nosuch/apptainer"),
        (["--real-runtime", f"--isolate-runtime={sys.executable}"], "--real-runtime needs an image"),
    ],
    ids=["runtime", "image"],
)
def test_real_runtime_is_not_there(tmp_path, options, words):
    """Without the real runtime, or an image for it, its tests fail and say so."""
    (tmp_path / "test_x.py").write_text("def test_x(isolate):\n    pass\n")
    done = run_pytest(tmp_path, *options)

    assert 0 != done.returncode
    assert words in done.stdout


def test_payload(harness):
    """A payload under the fake has its status, its output, its records and its own place."""
    ran = harness.run(Policy(), "sh", "-c", "echo out; echo err >&2; echo x >result; pwd >>result; exit 7")

    assert ("exit-nonzero", 7) == (ran.outcome.kind, ran.outcome.exit_code)
    assert ("out\n", "err\n", "x\n/srv\n") == (ran.stdout, ran.stderr, (ran.workdir / "result").read_text())
    assert ["payload.start", "payload.end"] == [record["event.action"] for record in ran.records][-2:]
    assert {ran.outcome.trace_id} == {record["container.id"] for record in ran.records}
    assert not harness.is_real


@pytest.mark.serves("testing", "fake runtime: a container that passes all checks from outside")
def test_container(harness, tmp_path):
    """The fake's container is one: own processes, own root, binds as asked, no powers."""
    (tmp_path / "in").mkdir()
    binds = (Bind(source=tmp_path / "in", target="/data/in"), Bind(source=tmp_path / "none", required=False))
    look = "ls -d /proc/[0-9]* | wc -l; grep CapEff /proc/self/status; "
    look += "touch /data/in/x /usr/x /x 2>/dev/null || echo no; ls /"
    ran = harness.run(Policy(), "sh", "-c", look, binds=binds)
    lines = ran.stdout.split()

    # Process 1, the payload, and these two.
    assert "4" == lines[0]
    assert ["CapEff:", "0" * 16, "no"] == lines[1:4]
    assert [] == list((tmp_path / "in").iterdir())
    assert {"/": False, "/dev/shm": True} == {name: ran.mounts[name] for name in ("/", "/dev/shm")}
    assert {"srv", "data", "usr", "tmp"} <= set(lines[4:])
    assert not {"root", "home", "work"} & set(lines[4:])
    assert_bound(ran, "/data/in", writable=False)
    assert_bound(ran, "/srv", writable=True)
    assert_not_bound(ran, str(tmp_path / "none"))


def test_variables(harness):
    """Variables arrive as the library delivers them, whatever they hold; the tester's own do not."""
    odd = " a'b\"$c\n"
    ran = harness.run(Policy(environment_keep=("ODD",)), environ={"ODD": odd, "BEARER_TOKEN": "x"}, env={"OWN": "1"})

    assert_arrives(ran, "ODD", odd)
    assert_arrives(ran, "OWN", "1")
    assert_arrives(ran, "WLCG_ISOLATE_ID", ran.outcome.trace_id)
    assert_absent(ran, "BEARER_TOKEN", "SITE_API_TOKEN", "APPTAINER_CONFIGDIR", "binds", "image")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM, signal.SIGKILL])
def test_signals(harness, number):
    """A signal ends a payload under the fake as anywhere, and nothing is printed of it."""
    ran = harness.run(Policy(), "sh", "-c", f"echo up; kill -{int(number)} $$; echo no")

    assert ("payload", number, "up\n", "") == (ran.outcome.failed_by, ran.outcome.signal, ran.stdout, ran.stderr)


def test_input(harness):
    """A payload reads what the test says, and nothing of the tester's own input."""
    reader, writer = os.pipe()
    old = os.dup(0)
    os.dup2(reader, 0)
    try:
        found = [
            harness.run(Policy(), "cat", timeout=20, **given).stdout for given in ({}, {"stdin": "é"}, {"stdin": b"x"})
        ]
    finally:
        os.dup2(old, 0)
        for descriptor in (reader, writer, old):
            os.close(descriptor)

    assert ["", "é", "x"] == found


def test_what_is_left(harness):
    """In the working directory is what the payload left, and nothing of the look."""
    ran = harness.run(Policy(), "touch", "x")

    assert ["x"] == os.listdir(ran.workdir)
    assert ran.environ


def test_many_threads(harness):
    """Payloads of several threads have each its own environment, and the test has its own back."""
    before = dict(os.environ)
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(harness.run, Policy(environment_keep=("N",)), environ={"N": str(n)}) for n in range(8)]
    found = [run.result() for run in runs]

    assert [(str(n), 1) for n in range(8)] == [(ran.environ["N"], len(ran.calls)) for ran in found]
    assert before == dict(os.environ)


def test_removed_look(harness):
    """Of a payload that removes what was noted nothing is known."""
    ran = harness.run(Policy(), "sh", "-c", "rm /srv/.seen-*")

    assert ("success", None, None) == (ran.outcome.kind, ran.environ, ran.mounts)


def test_odd_targets(harness, tmp_path):
    """Targets are read as they are, with blanks and letters of any language."""
    (tmp_path / "in").mkdir()
    ran = harness.run(Policy(), binds=[Bind(source=tmp_path / "in", target="/data/two words/日本é")])

    assert_bound(ran, "/data/two words/日本é", writable=False)


def test_without_a_look(harness):
    """Without a look nothing runs before the payload, and nothing is known of what it was given."""
    ran = harness.run(Policy(), "/nosuch/program", look=False)

    assert "command-not-found" == ran.outcome.kind
    assert (None, None) == (ran.environ, ran.mounts)


@pytest.mark.serves("testing", "recorder of the calls of a runtime")
def test_calls(harness):
    """Each start of a payload is noted with its arguments; trials are not."""
    first = harness.run(Policy())
    second = harness.run(Policy(), settings={"container.workdir": "/workdir"})

    assert [1, 1] == [len(first.calls), len(second.calls)]
    assert f"type=bind,src={second.workdir},dst=/workdir" in second.calls[0]
    assert {"exec", "--contain", "--pid"} <= set(first.calls[0])


@pytest.mark.serves("testing", "fake runtime: follows the version table")
@pytest.mark.parametrize(
    ("banner", "expected"),
    [
        ("apptainer version 1.1.0", "success"),
        ("singularity-ce version 4.1.2", "success"),
        ("apptainer version 1.0.3", "runtime-too-old"),
        ("singularity version 3.8.7", "runtime-too-old"),
    ],
)
def test_releases(harness, banner, expected):
    """A release that is too old for a plan is found out, and one that is not runs payloads."""
    harness.use(banner)
    ran = harness.run(Policy())

    assert expected == ran.outcome.kind, ran.outcome.message


@pytest.mark.parametrize(
    ("banner", "option"),
    [("apptainer version 1.0.3", "--no-eval"), ("singularity version 3.8.7", "--mount"), ("2.6.1-dist", "--no-mount")],
)
def test_unknown_option(harness, banner, option):
    """An option that the release does not have ends the fake in the words of the real one."""
    harness.use(banner)
    argv = [harness.program.path, "exec", option, "x", harness.image, "true"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert (1, f'Error for command "exec": unknown flag: {option}\n') == (done.returncode, done.stderr)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--contain", "--mount", "type=bind,src=/nosuch,dst=/x"], "mount source /nosuch doesn't exist"),
        (["--contain", "--mount", "type=tmpfs"], "this fake does not read it"),
    ],
)
def test_failures_of_the_fake(harness, words, expected):
    """What the fake cannot do it says, as the real one does, with status 255."""
    argv = [harness.program.path, "exec", *words, harness.image, "true"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert 255 == done.returncode
    assert f"FATAL:   container creation failed: mount {words[-1].split('src=')[-1].split(',')[0]}" in done.stderr
    assert expected in done.stderr


def test_fake_runs_trees_only(harness, tmp_path):
    """An image file is refused, and the reason named."""
    (tmp_path / "x.sif").touch()
    argv = [harness.program.path, "exec", "--contain", str(tmp_path / "x.sif"), "true"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert (255, True) == (done.returncode, "this fake runs trees only" in done.stderr)

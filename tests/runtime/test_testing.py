"""
The same tests of an experiment, under the fake and under real Apptainer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wlcg_isolate import Bind, Policy
from wlcg_isolate.testing import Harness, assert_absent, assert_arrives, assert_bound

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "testing"


@pytest.mark.serves("testing", "--real-runtime: the same tests under the real runtime")
def test_example(tmp_path, runtime, image):
    """The tests of the example pass under the real runtime."""
    place = tmp_path / "example"
    shutil.copytree(EXAMPLE, place, ignore=shutil.ignore_patterns("__pycache__"))
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "-c", os.devnull]
    argv += ["--rootdir", str(place), f"--basetemp={place}/base", "--real-runtime", "--isolate-runtime", runtime]
    argv += ["--isolate-image", image("tiny"), str(place)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=place, timeout=120)

    assert "4 passed" in done.stdout, done.stdout + done.stderr


#: What both runtimes have in the container beside what is the image's own.
_OF_THE_RUNTIME = ("APPTAINER_", "SINGULARITY_", "LD_LIBRARY_PATH", "PROMPT_COMMAND", "PS1", "USER_PATH")


@pytest.mark.serves("testing", "fake runtime: payloads have there what they have in the real one")
def test_fake_is_like_real(tmp_path, runtime, image):
    """What the library promises arrives alike under both: variables, binds, status, records, calls."""
    (tmp_path / "in").mkdir()
    policy = Policy(environment_keep=("RELEASE",))
    found = []
    for name, real in (("fake", None), ("real", runtime)):
        place = tmp_path / name
        place.mkdir()
        harness = Harness(place, real=real, image=image("tiny") if real else None)
        ran = harness.run(
            policy, "sh", "-c", "echo $RELEASE; pwd; exit 5",
            environ={"RELEASE": "27", "BEARER_TOKEN": "x"}, binds=(Bind(source=tmp_path / "in", target="/data"),),
        )  # fmt: skip
        assert_arrives(ran, "RELEASE", "27")
        assert_absent(ran, "BEARER_TOKEN", "SITE_API_TOKEN")
        assert_bound(ran, "/data", writable=False)
        assert_bound(ran, "/srv", writable=True)
        own = {name for name in ran.environ if not name.startswith(_OF_THE_RUNTIME)}
        (call,) = ran.calls
        killed = harness.run(policy, "sh", "-c", "kill -SEGV $$")
        options = [word for word in call if word.startswith("--")]
        actions = [record["event.action"] for record in ran.records]
        found.append((ran.outcome.kind, ran.outcome.exit_code, ran.stdout, own, options, actions))
        found[-1] += (killed.outcome.kind, killed.outcome.signal, killed.stderr)

    assert found[0] == found[1]


def test_other_release(tmp_path, runtime, image):
    """A test that wants another release is none for the real runtime."""
    harness = Harness(tmp_path, real=runtime, image=image("tiny"))

    with pytest.raises(pytest.skip.Exception, match=r"wants to be run with apptainer version 1\.0\.3"):
        harness.use("apptainer version 1.0.3")

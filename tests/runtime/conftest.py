"""
The third ring: real Apptainer, real images.  Nothing here may be skipped.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from wlcg_isolate import Payload, Policy, Request, load_policy

#: Where the tools keep what they made: tests change the cache directory.
ENVIRON = dict(os.environ)

TOOLS = Path(__file__).resolve().parents[2] / "tools"


#: Processes, signals, threads, descriptors, files and the command line are what Python's versions do in their own way;
#: what the runtime and the image do with a plan is the same under all of them.
EVERY_PYTHON = ("test_life", "test_records", "test_run", "test_sending", "test_supervised", "test_trace")


def pytest_collection_modifyitems(items):
    """Mark everything in this directory."""
    for item in items:
        if Path(__file__).parent in Path(item.path).parents:
            item.add_marker("runtime")
            if Path(item.path).stem in EVERY_PYTHON:
                item.add_marker("every_python")


def _tool(*words):
    argv = [str(TOOLS / words[0]), *words[1:]]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True, env=ENVIRON)

    return done.stdout.strip()


@pytest.fixture(scope="session")
def runtime():
    """Path of a working Apptainer; without one every test here fails."""
    return os.environ.get("WLCG_ISOLATE_TEST_RUNTIME") or _tool("get-apptainer")


@pytest.fixture(scope="session")
def image():
    """Find an image by name."""
    known = {}

    def find(name):
        if name not in known:
            directory = os.environ.get("WLCG_ISOLATE_TEST_IMAGES")
            known[name] = os.path.join(directory, name) if directory else _tool("get-image", name)
        return known[name]

    return find


@pytest.fixture
def cli(command_line, runtime):
    """The command line with the real runtime in PATH."""
    return command_line(runtime)


@pytest.fixture
def policy():
    """The built-in policy."""
    return load_policy()


@pytest.fixture
def request_for(tmp_path, runtime, image):
    """Make a request for a payload in a tree image."""
    workdir = tmp_path / "work"
    workdir.mkdir(exist_ok=True)

    def make(*command, name="tiny", **more):
        return Request(
            **{
                "payload": Payload(command=command),
                "image": image(name),
                "workdir": workdir,
                "trace_dir": tmp_path / "trace",
                "runtime": runtime,
                **more,
            }
        )

    return make


@pytest.fixture
def quick():
    """A policy that waits briefly between TERM and KILL."""
    return Policy(payload_grace_seconds=0.5)

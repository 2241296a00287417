"""What the tests promise of themselves."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

#: What the tests put into the environment of all that they test.
CANARY_TOKEN = runpy.run_path(str(Path(__file__).resolve().parents[1] / "conftest.py"))["CANARY_TOKEN"]

HERE = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "text",
    [
        "import pytest\n\ndef test_x():\n    pytest.skip('no')\n",
        "import pytest\n\n@pytest.mark.skip\ndef test_x():\n    pass\n",
        "import pytest\n\n@pytest.mark.xfail\ndef test_x():\n    assert 0\n",
        "import pytest\npytest.importorskip('nosuch')\n",
    ],
    ids=["call", "mark", "xfail", "module"],
)
def test_a_skipped_test_fails(tmp_path, text):
    """Whatever way a test has to look away, it counts as a failure."""
    shutil.copy(HERE / "conftest.py", tmp_path)
    (tmp_path / "test_x.py").write_text(text)
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", tmp_path, tmp_path]
    done = subprocess.run(argv, capture_output=True, check=False, text=True, cwd=tmp_path)

    assert 0 != done.returncode
    assert "a test may not be skipped" in done.stdout


LEAKS = """
import logging, os

def test_clean(tmp_path, canaries):
    (tmp_path / "a.jsonl").write_text("x")

def test_printed():
    print(SECRET)

def test_logged():
    logging.getLogger().warning(SECRET[-40:])

def test_command(command_line):
    command_line().read(0, SECRET.encode())

def test_descriptor():
    os.write(2, os.environ["SITE_API_TOKEN"].encode())
"""

FILES = """
def test_record(tmp_path):
    (tmp_path / "a.jsonl").write_text(SECRET[40:60])

def test_outcome(tmp_path):
    (tmp_path / "outcome.json").write_text("x" + SECRET)
"""


@pytest.fixture
def session():
    """Run the tests of a text; what it leaves goes at once, since this session is looked through as well."""
    with tempfile.TemporaryDirectory() as place:

        def run(text):
            shutil.copy(HERE / "conftest.py", place)
            given = f"SECRET = {CANARY_TOKEN.rpartition('.')[2]!r}\n"
            Path(place, "test_x.py").write_text(given + text)
            argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", place]
            argv += [f"--basetemp={place}/base", "-rfp", f"{place}/test_x.py"]
            return subprocess.run(argv, capture_output=True, check=False, text=True, cwd=place)

        yield run


def test_a_leak_in_output_fails(session):
    """A part of the pilot's credentials in what a test or a command prints or logs fails the test."""
    done = session(LEAKS)
    failed = set(re.findall(r"^FAILED \S+::(\w+)", done.stdout, re.MULTILINE))

    assert {"test_printed", "test_logged", "test_command", "test_descriptor"} == failed
    assert ["test_clean"] == re.findall(r"^PASSED \S+::(\w+)", done.stdout, re.MULTILINE)


def test_a_leak_in_files_fails(session):
    """A part of the pilot's credentials in a file that tests leave fails the session, though all tests passed."""
    done = session(FILES)
    named = re.findall(r"^ERROR \S+/(\S+) holds a part of the pilot's credentials", done.stdout, re.MULTILINE)

    assert "2 passed" in done.stdout
    assert 1 == done.returncode
    assert ["a.jsonl", "outcome.json"] == sorted(named)

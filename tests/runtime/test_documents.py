"""
What the documents tell a newcomer to type, typed as it stands there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path, runtime, image):
    """A clone as ``make demo`` leaves it, with the tools that the documents call."""
    place = tmp_path / "clone"
    (place / "tools").mkdir(parents=True)
    (place / ".venv").symlink_to(Path(sys.executable).parents[1])
    (place / "examples").symlink_to(ROOT / "examples")
    for name, text in {
        "tools/get-apptainer": f"echo '{runtime}'",
        "tools/get-image": f"echo '{Path(image('debian11')).parent}'/$1",
        "make": '[ "$*" = demo ]',
    }.items():
        (place / name).write_text(f"#!/bin/sh\n{text}\n")
        (place / name).chmod(0o755)

    return place


@pytest.fixture
def type_in(clone, tmp_path):
    """Type all of a page's commands into one shell, with ``/tmp`` elsewhere; give what it shows, and its errors."""

    def run(page):
        blocks = re.findall(r"<!-- test: run -->\n```sh\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
        text = "".join(blocks).replace("/tmp/", f"{tmp_path}/")
        environ = {"PATH": f"{clone}:/usr/bin:/bin", "HOME": str(tmp_path), "WLCG_ISOLATE_SITE": "", "LANG": "C.UTF-8"}
        done = subprocess.run(
            ["bash", "-c", text], env=environ, cwd=clone, capture_output=True, text=True, check=False, timeout=120
        )
        return done.stdout, done.stderr

    return run


def test_readme(type_in, tmp_path):
    """The README's payload runs, its records are there and are not altered, and questions over them are answered."""
    shown, errors = type_in("README.md")

    # The example's site locks what this experiment would choose.
    assert [] == [line for line in errors.splitlines() if "and the value is locked by site" not in line]
    assert "1\n" == shown[:2]
    assert ["payload.start", "payload.end", "success"] == re.findall(r"payload\.start|payload\.end|success", shown)
    assert "not altered, closed" in shown
    assert re.search(r"^image\.names +experiment ", shown, re.MULTILINE)
    assert json.loads((tmp_path / "outcome.json").read_text())["started"]
    assert [] == os.listdir(tmp_path / "payload")


def test_tutorial(type_in, tmp_path):
    """The first payload shows what the tutorial says of it."""
    shown, errors = type_in("docs/tutorial/first-payload.md")
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    actions = re.findall(r"(?:pilot|payload)\.[a-z]+(?= )", shown)

    assert "payloads can run here: yes\n" in shown
    assert 'hello from /srv\nPRETTY_NAME="Debian GNU/Linux 11 (bullseye)"\n3\n' in shown
    assert "skip: bind source /data does not exist on this node" in shown
    assert ["image-missing", "bind-source-missing"] == [line.split(": ")[1] for line in errors.splitlines()]
    assert (False, "policy", "other-node") == (outcome["started"], outcome["failed_by"], outcome["retry"])
    assert actions == [
        *("pilot.start", "payload.authorised", "payload.start", "payload.end", "pilot.end"),
        *("pilot.start", "payload.refused", "pilot.end"),
    ]

"""
A pilot with secrets, and what hostile payloads get of them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from wlcg_isolate.policy.model import FIELDS

PROGRAMS = Path(__file__).parent / "programs"

ROOT = os.geteuid() == 0

#: Capabilities (linux/capability.h) with which root of the node may do what is tried: to read by handle, to administer,
#: to set the clock and to make devices.  Root of a container that tests run in mostly lacks some.
POWER = ROOT and all(
    int(re.search(r"CapEff:\t(\w+)", Path("/proc/self/status").read_text())[1], 16) >> bit & 1
    for bit in (2, 21, 25, 27)
)

#: Whether what surrounds payloads of root, and what they may ask of the kernel, is a matter of policy.
CONFINED = "isolation.root" in FIELDS

#: Tried on the terminal of a payload of its own.
ON_TERMINAL = ("type_into_terminal", "steal_terminal", "dev_tty")

#: Not tried on the node: they would reach what is not ours.
INSIDE_ONLY = (
    "signal_everybody", "renice_user", "kill_process_1", "stop_process_1", "words_through_process_1",
    "leaked_directories",
)  # fmt: skip

#: How an attempt may end that the kernel or the container refuses.
REFUSED = ("PermissionError", "FileNotFoundError", "ProcessLookupError", "OSError", "BlockingIOError")


class Duel:
    """
    The same attempts on the node and in the container.
    """

    def __init__(self, result: dict) -> None:
        self.result = result

    def of(self, name: str) -> tuple:
        """Return the loot on the node and in the container."""
        outside, inside = self.result["outside"][name], self.result["inside"][name]
        for answer in (outside, inside):
            # Not for a reason of its own, such as a mistake in the attempt.
            assert answer["loot"] or answer["error"].partition(":")[0] in REFUSED, answer

        return outside["loot"], inside["loot"]

    def roots(self, name: str, loot):
        """Return what root, and nobody else, has to get on the node, where that is the whole node's root."""
        return loot if POWER else None if not ROOT else self.result["outside"][name]["loot"]

    def inside(self, name: str):
        """Return the loot of what is tried in the container only."""
        return self.result["inside"][name]["loot"]

    def secret(self, mark: str) -> str:
        """Return what was to be had."""
        return self.result["expected"][mark]


@pytest.fixture(scope="session")
def environ(tmp_path_factory):
    """The environment of a pilot, without the tester's own."""
    home = tmp_path_factory.mktemp("home")
    (home / "file").touch()
    found = {"PATH": "/usr/bin:/bin", "HOME": str(home), "WLCG_ISOLATE_SITE": ""}
    found.update((k, v) for k, v in os.environ.items() if k.startswith("COVERAGE_"))

    return found


@pytest.fixture(scope="session")
def duel(runtime, image, environ, tmp_path_factory):
    """A pilot, a hostile payload and another payload, once for all tests."""
    sys.path.insert(0, str(PROGRAMS))
    try:
        import weapons
    finally:
        sys.path.remove(str(PROGRAMS))
    place = tmp_path_factory.mktemp("duel")
    names = [name for name in weapons.ATTEMPTS if name not in ON_TERMINAL]
    scene = {
        "place": str(place),
        "result": str(place / "result.json"),
        "image": image("debian13"),
        "runtime": runtime,
        "inside": names,
        "outside": [name for name in names if name not in INSIDE_ONLY],
    }
    (place / "scene.json").write_text(json.dumps(scene))
    words = [sys.executable, str(PROGRAMS / "pilot.py"), f"--secret={uuid.uuid4().hex}", "scene.json"]
    subprocess.run(
        words, cwd=place, env={**environ, "PILOT_SECRET": uuid.uuid4().hex}, check=True, timeout=120,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip

    return Duel(json.loads((place / "result.json").read_text()))

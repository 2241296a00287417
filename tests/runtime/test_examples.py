"""
What the documentation shows does work.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

#: What each example prints, among other things.
EXPECTED = {
    "incident.py": [
        "it was job 1 of CN=Jane,OU=Users,DC=ch, ended",
        "the same user ran jobs 1, 3",
        "at risk as well: jobs 2, 3",
        "started after it was over: 1",
    ],
    "own_process.py": ["failed by payload (exit-nonzero)", "failed by runtime (image-unusable)"],
    "plan_first.py": ["refused: image-missing", "refused: workdir-missing", "outcome: success"],
    "run_payload.py": ["failed by: payload, exit status: 3", "result: hello from /srv", "payload.end 4711"],
}


def test_all_are_known():
    """No example is left out."""
    assert sorted(EXPECTED) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_example(cli, image, name):
    """Each example runs and says what it is to show."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), image("tiny")],
        env=cli.environ, capture_output=True, text=True, check=True, timeout=60, cwd=cli.workdir,
    )  # fmt: skip

    assert [] == [text for text in EXPECTED[name] if text not in done.stdout]
    assert "" == done.stderr

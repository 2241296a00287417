"""What the tests promise of themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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

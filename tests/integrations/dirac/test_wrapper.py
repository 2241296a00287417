"""
DIRAC's own job wrapper in our container; only its services are stood in for.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import DIRAC
import pytest
from DIRAC.Resources.Computing import SingularityComputingElement as original
from DIRAC.WorkloadManagementSystem.Utilities.Utils import createJobWrapper

SERVICES = Path(__file__).parent / "services.py"

#: The Python that DIRAC is installed for, which the image need not have.
PYTHON = Path(sys.executable).resolve()
PACKAGES = Path(DIRAC.__file__).resolve().parents[1]


@pytest.fixture
def real(pilot, monkeypatch):
    """A pilot whose installation is a whole DIRAC, and whose jobs have DIRAC's wrapper."""
    monkeypatch.setattr(original, "createJobWrapper", createJobWrapper)
    install = pilot.place / "diracos"
    (install / "bin" / "python").unlink()
    (install / "bin" / "python").symlink_to(PYTHON)
    (install / "services").mkdir()
    shutil.copy(SERVICES, install / "services" / "sitecustomize.py")
    (install / "diracosrc").write_text(
        f"export PATH={install}/bin:$PATH PYTHONPATH={install}/services:{PACKAGES} PYTHONDONTWRITEBYTECODE=1\n"
    )
    pilot.configure(ContainerBind=f"{PYTHON.parents[1]}:::{PYTHON.parents[1]}:::ro, {PACKAGES}:::{PACKAGES}:::ro")

    return pilot


JOBS = {
    "success": ("echo the payload says hello; id -u >/dev/null; exit 0", 0, ["Done", "Execution Complete"]),
    "status": ("echo the payload says hello; exit 5", 1, ["Failed", "Application Finished With Errors"]),
}


@pytest.mark.serves("dirac", "DIRAC's JobWrapper and its template run the payload")
@pytest.mark.parametrize(("text", "value", "state"), JOBS.values(), ids=JOBS)
def test_job_wrapper(real, proxy, capfd, text, value, state):
    """DIRAC's wrapper starts the payload, watches it, and tells its services of its end; DIRAC has its exit status."""
    script = real.place / "diracos" / "payload.sh"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)

    result = real.element().submitJob(
        "ignored", proxy, logLevel="INFO",
        jobDesc=real.job(Executable=str(script), JobType="User", CPUTime="1000", Owner="jane", OwnerGroup="user"),
    )  # fmt: skip

    output = capfd.readouterr().out
    told = [json.loads(line[8:]) for line in output.splitlines() if line.startswith("SERVICE ")]
    assert {"OK": True, "Value": value} == result, output
    assert "the payload says hello" in output
    assert {"WorkloadManagement/JobStateUpdate"} <= {url for url, _, _ in told}
    assert all(word in json.dumps(told) for word in state)
    assert [] == real.left()
    assert os.listdir(real.place / "diracos" / "services") == ["sitecustomize.py"]

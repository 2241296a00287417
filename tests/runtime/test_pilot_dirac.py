"""
What DIRAC prepares for a job, in real containers; DIRAC itself is in ``tests/integrations/dirac``.
"""

from __future__ import annotations

import attrs
import pytest

from wlcg_isolate import load_policy, run_isolated
from wlcg_isolate.pilots.dirac import Job, request_for

#: What comes before and after the start of the job in the two scripts of DIRAC.
SCRIPTS = {"installs": ("set -ex", "exit 0"), "does not": ("set -x", "chmod 644 retcode")}


@pytest.mark.parametrize(("begin", "end"), SCRIPTS.values(), ids=SCRIPTS)
def test_status(tmp_path, image, runtime, begin, end):
    """The job's status is kept, whatever DIRAC's script does with it; the job has its files where DIRAC has them."""
    area = tmp_path / "area it's"
    area.mkdir()
    (area / "dirac_container.sh").write_text(f"{begin}\ncd /tmp\nbash /tmp/Job7\necho $? > retcode\n{end}\n")
    (area / "Job7").write_text("cat /tmp/proxy >/tmp/seen && cp /tmp/seen /srv/result && exit 5\n")
    (area / "proxy").write_text("a proxy")
    job = Job(directory=str(area), image=image("debian13"), runtime=runtime, job_id="7")
    request = attrs.evolve(request_for(job, load_policy()), trace_dir=tmp_path / "trace")

    outcome = run_isolated(request, load_policy())

    assert outcome.started
    assert ("5\n", "a proxy") == ((area / "retcode").read_text(), (area / "result").read_text())
    assert ["Job7", "dirac_container.sh", "proxy", "result", "retcode"] == sorted(path.name for path in area.iterdir())

"""
Under which batch system the pilot runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, Optional

from wlcg_isolate.host.nodefacts import BatchFact


class _System(NamedTuple):
    """
    How a batch system shows itself.

    Attributes:
        name: What we call it.

        signs: Variables of which any one gives it away.

        job_id: Variable with the job's name, or None.
    """

    name: str
    signs: tuple[str, ...]
    job_id: Optional[str]


#: First match wins.  From the manuals of each; HTCondor sets no variable for
#: the job's name, but the file that it names holds it.
_SYSTEMS = (
    _System("htcondor", ("_CONDOR_JOB_AD", "_CONDOR_SCRATCH_DIR"), None),
    _System("slurm", ("SLURM_JOB_ID", "SLURM_JOBID"), "SLURM_JOB_ID"),
    _System("pbs", ("PBS_JOBID",), "PBS_JOBID"),
    _System("lsf", ("LSB_JOBID",), "LSB_JOBID"),
    _System("oar", ("OAR_JOB_ID",), "OAR_JOB_ID"),
    _System("gridengine", ("SGE_ROOT", "SGE_O_HOST", "SGE_TASK_ID"), "JOB_ID"),
    _System("arc", ("GRID_GLOBAL_JOBID",), "GRID_GLOBAL_JOBID"),
    _System("kubernetes", ("KUBERNETES_SERVICE_HOST",), "HOSTNAME"),
)

_GLOBAL_ID = re.compile(r'^GlobalJobId = "([^"\n]*)"', re.MULTILINE | re.IGNORECASE)

#: Longer than any job's description.
_MAX_BYTES = 1 << 20


def batch_of(environ: Mapping[str, str]) -> Optional[BatchFact]:
    """
    Read the batch system off the pilot's environment.
    """
    for system in _SYSTEMS:
        if any(environ.get(sign) for sign in system.signs):
            return BatchFact(system=system.name, job_id=environ.get(system.job_id or "") or None)

    return None


def htcondor_job_id(path: str) -> Optional[str]:
    """
    Read the job's name from HTCondor's own description of it.

    Raises:
        OSError: It cannot be read.
    """
    with open(path, encoding="utf-8", errors="replace") as f:
        found = _GLOBAL_ID.search(f.read(_MAX_BYTES))

    return found.group(1) if found else None

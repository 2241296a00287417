"""
What batch system and computing element call the pilot's job.

A pilot may be in several at once: a glidein's own HTCondor in a Slurm job
that came through ARC.  All names are kept; the first is the innermost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Optional

import attrs


class _System(NamedTuple):
    """
    The variables of a batch system, from its manual.

    Attributes:
        name: What we call it.

        job: Those that hold the job's id; the first that is set.

        array: Number within an array of jobs, or "".

        queue: Queue or partition.

        slot: Place on the node.

        submit_host: Where it was submitted.

        signs: Variables that must be there too, any of them, where the
            job's has a common name.
    """

    name: str
    job: tuple[str, ...]
    array: str = ""
    queue: str = ""
    slot: str = ""
    submit_host: str = ""
    signs: tuple[str, ...] = ()


_SYSTEMS = (
    _System(
        "slurm", ("SLURM_JOB_ID", "SLURM_JOBID"), "", "SLURM_JOB_PARTITION", "SLURMD_NODENAME", "SLURM_SUBMIT_HOST"
    ),
    _System("pbs", ("PBS_JOBID",), "", "PBS_QUEUE", "PBS_VNODENUM", "PBS_O_HOST"),
    _System("lsf", ("LSB_JOBID",), "LSB_JOBINDEX", "LSB_QUEUE", "", "LSB_SUB_HOST"),
    _System("oar", ("OAR_JOB_ID",), "OAR_ARRAY_INDEX"),
    _System(
        "gridengine", ("JOB_ID",), "SGE_TASK_ID", "QUEUE", "", "SGE_O_HOST", ("SGE_ROOT", "SGE_O_HOST", "SGE_TASK_ID")
    ),
    _System("kubernetes", ("POD_NAME", "HOSTNAME"), "", "POD_NAMESPACE", "", "", ("KUBERNETES_SERVICE_HOST",)),
)

#: Computing elements, and others that gave the job a name of their own.
_ELEMENTS = (
    _System("arc", ("GRID_GLOBAL_JOBID",), submit_host="GRID_GLOBAL_JOBHOST"),
    _System("cream", ("CREAM_JOBID", "CE_JOBID"), signs=("CREAM_JOBID", "BLAH_CREAM")),
    _System("wms", ("GLITE_WMS_JOBID", "EDG_WL_JOBID")),
    _System("gram", ("GLOBUS_GRAM_JOB_CONTACT",)),
    _System("osg-ce", ("OSG_JOB_CONTACT",), submit_host="OSG_HOSTNAME"),
)

#: What says that HTCondor runs the job, where its description is not read.
_CONDOR_SIGNS = ("_CONDOR_JOB_AD", "_CONDOR_SCRATCH_DIR")

#: What Grid Engine says for no index, and LSF for none.
_NO_INDEX = ("", "undefined", "0")

_AD_LINE = r'(?im)^(ClusterId|ProcId|GlobalJobId|RemoteHost) = (?:"([^"\n]*)"|(\d+))'


@attrs.frozen(kw_only=True)
class BatchJob:
    """
    One name of the pilot's job.

    Attributes:
        system: Who gave it: ``"htcondor"``, ``"slurm"``, ``"arc"``, ...

        job_id: The name, or None where it is not known.

        global_job_id: A name that no other cluster has, or None.

        queue: Queue, partition or name space.

        slot: Place on the node.

        submit_host: Where it was submitted.
    """

    system: str
    job_id: Optional[str] = None
    global_job_id: Optional[str] = None
    queue: Optional[str] = None
    slot: Optional[str] = None
    submit_host: Optional[str] = None


def batch_jobs(environ: Mapping[str, str], job_ad: Optional[str] = None) -> tuple[BatchJob, ...]:
    """
    Find all names of the pilot's job, the innermost first.

    Args:
        environ: The pilot's environment.

        job_ad: HTCondor's description of the job, the content of the file
            that ``_CONDOR_JOB_AD`` names, or None.
    """
    return (*_htcondor(environ, job_ad or ""), *_named(environ, _SYSTEMS), *_named(environ, _ELEMENTS))


def _htcondor(environ: Mapping[str, str], job_ad: str) -> Iterator[BatchJob]:
    found = {m[1].lower(): m[2] or m[3] for m in (re.finditer(_AD_LINE, job_ad) if job_ad else ())}
    if found or any(environ.get(sign) for sign in _CONDOR_SIGNS):
        cluster, global_id = found.get("clusterid"), found.get("globaljobid")
        yield BatchJob(
            system="htcondor",
            job_id=f"{cluster}.{found.get('procid', '0')}" if cluster else None,
            global_job_id=global_id,
            slot=environ.get("_CONDOR_SLOT") or found.get("remotehost"),
            # The name of the scheduler that keeps the job (condor_q(1)).
            submit_host=global_id.partition("#")[0] if global_id else None,
        )
    # The pilot's factory submitted it so (GlideinWMS, custom variables).
    cluster, schedd = environ.get("GLIDEIN_ClusterId"), environ.get("GLIDEIN_Schedd")
    if cluster:
        job = f"{cluster}.{environ.get('GLIDEIN_ProcId', '0')}"
        yield BatchJob(
            system="glidein",
            job_id=job,
            global_job_id=f"{schedd}#{job}" if schedd else None,
            queue=environ.get("GLIDEIN_Entry_Name") or None,
            submit_host=schedd or None,
        )


def _named(environ: Mapping[str, str], systems: tuple[_System, ...]) -> Iterator[BatchJob]:
    for system in systems:
        job = next((environ[name] for name in system.job if environ.get(name)), None)
        if job is None or (system.signs and not any(environ.get(sign) for sign in system.signs)):
            continue
        index = environ.get(system.array, "")
        yield BatchJob(
            system=system.name,
            job_id=job if index in _NO_INDEX else f"{job}[{index}]",
            global_job_id=job if "://" in job else None,
            queue=environ.get(system.queue) or None,
            slot=environ.get(system.slot) or None,
            submit_host=environ.get(system.submit_host) or None,
        )

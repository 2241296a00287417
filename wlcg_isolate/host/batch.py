"""
What batch systems and computing elements set in a job's environment.

Rules:

1. A system is there when the job's id is, and where that variable has a
   common name, another of the system's own.
2. An id names just this job, also where it is a task of an array.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Optional

import attrs

from wlcg_isolate.host.nodefacts import BatchFact


class System(NamedTuple):
    """
    The variables of a batch system.

    Attributes:
        name: What we call it.

        source: Where they are written down.

        job: Those that hold the job's id; the first that is set.

        array: Those that hold the id of the array that the job is a task of.

        task: Those that hold its number there.

        shares_id: Whether all tasks of an array have the id of the array, so
            that the number belongs to a task's name.

        queue: Queue or partition.

        slot: Place on the node.

        submit_host: Where it was submitted.

        signs: Variables that must be there too, any of them, where the
            job's has a common name.
    """

    name: str
    source: str
    job: tuple[str, ...]
    array: tuple[str, ...] = ()
    task: tuple[str, ...] = ()
    shares_id: bool = False
    queue: str = ""
    slot: str = ""
    submit_host: str = ""
    signs: tuple[str, ...] = ()


#: First match is the innermost.
SYSTEMS = (
    System(
        "slurm",
        "sbatch(1), output environment variables; seen with 22.05",
        ("SLURM_JOB_ID", "SLURM_JOBID"),
        ("SLURM_ARRAY_JOB_ID",),
        ("SLURM_ARRAY_TASK_ID",),
        queue="SLURM_JOB_PARTITION",
        slot="SLURMD_NODENAME",
        submit_host="SLURM_SUBMIT_HOST",
    ),
    # A task's id holds the array's, "7[4].server" of "7[].server"; PBS_ARRAYID is Torque's.
    System(
        "pbs",
        "qsub(1B) of OpenPBS and Torque; Torque manual, job arrays",
        ("PBS_JOBID",),
        ("PBS_ARRAY_ID",),
        ("PBS_ARRAY_INDEX", "PBS_ARRAYID"),
        queue="PBS_QUEUE",
        slot="PBS_VNODENUM",
        submit_host="PBS_O_HOST",
    ),
    System(
        "lsf",
        "LSF reference, environment variables set for job execution",
        ("LSB_JOBID",),
        task=("LSB_JOBINDEX",),
        shares_id=True,
        queue="LSB_QUEUE",
        submit_host="LSB_SUB_HOST",
    ),
    # Every job is one of an array, if only of one.
    System("oar", "oarsub(1); what oarexec exports", ("OAR_JOB_ID",), ("OAR_ARRAY_ID",), ("OAR_ARRAY_INDEX",)),
    System(
        "gridengine",
        "qsub(1) of Grid Engine, environmental variables",
        ("JOB_ID",),
        task=("SGE_TASK_ID",),
        shares_id=True,
        queue="QUEUE",
        submit_host="SGE_O_HOST",
        signs=("SGE_ROOT", "SGE_O_HOST", "SGE_TASK_ID"),
    ),
    System(
        "kubernetes",
        "Kubernetes manual, the container environment and the downward API",
        ("POD_NAME", "HOSTNAME"),
        queue="POD_NAMESPACE",
        signs=("KUBERNETES_SERVICE_HOST",),
    ),
)

#: Computing elements, and others that gave the job a name of their own.
ELEMENTS = (
    System("arc", "ARC, submit-*-job", ("GRID_GLOBAL_JOBID",), submit_host="GRID_GLOBAL_JOBHOST"),
    System("cream", "CREAM and BLAH job wrappers", ("CREAM_JOBID", "CE_JOBID"), signs=("CREAM_JOBID", "BLAH_CREAM")),
    System("wms", "gLite WMS job wrapper", ("GLITE_WMS_JOBID", "EDG_WL_JOBID")),
    System("gram", "Globus GRAM", ("GLOBUS_GRAM_JOB_CONTACT",)),
    System("osg-ce", "OSG, environment of a job", ("OSG_JOB_CONTACT",), submit_host="OSG_HOSTNAME"),
)

#: What says that HTCondor runs the job.  It sets no variable for the job's
#: name, but the file that the first one names holds it.
CONDOR_SIGNS = ("_CONDOR_JOB_AD", "_CONDOR_SCRATCH_DIR")

#: What Grid Engine says for no number, and LSF for none.
_NO_NUMBER = (None, "undefined", "0")

_GLOBAL_ID = re.compile(r'^GlobalJobId = "([^"\n]*)"', re.MULTILINE | re.IGNORECASE)

#: Longer than any job's description.
_MAX_BYTES = 1 << 20


@attrs.frozen(kw_only=True)
class BatchJob:
    """
    One name of the pilot's job.

    Attributes:
        system: Who gave it: ``"htcondor"``, ``"slurm"``, ``"arc"``, ...

        job_id: The name, or None where it is not known.

        global_job_id: A name that no other cluster has, or None.

        array_job_id: The array that the job is a task of, or None.

        array_task_id: Its number there, or None.

        queue: Queue, partition or name space.

        slot: Place on the node.

        submit_host: Where it was submitted.
    """

    system: str
    job_id: Optional[str] = None
    global_job_id: Optional[str] = None
    array_job_id: Optional[str] = None
    array_task_id: Optional[str] = None
    queue: Optional[str] = None
    slot: Optional[str] = None
    submit_host: Optional[str] = None


def named_jobs(environ: Mapping[str, str]) -> Iterator[BatchJob]:
    """
    Find what the tables know of the pilot's job, the innermost first.
    """
    for system in (*SYSTEMS, *ELEMENTS):
        job = _first(environ, system.job)
        if job is None or (system.signs and _first(environ, system.signs) is None):
            continue
        array, task = _array(system, job, environ)
        yield BatchJob(
            system=system.name,
            job_id=f"{job}[{task}]" if system.shares_id and task is not None else job,
            global_job_id=job if "://" in job else None,
            array_job_id=array,
            array_task_id=task,
            queue=environ.get(system.queue) or None,
            slot=environ.get(system.slot) or None,
            submit_host=environ.get(system.submit_host) or None,
        )


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> Optional[str]:
    return next((environ[name] for name in names if environ.get(name)), None)


def _array(system: System, job: str, environ: Mapping[str, str]) -> tuple[Optional[str], Optional[str]]:
    """
    Find the array, and the number of the job there.
    """
    task = _first(environ, system.task)
    if system.shares_id:
        return (None, None) if task in _NO_NUMBER else (job, task)
    array = _first(environ, system.array)
    if array is None and task is not None and f"[{task}]" in job:
        array = job.replace(f"[{task}]", "[]", 1)

    return (None, None) if array is None or task is None else (array, task)


def batch_of(environ: Mapping[str, str]) -> Optional[BatchFact]:
    """
    Read the batch system off the pilot's environment.
    """
    if _first(environ, CONDOR_SIGNS) is not None:
        return BatchFact(system="htcondor")
    job = next(named_jobs(environ), None)

    return None if job is None else BatchFact(system=job.system, job_id=job.job_id)


def htcondor_job_id(path: str) -> Optional[str]:
    """
    Read the job's name from HTCondor's own description of it.

    Raises:
        OSError: It cannot be read.
    """
    with open(path, encoding="utf-8", errors="replace") as f:
        found = _GLOBAL_ID.search(f.read(_MAX_BYTES))

    return found.group(1) if found else None

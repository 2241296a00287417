"""
What batch system and computing element call the pilot's job.

A pilot may be in several at once: a glidein's own HTCondor in a Slurm job
that came through ARC.  All names are kept; the first is the innermost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Optional

from wlcg_isolate.host.batch import CONDOR_SIGNS, BatchJob, named_jobs

_AD_LINE = r'(?im)^(ClusterId|ProcId|GlobalJobId|RemoteHost) = (?:"([^"\n]*)"|(\d+))'


def batch_jobs(environ: Mapping[str, str], job_ad: Optional[str] = None) -> tuple[BatchJob, ...]:
    """
    Find all names of the pilot's job, the innermost first.

    Args:
        environ: The pilot's environment.

        job_ad: HTCondor's description of the job, the content of the file
            that ``_CONDOR_JOB_AD`` names, or None.
    """
    return (*_htcondor(environ, job_ad or ""), *named_jobs(environ))


def _htcondor(environ: Mapping[str, str], job_ad: str) -> Iterator[BatchJob]:
    found = {m[1].lower(): m[2] or m[3] for m in (re.finditer(_AD_LINE, job_ad) if job_ad else ())}
    if found or any(environ.get(sign) for sign in CONDOR_SIGNS):
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

"""
Read lists of batch jobs, as batch systems write them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any, Optional

import attrs

from wlcg_isolate.errors import Problem, TraceError

#: Where a list may have a job's ids (HTCondor's job ad; Slurm's sacct; plain
#: lists), the node and the time of its start.
_GLOBAL = ("GlobalJobId", "global_job_id")
_LOCAL = ("JobIDRaw", "JobID", "job_id", "batch_id", "JobId", "id")
_HOSTS = ("LastRemoteHost", "RemoteHost", "NodeList", "host")

#: No list of jobs is longer.
_MAX = 1 << 30


@attrs.frozen(kw_only=True)
class BatchJob:
    """
    A job of the batch system.

    Attributes:
        ids: In all forms in which a record may have it.

        host: The node, if the list says so.
    """

    ids: tuple[str, ...]
    host: Optional[str] = None


def read_batch_jobs(path: str) -> list[BatchJob]:
    """
    Read a list: JSON (``condor_history -json``, or a list of ids), JSON
    lines, ``sacct --parsable2``, or CSV with a head.

    Raises:
        TraceError: It cannot be read, or names no jobs.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            text = f.read(_MAX)
        jobs = [job for job in map(_job, _rows(text)) if job is not None]
    except OSError as e:
        raise _problem(path, e.strerror or str(e)) from e
    except (ValueError, csv.Error, RecursionError) as e:
        raise _problem(path, f"it is no list of jobs: {e}") from e
    if not jobs:
        raise _problem(path, "it names no jobs")

    return list({job.ids: job for job in jobs}.values())


def _rows(text: str) -> Iterable[Any]:
    begin = text.lstrip()[:1]
    if begin == "[":
        rows = json.loads(text)
        return rows if isinstance(rows, list) else [rows]
    if begin == "{":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    head = text.partition("\n")[0]
    if "|" not in head and "," not in head:
        # One id on each line, with or without a head.
        return [line.strip() for line in text.splitlines() if line.strip() not in ("", *_LOCAL, *_GLOBAL)]

    return csv.DictReader(io.StringIO(text), delimiter="|" if "|" in head else ",")


def _job(row: Any) -> Optional[BatchJob]:
    if isinstance(row, (str, int)) and not isinstance(row, bool):
        return BatchJob(ids=(str(row),))
    if not isinstance(row, Mapping):
        msg = f"{row!r:.40} is no job"
        raise ValueError(msg)  # noqa: TRY004 - all that can be wrong with a list is one class to the caller
    ids = [str(row[name]) for name in (*_GLOBAL, *_LOCAL) if row.get(name) not in (None, "")]
    if row.get("ClusterId") is not None:
        ids.append(f"{row['ClusterId']}.{row.get('ProcId', 0)}")
    # Slurm lists the steps of a job, too: 17.batch, 17.extern, 17.0.
    if "JobID" in row and "." in str(row["JobID"]):
        return None
    host = next((str(row[name]) for name in _HOSTS if row.get(name)), None)

    # HTCondor names the slot, too: slot1_3@wn042.
    return (
        BatchJob(ids=tuple(dict.fromkeys(ids)), host=None if host is None else host.rpartition("@")[2]) if ids else None
    )


def _problem(path: str, reason: str) -> TraceError:
    return TraceError(
        [
            Problem(
                kind="trace-unreadable",
                message=f"batch jobs cannot be read from {path}: {reason}",
                origin="--batch-jobs",
                advice="give what condor_history -json or sacct --parsable2 writes, or a CSV with a column job_id",
            )
        ]
    )

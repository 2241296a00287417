"""
What all records of one pilot process say of it, and its own first and last
record.
"""

from __future__ import annotations

import atexit
import base64
import functools
import hashlib
import os
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional

import attrs

from wlcg_isolate import _events
from wlcg_isolate.errors import TraceError
from wlcg_isolate.host import evidence
from wlcg_isolate.host.batch import BatchJob
from wlcg_isolate.host.plainfile import read_plain_within
from wlcg_isolate.policy import Policy
from wlcg_isolate.policy.journal import JournalSettings
from wlcg_isolate.trace.batch import batch_jobs
from wlcg_isolate.trace.journal import Journal, journal_for
from wlcg_isolate.trace.record import TraceRecord, timestamp_of

#: Inode of the first PID namespace of a kernel (include/linux/proc_ns.h).
_FIRST_PID_NAMESPACE = 0xEFFFFFFC

#: Names of the site that pilots have, the first that is set (GlideinWMS; OSG;
#: PanDA Pilot; DIRAC).
_SITES = ("GLIDEIN_Site", "OSG_SITE_NAME", "PILOT_SITENAME", "DIRACSITE")

#: The experiment's ids of pilots (DIRAC pilot; Harvester).
_PILOT_IDS = ("DIRAC_PILOT_STAMP", "HARVESTER_WORKER_ID")

#: HTCondor's description of a job is a few kilobytes.
_MAX_AD_BYTES = 1 << 20


def entity_id(pid: int, start_ticks: Optional[int]) -> Optional[str]:
    """
    Name a process for ever, by boot, process id and start.
    """
    boot = evidence.machine().boot_id
    if boot is None or start_ticks is None:
        return None
    digest = hashlib.sha256(f"{boot}|{pid}|{start_ticks}".encode()).digest()

    return base64.urlsafe_b64encode(digest)[:22].decode()


def start_of(start_ticks: Optional[int]) -> Optional[str]:
    """
    Tell when a process started, to the clock tick.
    """
    if start_ticks is None:
        return None
    import datetime

    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    seconds = booted + start_ticks / os.sysconf("SC_CLK_TCK")

    return timestamp_of(datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc))


def common_fields(policy: Policy, pilot_id: Optional[str] = None) -> dict[str, Any]:
    """
    Return what every record has.

    Args:
        policy: What holds here.

        pilot_id: The experiment's id of the pilot, when the request says it.
    """
    fields = dict(_of_process(os.getpid()))
    fields["wlcg.site"] = policy.trace_site or fields["wlcg.site"]
    fields["wlcg.pilot.name"] = pilot_id or fields["wlcg.pilot.name"]

    return fields


def node_fields() -> dict[str, Any]:
    """
    Return what is recorded of the node beyond its name.
    """
    node = evidence.machine()

    return {
        "host.ip": list(node.addresses) or None,
        "host.os.kernel": node.kernel,
        "host.pid_ns_ino": node.pid_namespace,
        "wlcg.ns.nested": None if node.pid_namespace is None else node.pid_namespace != _FIRST_PID_NAMESPACE,
        "related.hosts": [node.name],
        "related.ip": list(node.addresses) or None,
    }


def batch_fields(environ: Mapping[str, str], job_ad: Optional[str]) -> dict[str, Any]:
    """
    Return what batch system and computing element call the pilot's job.
    """
    jobs = batch_jobs(environ, job_ad)
    if not jobs:
        return {}
    first = attrs.asdict(jobs[0])
    everyone = [f"{job.system}:{name}" for job in jobs for name in _names(job)]
    elements = (job.submit_host for job in jobs if job.system in ("arc", "osg-ce"))

    return {
        **{f"wlcg.batch.{name}": value for name, value in first.items()},
        "wlcg.batch.all": everyone or None,
        "wlcg.batch.ce": next(elements, None),
    }


def _names(job: BatchJob) -> Iterator[str]:
    if job.global_job_id or job.job_id:
        yield str(job.global_job_id or job.job_id)
    if job.system == "slurm" and job.array_job_id:
        # So squeue(1) and sacct(1) name the task.
        yield f"{job.array_job_id}_{job.array_task_id}"


@functools.lru_cache(maxsize=1)
def _of_process(pid: int) -> Mapping[str, Any]:
    """
    Read the pilot once; a process that is forked is a pilot of its own.
    """
    node, own = evidence.machine(), evidence.process(pid)
    environ = dict(os.environ)

    return {
        "host.name": node.name,
        "host.id": node.id,
        "host.boot.id": node.boot_id,
        "process.parent.pid": pid,
        "process.parent.entity_id": entity_id(pid, own.start_ticks),
        "process.user.id": str(os.geteuid()),
        "process.real_user.id": str(os.getuid()),
        "process.group.id": str(os.getegid()),
        "wlcg.process.loginuid": own.login_uid,
        "wlcg.process.audit_session": own.audit_session,
        "wlcg.pilot.id": str(uuid.uuid4()),
        "wlcg.pilot.name": next((environ[name] for name in _PILOT_IDS if environ.get(name)), None),
        "wlcg.site": next((environ[name] for name in _SITES if environ.get(name)), None),
        **batch_fields(environ, _job_ad(environ.get("_CONDOR_JOB_AD"))),
        # A file that the pilot writes itself proves no more than that.
        "wlcg.assurance.level": 0,
    }


def _job_ad(path: Optional[str]) -> Optional[str]:
    if not path:
        return None
    try:
        # The job's own directory; where that hangs nothing runs anyway.
        return read_plain_within(5.0, path, _MAX_AD_BYTES).decode(errors="replace")
    except OSError:
        return None


#: Journals that have their first record: who wrote it, and what the last says.
_opened: weakref.WeakKeyDictionary[Journal, tuple[int, dict[str, Any]]] = weakref.WeakKeyDictionary()
_opening = threading.Lock()


def open_journal(directories: Iterable[str], policy: Policy) -> Journal:
    """
    Return this process's journal, with ``pilot.start`` as its first record
    about something.

    Raises:
        TraceError: There is no directory that takes one, or the record
            cannot be written.
    """
    journal = journal_for(directories, JournalSettings.of(policy))
    # Under the lock the pilot also gets its id, before any record of another thread can want it.
    with _opening:
        if _opened.get(journal, (0, {}))[0] != os.getpid():
            fields = {**common_fields(policy), **_process_fields()}
            write(journal, TraceRecord(action="pilot.start", fields={**fields, **node_fields(), **_start_fields()}))
            _opened[journal] = (os.getpid(), fields)
            _end_at_exit(os.getpid())

    return journal


def write(journal: Journal, record: TraceRecord, *, sync: bool = True) -> None:
    """
    Write a record, and tell the caller's log of it.

    Args:
        journal: Where.

        record: The record.

        sync: Whether to wait until it is on disk; where not, the next one
            that waits does so for both.

    Raises:
        TraceError: It is not written.
    """
    journal.write(record, sync=sync)
    known = {"trace_id": record.trace_id or None, "kind": record.fields.get("wlcg.outcome.kind")}
    # Names with dots cannot be keywords of a call, and people read them.
    known.update({"pid": record.fields.get("process.pid"), "job_id": record.fields.get("wlcg.job.id")})
    _events.emit(record.action, **{name: value for name, value in known.items() if value is not None})


def end_pilot() -> None:
    """
    Write ``pilot.end`` to all journals of this process.

    It is called when the interpreter ends in order; a pilot that goes on may
    call it when it will start no more payloads.  Whatever it starts later
    makes a new beginning.
    """
    with _opening:
        own = {journal: fields for journal, (pid, fields) in _opened.items() if pid == os.getpid()}
        for journal in own:
            del _opened[journal]
    for journal, fields in own.items():
        try:
            write(journal, TraceRecord(action="pilot.end", fields=fields))
        except TraceError as error:
            _events.emit("trace.lost", reason=str(error))


@functools.lru_cache(maxsize=1)
def _end_at_exit(_pid: int) -> None:
    """
    Have `end_pilot` called once for a process.

    It comes before what the journal itself does at the end, which is
    registered when the journal is opened.
    """
    atexit.unregister(end_pilot)
    atexit.register(end_pilot)


def _process_fields() -> dict[str, Any]:
    """
    Describe the pilot's own process, as the event's and not as its parent.
    """
    own = evidence.process(os.getpid())

    return {
        "process.pid": os.getpid(),
        "process.entity_id": entity_id(os.getpid(), own.start_ticks),
        "process.parent.pid": own.parent,
        "process.parent.entity_id": None,
        "wlcg.process.start_ticks": own.start_ticks,
    }


def _start_fields() -> dict[str, Any]:
    own = evidence.process(os.getpid())

    return {
        "process.start": start_of(own.start_ticks),
        "process.executable": evidence.executable(os.getpid()),
        "process.session_leader.pid": own.session,
        "process.group_leader.pid": own.group,
        "process.linux.cgroup": own.cgroup,
        # The package itself imports nothing from above; it is there, since this is a part of it.
        "wlcg.pilot.version": sys.modules["wlcg_isolate"].__version__,
    }


def _after_fork() -> None:
    global _opening  # noqa: PLW0603 - the parent's may be held by a thread that is not here
    _opening = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)

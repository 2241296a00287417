"""
What responders ask, as a value, and what that means for records.

Rule: this is the only place that knows which column answers what.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

import attrs

from wlcg_isolate._values import as_tuple, normal_path
from wlcg_isolate.trace.query.columns import PAYLOAD_EVENTS
from wlcg_isolate.trace.query.conditions import All, AnyOf, AtLeast, AtMost, Condition, Has, Is
from wlcg_isolate.trace.query.times import DAY

_NAMESPACES = ("pid", "mnt", "user", "net", "ipc")

#: Single answers of a question to the columns in which they are looked for.
_TEXTS: dict[str, tuple[str, ...]] = {
    "trace_ids": ("container_id",),
    "jobs": ("wlcg_job_id",),
    "tasks": ("wlcg_job_task_id",),
    "pilots": ("wlcg_pilot_id", "wlcg_pilot_name"),
    "vos": ("wlcg_vo",),
    "sites": ("site",),
    "tokens": ("wlcg_token_jti",),
    "executables": ("process_executable", "wlcg_process_args_sha256"),
}


def _texts() -> tuple[str, ...]:
    return attrs.field(factory=tuple, converter=as_tuple)


@attrs.frozen(kw_only=True)
class User:
    """
    One user, in all the ways in which records can name one.

    Attributes:
        names: Distinguished names, in the spellings that records have.

        hashes: What records say instead, under the site's keys.

        issuer: Issuer of the token.

        subject: Subject of the token.
    """

    names: tuple[str, ...] = _texts()
    hashes: tuple[str, ...] = _texts()
    issuer: Optional[str] = None
    subject: Optional[str] = None

    def ways(self) -> list[Condition]:
        """
        Say in which ways a record can be this user's.
        """
        ways: list[Condition] = []
        if self.names:
            ways.append(Is("user_name", self.names))
        if self.hashes:
            ways += [Is("user_hash", self.hashes), Is("wlcg_token_sub_hash", self.hashes)]
        token: list[Condition] = []
        if self.subject is not None:
            token.append(Is("wlcg_token_sub", (self.subject,)))
        if self.issuer is not None:
            token.append(Is("wlcg_token_iss", (self.issuer,)))
        if token:
            ways.append(All(token))
        if self.names or self.hashes:
            # A record can name a user in more than one way.
            ways.append(Has("related_user", (*self.names, *self.hashes)))

        return ways


@attrs.frozen(kw_only=True)
class Process:
    """
    A process that was seen alive, by what tells it from all others.
    """

    boot_id: str
    pid: int
    start_ticks: int


@attrs.frozen(kw_only=True)
class Question:
    """
    Which payloads are wanted; all that is said must hold, and of a list one.

    Attributes:
        since: Payloads that were there at this moment or later, in
            microseconds since 1970.

        until: Payloads that were there at this moment or before.

        skew: By how much clocks may differ, in microseconds.

        lookback: The longest life of a payload, in microseconds.

        started_after: Payloads that started after this moment.

        hosts: Names of nodes.

        addresses: Addresses of nodes.

        boots: Boots of nodes.

        pids: Processes as their pilots saw them.

        processes: Processes told apart for ever.

        cgroups: Control groups, also those above.

        namespaces: Kind, or None for any, and inode.

        users: Users.

        trace_ids: Identities of payloads.

        jobs: Jobs of the experiment.

        tasks: Tasks of the experiment.

        pilots: Pilots.

        batch_jobs: Jobs of the batch system, in either form; also arrays, and
            their tasks as Slurm names them (``ARRAY_TASK``).

        images: Images by name, path or digest.

        cvmfs: CVMFS repositories, ``NAME``, ``NAME@REVISION`` or a root hash.

        paths: Files on the node: whose working directory or bind they are in.

        inodes: Device and inode of working directories.

        tokens: Identities of tokens.

        executables: Programs, or digests of arguments.

        vos: Experiments.

        sites: Sites.

        refused: Whether only refused payloads are wanted.
    """

    since: Optional[int] = None
    until: Optional[int] = None
    skew: int = 0
    lookback: int = 10 * DAY
    started_after: Optional[int] = None
    hosts: tuple[str, ...] = _texts()
    addresses: tuple[str, ...] = _texts()
    boots: tuple[str, ...] = _texts()
    pids: tuple[int, ...] = attrs.field(factory=tuple, converter=as_tuple)
    processes: tuple[Process, ...] = attrs.field(factory=tuple, converter=as_tuple)
    cgroups: tuple[str, ...] = _texts()
    namespaces: tuple[tuple[Optional[str], int], ...] = attrs.field(factory=tuple, converter=as_tuple)
    users: tuple[User, ...] = attrs.field(factory=tuple, converter=as_tuple)
    trace_ids: tuple[str, ...] = _texts()
    jobs: tuple[str, ...] = _texts()
    tasks: tuple[str, ...] = _texts()
    pilots: tuple[str, ...] = _texts()
    batch_jobs: tuple[str, ...] = _texts()
    images: tuple[str, ...] = _texts()
    cvmfs: tuple[str, ...] = _texts()
    paths: tuple[str, ...] = _texts()
    inodes: tuple[tuple[int, int], ...] = attrs.field(factory=tuple, converter=as_tuple)
    tokens: tuple[str, ...] = _texts()
    executables: tuple[str, ...] = _texts()
    vos: tuple[str, ...] = _texts()
    sites: tuple[str, ...] = _texts()
    refused: bool = False

    def wanted(self) -> list[Condition]:
        """
        Say what a payload's records must hold, each part in some record.
        """
        parts = [self._texts(name, columns) for name, columns in _TEXTS.items()]
        parts += [
            AnyOf([Has("host_ip", self.addresses), Is("host_name", self.addresses)]) if self.addresses else None,
            _batch(self.batch_jobs) if self.batch_jobs else None,
            Is("process_pid", self.pids) if self.pids else None,
            AnyOf([_process(p) for p in self.processes]) if self.processes else None,
            Is("process_linux_cgroup", _above(self.cgroups)) if self.cgroups else None,
            AnyOf([_namespace(*n) for n in self.namespaces]) if self.namespaces else None,
            AnyOf([way for user in self.users for way in user.ways()]) if self.users else None,
            _image(self.images) if self.images else None,
            AnyOf(list(_cvmfs(self.cvmfs))) if self.cvmfs else None,
            _path(self.paths) if self.paths else None,
            AnyOf([_inode(*i) for i in self.inodes]) if self.inodes else None,
            Is("event_action", ("payload.refused",)) if self.refused else None,
        ]

        return [part for part in parts if part is not None]

    def _texts(self, name: str, columns: tuple[str, ...]) -> Optional[Condition]:
        values = getattr(self, name)

        return AnyOf([Is(column, values) for column in columns]) if values else None

    def scope(self, *, whole: bool = False) -> Condition:
        """
        Say which records need a look at all.

        Args:
            whole: Whether the end of what was found is wanted, too.
        """
        parts: list[Condition] = [Is("event_action", PAYLOAD_EVENTS)]
        # Every record of a payload names its node and boot, so this may leave records out.
        if self.hosts:
            parts.append(Is("host_name", self.hosts))
        if self.boots:
            parts.append(Is("host_boot_id", self.boots))
        first, last = self.bounds(whole=whole)
        if first is not None:
            parts.append(AtLeast("time", first))
        if last is not None:
            parts.append(AtMost("time", last))

        return All(parts)

    def bounds(self, *, whole: bool = False) -> tuple[Optional[int], Optional[int]]:
        """
        Return the first and the last moment at which a record counts.
        """
        since = [moment for moment in (self.since, self.started_after) if moment is not None]
        first = max(since) - self.skew - self.lookback if since else None
        last = None if self.until is None else self.until + self.skew + (self.lookback if whole else 0)

        return first, last

    def alive(self, began: int, ended: Optional[int]) -> bool:
        """
        Tell whether a payload with this life is wanted; without an end it may
        still run.
        """
        if self.until is not None and began > self.until + self.skew:
            return False
        if self.started_after is not None and began <= self.started_after:
            return False

        return self.since is None or ended is None or ended >= self.since - self.skew


def _process(process: Process) -> Condition:
    return All(
        [
            Is("host_boot_id", (process.boot_id,)),
            Is("process_pid", (process.pid,)),
            Is("wlcg_process_start_ticks", (process.start_ticks,)),
        ]
    )


def _batch(jobs: tuple[str, ...]) -> Condition:
    columns = ("wlcg_batch_job_id", "wlcg_batch_global_job_id", "wlcg_batch_array_job_id")
    tasks = (job.split("_") for job in jobs if job.count("_") == 1)
    array, task = "wlcg_batch_array_job_id", "wlcg_batch_array_task_id"

    return AnyOf(
        [*(Is(column, jobs) for column in columns), *(All([Is(array, (a,)), Is(task, (t,))]) for a, t in tasks)]
    )


def _above(paths: tuple[str, ...]) -> tuple[str, ...]:
    """
    List paths and all directories above them, but for the root.
    """
    return tuple(dict.fromkeys(above for path in paths for above in _parents(normal_path(path))))


def _parents(path: str) -> Iterator[str]:
    while path != "/":
        yield path
        path = path.rpartition("/")[0] or "/"


def _namespace(kind: Optional[str], inode: int) -> Condition:
    kinds = _NAMESPACES if kind is None else (kind,)

    return AnyOf([Is(f"wlcg_ns_{name}", (inode,)) for name in kinds])


def _image(images: tuple[str, ...]) -> Condition:
    columns = ("container_image_name", "wlcg_image_path", "wlcg_image_resolved_path", "wlcg_image_digest_value")

    return AnyOf([*(Is(column, images) for column in columns), Has("container_image_hash_all", images)])


def _cvmfs(asked: tuple[str, ...]) -> Iterator[Condition]:
    for column in ("cvmfs_repositories", "cvmfs_revisions", "cvmfs_root_hashes"):
        yield Has(column, asked)


def _path(paths: tuple[str, ...]) -> Condition:
    places = _above(paths)

    return AnyOf([Is("process_working_directory", places), Has("bind_sources", places)])


def _inode(device: int, inode: int) -> Condition:
    return All([Is("wlcg_workdir_dev", (device,)), Is("wlcg_workdir_ino", (inode,))])

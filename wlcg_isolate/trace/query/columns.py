"""
The columns into which a record is laid out for queries.

Rules:

1. A column is named as its field with ``_`` for each dot; a published column
   keeps name and type.
2. A value of another type than the column's is no value: the column is NULL,
   and the value stays in the column ``extra``.
3. Of an object a column holds one part, of a list of objects one text for each
   that has the parts; what they are taken from stays in ``extra``.
"""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """
    One column.

    Attributes:
        name: As in Parquet and SQL.

        fields: The record's fields; the first one that has a value counts.

        kind: ``"text"``, ``"int"``, ``"list"`` (of text), ``"part"`` (of an
            object) or ``"each"`` (of a list of objects, the parts joined with
            ``@``).

        parts: For ``"part"`` and ``"each"``: the keys, each with its older
            spellings.

        shown: Whether it is a key of the payload in an answer.

        meaning: One sentence.
    """

    name: str
    fields: tuple[str, ...]
    kind: str
    parts: tuple[tuple[str, ...], ...] = ()
    shown: bool = True
    meaning: str = ""

    @property
    def whole(self) -> bool:
        """
        Whether it holds all that its field says.
        """
        return self.kind not in ("part", "each")

    @property
    def key(self) -> str:
        """
        Its key in an answer.
        """
        return self.fields[0] if self.whole else self.name


def _of(kind: str, field: str, meaning: str, *more: str, shown: bool = True) -> Column:
    return Column(field.lstrip("@").replace(".", "_"), (field, *more), kind, (), shown, meaning)


def _each(name: str, field: str, parts: tuple[tuple[str, ...], ...], meaning: str, shown: bool = True) -> Column:
    return Column(name, (field,), "each", parts, shown, meaning)


#: What a record says of itself.
HEAD = (
    _of("text", "@timestamp", "when, as the record says it", shown=False),
    _of("text", "event.action", "what happened", shown=False),
    _of("text", "event.id", "identity of the record", shown=False),
    _of("int", "event.sequence", "number in its file", shown=False),
    _of("text", "container.id", "the payload's trace id", shown=False),
    Column("file_id", ("wlcg.integrity",), "part", (("file_id",),), False, "identity of its file"),
    Column(
        "recovered_file_id",
        ("wlcg.journal.recovered",),
        "part",
        (("file_id",),),
        False,
        "the file of a pilot that was found dead",
    ),
)

#: What records say of a payload.
FACTS = (
    _of("text", "host.name", "the node"),
    _of("text", "host.boot.id", "the node's boot"),
    _of("list", "host.ip", "the node's addresses"),
    _of("int", "host.pid_ns_ino", "inode of the PID namespace of the pilot"),
    _of("text", "wlcg.site", "the site"),
    _of("int", "process.pid", "the payload's process, as the pilot sees it"),
    _of("int", "wlcg.process.start_ticks", "when that process started, in ticks since boot"),
    _of("text", "process.entity_id", "digest of boot, process and start"),
    _of("int", "process.parent.pid", "the pilot's process"),
    _of("text", "process.parent.entity_id", "digest of boot, process and start of the pilot"),
    _of("text", "process.executable", "the program that was started"),
    _of("text", "wlcg.process.args_sha256", "digest of the arguments"),
    _of("text", "process.working_directory", "the working directory on the node", "wlcg.workdir.path"),
    _of("int", "wlcg.workdir.dev", "device of the working directory"),
    _of("int", "wlcg.workdir.ino", "inode of the working directory"),
    _of("text", "process.linux.cgroup", "the control group"),
    _of("int", "wlcg.ns.pid", "inode of the PID namespace"),
    _of("int", "wlcg.ns.mnt", "inode of the mount namespace"),
    _of("int", "wlcg.ns.user", "inode of the user namespace"),
    _of("int", "wlcg.ns.net", "inode of the network namespace"),
    _of("int", "wlcg.ns.ipc", "inode of the IPC namespace"),
    _of("text", "process.user.id", "number of the Unix user"),
    _of("text", "wlcg.vo", "the experiment", "user.domain"),
    _of("text", "user.name", "the user, where records are clear"),
    _of("text", "user.hash", "the user, under the site's key"),
    _of("text", "wlcg.token.iss", "issuer of the token"),
    _of("text", "wlcg.token.sub", "subject of the token"),
    _of("text", "wlcg.token.sub_hash", "subject of the token, under the site's key"),
    _of("text", "wlcg.token.jti", "identity of the token"),
    _of("list", "related.user", "the user, in every form"),
    _of("list", "user.roles", "groups and roles", "wlcg.groups"),
    _of("text", "wlcg.identity.source", "where the identity comes from"),
    _of("text", "wlcg.identity.mode", "clear, hashed or sealed"),
    _of("text", "wlcg.job.id", "the experiment's job"),
    _of("text", "wlcg.job.task_id", "the experiment's task"),
    _of("text", "wlcg.pilot.id", "the pilot"),
    _of("text", "wlcg.pilot.name", "the pilot, as its experiment calls it"),
    _of("text", "wlcg.batch.system", "the batch system"),
    _of("text", "wlcg.batch.job_id", "the batch system's job"),
    _of("text", "wlcg.batch.global_job_id", "the batch system's job, unique everywhere"),
    _of("text", "wlcg.batch.array_job_id", "the batch system's array of jobs"),
    _of("text", "wlcg.batch.array_task_id", "number of the job in that array"),
    _of("text", "wlcg.batch.slot", "the batch system's slot"),
    _of("text", "wlcg.batch.ce", "the computing element"),
    _of("text", "container.runtime", "the runtime"),
    _of("text", "wlcg.container.runtime_version", "version of the runtime"),
    _of("text", "container.image.name", "the image as asked for"),
    _of("text", "wlcg.image.path", "the image"),
    _of("text", "wlcg.image.resolved_path", "the image, links resolved"),
    _of("text", "wlcg.image.digest.value", "digest of the image", "wlcg.image.sif_sha256"),
    _of("list", "container.image.hash.all", "digests of the image", "container.image.repo_digests"),
    _each("bind_sources", "wlcg.isolation.binds", (("source", "src"),), "what was bound", shown=False),
    _each("cvmfs_repositories", "wlcg.cvmfs", (("fqrn",),), "CVMFS repositories"),
    _each("cvmfs_revisions", "wlcg.cvmfs", (("fqrn",), ("revision",)), "CVMFS repositories, `NAME@REVISION`"),
    _each("cvmfs_root_hashes", "wlcg.cvmfs", (("root_hash",),), "root hashes of CVMFS repositories"),
    _of("text", "wlcg.authz.decision", "what was decided on the payload"),
    _of("text", "wlcg.authz.list_version", "version of the list of bans in force"),
    _each("refusal_kinds", "event.reason", (("kind",),), "why it was refused"),
    _of("text", "event.outcome", "success or failure"),
    _of("int", "process.exit_code", "exit status"),
    _of("int", "wlcg.process.term_signal", "signal that ended it"),
    _of("text", "wlcg.outcome.kind", "how it ended"),
    _of("text", "wlcg.outcome.failed_by", "who failed"),
    _of("int", "wlcg.assurance.level", "how far the record can be trusted"),
)

#: All that are laid out, in their order in Parquet.
COLUMNS = (*HEAD, *FACTS)

#: What is worked out from a record: name, type and meaning.
DERIVED = (
    ("time", "int", "`@timestamp` in microseconds since 1970"),
    ("payload_id", "text", "`container.id`, or `event.id` of a record that has none"),
    ("day", "text", "the day of `@timestamp` in UTC"),
    ("site", "text", "`wlcg.site`, or what was named when the record was exported"),
    ("owner", "text", "the user, however the record names one, or nothing"),
    ("extra", "text", "all fields that no column holds wholly, as a JSON object"),
)

#: Key in an answer to its column.
KEYS = {c.key: c for c in FACTS if c.shown}

#: Records of these events are about a payload.
PAYLOAD_EVENTS = tuple(
    "payload." + word for word in "authorised authz refused start running suspend resume kill killed end".split()
)

#: They say that a payload is over.
FINAL_EVENTS = ("payload.end", "payload.refused")

"""
Fields of the event, the node and the pilot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wlcg_isolate.trace.model.row import ECS, OWN, row

#: Text, many times.
_TEXTS = tuple[str, ...]

FIELDS = (
    row("@timestamp", str, ECS, "all!", "When: UTC with microseconds (RFC 3339)."),
    row("event.action", str, ECS, "all!", "What happened: one of the events above."),
    row("event.id", str, ECS, "all!", "Identity of this record (a UUID)."),
    row("event.kind", str, ECS, "all!", "`event`."),
    row("event.category", _TEXTS, ECS, "all!", "What the event is about, in ECS's words."),
    row("event.type", _TEXTS, ECS, "all!", "What kind of event it is, in ECS's words."),
    row("event.dataset", str, ECS, "all!", "`wlcg_isolate`."),
    row("event.sequence", int, ECS, "all", "Number of the record in its file; the journal gives it."),
    row("ecs.version", str, ECS, "all!", "Version of the Elastic Common Schema."),
    row("wlcg.schema_version", int, OWN, "all!", "Version of this table."),
    row("wlcg.integrity", Mapping[str, Any], OWN, "all", "Chain of the file; the journal gives it, and it comes last."),
    row("wlcg.assurance.level", int, OWN, "own!", "How much the record proves; 0: the pilot says so itself."),
    row("wlcg.assurance.channels", _TEXTS, OWN, "payload.end", "Required receivers that had the record of the start "
        "before the first instruction, as the pilot says; ask them."),
    row("host.name", str, ECS, "own!", "The node's own name for itself."),
    row("host.id", str, ECS, "own", "machine-id(5)."),
    row("host.boot.id", str, ECS, "own", "Identity of this boot."),
    row("host.ip", _TEXTS, ECS, "pilot.start payload.start", "The node's addresses but loopback and link-local ones."),
    row("host.os.kernel", str, ECS, "pilot.start payload.start", "Release of the kernel."),
    row("host.pid_ns_ino", int, ECS, "pilot.start payload.start", "PID namespace of the pilot."),
    row("wlcg.ns.nested", bool, OWN, "pilot.start payload.start", "Whether the pilot itself is in a container."),
    row("wlcg.site", str, OWN, "own", "The site: `trace.site`, or what the pilot calls it."),
    row("wlcg.pilot.id", str, OWN, "own!", "Identity of this pilot process (a UUID)."),
    row("wlcg.pilot.name", str, OWN, "own", "The experiment's id of the pilot."),
    row("wlcg.pilot.version", str, OWN, "pilot.start!", "Version of this library."),
    row("wlcg.batch.system", str, OWN, "own", "`htcondor`, `slurm`, `pbs`, `lsf`, `oar`, `gridengine`, `kubernetes`, "
        "or the computing element where no batch system shows itself."),
    row("wlcg.batch.job_id", str, OWN, "own", "The batch system's id of the pilot's job."),
    row("wlcg.batch.global_job_id", str, OWN, "own", "A name of that job that no other cluster has."),
    row("wlcg.batch.array_job_id", str, OWN, "own", "The array of jobs that it is a task of."),
    row("wlcg.batch.array_task_id", str, OWN, "own", "Its number in that array."),
    row("wlcg.batch.queue", str, OWN, "own", "Queue, partition or name space."),
    row("wlcg.batch.slot", str, OWN, "own", "Place on the node."),
    row("wlcg.batch.submit_host", str, OWN, "own", "Where the job was submitted."),
    row("wlcg.batch.ce", str, OWN, "own", "Computing element through which it came."),
    row("wlcg.batch.all", _TEXTS, OWN, "own", "All names of the job, `SYSTEM:ID`, the innermost first."),
    row("related.hosts", _TEXTS, ECS, "pilot.start payload.start", "Names of hosts, to search by."),
    row("related.ip", _TEXTS, ECS, "pilot.start payload.start", "Addresses, to search by."),
)  # fmt: skip

"""
One line of evidence about a payload.

Names follow the Elastic Common Schema 9, OpenTelemetry where that has none,
and ``wlcg.*`` for the rest.  Values of variables and command lines are not
recorded: arguments as their number and SHA-256.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Optional

import attrs

from wlcg_isolate._values import as_mapping
from wlcg_isolate.errors import Problem
from wlcg_isolate.launch import Ready
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.plan import Plan
from wlcg_isolate.request import Identity, Payload, Request

#: Version of the record's shape.
SCHEMA_VERSION = 1


class _Event(NamedTuple):
    category: str
    type: str


#: `event.action` to the words that ECS has for what it is.
EVENTS: Mapping[str, _Event] = {
    "log.genesis": _Event("configuration", "creation"),
    "log.checkpoint": _Event("configuration", "info"),
    "log.recovered": _Event("configuration", "info"),
    "log.purged": _Event("configuration", "deletion"),
    "log.close": _Event("configuration", "end"),
    "pilot.start": _Event("session", "start"),
    "pilot.end": _Event("session", "end"),
    "payload.authorised": _Event("iam", "allowed"),
    "payload.refused": _Event("process", "denied"),
    "payload.start": _Event("process", "start"),
    "payload.running": _Event("process", "info"),
    "payload.killed": _Event("process", "change"),
    "payload.end": _Event("process", "end"),
}


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


@attrs.frozen(kw_only=True)
class TraceRecord:
    """
    One event in the life of a payload.

    Attributes:
        action: What happened, a key of `EVENTS`.

        trace_id: The payload's identity; the same in all of its records and
            in its variable ``WLCG_ISOLATE_ID``.

        fields: What is recorded, by dotted name, in JSON's types.

        timestamp: When, UTC with microseconds (RFC 3339).

        event_id: Identity of this event (a UUID).
    """

    action: str = attrs.field(validator=attrs.validators.in_(tuple(EVENTS)))
    trace_id: str
    fields: Mapping[str, Any] = attrs.field(factory=dict, converter=as_mapping)
    timestamp: str = attrs.field(factory=_now)
    event_id: str = attrs.field(factory=lambda: str(uuid.uuid4()))

    @classmethod
    def started(cls, plan: Plan, process: Ready) -> TraceRecord:
        """
        Record that a payload is about to execute its first instruction.
        """
        fields = {
            **_identity_fields(plan.request.identity),
            **_payload_fields(plan.request.payload),
            "process.pid": process.pid,
            "process.vpid": process.inner_pid,
            "wlcg.process.start_ticks": process.start_ticks,
            **{f"wlcg.ns.{name}": inode for name, inode in process.namespaces.items()},
            "process.working_directory": plan.workdir,
            "container.runtime": plan.runtime.flavour,
            "wlcg.container.runtime_version": plan.runtime.version,
            "wlcg.container.runtime_path": plan.runtime.path,
            "container.image.name": plan.image.requested,
            "wlcg.image.path": plan.image.path,
            "wlcg.image.resolved_path": plan.image.resolved_path,
            "wlcg.image.form": plan.image.form,
            "wlcg.image.architecture": plan.image.architecture,
            "wlcg.image.digest.kind": plan.image.digest.kind,
            "wlcg.image.digest.value": plan.image.digest.value,
            "wlcg.image.verified_by": list(plan.image.verified_by),
            "wlcg.image.mount": plan.image.mount,
            "wlcg.isolation.mode": plan.runtime.mode,
            "wlcg.isolation.starter": process.starter,
            "wlcg.isolation.starter_reason": process.starter_reason or None,
            **_isolation_fields(plan, process),
            "wlcg.isolation.binds": [
                {"source": b.source, "target": b.target, "writable": b.writable, "origin": b.origin}
                for b in plan.mounts
            ],
            "wlcg.isolation.environment": {d.name: d.rule for d in plan.environment if d.value is not None},
        }

        return cls(action="payload.start", trace_id=plan.trace_id, fields={**_common_fields(), **fields})

    @classmethod
    def ended(cls, plan: Plan, process: Ready, outcome: Outcome) -> TraceRecord:
        """
        Record how a payload ended.
        """
        fields = {
            **_identity_fields(plan.request.identity),
            "process.pid": process.pid,
            "wlcg.process.start_ticks": process.start_ticks,
            **_outcome_fields(outcome),
        }

        return cls(action="payload.end", trace_id=plan.trace_id, fields={**_common_fields(), **fields})

    @classmethod
    def refused(
        cls,
        problems: Iterable[Problem],
        outcome: Outcome,
        request: Optional[Request] = None,
    ) -> TraceRecord:
        """
        Record that a payload was not started, and every reason.

        Args:
            problems: The reasons.

            outcome: What the caller is told; its trace id is the record's.

            request: What was asked, as far as it was understood.
        """
        fields: dict[str, Any] = {
            "event.reason": [{"kind": p.kind, "message": p.message, "origin": p.origin} for p in problems],
            **_outcome_fields(outcome),
        }
        if request is not None:
            fields.update(_identity_fields(request.identity))
            fields.update(_payload_fields(request.payload))
            fields["container.image.name"] = request.image or request.platform
            fields["process.working_directory"] = request.workdir

        return cls(
            action="payload.refused",
            trace_id=outcome.trace_id or "",
            fields={**_common_fields(), **fields},
        )

    def to_dict(self) -> dict[str, Any]:
        """
        Return the record in plain types; what is not known is left out.
        """
        head = {
            "@timestamp": self.timestamp,
            "event.action": self.action,
            "event.id": self.event_id,
            "event.kind": "event",
            "event.category": [EVENTS[self.action].category],
            "event.type": [EVENTS[self.action].type],
            "event.dataset": "wlcg_isolate",
            "ecs.version": "9.4.0",
            "wlcg.schema_version": SCHEMA_VERSION,
            "container.id": self.trace_id,
        }

        return {**head, **{k: v for k, v in self.fields.items() if v is not None}}


def _common_fields() -> dict[str, Any]:
    return {
        "host.name": os.uname().nodename,
        "host.boot.id": _boot_id(),
        "process.parent.pid": os.getpid(),
        "process.user.id": str(os.geteuid()),
        "process.group.id": str(os.getegid()),
        # A file that the pilot writes itself proves no more than that.
        "wlcg.assurance.level": 0,
    }


def _boot_id() -> Optional[str]:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
            return f.read().strip()
    except OSError:
        return None


def _identity_fields(identity: Identity) -> dict[str, Any]:
    known = any(value is not None for value in attrs.asdict(identity).values())

    return {
        "wlcg.vo": identity.vo,
        "wlcg.job.id": identity.job_id,
        "user.name": identity.user_dn,
        "wlcg.token.sub": identity.user_sub,
        "wlcg.token.iss": identity.user_iss,
        # Nothing was verified here: the pilot said so.
        "wlcg.identity.source": "wms-asserted" if known else "none",
    }


def _isolation_fields(plan: Plan, process: Ready) -> dict[str, Any]:
    """
    Say what surrounds the payload: what was asked for, and what was seen.
    """
    isolation = plan.isolation
    wanted = isolation.limits.given
    filtered = process.starter == "loader" and not (isolation.nesting and isolation.keyrings)

    return {
        "wlcg.isolation.root": isolation.to_dict()["root"],
        "wlcg.isolation.network": isolation.network,
        "wlcg.isolation.nesting": isolation.nesting,
        "wlcg.isolation.keyrings": isolation.keyrings,
        "wlcg.isolation.filtered": filtered,
        "wlcg.isolation.less": list(isolation.less),
        "wlcg.isolation.differences": list(process.differences),
        "wlcg.isolation.limits": dict(process.limits),
        "wlcg.isolation.limits_missing": [name for name in wanted if name not in process.limits],
        "wlcg.isolation.cgroup": process.cgroup,
    }


def _payload_fields(payload: Payload) -> dict[str, Any]:
    digest = hashlib.sha256()
    for word in payload.command:
        digest.update(os.fsencode(word) + b"\0")

    return {
        "process.args_count": len(payload.command),
        "wlcg.process.args_sha256": digest.hexdigest(),
    }


def _outcome_fields(outcome: Outcome) -> dict[str, Any]:
    usage = outcome.usage
    fields: dict[str, Any] = {
        "event.outcome": "success" if outcome.failed_by is None else "failure",
        "process.exit_code": outcome.exit_code,
        "wlcg.process.term_signal": outcome.signal,
        "wlcg.outcome.started": outcome.started,
        "wlcg.outcome.failed_by": outcome.failed_by,
        "wlcg.outcome.kind": outcome.kind,
        "wlcg.outcome.retry": outcome.retry,
    }
    if usage is not None:
        fields["event.duration"] = int(usage.wall_seconds * 1_000_000_000)
        fields["wlcg.usage.cpu_seconds"] = usage.cpu_seconds
        fields["wlcg.usage.max_rss_bytes"] = usage.max_rss_bytes

    return fields

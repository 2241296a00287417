"""
What is recorded of requests, plans, processes and outcomes.

Values of variables are not recorded, and arguments as their number and
digest unless policy wants them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, Optional

import attrs

from wlcg_isolate import _render
from wlcg_isolate._scrub import REMOVED, scrub
from wlcg_isolate.errors import Problem
from wlcg_isolate.host import evidence
from wlcg_isolate.launch import Ready
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.plan import Plan
from wlcg_isolate.request import Payload, Request
from wlcg_isolate.trace.pilot import entity_id, start_of

#: Options of the runtime that the record has elsewhere, with their values.
_ELSEWHERE = ("--mount", "--workdir", "--pwd")

#: An option after which a secret follows as a word of its own.
_HIDES_NEXT = r"(?i)-{1,2}[\w-]*(passw(or)?d|passphrase|secret|token|api-?key|credential)s?\Z"


def payload_fields(payload: Payload, *, arguments: bool) -> dict[str, Any]:
    """
    Describe a command.

    Args:
        payload: The command.

        arguments: Whether it is shown, with credentials taken out.
    """
    digest = hashlib.sha256()
    for word in payload.command:
        digest.update(os.fsencode(word) + b"\0")

    return {
        "process.args_count": len(payload.command),
        "wlcg.process.args_sha256": digest.hexdigest(),
        "process.args": list(_shown(payload.command)) if arguments else None,
    }


def _shown(command: Iterable[str]) -> Iterator[str]:
    secret = False
    for word in command:
        yield REMOVED if secret else scrub(word)
        secret = bool(re.match(_HIDES_NEXT, word))


def request_fields(request: Request) -> dict[str, Any]:
    """
    Describe what was asked.
    """
    return {
        "wlcg.vo": request.identity.vo,
        "user.domain": request.identity.vo,
        "wlcg.job.id": request.identity.job_id,
        "container.image.name": _clean(request.image or request.platform),
        "process.working_directory": request.workdir,
        **payload_fields(request.payload, arguments=False),
    }


def plan_fields(plan: Plan) -> dict[str, Any]:
    """
    Describe what was decided.
    """
    image, runtime = plan.image, plan.runtime
    device, inode = evidence.owner_of(plan.workdir) or (None, None)
    options = _render.runtime_argv(plan, plan.scratch)
    hashes = [] if image.digest.value is None else [f"sha256:{image.digest.value}"]

    return {
        "wlcg.vo": plan.request.identity.vo,
        "user.domain": plan.request.identity.vo,
        "wlcg.job.id": plan.request.identity.job_id,
        **payload_fields(plan.request.payload, arguments=plan.policy.trace_record_arguments),
        "process.working_directory": plan.workdir,
        "wlcg.workdir.dev": device,
        "wlcg.workdir.ino": inode,
        "container.runtime": runtime.flavour,
        "wlcg.container.runtime_version": runtime.version,
        "wlcg.container.runtime_path": runtime.path,
        "container.image.name": _clean(image.requested),
        "container.image.hash.all": hashes or None,
        "related.hash": hashes or None,
        "wlcg.image.path": _clean(image.path),
        "wlcg.image.resolved_path": _clean(image.resolved_path),
        "wlcg.image.form": image.form,
        "wlcg.image.architecture": image.architecture,
        "wlcg.image.digest.kind": image.digest.kind,
        "wlcg.image.digest.value": image.digest.value,
        "wlcg.image.verified_by": list(image.verified_by),
        "wlcg.image.mount": image.mount,
        "container.security_context.privileged": False,
        "wlcg.isolation.mode": runtime.mode,
        "wlcg.isolation.layer": runtime.layer,
        "wlcg.isolation.flags": [w for w in options if w.startswith("--") and w not in _ELSEWHERE],
        "wlcg.isolation.binds": [
            {"source": b.source, "target": b.target, "writable": b.writable, "origin": b.origin} for b in plan.mounts
        ],
        "wlcg.isolation.environment": {d.name: d.rule for d in plan.environment if d.value is not None},
        "wlcg.process.env_marker": plan.trace_id,
    }


def process_fields(ready: Ready) -> dict[str, Any]:
    """
    Describe the process that becomes the payload.
    """
    seen = evidence.process(ready.pid)

    return {
        **handle_fields(ready),
        "process.vpid": ready.inner_pid,
        "process.start": start_of(ready.start_ticks),
        "process.session_leader.pid": seen.session,
        "process.group_leader.pid": seen.group,
        "process.linux.cgroup": seen.cgroup,
        "wlcg.process.ppid": seen.parent,
        "wlcg.process.init_pid": ready.init,
        "wlcg.isolation.starter": ready.starter,
        "wlcg.isolation.starter_reason": scrub(ready.starter_reason) or None,
        **{f"wlcg.ns.{name}": inode for name, inode in ready.namespaces.items()},
    }


def isolation_fields(plan: Plan, ready: Ready) -> dict[str, Any]:
    """
    Say what surrounds the payload: what was asked for, and what was seen.
    """
    isolation = plan.isolation
    wanted = isolation.limits.given

    return {
        "wlcg.isolation.root": isolation.to_dict()["root"],
        "wlcg.isolation.network": isolation.network,
        "wlcg.isolation.nesting": isolation.nesting,
        "wlcg.isolation.keyrings": isolation.keyrings,
        "wlcg.isolation.filtered": ready.starter == "loader" and not (isolation.nesting and isolation.keyrings),
        "wlcg.isolation.less": list(isolation.less),
        "wlcg.isolation.differences": list(ready.differences),
        "wlcg.isolation.limits": dict(ready.limits),
        "wlcg.isolation.limits_missing": [name for name in wanted if name not in ready.limits],
        "wlcg.isolation.cgroup": ready.cgroup,
    }


def handle_fields(ready: Ready) -> dict[str, Any]:
    """
    Name the payload's process.
    """
    return {
        "process.pid": ready.pid,
        "process.entity_id": entity_id(ready.pid, ready.start_ticks),
        "wlcg.process.start_ticks": ready.start_ticks,
    }


def outcome_fields(outcome: Outcome) -> dict[str, Any]:
    """
    Describe an end, or why there was no beginning.
    """
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
        fields.update((f"wlcg.usage.{name}", value) for name, value in attrs.asdict(usage).items())
        # The same as the duration.
        del fields["wlcg.usage.wall_seconds"]

    return fields


def reasons(problems: Iterable[Problem]) -> list[dict[str, str]]:
    """
    List what was wrong.
    """
    return [{"kind": p.kind, "message": p.message, "origin": p.origin} for p in problems]


def decisions(plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """
    List all decisions of a plan as events for a log; names of variables,
    never their values.
    """
    yield "plan.runtime", {"path": plan.runtime.path, "mode": plan.runtime.mode, "reason": plan.runtime.reason}
    yield "plan.image", {"path": _clean(plan.image.resolved_path), "form": plan.image.form, "mount": plan.image.mount}
    for bind in plan.binds:
        names = ("source", "target", "writable", "origin", "decision", "reason")
        yield "plan.bind", {name: getattr(bind, name) for name in names}
    for variable in plan.environment:
        yield "plan.variable", {name: getattr(variable, name) for name in ("name", "decision", "rule", "reason")}
    for warning in plan.warnings:
        yield "plan.warning", {"reason": scrub(warning)}


def _clean(text: Optional[str]) -> Optional[str]:
    """
    A reference of an image may be a URL with a password in it.
    """
    return None if text is None else scrub(text)

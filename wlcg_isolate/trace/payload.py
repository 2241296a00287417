"""
The records of one payload, from its authorisation to its end.

What they share is found out once: who it runs for, and what the pilot is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Callable, Optional

from wlcg_isolate import _events
from wlcg_isolate._scrub import without
from wlcg_isolate.errors import Problem
from wlcg_isolate.host import evidence
from wlcg_isolate.host.repositories import RepositoryLook, repositories_of
from wlcg_isolate.launch import Ready
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.plan import Plan
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Identity, Request
from wlcg_isolate.trace import describe
from wlcg_isolate.trace.identity import identify
from wlcg_isolate.trace.pilot import common_fields, node_fields
from wlcg_isolate.trace.protect import PERSON, WITHHELD, Keys, Protected, protected
from wlcg_isolate.trace.record import TraceRecord

#: A payload does not wait longer for what is only good to know.
_MOST_SECONDS = 5.0

#: Shorter words are in too many others to be taken out.
_LEAST_NAME = 3


def started(
    plan: Plan,
    process: Ready,
    who: Protected,
    *,
    planned: Mapping[str, Any],
    cvmfs: Optional[RepositoryLook] = None,
) -> TraceRecord:
    """
    Record that a payload is about to execute its first instruction.

    Args:
        plan: Its plan.

        process: Its process.

        who: For whom it runs.

        planned: What `describe.plan_fields` says of the plan; made before,
            since the container waits for this record.

        cvmfs: The look at repositories that was begun with the launch.
    """
    fields = {
        **_shared(plan.policy, plan.request.identity, who),
        **node_fields(),
        **planned,
        **describe.process_fields(process),
        **describe.isolation_fields(plan, process),
        "wlcg.cvmfs": None if cvmfs is None else cvmfs.result() or None,
        "wlcg.authz.decision": "allowed",
    }

    return _record("payload.start", plan.trace_id, fields, who)


def authorised(plan: Plan, who: Protected) -> TraceRecord:
    """
    Record that a payload may run, before anything of it is started.
    """
    fields = {
        **_shared(plan.policy, plan.request.identity, who),
        **describe.request_fields(plan.request),
        "process.working_directory": plan.workdir,
        "wlcg.image.resolved_path": plan.image.resolved_path,
        "wlcg.authz.decision": "allowed",
        "wlcg.authz.backend": ["policy"],
        "wlcg.authz.warnings": list(plan.warnings) or None,
    }

    return _record("payload.authorised", plan.trace_id, fields, who)


def refused(
    problems: Iterable[Problem],
    outcome: Outcome,
    request: Optional[Request],
    policy: Policy,
    who: Protected,
) -> TraceRecord:
    """
    Record that a payload was not started, and every reason.

    Args:
        problems: The reasons.

        outcome: What the caller is told; its trace id is the record's.

        request: What was asked, as far as it was understood.

        policy: What holds here, as far as it is known.

        who: For whom.
    """
    fields: dict[str, Any] = {
        **_shared(policy, Identity() if request is None else request.identity, who),
        "event.reason": describe.reasons(problems),
        "wlcg.authz.decision": "denied",
        **describe.outcome_fields(outcome),
        **({} if request is None else describe.request_fields(request)),
    }

    return _record("payload.refused", outcome.trace_id or "", fields, who)


def running(plan: Plan, process: Ready, who: Protected) -> Optional[TraceRecord]:
    """
    Record that a payload still runs, and as what program; None when it does
    not, though nobody has seen its end yet.
    """
    seen = evidence.process(process.pid)
    if seen.ended or seen.start_ticks != process.start_ticks:
        return None
    fields = {
        **_shared(plan.policy, plan.request.identity, who),
        **describe.handle_fields(process),
        "wlcg.vo": plan.request.identity.vo,
        "wlcg.job.id": plan.request.identity.job_id,
        "process.executable": evidence.executable(process.pid),
        "process.linux.cgroup": seen.cgroup,
    }

    return _record("payload.running", plan.trace_id, fields, who)


def killed(plan: Plan, process: Ready, who: Protected, reason: str, number: int) -> TraceRecord:
    """
    Record that a payload was told to end.

    Args:
        plan: Its plan.

        process: Its process.

        who: For whom it runs.

        reason: ``"time-limit"``, ``"stop"``, ``"signal"`` (passed on by the
            pilot) or ``"kill"`` (the pilot gives it up).

        number: The signal.
    """
    fields = {
        **_shared(plan.policy, plan.request.identity, who),
        **describe.handle_fields(process),
        "wlcg.vo": plan.request.identity.vo,
        "wlcg.job.id": plan.request.identity.job_id,
        "wlcg.kill.reason": reason,
        "wlcg.kill.signal": number,
    }

    return _record("payload.killed", plan.trace_id, fields, who)


def ended(plan: Plan, process: Ready, outcome: Outcome, who: Protected, *, channels: Iterable[str] = ()) -> TraceRecord:
    """
    Record how a payload ended.

    Args:
        plan: Its plan.

        process: Its process.

        outcome: How.

        who: For whom it ran.

        channels: Receivers that had the record of its start before it began,
            which that record could not know.
    """
    fields = {
        **_shared(plan.policy, plan.request.identity, who),
        **describe.handle_fields(process),
        "wlcg.vo": plan.request.identity.vo,
        "wlcg.job.id": plan.request.identity.job_id,
        "container.image.name": describe.request_fields(plan.request)["container.image.name"],
        "wlcg.assurance.channels": list(channels) or None,
        **describe.outcome_fields(outcome),
    }

    return _record("payload.end", plan.trace_id, fields, who)


def look_at_repositories(plan: Plan) -> RepositoryLook:
    """
    Begin to ask CVMFS for the state of what the payload will see.
    """
    root = plan.policy.on_node("/cvmfs")
    paths = (plan.image.resolved_path, *(bind.source for bind in plan.mounts), plan.runtime.path)

    return RepositoryLook(repositories_of(paths, root), min(plan.policy.touch_seconds(root), _MOST_SECONDS), root)


def withheld(request: Optional[Request]) -> Protected:
    """
    Leave an identity out, and its names out of messages.
    """
    identity = Identity() if request is None else request.identity

    return protected(identify(identity), WITHHELD, Keys(), "")


def tell_decisions(plan: Plan) -> None:
    """
    Tell the caller's log, at level debug, what was decided.
    """
    if _events.heard():
        for event, values in describe.decisions(plan):
            _events.emit(event, level="debug", trace_id=plan.trace_id, **values)


def _shared(policy: Policy, identity: Identity, who: Protected) -> dict[str, Any]:
    return {**common_fields(policy, identity.pilot_id), **who.fields}


def _record(action: str, trace_id: str, fields: dict[str, Any], who: Protected) -> TraceRecord:
    """
    Make a record in which no free text names who must not be named.
    """
    hidden = [name for name in who.hidden if len(name) >= _LEAST_NAME]
    if hidden:
        for field in ("event.reason", "process.args", "wlcg.authz.warnings"):
            if fields.get(field) is not None:
                fields[field] = _each(fields[field], lambda text: without(text, hidden, PERSON))

    return TraceRecord(action=action, trace_id=trace_id, fields=_each(fields, _unicode))


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """
    Change every text in a value of plain types.
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: _each(item, change) for name, item in value.items()}

    return [_each(item, change) for item in value] if isinstance(value, list) else value


def _unicode(text: str) -> str:
    """
    Escape bytes that are no text: readers in other languages refuse a whole
    record for one of them, and so a payload could hide.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()

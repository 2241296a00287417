"""
Show that payloads can be traced, and where they cannot.

Rule: what is reported as found was looked up again by what a responder would
have: the node and a moment, the user, the job.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from typing import Any, Optional

from wlcg_isolate.trace.query.answer import payloads as payloads_found
from wlcg_isolate.trace.query.batchlist import BatchJob
from wlcg_isolate.trace.query.conditions import All, AtLeast, AtMost, Condition, Is
from wlcg_isolate.trace.query.engine import Engine
from wlcg_isolate.trace.query.payloads import Payload, payloads_of
from wlcg_isolate.trace.query.question import Question, User
from wlcg_isolate.trace.query.rows import Row
from wlcg_isolate.trace.query.times import recorded

_BATCH = tuple(f"wlcg_batch_{name}" for name in ("job_id", "global_job_id", "array_job_id", "array_task_id"))

#: What must be known of a payload, to the keys of which one will do.
_NEEDED: dict[str, tuple[tuple[str, ...], ...]] = {
    "owner": (("user.name", "user.hash", "wlcg.token.sub", "wlcg.token.sub_hash"),),
    "activity": (
        ("wlcg.job.id",),
        ("wlcg.image.resolved_path", "container.image.name", "wlcg.image.digest.value"),
        ("wlcg.process.args_sha256", "process.executable"),
    ),
    "node": (("host.name",), ("process.pid",), ("host.boot.id",)),
}


def audit(
    engine: Engine,
    question: Question,
    *,
    seed: Optional[int] = None,
    count: int = 1,
    jobs: Optional[Sequence[BatchJob]] = None,
) -> dict[str, Any]:
    """
    Look at payloads by chance, and at the coverage of all.

    Args:
        engine: Who is asked.

        question: From which payloads.

        seed: Makes the choice repeatable.

        count: How many payloads are looked at closely.

        jobs: What the batch system ran, if that is known.

    Returns:
        `samples`, `coverage` and `findings` (text, empty when nothing is
        missing), as the reference tells.
    """
    payloads = payloads_found(engine, question)
    ran = [one for one in payloads if one["state"] != "refused"]
    dice = random.Random(seed)  # noqa: S311 - a choice that an auditor can repeat
    chosen = dice.sample(sorted(ran, key=lambda one: one["trace_id"]), min(count, len(ran)))
    samples = [_sample(engine, one, question) for one in chosen]
    covered = coverage(payloads, jobs, _pilots(engine, question))

    return {"samples": samples, "coverage": covered, "findings": [*_of_samples(samples), *_of_coverage(covered)]}


def _sample(engine: Engine, payload: Payload, question: Question) -> dict[str, Any]:
    begin = time.perf_counter()
    parts = {part: _part(payload, keys) for part, keys in _NEEDED.items()}
    for part, asked in _lookups(payload, question):
        # An answer counts when it leads back to this payload.
        again = payloads_of(engine.records(asked))
        parts[part]["leads_back"] = any(one["trace_id"] == payload["trace_id"] for one in again)
        parts[part]["payloads"] = len(again)
    known = all(not part["missing"] and part.get("leads_back") for part in parts.values())

    return {
        "trace_id": payload["trace_id"],
        "host": payload["host.name"],
        "started": payload["started"],
        "traced": known,
        **parts,
        "seconds": round(time.perf_counter() - begin, 3),
    }


def _part(payload: Payload, groups: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    found = {key: payload[key] for keys in groups for key in keys if payload[key] is not None}
    missing = [" or ".join(keys) for keys in groups if all(payload[key] is None for key in keys)]

    return {"found": found, "missing": missing}


def _lookups(payload: Payload, question: Question) -> Iterable[tuple[str, Question]]:
    """
    Ask as a responder would who knows one thing, about that moment.
    """
    moment = recorded(payload["started"] or payload["last_seen"])
    when: dict[str, Any] = {"since": moment, "until": moment, "skew": question.skew, "lookback": question.lookback}
    user = _user(payload)
    if user is not None:
        yield "owner", Question(users=[user], **when)
    if payload["wlcg.job.id"] is not None:
        yield "activity", Question(jobs=(payload["wlcg.job.id"],), **when)
    if payload["host.name"] is not None:
        yield "node", Question(hosts=(payload["host.name"],), **when)


def _user(payload: Payload) -> Optional[User]:
    if payload["user.name"] is not None:
        return User(names=(payload["user.name"],))
    hashes = tuple(payload[key] for key in ("user.hash", "wlcg.token.sub_hash") if payload[key] is not None)
    if hashes:
        return User(hashes=hashes)
    if payload["wlcg.token.sub"] is None:
        return None

    return User(subject=payload["wlcg.token.sub"], issuer=payload["wlcg.token.iss"])


def _pilots(engine: Engine, question: Question) -> list[Row]:
    """
    List the pilots that began in the time that is asked for.
    """
    since = max((moment for moment in (question.since, question.started_after) if moment is not None), default=None)
    parts: list[Condition] = [Is("event_action", ("pilot.start",))]
    parts += [] if since is None else [AtLeast("time", since)]
    parts += [] if question.until is None else [AtMost("time", question.until)]
    parts += [Is("host_name", question.hosts)] if question.hosts else []
    parts += [Is("site", question.sites)] if question.sites else []

    return engine.rows(All(parts), ("wlcg_pilot_id", *_BATCH), (since, question.until))


def coverage(
    payloads: Sequence[Payload], jobs: Optional[Sequence[BatchJob]] = None, pilots: Sequence[Row] = ()
) -> dict[str, Any]:
    """
    Compare what was recorded with what the batch system ran.

    Args:
        payloads: Those that were found.

        jobs: What the batch system ran, if that is known.

        pilots: Records of pilots that began.
    """
    busy = {one["wlcg.pilot.id"] for one in payloads} - {None}
    idle = [row for row in pilots if row["wlcg_pilot_id"] not in busy]
    found: dict[str, Any] = {
        "payloads": len(payloads),
        "refused": sum(one["state"] == "refused" for one in payloads),
        "running": sum(one["state"] == "running" for one in payloads),
        "lost": sorted(one["trace_id"] for one in payloads if one["state"] == "lost"),
        "without_end": sorted(one["trace_id"] for one in payloads if one["state"] == "open"),
        "without_batch_job": sorted(one["trace_id"] for one in payloads if not _ids(one)),
        "conflicting": sorted(one["trace_id"] for one in payloads if one["conflicts"]),
        "pilots": len(busy | {row["wlcg_pilot_id"] for row in idle}),
        "pilots_without_payloads": sorted({str(row["wlcg_pilot_id"]) for row in idle}),
    }
    if jobs is not None:
        seen = {name for one in payloads for name in _ids(one)}
        known = {name for job in jobs for name in job.ids}
        found["batch_jobs"] = len(jobs)
        without = [job for job in jobs if seen.isdisjoint(job.ids)]
        told = {name for row in idle for name in _names(*(row[column] for column in _BATCH))}
        found["batch_jobs_without_payloads"] = sorted(job.ids[0] for job in without)
        found["batch_jobs_without_records"] = sorted(job.ids[0] for job in without if told.isdisjoint(job.ids))
        found["payloads_of_unknown_batch_jobs"] = sorted(
            one["trace_id"] for one in payloads if _ids(one) and known.isdisjoint(_ids(one))
        )

    return found


def _ids(payload: Payload) -> list[str]:
    return _names(
        *(payload[f"wlcg.batch.{key}"] for key in ("job_id", "global_job_id", "array_job_id", "array_task_id"))
    )


def _names(job: Optional[str], everywhere: Optional[str], array: Optional[str], task: Optional[str]) -> list[str]:
    """
    List what a batch system calls a job; sacct(1) names tasks by their array.
    """
    names = (job, everywhere, f"{array}_{task}" if array is not None else None)

    return [name for name in names if name is not None]


def _of_samples(samples: Sequence[dict[str, Any]]) -> list[str]:
    if not samples:
        return ["there is no payload to look at"]
    found = []
    for sample in samples:
        for part in _NEEDED:
            missing = sample[part]["missing"]
            if missing:
                found.append(f"payload {sample['trace_id']}: {part}: no record of {', '.join(missing)}")
            elif not sample[part].get("leads_back"):
                found.append(f"payload {sample['trace_id']}: {part}: what is known does not lead back to it")

    return found


#: What of the coverage is a finding, in words.
_WORDS = {
    "lost": "lost: nobody can record their end any more",
    "without_end": "without a record of their end (they run, or their pilots were lost)",
    "without_batch_job": "without a batch job",
    "conflicting": "whose records do not agree",
    "payloads_of_unknown_batch_jobs": "of batch jobs that the list does not have",
}


def _of_coverage(covered: dict[str, Any]) -> list[str]:
    found = [f"{len(covered[key])} payloads {words}" for key, words in _WORDS.items() if covered.get(key)]
    missing = covered.get("batch_jobs_without_records")
    if missing:
        found.append(f"{len(missing)} of {covered['batch_jobs']} batch jobs have no records, not even of a pilot")

    return found

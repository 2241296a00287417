"""
What has to be known of a plan to tell the outcome of its start.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Optional

import attrs

from wlcg_isolate._values import as_mapping, as_tuple
from wlcg_isolate.errors import HostError, Problem, RequestError
from wlcg_isolate.launch import Ready
from wlcg_isolate.plan import Plan
from wlcg_isolate.policy import Policy
from wlcg_isolate.policy.parse import FORMAT as POLICY_FORMAT, layer_from_dict
from wlcg_isolate.trace import describe, payload
from wlcg_isolate.trace.reading import protected_identity

#: The keys of the table ``[trace]`` that say how records are written and where they go.
_TRACE = ("rotate_bytes", "checkpoint_records", "seal_public_key", "receivers", "flush_seconds")

#: Version of the shape of `Start.to_dict`.
FORMAT = 1


@attrs.frozen(kw_only=True)
class Start:
    """
    What has to be known of a plan to tell the outcome of its start.

    Attributes:
        trace_id: The payload's identity.

        trace_dirs: Directories for trace records, best first.

        scratch: The payload's private directory.

        timeout: Time limit in seconds, or None.

        record: What the start record says, the process aside.

        trace: What policy says of the journal and its receivers, by the names
            of its table ``[trace]``.
    """

    trace_id: str
    trace_dirs: tuple[str, ...] = attrs.field(converter=as_tuple)
    scratch: str
    timeout: Optional[float]
    record: Mapping[str, Any] = attrs.field(converter=as_mapping)
    trace: Mapping[str, Any] = attrs.field(factory=dict, converter=as_mapping)

    @classmethod
    def of(cls, plan: Plan, *, over: bool = False) -> Start:
        """
        Read it from a plan.

        Args:
            plan: The plan.

            over: Whether the payload has run already, whose outcome must not
                be lost because nobody can tell any more for whom it was.

        Raises:
            HostError: The user's identity cannot be read, or not recorded as
                policy wants it.
        """
        nobody = Ready(pid=0, inner_pid=0, init=None, start_ticks=None, namespaces={})
        try:
            who = protected_identity(plan.request.identity, plan.policy, plan.trace_id)
        except HostError:
            if not over:
                raise
            who = payload.withheld(plan.request)
        cvmfs = payload.look_at_repositories(plan)
        fields = payload.started(plan, nobody, who, planned=describe.plan_fields(plan), cvmfs=cvmfs).fields
        kept = {name: value for name, value in fields.items() if value is not None}
        for name in ("process.pid", "process.vpid", "wlcg.isolation.starter"):
            kept.pop(name, None)

        return cls(
            trace_id=plan.trace_id,
            trace_dirs=plan.trace_dirs,
            scratch=plan.scratch,
            timeout=plan.timeout,
            record=kept,
            trace=_told_of(plan.policy),
        )

    @property
    def policy(self) -> Policy:
        """
        What holds for the records of this start.

        Raises:
            RequestError: It is none.
        """
        layer, problems = layer_from_dict({"version": POLICY_FORMAT, "trace": self.trace}, "site", "--plan")
        if problems or set(self.trace) - set(_TRACE):
            raise invalid("what it says of trace records is no policy")

        return Policy(**{name.replace(".", "_", 1): value for name, value in layer.values.items()})

    def to_dict(self) -> dict[str, Any]:
        """
        Return it in plain types, as ``start`` of ``plan --json`` has it.
        """
        return {
            "version": FORMAT,
            "trace_id": self.trace_id,
            "trace_dirs": list(self.trace_dirs),
            "scratch": self.scratch,
            "timeout": self.timeout,
            "record": dict(self.record),
            "trace": {name: dict(v) if isinstance(v, Mapping) else v for name, v in self.trace.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Start:
        """
        Read what `to_dict` gave.

        Raises:
            RequestError: It is something else.
        """
        names = {field.name for field in attrs.fields(cls)}
        if not isinstance(data, Mapping) or data.get("version") != FORMAT or set(data) != {"version", *names}:
            raise invalid(f"it is no description of a start in version {FORMAT}")
        texts = [data["trace_id"], data["scratch"], *_list(data["trace_dirs"])]
        if not all(isinstance(text, str) and text for text in texts) or os.sep in data["trace_id"]:
            raise invalid("a path or the trace id is no text")
        if not isinstance(data["timeout"], (int, float, type(None))) or not isinstance(data["record"], Mapping):
            raise invalid("timeout is no number, or record is no object")
        if not isinstance(data["trace"], Mapping):
            raise invalid("trace is no object")
        start = cls(**{name: data[name] for name in names})
        # What is wrong with it is told before anything is.
        _ = start.policy

        return start


def _told_of(policy: Policy) -> dict[str, Any]:
    told = {name: getattr(policy, f"trace_{name}") for name in _TRACE}

    return {name: dict(v) if isinstance(v, Mapping) else v for name, v in told.items() if v}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [None]


_ADVICE = "give the JSON of wlcg-isolate plan --json, and the exit status of what was started"


def invalid(message: str, origin: str = "--plan", advice: str = _ADVICE) -> RequestError:
    """
    Make the error that says what is wrong with a description, or missing.
    """
    return RequestError([Problem(kind="request-invalid", message=message, origin=origin, advice=advice)])

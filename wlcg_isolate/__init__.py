"""
Isolate the payloads of grid pilots in Apptainer containers.

Everything that is public is importable from here and loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wlcg_isolate.errors import (
        HostError,
        IsolateError,
        LaunchError,
        PlanError,
        PolicyError,
        Problem,
        RequestError,
        TraceError,
    )
    from wlcg_isolate.host import HostFacts, probe_host
    from wlcg_isolate.outcome import Outcome, classify
    from wlcg_isolate.plan import Plan, make_plan
    from wlcg_isolate.policy import Policy, load_policy
    from wlcg_isolate.remains import Start, outcome_of
    from wlcg_isolate.request import Bind, Credential, Identity, Payload, Request
    from wlcg_isolate.run import launch_plan, run_isolated
    from wlcg_isolate.running import Running, start_plan
    from wlcg_isolate.trace import TraceRecord

__version__ = "0.1.0"

__all__ = [
    "Bind",
    "Credential",
    "HostError",
    "HostFacts",
    "Identity",
    "IsolateError",
    "LaunchError",
    "Outcome",
    "Payload",
    "Plan",
    "PlanError",
    "Policy",
    "PolicyError",
    "Problem",
    "Request",
    "RequestError",
    "Running",
    "Start",
    "TraceError",
    "TraceRecord",
    "classify",
    "launch_plan",
    "load_policy",
    "make_plan",
    "outcome_of",
    "probe_host",
    "run_isolated",
    "start_plan",
]

_HOMES = {
    "errors": (
        "HostError",
        "IsolateError",
        "LaunchError",
        "PlanError",
        "PolicyError",
        "Problem",
        "RequestError",
        "TraceError",
    ),
    "host": ("HostFacts", "probe_host"),
    "outcome": ("Outcome", "classify"),
    "plan": ("Plan", "make_plan"),
    "policy": ("Policy", "load_policy"),
    "remains": ("Start", "outcome_of"),
    "request": ("Bind", "Credential", "Identity", "Payload", "Request"),
    "run": ("launch_plan", "run_isolated"),
    "running": ("Running", "start_plan"),
    "trace": ("TraceRecord",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """
    Load a public name on first use (PEP 562): a pilot pays for what it uses.
    """
    home = _HOME_OF.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value

    return value


def __dir__() -> list[str]:
    return __all__

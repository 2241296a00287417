"""
Tell people what was decided beside runtime, image and binds: variables, never
their values, and what surrounds the payload.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wlcg_isolate.isolation import LESS
from wlcg_isolate.variables import family_of

if TYPE_CHECKING:
    from wlcg_isolate.plan import Plan

_DECISIONS = {"set": "set", "keep": "kept", "translate": "translated", "drop": "dropped"}
_ORDER = tuple(_DECISIONS)

#: Names of a group that are shown.
_SHOWN = 6


def environment_lines(plan: Plan) -> Iterator[str]:
    """
    Group variables by what becomes of them and why, each group with its size.
    """
    groups: dict[tuple[str, str, str], list[str]] = {}
    for d in plan.environment:
        reason = d.reason if d.decision in ("drop", "translate") else ""
        groups.setdefault((d.decision, d.rule, reason), []).append(d.name)
    counts = {decision: sum(d.decision == decision for d in plan.environment) for decision in _DECISIONS}
    yield "  " + ", ".join(f"{count} {_DECISIONS[decision]}" for decision, count in counts.items())
    for (decision, rule, reason), names in sorted(groups.items(), key=lambda item: _ORDER.index(item[0][0])):
        shown = " ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        yield f"  {decision:9} {len(names):3}  {shown}  [{rule}{': ' + reason if reason else ''}]"


def isolation_lines(plan: Plan) -> Iterator[str]:
    """
    Say what surrounds the payload, more or less than others.
    """
    isolation = plan.isolation
    yield f"network: {isolation.network}; containers inside: {'allowed' if isolation.nesting else 'none'}"
    if isolation.limits.given:
        yield "limits: " + ", ".join(f"{name} {value:g}" for name, value in isolation.limits.given.items())
    if isolation.less:
        yield "less than usual: " + ", ".join(f"{word} ({LESS[word]})" for word in isolation.less)


def why(plan: Plan, name: str) -> str:
    """
    Tell what becomes of one variable.
    """
    for d in plan.environment:
        if d.name == name:
            family = family_of(name)
            lines = [f"{name}: {d.decision}, by the rule {d.rule}: {d.reason}"]
            if family.source:
                lines.append(f"  family {family.rule} ({family.kind}): {family.reason}")
                lines.append(f"  known from: {family.source}")
            return "\n".join(lines)
    if family_of(name).source:
        return f"{name}: the host has no such variable, and nobody sets it ({family_of(name).rule})"

    return f"{name}: the host has no such variable, and nobody sets it"

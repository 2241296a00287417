"""
What an experiment tests its own profile with, with and without a runtime.

``wlcg_isolate.testing.plugin`` gives the same to pytest as fixtures.  It is
loaded with every pytest of an environment that has this package, so all here
is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wlcg_isolate.testing.expect import (
        assert_absent,
        assert_arrives,
        assert_bound,
        assert_not_bound,
        refused,
    )
    from wlcg_isolate.testing.harness import Harness, Ran, policy_of
    from wlcg_isolate.testing.node import Node, load_node, node_names
    from wlcg_isolate.testing.outcomes import make_outcome

__all__ = [
    "Harness",
    "Node",
    "Ran",
    "assert_absent",
    "assert_arrives",
    "assert_bound",
    "assert_not_bound",
    "load_node",
    "make_outcome",
    "node_names",
    "policy_of",
    "refused",
]

_HOMES = {
    "expect": ("assert_absent", "assert_arrives", "assert_bound", "assert_not_bound", "refused"),
    "harness": ("Harness", "Ran", "policy_of"),
    "node": ("Node", "load_node", "node_names"),
    "outcomes": ("make_outcome",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """
    Load a public name on first use (PEP 562).
    """
    home = _HOME_OF.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)

    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return __all__

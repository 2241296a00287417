"""
What site and experiment allow.
"""

from __future__ import annotations

import os
from typing import Optional, Union

from wlcg_isolate.errors import PolicyError, Problem
from wlcg_isolate.policy.model import Explained, Policy, explain

__all__ = ["Explained", "Policy", "explain", "load_policy"]

_Source = Optional[Union[str, "os.PathLike[str]"]]


def load_policy(site: _Source = None, experiment: _Source = None) -> Policy:
    """
    Return the policy that holds on this node.

    Args:
        site: Site file.

        experiment: Name or file of an experiment's profile.

    Raises:
        PolicyError: A file is named.  This version knows the built-in layer
            only, and a site's rule must never be passed over in silence.
    """
    problems = [
        Problem(
            kind="policy-invalid",
            message=f"{layer} policy {str(source)!r} cannot be read: this version holds the built-in layer only",
            origin=f"--{layer}",
            advice="leave the option out, or pass a Policy from Python",
        )
        for layer, source in (("site", site), ("experiment", experiment))
        if source is not None
    ]
    if problems:
        raise PolicyError(problems)

    return Policy()

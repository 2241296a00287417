"""
The keys of policy that are about what surrounds a running payload.
"""

from __future__ import annotations

from typing import Optional

import attrs

from wlcg_isolate._values import as_tuple
from wlcg_isolate.policy import checks
from wlcg_isolate.policy.image_keys import ImageKeys
from wlcg_isolate.policy.rules import allowed, choice, common, limit, smaller


# Only `Policy` is made; methods made for this class would cost time at every import.
@attrs.frozen(kw_only=True, init=False, repr=False, eq=False)
class IsolationKeys(ImageKeys):
    """
    What a payload may do and use.

    Attributes:
        runtime_allow_shared_pids: Whether a payload may run without process
            ids of its own where the node cannot give them; it then sees the
            pilot's processes.

        gpu_allowed: GPUs that payloads may use: ``nvidia``, ``amd``.

        gpu_use: GPUs that payloads get.

        container_workdir: Where the working directory is in the container.

        payload_grace_seconds: Time between TERM and KILL.

        payload_limit_seconds: Longest wall time of any payload, or none.
    """

    runtime_allow_shared_pids: bool = attrs.field(default=True, metadata=limit(allowed, checks.truth))
    gpu_allowed: tuple[str, ...] = attrs.field(
        default=("nvidia", "amd"), converter=as_tuple, metadata=limit(common, checks.gpus)
    )
    gpu_use: tuple[str, ...] = attrs.field(default=(), converter=as_tuple, metadata=choice(checks.gpus))
    container_workdir: str = attrs.field(default="/srv", metadata=choice(checks.workdir))
    payload_grace_seconds: float = attrs.field(default=10.0, metadata=limit(smaller, checks.seconds))
    payload_limit_seconds: Optional[float] = attrs.field(default=None, metadata=limit(smaller, checks.seconds_or_none))

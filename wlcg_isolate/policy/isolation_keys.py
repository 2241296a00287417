"""
The keys of policy that are about what surrounds a running payload.
"""

from __future__ import annotations

from typing import Optional

import attrs

from wlcg_isolate._values import as_tuple
from wlcg_isolate.policy import checks, isolation_checks
from wlcg_isolate.policy.image_keys import ImageKeys
from wlcg_isolate.policy.rules import NODE_MATTER, allowed, choice, common, demanded, limit, smaller, stricter


# Only `Policy` is made; methods made for this class would cost time at every import.
@attrs.frozen(kw_only=True, init=False, repr=False, eq=False)
class IsolationKeys(ImageKeys):
    """
    What a payload may do and use.

    Attributes:
        runtime_allow_shared_pids: Whether a payload may run without process
            ids of its own where the node cannot give them; it then sees the
            pilot's processes.

        isolation_on_difference: What becomes of a payload whose container is
            not what was asked for: ``refuse``, or ``warn`` and run it.  A
            shared mount or user namespace always refuses.

        isolation_root: What becomes of payloads of root: ``refuse``,
            ``confine`` (no capability, no way to gain one, and nothing of
            root's on the node can be written), or ``allow``.

        isolation_network: The network of payloads: the ``host``'s, or
            ``none``, which leaves a loopback of their own.

        isolation_allow_nesting: Whether payloads may be allowed user
            namespaces of their own.  Where not, one is started only when it
            can be kept from making any.

        isolation_nesting: Whether payloads get what a container inside the
            container needs: user namespaces, and ``/dev/fuse`` where it is.

        isolation_allow_keyrings: Whether payloads may use the kernel's
            keyrings, in which they find the pilot's keys.

        limits_memory_bytes: Most memory of all of a payload's processes
            together, or none; swap is none then.  Needs a cgroup.

        limits_processes: Most processes and threads of a payload, or none.
            Needs a cgroup, or Linux 5.14 and a payload that is not root's.

        limits_cpus: Most processors' worth of time, or none.  Needs a
            cgroup.

        limits_address_space_bytes: Most address space of each process, or
            none.

        limits_file_bytes: Largest file that a payload may write, or none.

        limits_open_files: Most open files of each process, or none.

        limits_core_bytes: Largest core dump, or none; 0 forbids them.

        limits_required: Whether a payload is refused when one of its limits
            cannot be given; otherwise it runs with a warning.

        limits_cgroup: Directory of a cgroup (version 2) below which payloads
            get their own; the pilot's own or the one above it when not
            given.

        gpu_allowed: GPUs that payloads may use: ``nvidia``, ``amd``.

        gpu_use: GPUs that payloads get.

        container_workdir: Where the working directory is in the container.

        payload_grace_seconds: Time between TERM and KILL.

        payload_limit_seconds: Longest wall time of any payload, or none.
    """

    runtime_allow_shared_pids: bool = attrs.field(default=True, metadata=limit(allowed, checks.truth))
    isolation_on_difference: str = attrs.field(
        default="refuse", metadata=limit(stricter, isolation_checks.on_difference)
    )
    isolation_root: str = attrs.field(default="confine", metadata=limit(stricter, isolation_checks.root))
    isolation_network: str = attrs.field(default="host", metadata=limit(stricter, isolation_checks.network))
    isolation_allow_nesting: bool = attrs.field(default=True, metadata=limit(allowed, checks.truth))
    isolation_nesting: bool = attrs.field(default=False, metadata=choice(checks.truth))
    isolation_allow_keyrings: bool = attrs.field(default=False, metadata=limit(allowed, checks.truth))
    limits_memory_bytes: Optional[int] = attrs.field(
        default=None, metadata=limit(smaller, isolation_checks.count_or_none)
    )
    limits_processes: Optional[int] = attrs.field(default=None, metadata=limit(smaller, isolation_checks.count_or_none))
    limits_cpus: Optional[float] = attrs.field(default=None, metadata=limit(smaller, isolation_checks.cpus_or_none))
    limits_address_space_bytes: Optional[int] = attrs.field(
        default=None, metadata=limit(smaller, isolation_checks.count_or_none)
    )
    limits_file_bytes: Optional[int] = attrs.field(
        default=None, metadata=limit(smaller, isolation_checks.count_or_none)
    )
    limits_open_files: Optional[int] = attrs.field(
        default=None, metadata=limit(smaller, isolation_checks.count_or_none)
    )
    limits_core_bytes: Optional[int] = attrs.field(default=None, metadata=limit(smaller, isolation_checks.size_or_none))
    limits_required: bool = attrs.field(default=True, metadata=limit(demanded, checks.truth))
    limits_cgroup: Optional[str] = attrs.field(default=None, metadata=choice(checks.path_or_none, layers=NODE_MATTER))
    gpu_allowed: tuple[str, ...] = attrs.field(
        default=("nvidia", "amd"), converter=as_tuple, metadata=limit(common, checks.gpus)
    )
    gpu_use: tuple[str, ...] = attrs.field(default=(), converter=as_tuple, metadata=choice(checks.gpus))
    container_workdir: str = attrs.field(default="/srv", metadata=choice(checks.workdir))
    payload_grace_seconds: float = attrs.field(default=10.0, metadata=limit(smaller, checks.seconds))
    payload_limit_seconds: Optional[float] = attrs.field(default=None, metadata=limit(smaller, checks.seconds_or_none))

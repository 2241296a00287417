"""
What surrounds a payload beside image, environment and binds: how far root is
confined, which network there is, what it may do, and its limits.

Rules:

1. More than the usual is given or refused, never left out in silence.
2. Less than the usual has a word in `Isolation.less`, which plan and record
   show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Optional

import attrs

from wlcg_isolate._values import as_tuple
from wlcg_isolate.errors import Problem
from wlcg_isolate.host.facts import HostFacts, config_of
from wlcg_isolate.host.surrounding import CGROUP_ROOT, CGROUP_SIGN, FUSE, ROOTS_OWN
from wlcg_isolate.policy import Policy

#: Words for what a payload is not kept from, though most are.
LESS: Mapping[str, str] = {
    "shared-pids": "it sees the pilot's processes",
    "nesting": "it may have containers of its own",
    "keyrings": "it may read the pilot's keys in the kernel",
    "root-nesting": "root's own containers can change the node's cgroups",
    "root": "it has root's power in its container",
    "differences": "it runs though its container is not what was asked for",
    "unfiltered": "without the loader, nothing keeps it from user namespaces and keyrings",
}


class Shown(NamedTuple):
    """
    A place of the host that is mounted for isolation's sake.

    Attributes:
        source: The place on the host.

        target: The place in the container.

        writable: Whether the payload may write there.
    """

    source: str
    target: str
    writable: bool = False


@attrs.frozen(kw_only=True)
class Limits:
    """
    What a payload may use; None: no limit.

    Attributes:
        memory_bytes: Memory of all its processes together.

        processes: Processes and threads.

        cpus: Processors' worth of time.

        address_space_bytes: Address space of each process.

        file_bytes: Largest file.

        open_files: Open files of each process.

        core_bytes: Largest core dump.

        required: Whether one that cannot be given refuses the payload.

        cgroup: Directory of the cgroup below which it gets its own, or None
            for the pilot's.
    """

    memory_bytes: Optional[int] = None
    processes: Optional[int] = None
    cpus: Optional[float] = None
    address_space_bytes: Optional[int] = None
    file_bytes: Optional[int] = None
    open_files: Optional[int] = None
    core_bytes: Optional[int] = None
    required: bool = True
    cgroup: Optional[str] = None

    @property
    def given(self) -> dict[str, Any]:
        """
        The limits that are set, by name.
        """
        left_out = ("required", "cgroup")

        return {name: value for name, value in attrs.asdict(self).items() if name not in left_out and value is not None}


@attrs.frozen(kw_only=True)
class Isolation:
    """
    What surrounds one payload.

    Attributes:
        confined: Whether it is root's, and root's power is taken from it.

        powerful: Whether it has capabilities: root's, where policy allows it.

        network: ``"host"`` or ``"none"``.

        nesting: Whether it may have containers of its own.

        keyrings: Whether it may use the kernel's keyrings.

        filtered: Whether it is not started where nothing can keep it from
            nesting.

        on_difference: What becomes of it when the container is not what was
            asked for: ``"refuse"`` or ``"warn"``.

        limits: Its limits.

        shown: What is mounted for these, and for nothing else.

        less: Words of `LESS`.
    """

    confined: bool = False
    powerful: bool = False
    network: str = "host"
    nesting: bool = False
    keyrings: bool = False
    filtered: bool = False
    on_difference: str = "refuse"
    limits: Limits = attrs.field(factory=Limits)
    shown: tuple[Shown, ...] = attrs.field(default=(), converter=as_tuple)
    less: tuple[str, ...] = attrs.field(default=(), converter=as_tuple)

    @property
    def options(self) -> tuple[str, ...]:
        """
        The runtime's options for it, the mounts aside.
        """
        network = ("--net", "--network", "none") if self.network == "none" else ()
        if not self.confined:
            return network
        # Without it no user namespace can have a user 0 (user_namespaces(7), Linux 5.12).
        nesting = ("--add-caps", "CAP_SETFCAP") if self.nesting else ()

        return (*network, "--no-privs", *nesting, "--no-mount", "sys,bind-paths")

    def to_dict(self) -> dict[str, Any]:
        """
        Return it in plain types.
        """
        return {
            "root": "confined" if self.confined else "allowed" if self.powerful else None,
            "network": self.network,
            "nesting": self.nesting,
            "keyrings": self.keyrings,
            "on_difference": self.on_difference,
            "limits": self.limits.given,
            "less": list(self.less),
        }


def decide_isolation(
    policy: Policy, facts: HostFacts, given: Iterable[Shown], *, pid: bool
) -> tuple[Isolation, list[Problem]]:
    """
    Decide what surrounds a payload.

    Args:
        policy: What holds here.

        facts: What was read of the node.

        given: Files of the host that the runtime itself shows.

        pid: Whether the container has process ids of its own.
    """
    root = facts.uid == 0
    confined = root and policy.isolation_root != "allow"

    return Isolation(
        confined=confined,
        powerful=root and not confined,
        network=policy.isolation_network,
        nesting=policy.isolation_nesting,
        keyrings=policy.isolation_allow_keyrings,
        filtered=not policy.isolation_allow_nesting,
        on_difference=policy.isolation_on_difference,
        limits=Limits(**{field.name: getattr(policy, f"limits_{field.name}") for field in attrs.fields(Limits)}),
        shown=tuple(_shown(policy, facts, given, confined=confined)),
        less=tuple(_less(policy, facts, pid=pid, confined=confined)),
    ), list(_problems(policy, facts))


def _shown(policy: Policy, facts: HostFacts, given: Iterable[Shown], *, confined: bool) -> Iterator[Shown]:
    def is_there(path: str) -> bool:
        fact = facts.paths.get(path)
        return fact is not None and fact.present

    if confined:
        yield from (Shown(path, path) for path in ROOTS_OWN if path == "/proc/sys" or is_there(path))
        yield from given
    elif is_there(CGROUP_SIGN) and config_of(facts.runtimes)[0].get("mount sys", ("yes",))[0] != "no":
        yield Shown(CGROUP_ROOT, CGROUP_ROOT)
    fuse = facts.paths.get(FUSE)
    if policy.isolation_nesting and fuse is not None and fuse.readable and fuse.writable:
        yield Shown(FUSE, FUSE, writable=True)


def _less(policy: Policy, facts: HostFacts, *, pid: bool, confined: bool) -> Iterator[str]:
    unfiltered = facts.loader_fault is not None
    words = {
        "shared-pids": not pid,
        "nesting": policy.isolation_nesting,
        "keyrings": policy.isolation_allow_keyrings,
        "root-nesting": confined and policy.isolation_nesting,
        "root": facts.uid == 0 and not confined,
        "differences": policy.isolation_on_difference == "warn",
        "unfiltered": unfiltered and not (policy.isolation_nesting and policy.isolation_allow_keyrings),
    }
    yield from (word for word, holds in words.items() if holds)


def _problems(policy: Policy, facts: HostFacts) -> Iterator[Problem]:
    if facts.uid == 0 and policy.isolation_root == "refuse":
        yield Problem(
            kind="root-refused",
            message="the pilot is root, and policy refuses payloads of root",
            origin="isolation.root",
            advice="run the pilot as a plain user",
        )
    if policy.isolation_allow_nesting:
        return
    if policy.isolation_nesting:
        yield Problem(
            kind="nesting-refused",
            message="containers inside the container are asked for, and isolation.allow_nesting is false",
            origin="isolation.nesting",
            advice="leave it out, or ask the site",
        )
    elif facts.loader_fault is not None:
        yield Problem(
            kind="nesting-refused",
            message=f"nothing keeps a payload from containers of its own here: {facts.loader_fault}",
            origin="isolation.allow_nesting",
            advice="let the loader run on this node; wlcg-isolate doctor tells why it does not",
        )


def warnings(isolation: Isolation) -> Iterator[str]:
    """
    Say in words what should be known of it.
    """
    if isolation.confined:
        yield "the pilot is root: its payloads are confined; run pilots as plain users"
    if isolation.powerful:
        yield "the pilot is root, and so are its payloads: their containers confine them hardly at all"
    if "root-nesting" in isolation.less:
        yield "the payload is root's and may have containers of its own, which can change the node's cgroups"
    elif isolation.nesting:
        yield "the payload may have containers of its own, and with them user namespaces"
    if isolation.keyrings:
        yield "the payload can read what the pilot has in the kernel's keyrings"

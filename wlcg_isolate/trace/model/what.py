"""
Fields of the image, the runtime and the isolation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import attrs

from wlcg_isolate.trace.model.row import ECS, OWN, row

_TEXTS = tuple[str, ...]
_PLANNED = "payload.authorised payload.refused payload.start payload.end"


@attrs.frozen(kw_only=True)
class BindMade:
    """
    One bind.

    Attributes:
        source: On the host.

        target: In the container.

        writable: Whether the payload may write.

        origin: Who wanted it.
    """

    source: str
    target: str
    writable: bool
    origin: str


@attrs.frozen(kw_only=True)
class Repository:
    """
    State of a CVMFS repository.

    Attributes:
        fqrn: Its full name.

        revision: Its revision.

        root_hash: Hash of its root catalogue.

        error: Why something is not known.
    """

    fqrn: str
    revision: Optional[int] = None
    root_hash: Optional[str] = None
    error: Optional[str] = None


FIELDS = (
    row("container.runtime", str, ECS, "payload.start!", "The runtime's flavour."),
    row("wlcg.container.runtime_version", str, OWN, "payload.start!", "Its version."),
    row("wlcg.container.runtime_path", str, OWN, "payload.start!", "Its program."),
    row("container.image.name", str, ECS, _PLANNED, "The image as it was asked for."),
    row("container.image.hash.all", _TEXTS, ECS, "payload.start", "Digests, `sha256:HEX`."),
    row("wlcg.image.path", str, OWN, "payload.start!", "Where the name led."),
    row("wlcg.image.resolved_path", str, OWN, "payload.authorised! payload.start!", "The same with all links "
        "followed: what was launched."),
    row("wlcg.image.form", str, OWN, "payload.start!", "`tree`, `sif`, `squashfs` or `uri`."),
    row("wlcg.image.architecture", str, OWN, "payload.start", "Of its programs."),
    row("wlcg.image.digest.kind", str, OWN, "payload.start!", "What the digest is of: `file`, `config`, `layers`, "
        "`manifest` or `none`."),
    row("wlcg.image.digest.value", str, OWN, "payload.start", "64 hexadecimal digits of SHA-256."),
    row("wlcg.image.verified_by", _TEXTS, OWN, "payload.start!", "Who knew the checksum of a file that was verified."),
    row("wlcg.image.mount", str, OWN, "payload.start!", "How it became a root: `directory`, `fuse`, `unpack`, "
        "`setuid`, or `pull-` and one of these."),
    row("related.hash", _TEXTS, ECS, "payload.start", "Digests, to search by."),
    row("container.security_context.privileged", bool, ECS, "payload.start!", "Never."),
    row("wlcg.isolation.mode", str, OWN, "payload.start!", "`userns` or `setuid`."),
    row("wlcg.isolation.layer", str, OWN, "payload.start", "What creates missing targets: `overlay` or `underlay`."),
    row("wlcg.isolation.flags", _TEXTS, OWN, "payload.start!", "The runtime's options, without those that the record "
        "has elsewhere."),
    row("wlcg.isolation.starter", str, OWN, "payload.start!", "[What became the payload]"
        "(../explanation/how-a-payload-starts.md): `loader` or `shell`."),
    row("wlcg.isolation.starter_reason", str, OWN, "payload.start", "Why it is not the loader."),
    row("wlcg.isolation.root", str, OWN, "payload.start", "Of a pilot that is root: `confined` or `allowed`."),
    row("wlcg.isolation.network", str, OWN, "payload.start!", "The network that the payload has: "
        "[what surrounds it](../explanation/what-isolation-means.md)."),
    row("wlcg.isolation.nesting", bool, OWN, "payload.start!", "Whether it may make containers of its own."),
    row("wlcg.isolation.keyrings", bool, OWN, "payload.start!", "Whether it may use the kernel's keyrings."),
    row("wlcg.isolation.filtered", bool, OWN, "payload.start!", "Whether the kernel keeps system calls back."),
    row("wlcg.isolation.less", _TEXTS, OWN, "payload.start!", "Words for what it is not kept from, though most are."),
    row("wlcg.isolation.differences", _TEXTS, OWN, "payload.start!", "What was seen to be otherwise than asked for, "
        "where policy lets that pass."),
    row("wlcg.isolation.limits", Mapping[str, Any], OWN, "payload.start!", "The limits that it was given."),
    row("wlcg.isolation.limits_missing", _TEXTS, OWN, "payload.start!", "Those that it should have and has not."),
    row("wlcg.isolation.cgroup", str, OWN, "payload.start", "The cgroup that it was given."),
    row("wlcg.isolation.verified", _TEXTS, OWN, "payload.start", "What was checked from outside, where the pilot "
        "started the payload itself; without the field, all was."),
    row("wlcg.isolation.binds", tuple[BindMade, ...], OWN, "payload.start!", "Every bind that was made."),
    row("wlcg.isolation.environment", Mapping[str, str], OWN, "payload.start!", "The variables that were passed, by "
        "name, with the rule; never a value."),
    row("wlcg.workdir.dev", int, OWN, "payload.start", "Device of the working directory."),
    row("wlcg.workdir.ino", int, OWN, "payload.start", "Its inode."),
    row("wlcg.cvmfs", tuple[Repository, ...], OWN, "payload.start", "State of the repositories that image, binds and "
        "runtime are in."),
)  # fmt: skip

"""
The keys of policy that are about images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional, Union

import attrs

from wlcg_isolate._values import FrozenMapping, as_mapping, as_tuple
from wlcg_isolate.policy import checks, image_checks
from wlcg_isolate.policy.rules import (
    EVERYBODY,
    NODE_MATTER,
    allowed,
    choice,
    common,
    fewer,
    inside,
    limit,
    listing,
    smaller,
)

#: Where CVMFS publishes images of registries: the new layout of cvmfs_ducc
#: with a directory for each architecture, the old one without, and the one of
#: cvmfs-singularity-sync, which leaves the registry out.
_LAYOUTS = (
    "/cvmfs/unpacked.cern.ch/.multiarch/{goarch}/{registry}/{repository}:{tag}",
    "/cvmfs/unpacked.cern.ch/{registry}/{repository}:{tag}",
    "/cvmfs/singularity.opensciencegrid.org/{repository}:{tag}",
)

#: OCI's own platform of 64-bit Arm has a variant.
_GOARCH: Mapping[str, tuple[str, ...]] = {"aarch64": ("arm64", "arm64:v8")}

#: What a payload must not choose for itself.
_NOT_THE_REQUEST = EVERYBODY - {"request"}


def _as_images(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value

    return FrozenMapping({name: as_mapping(path) for name, path in value.items()})


def _as_spellings(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value

    return FrozenMapping({name: as_tuple(spelled) for name, spelled in value.items()})


# Only `Policy` is made; methods made for this class would cost time at every import.
@attrs.frozen(kw_only=True, init=False, repr=False, eq=False)
class ImageKeys:
    """
    What holds for images.

    Attributes:
        image_names: Name of an image, or operating system as ``el9``, to the
            path of the image, or to one path for each architecture.
            ``{arch}`` in a path stands for the node's architecture as
            ``uname -m`` spells it, ``{goarch}`` as Go and OCI do.

        image_platforms: Further names of platforms, and the operating system
            that each means: ``el7``, or ``el7/x86_64``.

        image_allowed_roots: Directories below which images must really lie.

        image_search: Layouts in which an OCI name is looked up, in order,
            with ``{registry}``, ``{repository}``, its last part ``{name}``,
            ``{tag}``, ``{arch}`` and ``{goarch}``.

        image_registries: Registries to try for a name that has none.

        image_tags: Tags to try for a name that has none.

        image_goarch: Architecture to the ways in which layouts spell it,
            where that is more than Go's own.

        image_fallback: References to try when nothing that was asked for is
            there; a plan that took one warns.

        image_prefer: Forms of an image that has both, best first: ``tree``,
            ``file``.

        image_pull: Schemes of URIs that the runtime may pull for a payload,
            such as ``docker``.

        image_registry_credentials: File with the credentials of registries,
            as ``apptainer registry login --authfile`` writes it. The runtime
            reads it when it pulls; no payload may see it.

        image_checksums: Path or reference of an image file to its checksum,
            ``sha256:`` and 64 hexadecimal digits.

        image_checksum_files: Lists of checksums, as ``sha256sum`` writes
            them.

        image_unlisted: Whether an image file without a known checksum may
            run.

        image_signature_keys: Files of public keys, minisign's or OpenPGP's.
            When there are any, a list of checksums counts only with a
            signature by one of them.

        image_sif_keys: Files of OpenPGP public keys. When there are any, a
            SIF must be signed by one of them.

        image_verify_seconds: Deadline for making a checksum, and for waiting
            for another process that makes it.

        image_verified_directory: Where results are remembered, on a disk of
            the node; ``{uid}`` stands for the user's number.

        image_fuse_cores: Processors from which on a mounted image file is
            warned of.
    """

    image_names: Mapping[str, Union[str, Mapping[str, str]]] = attrs.field(
        factory=dict, converter=_as_images, metadata=choice(checks.images, entries=True)
    )
    image_platforms: Mapping[str, str] = attrs.field(
        factory=dict, converter=as_mapping, metadata=choice(checks.platforms, entries=True)
    )
    image_allowed_roots: tuple[str, ...] = attrs.field(
        default=("/",), converter=as_tuple, metadata=limit(inside, checks.paths)
    )
    image_search: tuple[str, ...] = attrs.field(
        default=_LAYOUTS, converter=as_tuple, metadata=choice(image_checks.layouts)
    )
    image_registries: tuple[str, ...] = attrs.field(
        default=("registry.hub.docker.com",), converter=as_tuple, metadata=choice(checks.texts)
    )
    image_tags: tuple[str, ...] = attrs.field(
        default=("{arch}", "{goarch}", "latest"), converter=as_tuple, metadata=choice(checks.texts)
    )
    image_goarch: Mapping[str, tuple[str, ...]] = attrs.field(
        default=_GOARCH, converter=_as_spellings, metadata=choice(image_checks.spellings, entries=True)
    )
    image_fallback: tuple[str, ...] = attrs.field(default=(), converter=as_tuple, metadata=choice(checks.texts))
    image_prefer: tuple[str, ...] = attrs.field(
        default=("tree", "file"), converter=as_tuple, metadata=choice(image_checks.forms)
    )
    image_pull: tuple[str, ...] = attrs.field(default=(), converter=as_tuple, metadata=limit(common, checks.texts))
    image_registry_credentials: Optional[str] = attrs.field(
        default=None, metadata=choice(checks.path_or_none, layers=_NOT_THE_REQUEST)
    )
    image_checksums: Mapping[str, str] = attrs.field(
        factory=dict,
        converter=as_mapping,
        metadata=choice(image_checks.checksums, entries=True, layers=_NOT_THE_REQUEST),
    )
    image_checksum_files: tuple[str, ...] = attrs.field(
        default=(), converter=as_tuple, metadata=listing(checks.paths, "adds up; a file must match all that list it")
    )
    image_unlisted: bool = attrs.field(default=True, metadata=limit(allowed, checks.truth))
    image_signature_keys: tuple[str, ...] = attrs.field(
        default=(), converter=as_tuple, metadata=limit(fewer, checks.paths, layers=_NOT_THE_REQUEST)
    )
    image_sif_keys: tuple[str, ...] = attrs.field(
        default=(), converter=as_tuple, metadata=limit(fewer, checks.paths, layers=_NOT_THE_REQUEST)
    )
    image_verify_seconds: float = attrs.field(default=1800.0, metadata=limit(smaller, checks.seconds))
    image_verified_directory: str = attrs.field(
        default="/var/tmp/wlcg_isolate.{uid}/verified",
        metadata=choice(image_checks.directory_of_user, layers=NODE_MATTER),
    )
    image_fuse_cores: int = attrs.field(default=16, metadata=choice(image_checks.count))

"""
The keys of policy: each is declared here once, with its default, its check
and the rule by which layers merge.

Every key is a field of `Policy`; its dotted name is the field's with the
first underscore read as a dot (``image_names`` is ``image.names``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import attrs

from wlcg_isolate._values import as_mapping, as_tuple, is_below
from wlcg_isolate.errors import PolicyError, Problem
from wlcg_isolate.policy import checks
from wlcg_isolate.policy.layers import Layer
from wlcg_isolate.policy.rules import (
    FREE,
    NODE_MATTER,
    SITE_MATTER,
    SITE_ONLY,
    Rule,
    added,
    allowed,
    choice,
    common,
    deadline_of,
    limit,
    listing,
    smaller,
    sooner,
)
from wlcg_isolate.policy.trace_keys import TraceKeys
from wlcg_isolate.request import Bind

#: Directories that hold a runtime though PATH of a batch job may not name
#: them.
_USUAL_PLACES = (
    "apptainer",
    "singularity",
    "/usr/bin/apptainer",
    "/usr/local/bin/apptainer",
    "/usr/bin/singularity",
    "/usr/local/bin/singularity",
    "/cvmfs/oasis.opensciencegrid.org/mis/apptainer/bin/apptainer",
    "/cvmfs/atlas.cern.ch/repo/containers/sw/apptainer/{arch}-el9/current/bin/apptainer",
    "/cvmfs/alice.cern.ch/containers/bin/apptainer/current-{arch}/bin/apptainer",
    "/cvmfs/alice.cern.ch/containers/bin/apptainer/current/bin/apptainer",
    "{condor}/usr/libexec/apptainer",
)

#: Host variables that mean the same in every image and name no path: the
#: terminal, the time zone, who runs, how many threads are meant, and the proxies without which nothing
#: on a worker node reaches the network (Apptainer's own --cleanenv keeps
#: TERM and the proxies, too).
_BASE_KEEP = (
    "TERM",
    "TZ",
    "USER",
    "LOGNAME",
    "OMP_NUM_THREADS",
    *(
        spelled
        for name in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
        for spelled in (name, name.upper())
    ),
)

#: A sick CVMFS client can take a minute before it answers or fails; DIRAC's
#: image resolver waits as long.
_SLOW = {"/cvmfs": 60.0}

_TEXTS = "adds up; what is there already is not repeated"


@attrs.frozen(kw_only=True)
class Policy(TraceKeys):
    """
    What holds on this node for this experiment.

    The keys of images are in `ImageKeys`, those of what surrounds a payload in
    `IsolationKeys`, those of records in `TraceKeys`.

    Attributes:
        runtime_search: Programs to try, in order; a name without a slash is
            looked up in PATH, ``{arch}`` is the node's architecture, and
            ``{condor}`` where a glidein has its HTCondor (CONDOR_DIR).

        runtime_allow_setuid: Whether a set-uid installation may be used as
            such; otherwise it runs with user namespaces.

        runtime_user_binds: Whether the runtime lets users bind at all.

        runtime_layers: What lets the runtime create a missing target:
            ``overlay``, ``underlay``, or nothing.

        runtime_tmpdir: Where the runtime unpacks image files.

        runtime_cachedir: Where the runtime keeps its cache.

        runtime_probe_starts: Whether a runtime must have started a container
            here before it is used; otherwise its version is enough.

        runtime_probe_seconds: Deadline for asking a runtime its version, and
            for each start on trial.

        runtime_probe_keep_seconds: How long the verdict on a runtime holds
            while nothing changes on the node.

        runtime_start_seconds: Deadline from the start of the runtime to the
            payload's first instruction.

        host_touch_seconds: Deadline for one look at a path, which may lie on
            a network file system that hangs.

        host_network_file_systems: Directories with a deadline of their own,
            in seconds for one look.

        host_cache_directories: Where verdicts on the node are kept for the
            next pilot, the first that can be written and that no payload
            can.  ``{cache}`` stands for the XDG cache directory of the user
            and ``{uid}`` for the user's number; empty: nowhere.

        environment_keep: Host variables that pass, by name or by a pattern
            with ``*``.

        environment_set: Variables that every payload gets; a request may
            set other values.

        environment_drop: Host variables that never pass, by name or by a
            pattern with ``*``, whoever asks.

        environment_settable: Variables that never pass from a host and that
            a request may set nevertheless, by name or by a pattern.

        environment_any_names: Whether a request may set variables whose
            names no shell can hold, such as ``a.b``.

        environment_secret: Further host variables that are secrets of the
            pilot, by name or by a pattern.

        environment_profiles: Kinds of payloads whose variables pass: ``mpi``
            for parallel jobs.

        environment_image: Whether the image's own variables stay; otherwise
            the payload gets its ``PATH`` and nothing else of them.

        environment_token_file: Whether a bearer token that is in a variable
            reaches the payload in a file, named by ``BEARER_TOKEN_FILE``.

        bind_default: Binds that every payload gets.

        bind_forbidden_sources: Host paths that no payload may see, through a
            bind or as its image, nor what lies below or above them.

        bind_forbidden_targets: Paths in the container where, and below
            which, nothing may be mounted.

        bind_read_only: Host paths of which, and below which, no bind is
            writable.

        cvmfs_repositories: CVMFS repositories without which payloads cannot
            run.

        cvmfs_root: Where CVMFS is on this node.

        storage_posix: Host paths of storage that tells users apart by their
            number on the node, which all payloads of a pilot share.

        storage_mapped: Whether the site maps the users of payloads for such
            storage, so that it may be bound.

        layers: What it was merged from; None when it was made by hand.

        warnings: What was left out in the merge, and should be known.

    Raises:
        PolicyError: With every problem of every value.
    """

    runtime_search: tuple[str, ...] = attrs.field(
        default=_USUAL_PLACES, converter=as_tuple, metadata=choice(checks.programs)
    )
    runtime_allow_setuid: bool = attrs.field(default=True, metadata=limit(allowed, checks.truth))
    runtime_user_binds: bool = attrs.field(default=True, metadata=limit(allowed, checks.truth))
    runtime_layers: tuple[str, ...] = attrs.field(
        default=("overlay", "underlay"), converter=as_tuple, metadata=limit(common, checks.layers)
    )
    runtime_tmpdir: Optional[str] = attrs.field(default=None, metadata=choice(checks.path_or_none, layers=NODE_MATTER))
    runtime_cachedir: Optional[str] = attrs.field(
        default=None, metadata=choice(checks.path_or_none, layers=NODE_MATTER)
    )
    runtime_probe_seconds: float = attrs.field(default=20.0, metadata=limit(smaller, checks.seconds))
    runtime_probe_starts: bool = attrs.field(default=True, metadata=choice(checks.truth, layers=NODE_MATTER))
    runtime_probe_keep_seconds: float = attrs.field(default=21600.0, metadata=limit(smaller, checks.seconds))
    runtime_start_seconds: float = attrs.field(default=300.0, metadata=limit(smaller, checks.seconds))
    host_touch_seconds: float = attrs.field(default=20.0, metadata=limit(smaller, checks.seconds))
    host_network_file_systems: Mapping[str, float] = attrs.field(
        default=_SLOW, converter=as_mapping, metadata=limit(sooner, checks.deadlines)
    )
    host_cache_directories: tuple[str, ...] = attrs.field(
        default=("{cache}/wlcg_isolate",), converter=as_tuple, metadata=choice(checks.caches, layers=SITE_MATTER)
    )
    environment_keep: tuple[str, ...] = attrs.field(
        default=_BASE_KEEP, converter=as_tuple, metadata=listing(checks.names, _TEXTS)
    )
    environment_set: Mapping[str, str] = attrs.field(
        factory=dict, converter=as_mapping, metadata=choice(checks.variables, entries=True)
    )
    environment_drop: tuple[str, ...] = attrs.field(default=(), converter=as_tuple, metadata=limit(added, checks.names))
    environment_settable: tuple[str, ...] = attrs.field(
        default=("LD_LIBRARY_PATH",), converter=as_tuple, metadata=listing(checks.names, _TEXTS)
    )
    environment_any_names: bool = attrs.field(default=False, metadata=limit(allowed, checks.truth))
    environment_secret: tuple[str, ...] = attrs.field(
        default=(), converter=as_tuple, metadata=limit(added, checks.names)
    )
    environment_profiles: tuple[str, ...] = attrs.field(
        default=(), converter=as_tuple, metadata=choice(checks.profiles)
    )
    environment_image: bool = attrs.field(default=True, metadata=choice(checks.truth))
    environment_token_file: bool = attrs.field(default=True, metadata=choice(checks.truth))
    bind_default: tuple[Bind, ...] = attrs.field(
        default=(Bind(source="/cvmfs", required=False, origin="built-in"),),
        converter=as_tuple,
        metadata=listing(checks.binds, "adds up; the first on a target wins, the built-in ones coming last"),
    )
    bind_forbidden_sources: tuple[str, ...] = attrs.field(
        default=(), converter=as_tuple, metadata=limit(added, checks.paths)
    )
    bind_forbidden_targets: tuple[str, ...] = attrs.field(
        default=(), converter=as_tuple, metadata=limit(added, checks.paths)
    )
    bind_read_only: tuple[str, ...] = attrs.field(default=(), converter=as_tuple, metadata=limit(added, checks.paths))
    cvmfs_repositories: tuple[str, ...] = attrs.field(
        default=(), converter=as_tuple, metadata=listing(checks.repositories, _TEXTS)
    )
    cvmfs_root: str = attrs.field(default="/cvmfs", metadata=choice(checks.path, layers=NODE_MATTER))
    storage_posix: tuple[str, ...] = attrs.field(default=(), converter=as_tuple, metadata=limit(added, checks.paths))
    storage_mapped: bool = attrs.field(default=False, metadata=choice(checks.truth, layers=SITE_ONLY))
    layers: Optional[tuple[Layer, ...]] = attrs.field(default=None, eq=False, repr=False)
    warnings: tuple[str, ...] = attrs.field(default=(), converter=as_tuple, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        problems = [
            Problem(
                kind="policy-invalid",
                message=f"{key} {fault}",
                origin="policy",
                advice="correct the policy",
            )
            for key, name in FIELDS.items()
            for fault in RULES[key].check(getattr(self, name))
        ]
        if problems:
            raise PolicyError(problems)

    def touch_seconds(self, path: str) -> float:
        """
        Return the deadline in seconds for one look at *path*.
        """
        return deadline_of(path, self.host_network_file_systems, self.host_touch_seconds)

    def on_node(self, path: str) -> str:
        """
        Return where a path is on a node whose CVMFS is not at ``/cvmfs``.
        """
        if self.cvmfs_root != "/cvmfs" and is_below(path, "/cvmfs"):
            return self.cvmfs_root + path[len("/cvmfs") :]

        return path

    def roots_of_all(self) -> tuple[tuple[str, ...], ...]:
        """
        Return the allowed roots of each party that narrowed them.

        Merged, they are compared as they are written.  A directory that one
        party names may be a link out of another's, so an image must really
        lie below one of every party's.
        """
        key, spoken = "image.allowed_roots", [self.image_allowed_roots]
        locked = any(key in layer.locks for layer in self.layers or ())
        for layer in self.layers or ():
            if key not in layer.values or (locked and layer.name != "site"):
                continue
            before = spoken[:1] if layer.name in FREE else spoken
            spoken = [*before, layer.values[key]]

        return tuple(spoken)


def key_of(field: str) -> str:
    """
    Return the dotted key of a field's name.
    """
    return field.replace("_", ".", 1)


#: Dotted key to the name of its field, and to its rule.
FIELDS: Mapping[str, str] = {
    key_of(field.name): field.name for field in attrs.fields(Policy) if "rule" in field.metadata
}
RULES: Mapping[str, Rule] = {
    key_of(field.name): field.metadata["rule"] for field in attrs.fields(Policy) if "rule" in field.metadata
}

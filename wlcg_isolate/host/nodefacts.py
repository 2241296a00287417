"""
What was read of a node without running anything, as plain frozen values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import attrs

from wlcg_isolate._values import as_mapping, as_tuple, is_below


@attrs.frozen(kw_only=True)
class MountFact:
    """
    One mount of the node (``/proc/self/mountinfo``).

    Attributes:
        target: Where it is.

        source: What is mounted, in the file system's own words.

        fs_type: Type of the file system, ``fuse.`` and its subtype included.

        options: Options of the mount itself (``ro``, ``nosuid``, ...).
    """

    target: str
    source: str
    fs_type: str
    options: tuple[str, ...] = attrs.field(default=(), converter=as_tuple)


@attrs.frozen(kw_only=True)
class RepositoryFact:
    """
    One CVMFS repository that is mounted.

    Attributes:
        name: Its name, as the mount says.

        path: Where it is mounted.

        revision: The revision in use; None where the client hides it.

        fqrn: Its name, as the client says; None where it hides it.

        reason: Why it gives no answer, or "".
    """

    name: str
    path: str
    revision: Optional[int] = None
    fqrn: Optional[str] = None
    reason: str = ""


@attrs.frozen(kw_only=True)
class BatchFact:
    """
    The batch system that the pilot runs under.

    Attributes:
        system: Its name: ``"htcondor"``, ``"slurm"``, ...

        job_id: Its own name for the job, or None.
    """

    system: str
    job_id: Optional[str] = None


@attrs.frozen(kw_only=True)
class NodeFacts:
    """
    What a node is, as far as it can be read.

    Attributes:
        cpu_level: Highest x86-64 level of its processor, 1 to 4; None on
            other architectures and where it cannot be told.

        cores: Processors that the pilot may use, or None when unknown.

        vsyscall: ``"emulate"``, ``"xonly"`` or ``"none"``; None on other
            architectures.  Programs of EL6 need one of the first two.

        container: What the pilot itself runs in: ``"docker"``,
            ``"podman"``, ``"kubernetes"``, ``"apptainer"``,
            ``"singularity"``, ``"lxc"``, ``"other"``; None for nothing.

        user_namespace: Whether the pilot is in a user namespace that is not
            the node's first.

        chroot: Whether the pilot's root is no mount; the kernel then refuses
            user namespaces.

        no_new_privs: Whether set-uid programs get no rights.

        seccomp: Whether system calls are filtered.

        capabilities: The effective capabilities as one number (proc(5)).

        proc_masked: Whether parts of ``/proc`` are covered, which forbids
            new mounts of it.

        cgroup: ``"v1"``, ``"v2"``, ``"hybrid"`` or None.

        cgroup_delegated: Whether the pilot may make cgroups of its own; None
            when it cannot be told.

        user_known: Whether the user has an entry in the node's database;
            None for no answer.

        user_name: Name from that entry, or None.

        home: Home directory from that entry, or None.

        free: Free bytes for this user, by path; None for no answer.

        mounts: Mounts other than the kernel's own file systems.

        batch: The batch system, or None.

        repositories: CVMFS repositories that are mounted.
    """

    cpu_level: Optional[int] = None
    cores: Optional[int] = None
    vsyscall: Optional[str] = None
    container: Optional[str] = None
    user_namespace: bool = False
    chroot: bool = False
    no_new_privs: bool = False
    seccomp: bool = False
    capabilities: int = 0
    proc_masked: bool = False
    cgroup: Optional[str] = None
    cgroup_delegated: Optional[bool] = None
    user_known: Optional[bool] = True
    user_name: Optional[str] = None
    home: Optional[str] = None
    free: Mapping[str, Optional[int]] = attrs.field(factory=dict, converter=as_mapping)
    mounts: tuple[MountFact, ...] = attrs.field(default=(), converter=as_tuple)
    batch: Optional[BatchFact] = None
    repositories: tuple[RepositoryFact, ...] = attrs.field(default=(), converter=as_tuple)

    def mount_of(self, path: str) -> Optional[MountFact]:
        """
        Return the mount on which a normal path lies, or None.
        """
        # The last one on a place covers the earlier ones.
        above = [mount for mount in self.mounts if is_below(path, mount.target)]

        return max(reversed(above), key=lambda mount: len(mount.target), default=None)

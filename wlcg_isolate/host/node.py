"""
Read what a node is, without running anything.

Files of ``/proc`` and ``/sys`` answer at once; what may hang (the user's
entry, network file systems) is asked with a deadline.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import re
import resource
from collections.abc import Iterable, Mapping
from typing import Any, Callable, Optional

import attrs

from wlcg_isolate.host import batch, mounts
from wlcg_isolate.host.gather import Answer, gather
from wlcg_isolate.host.nodefacts import BatchFact, MountFact, NodeFacts, RepositoryFact
from wlcg_isolate.policy import Policy

#: x86-64 psABI, "Micro-Architecture Levels", in the kernel's spelling.
_CPU_LEVELS = (
    (2, frozenset("cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3".split())),
    (3, frozenset("abm avx avx2 bmi1 bmi2 f16c fma movbe xsave".split())),
    (4, frozenset("avx512bw avx512cd avx512dq avx512f avx512vl".split())),
)

#: Files that tell in what the pilot runs, and variables that do.
_CONTAINER_FILES = (
    ("/.dockerenv", "docker"),
    ("/run/.containerenv", "podman"),
    ("/.singularity.d", "singularity"),
)
_CONTAINER_VARIABLES = (
    ("APPTAINER_CONTAINER", "apptainer"),
    ("SINGULARITY_CONTAINER", "singularity"),
    ("KUBERNETES_SERVICE_HOST", "kubernetes"),
    ("container", ""),
)
_CONTAINERS = frozenset("apptainer docker kubernetes lxc podman singularity".split())

#: The first processor is described within this; on big nodes the whole is
#: long, and the kernel makes it anew for each reader.
_CPUINFO_BYTES = 8192
_MAX_BYTES = 1 << 22

#: The first user namespace shows all ids as they are.
_WHOLE_MAP = ["0", "0", "4294967295"]


def read_node(
    environ: Mapping[str, str],
    places: Iterable[str],
    deadline: Callable[[str], float],
) -> NodeFacts:
    """
    Read the node.

    Args:
        environ: The pilot's environment.

        places: Directories of which the free space is asked.

        deadline: How long to wait for a path that may never answer.
    """
    table = tuple(mounts.parse_mountinfo(_read("/proc/self/mountinfo") or ""))
    files = mounts.of_files(iter(table))
    cgroup, delegated = _cgroup()
    found = batch.batch_of(environ)
    repositories = tuple(mount for mount in files if _is_repository(mount))
    questions: dict[str, Callable[[], Any]] = {"user": _user}
    questions.update((f"free {place}", functools.partial(_free, place)) for place in places)
    questions.update((f"cvmfs {mount.target}", functools.partial(_repository, mount)) for mount in repositories)
    if found is not None and environ.get("_CONDOR_JOB_AD"):
        questions["job"] = functools.partial(batch.htcondor_job_id, environ["_CONDOR_JOB_AD"])
    answers = gather(questions, lambda name: deadline(name.partition(" ")[2] or "/"))
    user = answers["user"].value

    return NodeFacts(
        **_of_process(),
        container=_container(environ),
        chroot=bool(table) and not any(mount.target == "/" for mount in table),
        proc_masked=mounts.proc_is_masked(iter(table)),
        cgroup=cgroup,
        cgroup_delegated=delegated,
        user_known=None if answers["user"].silent else user is not None,
        user_name=user.pw_name if user else None,
        home=user.pw_dir if user else None,
        free={name[5:]: answer.value for name, answer in answers.items() if name.startswith("free ")},
        mounts=files,
        batch=_with_job(found, answers.get("job")),
        repositories=tuple(_answered(mount, answers[f"cvmfs {mount.target}"]) for mount in repositories),
    )


def surroundings(node: NodeFacts, sysctl: Mapping[str, Optional[str]], policy: Policy) -> dict[str, Any]:
    """
    List what the verdict on a runtime depends on beside its files.

    Args:
        node: The node.

        sysctl: Kernel limits by name.

        policy: What containers are started with.
    """
    return {
        "kernel": os.uname().release,
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "user": [os.geteuid(), os.getegid()],
        "sysctl": dict(sysctl),
        "limits": [resource.getrlimit(limit) for limit in (resource.RLIMIT_NPROC, resource.RLIMIT_AS)],
        "rights": [node.user_namespace, node.chroot, node.no_new_privs, node.seccomp, node.capabilities],
        "proc": node.proc_masked,
        "fuse": _device("/dev/fuse"),
        "known": node.user_known,
        "policy": [policy.container_workdir, policy.gpu_use, policy.runtime_tmpdir, policy.runtime_cachedir],
    }


def cpu_level(cpuinfo: str) -> Optional[int]:
    """
    Read the x86-64 level off the text of ``/proc/cpuinfo``.
    """
    line = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    if line is None:
        return None
    flags = frozenset(line.group(1).split())
    if "lm" not in flags:
        return None
    level = 1
    for number, needed in _CPU_LEVELS:
        if not needed <= flags:
            break
        level = number

    return level


def vsyscall_of(maps: str, machine: str) -> Optional[str]:
    """
    Read from ``/proc/self/maps`` how the kernel treats old system calls.
    """
    if machine != "x86_64":
        return None
    line = next((line for line in maps.splitlines() if line.endswith("[vsyscall]")), None)
    if line is None:
        return "none"

    return "emulate" if line.split()[1].startswith("r") else "xonly"


def cgroup_version(text: str) -> tuple[Optional[str], Optional[str]]:
    """
    Read ``/proc/self/cgroup``.

    Returns:
        Version, and the path of the process's cgroup in version 2.
    """
    lines = [line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2]
    unified = next((path for number, names, path in lines if number == "0" and not names), None)
    if not lines:
        return None, None
    if unified is None:
        return "v1", None

    return ("v2" if len(lines) == 1 else "hybrid"), unified


def _of_process() -> dict[str, Any]:
    status = dict(re.findall(r"^(\w+):\s*(\S+)", _read("/proc/self/status") or "", re.MULTILINE))
    cpu, vsyscall = processor()

    return {
        "cpu_level": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "vsyscall": vsyscall,
        "user_namespace": (_read("/proc/self/uid_map") or "0 0 4294967295").split() != _WHOLE_MAP,
        "no_new_privs": status.get("NoNewPrivs") == "1",
        "seccomp": status.get("Seccomp", "0") != "0",
        "capabilities": int(status.get("CapEff", "0"), 16),
    }


@functools.lru_cache(maxsize=1)
def processor() -> tuple[Optional[int], Optional[str]]:
    """
    Read the x86-64 level, and how the kernel treats old system calls.
    """
    # These two cannot change while the pilot lives.
    maps = _read("/proc/self/maps") or ""

    return cpu_level(_read("/proc/cpuinfo", _CPUINFO_BYTES) or ""), vsyscall_of(maps, os.uname().machine)


def _container(environ: Mapping[str, str]) -> Optional[str]:
    for name, kind in _CONTAINER_VARIABLES:
        value = environ.get(name)
        if value:
            return kind or (value if value in _CONTAINERS else "other")
    for path, kind in _CONTAINER_FILES:
        if os.path.lexists(path):
            return kind

    return None


def _cgroup() -> tuple[Optional[str], Optional[bool]]:
    version, path = cgroup_version(_read("/proc/self/cgroup") or "")
    if version != "v2" or path is None:
        return version, None
    place = os.path.join("/sys/fs/cgroup", path.lstrip("/"))

    return version, all(os.access(p, os.W_OK) for p in (place, os.path.join(place, "cgroup.procs")))


def _user() -> Optional[pwd.struct_passwd]:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(os.geteuid())

    return None


def _device(path: str) -> Optional[tuple[int, int, bool]]:
    try:
        found = os.stat(path)
    except OSError:
        return None

    return found.st_mode, found.st_rdev, os.access(path, os.R_OK | os.W_OK, effective_ids=True)


def _free(path: str) -> int:
    found = os.statvfs(path)

    return found.f_bavail * found.f_frsize


def _is_repository(mount: MountFact) -> bool:
    # The client's own type is "fuse"; cvmfsexec and containers show the source.
    return mount.source.startswith("cvmfs2") and mount.fs_type.startswith("fuse")


def _repository(mount: MountFact) -> RepositoryFact:
    fact = RepositoryFact(name=os.path.basename(mount.target), path=mount.target)
    os.stat(mount.target)
    # Sites may hide these (CVMFS_HIDE_MAGIC_XATTRS): they are no sign of health.
    with contextlib.suppress(OSError, ValueError):
        fact = attrs.evolve(fact, fqrn=os.getxattr(mount.target, "user.fqrn").decode("ascii", "replace"))
        fact = attrs.evolve(fact, revision=int(os.getxattr(mount.target, "user.revision")))

    return fact


def _answered(mount: MountFact, answer: Answer) -> RepositoryFact:
    if isinstance(answer.value, RepositoryFact):
        return answer.value
    reason = "no answer" if answer.silent else str(answer.error)

    return RepositoryFact(name=os.path.basename(mount.target), path=mount.target, reason=reason)


def _with_job(found: Optional[BatchFact], answer: Optional[Answer]) -> Optional[BatchFact]:
    if found is None or answer is None or answer.value is None:
        return found

    return attrs.evolve(found, job_id=answer.value)


def _read(path: str, size: int = _MAX_BYTES) -> Optional[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            return f.read(size)
    except OSError:
        return None

"""
What the facts of a node mean for payloads, and what mends it.

Pure functions: a dump of another node gives the same findings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

from wlcg_isolate.host import HostFacts, NodeFacts, ProbeFact, RuntimeFact
from wlcg_isolate.host.fitness import mode_of
from wlcg_isolate.policy import Policy
from wlcg_isolate.runtime import choose_runtime, problems_of

#: What an unprivileged runtime needs of the kernel: name, the value that
#: forbids it, and the command that mends it.
_LIMITS = (
    ("user.max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    ("user.max_mnt_namespaces", "0", "sysctl -w user.max_mnt_namespaces=15000"),
    ("user.max_pid_namespaces", "0", "sysctl -w user.max_pid_namespaces=15000"),
    ("user.max_ipc_namespaces", "0", "sysctl -w user.max_ipc_namespaces=15000"),
    ("kernel.unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or a profile for the runtime",
    ),
)

#: Less is too little for the payload of any experiment.
_LITTLE_SPACE = 1 << 30


class Finding(NamedTuple):
    """
    One capability of the node.

    Attributes:
        name: What it is.

        verdict: ``"yes"``, ``"no"`` or ``"no answer"``.

        how: How it was found out.

        meaning: What it means for payloads.

        mend: The command that mends it, or "".

        vital: Whether payloads need it.
    """

    name: str
    verdict: str
    how: str
    meaning: str
    mend: str = ""
    vital: bool = False


def findings_of(facts: HostFacts, policy: Policy) -> list[Finding]:
    """
    List everything that is known of a node.
    """
    return [
        *_runtime(facts, policy),
        *_containers(facts, policy),
        _loader(facts),
        *_kernel(facts),
        *_fuse(facts),
        *(_node(facts.node) if facts.node is not None else ()),
        *_file_systems(facts),
    ]


def _loader(facts: HostFacts) -> Finding:
    if facts.loader_fault is None:
        return Finding("loader", "yes", "started once", "payloads get exactly what was decided, from any image")
    meaning = "payloads are started by their image's shell, which changes some variables and has to be there"

    return Finding("loader", "no", facts.loader_fault, meaning, "sysctl -w vm.memfd_noexec=0, where it is 2")


def _runtime(facts: HostFacts, policy: Policy) -> Iterator[Finding]:
    runtime, problems = choose_runtime(facts, policy)
    if runtime is None:
        for problem in problems:
            yield Finding("runtime", "no", "looked for it", problem.message, problem.advice, vital=True)
    else:
        meaning = f"payloads get {runtime.flavour} {runtime.version} in {runtime.mode} mode: {runtime.path}"
        yield Finding("runtime", "yes", "version and start", meaning, vital=True)
        for warning in runtime.warnings:
            yield Finding("  warning", "no", "version and probe", warning)
        yield from _passed_over(facts, policy, runtime.path)
    missing = [fact.path for fact in facts.runtimes if fact.verdict == "missing"]
    if missing:
        yield Finding(
            "  not there", "no", "looked", f"{len(missing)} places: {missing[0]}{', ...' if missing[1:] else ''}"
        )


def _passed_over(facts: HostFacts, policy: Policy, taken: str) -> Iterator[Finding]:
    for path, problem in problems_of(facts, policy).items():
        if path != taken and problem is None:
            yield Finding("  not taken", "no", "version and start", f"{path} would do, but comes later")
        elif path != taken and problem is not None:
            yield Finding("  not taken", "no", "version and start", problem.message, problem.advice)


def _containers(facts: HostFacts, policy: Policy) -> Iterator[Finding]:
    runtime, _ = choose_runtime(facts, policy)
    known = [fact for fact in facts.runtimes if fact.tree is not None or fact.file is not None]
    fact = next((f for f in known if runtime is not None and f.path == runtime.path), next(iter(known), None))
    if fact is None:
        return
    if fact.setuid:
        mode = mode_of(fact, facts.uid, facts.node, policy)
        yield Finding(
            "set-uid starter", "yes" if mode.name == "setuid" else "no", fact.path, f"{mode.name} mode: {mode.reason}"
        )
    for name, probe, works in (
        ("tree image", fact.tree, "unpacked trees run"),
        ("image file", fact.file, "SIF files run"),
    ):
        if probe is not None:
            yield _start(name, probe, works)
    good = next((probe for probe in (fact.tree, fact.file) if probe is not None and probe.start == "yes"), None)
    if good is not None:
        yield from _abilities(good, fact)


def _start(name: str, probe: ProbeFact, works: str) -> Finding:
    how = f"started {probe.starts} container{'s' if probe.starts != 1 else ''}"
    if probe.start == "yes":
        by = {"fuse": ", mounted by FUSE", "kernel": ", mounted by the kernel", "unpacked": ", unpacked each time"}
        return Finding(name, "yes", how, f"{works}{by.get(probe.method or '', '')}; {1000 * probe.seconds:.0f} ms")

    return Finding(name, probe.start.replace("-", " "), how, probe.reason, probe.advice)


def _abilities(probe: ProbeFact, fact: RuntimeFact) -> Iterator[Finding]:
    how = "looked from outside"
    config = fact.config_file or "the runtime's configuration"
    yield _ability(
        "missing target",
        None if probe.layer is None else probe.layer != "none",
        how,
        (f"binds may go where the image has no place, by {probe.layer}", "binds need a place in the image"),
        f"in {config}: enable overlay = yes, enable underlay = yes",
    )
    yield _ability(
        "PID namespace",
        probe.pid_namespace,
        how,
        ("payloads see only their own processes", "payloads see the pilot's processes"),
        "unmask /proc in the outer container (systempaths=unconfined, procMount: Unmasked); "
        f"in {config}: allow pid ns = yes",
    )
    yield _ability(
        "nested",
        probe.nested,
        "tried it inside",
        ("payloads may start containers", "payloads cannot start containers of their own"),
    )


def _ability(name: str, able: Optional[bool], how: str, meanings: tuple[str, str], mend: str = "") -> Finding:
    if able is None:
        return Finding(name, "no answer", how, "it could not be seen")

    return Finding(name, "yes" if able else "no", how, meanings[not able], "" if able else mend)


def _kernel(facts: HostFacts) -> Iterator[Finding]:
    for name, forbidding, mend in _LIMITS:
        value = facts.sysctl.get(name)
        if value is None or (
            value != forbidding and name.endswith(("mnt_namespaces", "pid_namespaces", "ipc_namespaces"))
        ):
            continue
        forbidden = value == forbidding
        means = "unprivileged containers are refused" if forbidden else "allows unprivileged containers"
        if forbidden and forbidding == "1":
            means = "only programs with an AppArmor profile may start containers"
        yield Finding(name, "no" if forbidden else "yes", f"/proc/sys says {value}", means, mend if forbidden else "")


def _fuse(facts: HostFacts) -> Iterator[Finding]:
    fact = facts.paths.get("/dev/fuse")
    if fact is None:
        return
    usable = fact.present and fact.writable
    reason = fact.reason or ("" if usable else "not writable for this user")
    mend = "modprobe fuse; in an outer container pass the device in" if not fact.present else "chmod 666 /dev/fuse"
    yield Finding(
        "/dev/fuse",
        "no answer" if fact.state == "no-answer" else "yes" if usable else "no",
        "looked at it",
        "image files can be mounted" if usable else f"image files cannot be mounted without privileges: {reason}",
        "" if usable else mend,
    )


def _node(node: NodeFacts) -> Iterator[Finding]:
    known = {True: "yes", False: "no", None: "no answer"}[node.user_known]
    yield Finding(
        "user's entry",
        known,
        "asked the user database",
        "runtimes know the user" if node.user_known else "runtimes end with 'unknown userid'",
        "" if node.user_known else "getent passwd UID must answer: check sssd or nslcd",
    )
    if node.container is not None or node.user_namespace:
        what = node.container or "a user namespace"
        yield Finding("no container yet", "no", "variables, files, /proc", f"the pilot itself runs in {what}")
    if node.chroot:
        yield Finding("mounted root", "no", "mountinfo", "in a chroot the kernel refuses user namespaces", "pivot_root")
    if node.proc_masked:
        yield Finding(
            "whole /proc",
            "no",
            "mountinfo",
            "parts are covered: no container can mount its own",
            "systempaths=unconfined",
        )
    yield Finding(
        "cgroup delegation",
        {True: "yes", False: "no", None: "no"}[node.cgroup_delegated],
        f"cgroup {node.cgroup}" if node.cgroup else "no cgroups",
        "memory limits can be set" if node.cgroup_delegated else "memory limits are the batch system's alone",
    )
    if node.cpu_level is not None:
        el = {1: "EL8", 2: "EL9"}.get(node.cpu_level, "EL10")
        yield Finding("processor", "yes", "/proc/cpuinfo", f"x86-64-v{node.cpu_level}: images up to {el} run")
    if node.vsyscall is not None:
        runs = node.vsyscall != "none"
        meaning = "images of EL6 run" if runs else "programs of EL6 crash with status 139"
        yield Finding(
            "vsyscall",
            "yes" if runs else "no",
            f"{node.vsyscall}",
            meaning,
            "" if runs else "boot with vsyscall=emulate",
        )
    if node.batch is not None:
        yield Finding("batch system", "yes", "variables", f"the pilot runs under {node.batch.system}")


def _file_systems(facts: HostFacts) -> Iterator[Finding]:
    fact = facts.paths.get("/cvmfs")
    node = facts.node
    if fact is not None:
        verdict = "yes" if fact.present else "no answer" if fact.state == "no-answer" else "no"
        count = len(node.repositories) if node is not None else 0
        meaning = f"payloads see /cvmfs; {count} repositories are mounted"
        if not fact.present:
            meaning = f"payloads go without: {fact.reason}"
        mend = "" if fact.present else "cvmfs_config probe" if verdict == "no answer" else "install the CVMFS client"
        yield Finding("/cvmfs", verdict, "looked at it", meaning, mend)
    for repository in node.repositories if node is not None else ():
        if repository.reason:
            yield Finding(
                repository.path, "no answer", repository.reason, "payloads that need it hang", "cvmfs_config probe"
            )
    for path, free in node.free.items() if node is not None else ():
        enough = free is not None and free >= _LITTLE_SPACE
        meaning = "no answer" if free is None else f"{free / (1 << 30):.1f} GiB free"
        yield Finding(
            f"space in {path}",
            "no answer" if free is None else "yes" if enough else "no",
            "statvfs",
            meaning,
            "" if enough else "free space, or another working directory",
        )

"""
Checks that concern no single part of a plan.

Each looks at values only and yields what stands against the plan.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Optional

from wlcg_isolate._values import is_below
from wlcg_isolate.binds import BindDecision
from wlcg_isolate.environment import EnvDecision
from wlcg_isolate.errors import Problem
from wlcg_isolate.host import HostFacts, PathFact, repository_path, trace_candidates
from wlcg_isolate.policy import Policy
from wlcg_isolate.products import parse_banner
from wlcg_isolate.request import Request
from wlcg_isolate.runtime import Runtime

#: Directories that are the node, not somebody's work.
NO_WORKDIR = frozenset("/ /bin /boot /dev /etc /home /lib /lib64 /proc /run /sbin /sys /usr /var /var/tmp".split())

#: execve(2), MAX_ARG_STRLEN with pages of 4 KiB, less the NUL byte.
_MAX_WORD = 32 * 4096 - 1


def workdir_problems(workdir: Optional[str], facts: HostFacts) -> Iterator[Problem]:
    """
    Find why the working directory cannot be used.
    """
    if workdir is None:
        yield Problem(
            kind="workdir-missing",
            message="the current directory is gone",
            origin="this process",
            advice="name a working directory with --workdir",
        )
        return
    fact = facts.paths.get(workdir)
    if fact is None or not fact.present or fact.kind != "directory":
        state = "is no directory" if fact is not None and fact.present else "does not exist"
        if fact is not None and fact.state not in ("present", "missing"):
            state = f"cannot be looked at: {fact.reason}"
        yield Problem(
            kind="workdir-missing",
            message=f"working directory {workdir} {state}",
            origin="--workdir",
            advice="create it before the payload is started",
        )
    elif workdir in NO_WORKDIR or fact.resolved in NO_WORKDIR:
        yield Problem(
            kind="workdir-unsafe",
            message=f"{workdir} is a directory of the system",
            origin="--workdir",
            advice="give each payload a directory of its own",
        )
    elif not fact.writable:
        yield Problem(
            kind="workdir-not-writable",
            message=f"working directory {workdir} cannot be written",
            origin="--workdir",
            advice="check its owner and mode, and that its disk is mounted read-write",
        )


def policy_problems(request: Request, policy: Policy, facts: HostFacts) -> Iterator[Problem]:
    """
    Find what policy asks of the node or forbids to the request, other than
    in image, binds and environment.
    """
    for name in policy.cvmfs_repositories:
        fact = facts.paths.get(policy.on_node(repository_path(name)))
        if fact is None or not fact.present or not fact.readable:
            reason = "nobody looked" if fact is None else fact.reason or "cannot be read"
            yield Problem(
                kind="repository-missing",
                message=f"the CVMFS repository {name} does not answer here: {reason}",
                origin="cvmfs.repositories",
                advice="repair the CVMFS client, or mount the repository",
            )
    for gpu in policy.gpu_use:
        if gpu not in policy.gpu_allowed:
            yield Problem(
                kind="gpu-not-allowed",
                message=f"GPUs of {gpu} are asked for, and gpu.allowed has {', '.join(policy.gpu_allowed) or 'none'}",
                origin="gpu.use",
                advice="leave it out, or ask the site",
            )
    if not policy.runtime_user_binds:
        yield Problem(
            kind="binds-disabled",
            message="the runtime lets users bind nothing, not even the working directory",
            origin="runtime.user_binds",
            advice="set 'user bind control = yes' in the runtime's configuration",
        )
    limit = policy.payload_limit_seconds
    if limit is not None and request.timeout is not None and request.timeout > limit:
        yield Problem(
            kind="timeout-too-long",
            message=f"a time limit of {request.timeout:g} s is asked for, and {limit:g} s is the most",
            origin="payload.limit_seconds",
            advice="ask for less, or leave it out to get the most",
        )


def planted_links(workdir: Optional[str], binds: tuple[BindDecision, ...], facts: HostFacts) -> Iterator[Problem]:
    """
    Find bind sources in the working directory that are really elsewhere.

    An earlier payload may have put a link there, to what the pilot can read
    and no payload may.
    """
    if workdir is None:
        return
    fact = facts.paths.get(workdir)
    inside = workdir if fact is None or fact.resolved is None else fact.resolved
    for bind in binds:
        found = facts.paths.get(bind.source)
        if bind.decision != "mount" or found is None or found.resolved is None or not is_below(bind.source, workdir):
            continue
        if not is_below(found.resolved, inside):
            yield Problem(
                kind="workdir-unsafe",
                message=f"{bind.source} is in the working directory, where a link leads it to {found.resolved}",
                origin=bind.origin,
                advice="bind that directory itself, if it is meant",
            )


def too_long(command: tuple[str, ...], environ: Mapping[str, str]) -> Iterator[Problem]:
    """
    Find what no program can be started with.

    The sum of all is checked at the start, where the image's own variables
    are known.
    """
    words = [("argument-undeliverable", f"argument {i}", word) for i, word in enumerate(command)]
    words += [("variable-undeliverable", f"the variable {n}", f"{n}={value}") for n, value in environ.items()]
    for kind, name, word in words:
        if len(os.fsencode(word)) > _MAX_WORD:
            yield Problem(
                kind=kind,
                message=f"{name} is longer than the {_MAX_WORD} bytes that the kernel passes on",
                origin="request",
                advice="hand it over in a file in the working directory",
            )


def trace_dirs(
    request: Request, policy: Policy, facts: HostFacts, binds: tuple[BindDecision, ...]
) -> tuple[tuple[str, ...], list[Problem]]:
    """
    Keep the trace directories that the payload cannot see.
    """
    usable, problems = [], []
    for candidate in trace_candidates(policy, facts.environ, facts.uid):
        shown_by = _shown_by(candidate, binds, facts.paths)
        if shown_by is None:
            usable.append(candidate)
        else:
            problems.append(
                Problem(
                    kind="trace-visible",
                    message=f"the payload would see the trace directory {candidate} through {shown_by}",
                    origin="--trace-dir" if request.trace_dir else "trace.directories",
                    advice="name a trace directory outside the working directory and all binds",
                )
            )

    return tuple(usable), [] if usable else problems


def undelivered(required: Iterable[str]) -> Problem:
    """
    Say why a pilot cannot start a payload itself where a receiver must have
    the record of the start before it.
    """
    return Problem(
        kind="trace-undelivered",
        message=f"{', '.join(required)} must have the record of a start, which nobody sends for a pilot that starts "
        "a payload itself",
        origin="trace.required",
        advice="use wlcg-isolate run, or launch_plan from Python",
    )


def registry_problems(
    policy: Policy, facts: HostFacts, runtime: Runtime, binds: tuple[BindDecision, ...]
) -> Iterator[Problem]:
    """
    Find why the runtime cannot have the credentials of registries from a
    file that the payload does not see.
    """
    path = policy.image_registry_credentials
    if path is None:
        return
    fact = facts.paths.get(path)
    shown_by = _shown_by(path, binds, facts.paths)
    if fact is None or fact.kind != "file" or not fact.readable:
        fault = "is no file that this user can read"
    elif shown_by is not None:
        fault = f"would be seen by the payload through {shown_by}"
    elif not _reads_authfile(runtime):
        fault = f"cannot be given to {runtime.flavour} {runtime.version}, which has no --authfile"
    else:
        return
    yield Problem(
        kind="credential-missing",
        message=f"the file {path} with the credentials of registries {fault}",
        origin="image.registry_credentials",
        advice="keep it outside the working directory and all binds, or name an image that needs no pull",
    )


def _reads_authfile(runtime: Runtime) -> bool:
    product = parse_banner(f"{runtime.flavour} version {runtime.version}")

    return product is not None and product.has("--authfile")


def _shown_by(path: str, binds: tuple[BindDecision, ...], paths: Mapping[str, PathFact]) -> Optional[str]:
    def spellings(p: str) -> list[str]:
        fact = paths.get(p)
        return [p] if fact is None or fact.resolved is None else [p, fact.resolved]

    for bind in binds:
        for source in spellings(bind.source) if bind.decision == "mount" else ():
            for place in spellings(path):
                if is_below(place, source) or is_below(source, place):
                    return bind.source

    return None


def keep_warnings(request: Request, environment: Iterable[EnvDecision]) -> Iterator[str]:
    """
    Say which host variables a request asked for in vain.
    """
    dropped = {decision.name: decision.reason for decision in environment if decision.value is None}
    for name in request.keep_env:
        if name in dropped:
            yield f"--keep-env {name}: it does not pass: {dropped[name]}"


def warnings(request: Request, facts: HostFacts) -> Iterator[str]:
    """
    Say what refuses nothing, and should be known.
    """
    for name in request.keep_env:
        if name not in facts.environ:
            yield f"--keep-env {name}: the host has no such variable"

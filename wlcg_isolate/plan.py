"""
The whole decision as one immutable value.

`make_plan` is the place where runtime, image, environment and binds meet.
It either returns a `Plan`, which is isolated by construction, or raises with
everything that stands against one.  There is no third way.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Callable, Optional

import attrs

from wlcg_isolate import _render
from wlcg_isolate._values import is_below, utf8_fault
from wlcg_isolate.binds import BindDecision, decide_binds
from wlcg_isolate.environment import EnvDecision, decide_environment
from wlcg_isolate.errors import PlanError, Problem
from wlcg_isolate.host import HostFacts, probe_host, trace_candidates, workdir_of
from wlcg_isolate.images import Image, choose_image
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Request
from wlcg_isolate.runtime import Runtime, choose_runtime

#: Directories that are the node, not somebody's work.
_NO_WORKDIR = frozenset("/ /bin /boot /dev /etc /home /lib /lib64 /proc /run /sbin /sys /usr /var /var/tmp".split())


@attrs.frozen(kw_only=True)
class Plan:
    """
    How one payload will run on one node.

    Attributes:
        trace_id: Identity of this payload in every record (a UUID).

        request: What was asked.

        runtime: Program and mode.

        image: The image, pinned to its resolved path.

        workdir: Working directory on the host.

        home: Where it is in the container.

        environment: The decision on every variable.

        binds: The decision on every bind, in the order of mounting.

        trace_dirs: Directories for trace records, best first.

        grace: Seconds between TERM and KILL.

        start_deadline: Seconds that the runtime has for the start.

        warnings: What a person should know though nothing is refused.

        unrenderable: Why `argv`, `environ` and `shell` cannot express this
            plan; empty when they can.  `launch_plan` does not depend on it.
    """

    trace_id: str
    request: Request
    runtime: Runtime
    image: Image
    workdir: str
    home: str
    environment: tuple[EnvDecision, ...]
    binds: tuple[BindDecision, ...]
    trace_dirs: tuple[str, ...]
    grace: float
    start_deadline: float
    warnings: tuple[str, ...] = ()
    unrenderable: tuple[Problem, ...] = ()

    @property
    def payload_environ(self) -> dict[str, str]:
        """
        The variables that the payload gets on top of the image's own.
        """
        return {d.name: d.value for d in self.environment if d.value is not None}

    @property
    def mounts(self) -> tuple[BindDecision, ...]:
        """
        The binds that are made.
        """
        return tuple(bind for bind in self.binds if bind.decision == "mount")

    @property
    def scratch(self) -> str:
        """
        Host directory of this payload's ``/tmp`` and ``/var/tmp``.
        """
        return os.path.join(self.workdir, f".wlcg-isolate-{self.trace_id}")

    @property
    def argv(self) -> tuple[str, ...]:
        """
        The command that runs the payload, for callers that start processes
        themselves; it needs `environ` as its whole environment.

        Nothing has to be prepared: ``/tmp`` and ``/var/tmp`` are the
        directories ``tmp`` and ``var_tmp`` of the working directory, which
        the runtime makes.  `launch_plan` and `shell` use private ones.

        Raises:
            PlanError: A word cannot pass through the runtime unchanged.
        """
        self._must_render()

        return _render.static_argv(self, scratch=self.workdir)

    @property
    def environ(self) -> dict[str, str]:
        """
        The complete environment of the runtime process for `argv`.

        Raises:
            PlanError: A value cannot pass through the runtime unchanged.
        """
        self._must_render()

        return _render.static_environ(self)

    def shell(self) -> str:
        """
        Render one POSIX shell line that runs the payload.

        The line holds the values of the payload's variables; whoever may
        read it (``ps``, a log) may read them.

        Raises:
            PlanError: As for `argv`.
        """
        self._must_render()

        return _render.shell_line(self)

    def explain(self) -> str:
        """
        Tell a person what was decided and why, in one screen of text.
        """
        return _render.explain(self)

    def to_dict(self) -> dict[str, Any]:
        """
        Return the plan in plain types, in the shape that ``plan --json`` has.

        Raises:
            PlanError: As for `argv`.
        """
        return _render.as_dict(self)

    def _must_render(self) -> None:
        if self.unrenderable:
            raise PlanError(self.unrenderable)


def make_plan(request: Request, policy: Policy, facts: Optional[HostFacts] = None) -> Plan:
    """
    Decide how to run *request* on this node.

    Args:
        request: What the pilot asks.

        policy: What site and experiment allow.

        facts: What is known of the node; read now when not given.  With
            facts, this is a pure function but for the trace id.

    Raises:
        PlanError: With every reason why there is no isolated way.
    """
    if facts is None:
        facts = probe_host(request, policy)

    trace_id = str(uuid.uuid4())
    problems: list[Problem] = []
    runtime, found = choose_runtime(facts)
    problems += found
    image, found = choose_image(request, facts)
    problems += found
    environment, found = decide_environment(facts.environ, request, policy, trace_id)
    problems += found
    workdir = workdir_of(request, facts.cwd)
    problems += _workdir_problems(workdir, facts)
    binds, found = decide_binds(request, policy, facts, workdir or "/")
    problems += found
    trace_dirs, found = _trace_dirs(request, policy, facts, binds)
    problems += found
    if problems or runtime is None or image is None or workdir is None:
        raise PlanError(problems)

    plan = Plan(
        trace_id=trace_id,
        request=request,
        runtime=runtime,
        image=image,
        workdir=workdir,
        home=policy.container_workdir,
        environment=environment,
        binds=binds,
        trace_dirs=trace_dirs,
        grace=policy.payload_grace_seconds,
        start_deadline=policy.runtime_start_seconds,
        warnings=tuple(_warnings(request, facts)),
    )

    return attrs.evolve(plan, unrenderable=tuple(p for check in _STATIC_CHECKS for p in check(plan, facts)))


def _workdir_problems(workdir: Optional[str], facts: HostFacts) -> Iterator[Problem]:
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
    elif workdir in _NO_WORKDIR or fact.resolved in _NO_WORKDIR:
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


def _trace_dirs(
    request: Request, policy: Policy, facts: HostFacts, binds: tuple[BindDecision, ...]
) -> tuple[tuple[str, ...], list[Problem]]:
    """
    Keep the trace directories that the payload cannot see.
    """
    usable, problems = [], []
    for candidate in trace_candidates(request, policy, facts.environ, facts.uid):
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


def _shown_by(path: str, binds: tuple[BindDecision, ...], paths: Mapping[str, Any]) -> Optional[str]:
    def spellings(p: str) -> list[str]:
        fact = paths.get(p)
        return [p] if fact is None or fact.resolved is None else [p, fact.resolved]

    for bind in binds:
        for source in spellings(bind.source) if bind.decision == "mount" else ():
            for place in spellings(path):
                if is_below(place, source) or is_below(source, place):
                    return bind.source

    return None


def _warnings(request: Request, facts: HostFacts) -> Iterator[str]:
    if facts.uid == 0:
        yield "the pilot is root: a container confines a payload of root far less than one of a plain user"
    for name in request.keep_env:
        if name not in facts.environ:
            yield f"--keep-env {name}: the host has no such variable"


def _not_utf8(plan: Plan, facts: HostFacts) -> Iterator[Problem]:
    """
    The runtime passes arguments and variables on as JSON: bytes that are not
    UTF-8 become U+FFFD (seen with Apptainer 1.4.5).
    """
    del facts
    for i, word in enumerate(plan.request.payload.command):
        if utf8_fault(word):
            yield _unrenderable("argument-undeliverable", f"argument {i} {utf8_fault(word)}")
    for name, value in plan.payload_environ.items():
        if utf8_fault(value):
            yield _unrenderable("variable-undeliverable", f"the value of {name} {utf8_fault(value)}")
    for bind in plan.mounts:
        for path in (bind.source, bind.target):
            if utf8_fault(path):
                yield _unrenderable("bind-target-impossible", f"the path {path!r} {utf8_fault(path)}")


def _planted_tmp(plan: Plan, facts: HostFacts) -> Iterator[Problem]:
    """
    An earlier payload may have left a link where ``argv`` has ``/tmp``.
    """
    for name in ("tmp", "var_tmp"):
        fact = facts.paths.get(os.path.join(plan.workdir, name))
        if fact is not None and (fact.is_link or (fact.present and fact.kind != "directory")):
            yield Problem(
                kind="workdir-unsafe",
                message=f"{fact.path} is no plain directory",
                origin="--workdir",
                advice="remove it, or start the payload with wlcg-isolate run",
            )


_STATIC_CHECKS: tuple[Callable[[Plan, HostFacts], Iterator[Problem]], ...] = (_not_utf8, _planted_tmp)


def _unrenderable(kind: str, message: str) -> Problem:
    return Problem(
        kind=kind,
        message=f"{message}, which the runtime's command line cannot carry",
        origin="request",
        advice="start the payload with wlcg-isolate run, or use other bytes",
    )

"""
The whole decision as one immutable value.

`make_plan` is the place where runtime, image, environment and binds meet.
It either returns a `Plan`, which is isolated by construction, or raises with
everything that stands against one.  There is no third way.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Optional

import attrs

from wlcg_isolate import _checks, _decisions, _render, _static, _supervisor
from wlcg_isolate._values import as_mapping
from wlcg_isolate.binds import BindDecision, decide_binds, given_binds, held_open
from wlcg_isolate.credentials import DIRECTORY, CredentialCopy, decide_credentials, variables_of
from wlcg_isolate.environment import EnvDecision, Place, Surroundings, decide_environment
from wlcg_isolate.errors import PlanError, PolicyError, Problem
from wlcg_isolate.fitness import Image, choose_image
from wlcg_isolate.fitness.mounting import decide_mount
from wlcg_isolate.host import HostFacts, config_of, probe_host, workdir_of
from wlcg_isolate.host.start import RUNTIME_ENVIRON, runtime_environ
from wlcg_isolate.isolation import Isolation, Shown, decide_isolation, warnings as isolation_warnings
from wlcg_isolate.policy import Policy
from wlcg_isolate.policy.settle import settle
from wlcg_isolate.request import Request
from wlcg_isolate.runtime import Runtime, choose_runtime, with_layer


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

        credentials: The payload's own credentials, which it gets copies of.

        image_environ: Whether the image's own variables stay.

        held: Host paths that are mounted on demand, and are held open as
            long as the payload runs.

        given: What the runtime shows in every container.

        trace_dirs: Directories for trace records, best first.

        gpus: Makers of the GPUs that the payload gets.

        starter: What waits in the container and becomes the payload:
            ``"loader"``, or the image's own ``"shell"`` where the loader
            cannot be used.  A launch may still have to take the shell; its
            record says so.

        starter_reason: Why it is not the loader, or "".

        timeout: Time limit in seconds of wall time, or None.

        runtime_environ: Whole environment of the runtime, the payload's
            variables aside.

        isolation: What surrounds the payload beside all this.

        registry_credentials: File that the runtime reads when it pulls the
            image, or None.

        grace: Seconds between TERM and KILL.

        start_deadline: Seconds that the runtime has for the start.

        warnings: What a person should know though nothing is refused.

        policy: What held when it was made.

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
    credentials: tuple[CredentialCopy, ...] = ()
    image_environ: bool = True
    held: tuple[str, ...] = ()
    given: tuple[BindDecision, ...] = ()
    trace_dirs: tuple[str, ...]
    gpus: tuple[str, ...] = ()
    starter: str = "shell"
    starter_reason: str = ""
    timeout: Optional[float] = None
    runtime_environ: Mapping[str, str] = attrs.field(default=RUNTIME_ENVIRON, converter=as_mapping)
    isolation: Isolation = attrs.field(factory=Isolation)
    registry_credentials: Optional[str] = None
    grace: float
    start_deadline: float
    warnings: tuple[str, ...] = ()
    policy: Policy = attrs.field(factory=Policy, repr=False)
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
        The binds that are asked of the runtime.
        """
        return tuple(bind for bind in self.binds if bind.decision == "mount")

    @property
    def home_place(self) -> str:
        """
        Where the working directory really is in the container, with the
        image's own links followed.
        """
        return next((bind.place for bind in self.binds if bind.origin == "library"), self.home)

    @property
    def scratch(self) -> str:
        """
        Host directory of this payload's ``/tmp`` and ``/var/tmp``.
        """
        return os.path.join(self.workdir, scratch_name(self.trace_id))

    @property
    def argv(self) -> tuple[str, ...]:
        """
        The runtime's call alone, which needs `environ` as its whole
        environment: no start marker, no checks.  `supervised` and `shell`
        have both.

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

        return _render.static_environ(self, self.workdir)

    def shell(self) -> str:
        """
        Render one POSIX shell line that runs the payload with its start
        marker and the checks from outside, waits for it and tidies up.

        `supervised` tells what it leaves.  The line holds the values of the
        payload's variables; whoever may read it (a log, or ``ps`` for the
        shell that is given it) may read them.

        Raises:
            PlanError: As for `argv`, or policy requires a receiver
                (``trace.required``), which only `launch_plan` waits for.
        """
        self._must_record()

        return _supervisor.shell_line(self)

    @property
    def supervised(self) -> _supervisor.Supervised:
        """
        The command that does the same as `shell` and becomes the runtime,
        for callers that start processes themselves.

        What it leaves, `outcome_of` turns into the outcome.

        Raises:
            PlanError: As for `shell`.
        """
        self._must_record()

        return _supervisor.supervised(self)

    def explain(self) -> str:
        """
        Tell a person what was decided and why, in one screen of text.
        """
        return _render.explain(self)

    def why(self, name: str) -> str:
        """
        Tell what becomes of one variable, and why; never its value.
        """
        return _decisions.why(self, name)

    def to_dict(self) -> dict[str, Any]:
        """
        Return the plan in plain types, in the shape that ``plan --json`` has.

        Raises:
            PlanError: As for `shell`.
        """
        return _render.as_dict(self)

    def _must_render(self) -> None:
        if self.unrenderable:
            raise PlanError(self.unrenderable)

    def _must_record(self) -> None:
        self._must_render()
        if self.policy.trace_required:
            raise PlanError([_checks.undelivered(self.policy.trace_required)])


def scratch_name(trace_id: str) -> str:
    """
    Name a payload's private directory in its working directory.
    """
    return f".wlcg-isolate-{trace_id}"


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
    policy, problems = _settled(request, policy, facts)
    runtime, found = choose_runtime(facts, policy)
    problems += found
    policy = with_layer(policy, runtime)
    image, found = choose_image(request, policy, facts)
    problems += found
    if image is not None and runtime is not None:
        place = policy.runtime_tmpdir or workdir_of(request, facts.cwd) or "/"
        image, found = decide_mount(image, policy, facts, mode=runtime.mode, place=place)
        problems += found
    workdir = workdir_of(request, facts.cwd)
    astray = list(_checks.workdir_problems(workdir, facts))
    problems += astray
    binds, found = decide_binds(
        request, policy, facts, workdir or "/", layer=None if runtime is None else runtime.layer
    )
    problems += found
    problems += _checks.planted_links(workdir, binds, facts)
    copies, found = decide_credentials(request, policy, facts, workdir or "/")
    problems += found
    inside = os.path.join(policy.container_workdir, scratch_name(trace_id), DIRECTORY)
    around = Surroundings(
        facts=facts,
        places=_places(binds, facts),
        credentials=variables_of(copies, inside),
        trace_id=trace_id,
    )
    environment, found = decide_environment(request, policy, around)
    problems += found
    passed = {d.name: d.value for d in environment if d.value is not None}
    problems += _checks.too_long(request.payload.command, passed)
    trace_dirs, found = _checks.trace_dirs(request, policy, facts, binds)
    # In a wrong working directory, what it shows is wrong for the same reason.
    problems += [] if astray else found
    problems += _checks.policy_problems(request, policy, facts)
    given = tuple(given_binds(binds, policy, facts, layer=None if runtime is None else runtime.layer))
    # The runtime makes its own copy of the third.
    files = [
        Shown(bind.source, bind.place)
        for bind in given
        if bind.decision == "mount" and bind.source != "/etc/resolv.conf"
    ]
    isolation, found = decide_isolation(policy, facts, files, pid=runtime is None or runtime.pid)
    problems += found
    if image is not None and image.form == "uri" and runtime is not None:
        problems += _checks.registry_problems(policy, facts, runtime, binds)
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
        credentials=copies,
        image_environ=policy.environment_image,
        held=held_open(binds, policy, facts),
        given=given,
        trace_dirs=trace_dirs,
        gpus=policy.gpu_use,
        starter="loader" if facts.loader_fault is None else "shell",
        starter_reason=facts.loader_fault or "",
        timeout=policy.payload_limit_seconds if request.timeout is None else request.timeout,
        runtime_environ=runtime_environ(runtime.prefix, policy),
        isolation=isolation,
        registry_credentials=policy.image_registry_credentials if image.form == "uri" else None,
        grace=policy.payload_grace_seconds,
        start_deadline=policy.runtime_start_seconds,
        warnings=(
            *runtime.warnings,
            *isolation_warnings(isolation),
            *_checks.warnings(request, facts),
            *_checks.keep_warnings(request, environment),
            *image.warnings,
            *policy.warnings,
        ),
        policy=policy,
    )

    return attrs.evolve(plan, unrenderable=tuple(_static.unrenderable(plan, facts)))


def _places(binds: Iterable[BindDecision], facts: HostFacts) -> tuple[Place, ...]:
    """
    List what the payload sees of the host, in every spelling that is known,
    the longest first.
    """
    found = dict.fromkeys(
        Place(spelling, bind.target)
        for bind in binds
        if bind.decision == "mount"
        for spelling in (bind.source, facts.resolved(bind.source))
    )

    return tuple(sorted(found, key=lambda place: -len(place.source)))


def _settled(request: Request, policy: Policy, facts: HostFacts) -> tuple[Policy, list[Problem]]:
    """
    Add what node and request say to what the files say.
    """
    config, file = config_of(facts.runtimes)
    try:
        return settle(policy, request, facts.environ, config, file), []
    except PolicyError as e:
        return policy, list(e.problems)

"""
What `Plan.argv` and its like cannot express, while a launch can.

Each check looks at values only and yields what stands against a command.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Callable

from wlcg_isolate._values import utf8_fault
from wlcg_isolate.environment import fits_shell
from wlcg_isolate.errors import Problem
from wlcg_isolate.host import HostFacts
from wlcg_isolate.host.facts import RUNTIME_SCRIPTS

if TYPE_CHECKING:
    from wlcg_isolate.plan import Plan


def _not_utf8(plan: Plan, facts: HostFacts) -> Iterator[Problem]:
    """
    The runtime passes arguments and variables on as JSON: bytes that are not
    UTF-8 become U+FFFD (seen with Apptainer 1.4.5).
    """
    del facts
    for i, word in enumerate(plan.request.payload.command):
        if utf8_fault(word):
            yield _cannot_carry("argument-undeliverable", f"argument {i} {utf8_fault(word)}")
    for name, value in plan.payload_environ.items():
        if utf8_fault(value):
            yield _cannot_carry("variable-undeliverable", f"the value of {name} {utf8_fault(value)}")
    for bind in plan.mounts:
        for path in (bind.source, bind.target):
            if utf8_fault(path):
                yield _cannot_carry("bind-target-impossible", f"the path {path!r} {utf8_fault(path)}")


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


def _credentials(plan: Plan, facts: HostFacts) -> Iterator[Problem]:
    """
    Copies have to be made before the start, by somebody who may read the
    pilot's files; a command alone cannot.
    """
    del facts
    for copy in plan.credentials:
        yield Problem(
            kind="credential-missing",
            message=f"the credential {copy.variable} needs a private copy, which a command alone cannot make",
            origin="--credential",
            advice="start the payload with wlcg-isolate run",
        )


def _needs_loader(plan: Plan, facts: HostFacts) -> Iterator[Problem]:
    """
    A command alone is started by the image's shell.
    """
    for name in plan.payload_environ:
        if not fits_shell(name):
            yield _cannot_carry("variable-undeliverable", f"no shell can deliver the variable {name}")
    shell = facts.image.targets.get("/bin/sh") if facts.image is not None else None
    # What a URI leads to is known when it was pulled.
    if plan.image.form != "uri" and (shell is None or shell.kind != "file"):
        yield Problem(
            kind="image-no-shell",
            message=f"{plan.image.path} holds no /bin/sh, which the command needs",
            origin=plan.image.requested,
            advice="start the payload with wlcg-isolate run",
        )


def _no_injection(plan: Plan, facts: HostFacts) -> Iterator[Problem]:
    """
    In an image with some scripts of the runtime and not this one, the runtime
    drops every variable without a word (seen with Apptainer 1.4.5).
    """
    targets = facts.image.targets if facts.image is not None else {}
    scripts, last = (targets.get(path) for path in RUNTIME_SCRIPTS)
    if scripts is not None and scripts.kind is not None and (last is None or last.kind is None):
        yield Problem(
            kind="variable-undeliverable",
            message=f"{plan.image.path} holds {RUNTIME_SCRIPTS[0]} without {RUNTIME_SCRIPTS[1]}: the runtime's command "
            "line would deliver no variable",
            origin=plan.image.requested,
            advice="start the payload with wlcg-isolate run, or publish the image with that script",
        )


def _filtered(plan: Plan, facts: HostFacts) -> Iterator[Problem]:
    """
    Only the loader, and only a launch, can keep a payload from system calls
    or give it limits.
    """
    del facts
    words = {"nesting-refused": plan.isolation.filtered and "nothing keeps the payload from containers of its own"}
    limits = ", ".join(plan.isolation.limits.given) if plan.isolation.limits.required else ""
    words["limit-unavailable"] = limits and f"a command alone gives no limits ({limits})"
    for kind, message in words.items():
        if message:
            yield Problem(kind=kind, message=message, origin="policy", advice="start the payload with wlcg-isolate run")


_STATIC_CHECKS: tuple[Callable[[Plan, HostFacts], Iterator[Problem]], ...] = (
    _not_utf8,
    _planted_tmp,
    _credentials,
    _needs_loader,
    _no_injection,
    _filtered,
)


def unrenderable(plan: Plan, facts: HostFacts) -> Iterator[Problem]:
    """
    Find what `Plan.argv` and its like cannot express.
    """
    for check in _STATIC_CHECKS:
        yield from check(plan, facts)


def _cannot_carry(kind: str, message: str) -> Problem:
    return Problem(
        kind=kind,
        message=f"{message}, which the runtime's command line cannot carry",
        origin="request",
        advice="start the payload with wlcg-isolate run, or use other bytes",
    )

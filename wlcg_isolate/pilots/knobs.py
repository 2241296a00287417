"""
A plan as knobs of HTCondor, which then starts the container itself.

Rules:

1. The knobs say what the plan says of runtime, image, binds and the payload's
   variables; nothing else of the node's configuration.
2. What HTCondor cannot be told stands in comments: nobody is to believe it
   isolated as the library would.

Source: HTCondor manual, configuration macros, Singularity; OSG's
ospool-pilot/main/pilot/additional-htcondor-config; src/condor_starter.V6.1,
singularity.cpp, of HTCondor 23.9.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from wlcg_isolate._deadline import within
from wlcg_isolate.errors import PlanError, Problem
from wlcg_isolate.pilots.places import SECONDS
from wlcg_isolate.plan import Plan

__all__ = ["knobs"]

#: What HTCondor expands wherever it stands: $(A), $$(A), $ENV(A), $F(A).
_MACRO = re.compile(r"\$\w*\(")

#: HTCondor makes these itself.
_OWN = ("HOME", "PWD", "TMPDIR", "WLCG_ISOLATE_ID")

_MISSING = (
    "the start marker: a failed runtime looks like a failed payload",
    "the checks from outside that namespaces and binds are as asked",
    "the filter of system calls, and capabilities",
    "trace records",
)


def knobs(plan: Plan) -> str:
    """
    Write the configuration, one knob a line.

    Args:
        plan: For a job in the scratch directory of any slot: the working
            directory of the plan is left to HTCondor.

    Raises:
        PlanError: A path or value cannot be written in HTCondor's language.
    """
    lines = list(_lines(plan))
    bad = [line for line in lines if "\n" in line or "\0" in line or _MACRO.search(line)]
    if bad:
        raise PlanError([_inexpressible(line.partition(" = ")[0]) for line in bad])

    return "\n".join(lines) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    yield f"SINGULARITY = {plan.runtime.path}"
    yield "SINGULARITY_JOB = true"
    yield f"SINGULARITY_IMAGE_EXPR = {_text(plan.image.resolved_path)}"
    if not _has_test(plan):
        # Where it fails, HTCondor 23.9 sends the job around for ever.
        yield "SINGULARITY_RUN_TEST_BEFORE_JOB = false"
    yield f"SINGULARITY_TARGET_DIR = {plan.home}"
    binds = [bind for bind in plan.mounts if bind.origin != "library"]
    odd = [bind for bind in binds if set(bind.source + bind.target) & set(",:\\ ")]
    if odd:
        raise PlanError([_inexpressible(f"the bind of {bind.source!r}") for bind in odd])
    if binds:
        written = ",".join(f"{bind.source}:{bind.target}:{'rw' if bind.writable else 'ro'}" for bind in binds)
        yield f"SINGULARITY_BIND_EXPR = {_text(written)}"
    yield f"SINGULARITY_USE_PID_NAMESPACES = {str(plan.runtime.pid).lower()}"
    extra = ["--no-home", "--ipc", *(f"--{'nv' if gpu == 'nvidia' else 'rocm'}" for gpu in plan.gpus)]
    yield f"SINGULARITY_EXTRA_ARGUMENTS = {_text(' '.join(extra))}"
    yield "JOB_INHERITS_STARTER_ENVIRONMENT = false"
    # Copies are made for each payload, and a configuration is no place for what is secret.
    copied = [copy.variable for copy in plan.credentials]
    values = {name: value for name, value in plan.payload_environ.items() if name not in (*_OWN, *copied)}
    yield f"STARTER_JOB_ENVIRONMENT = {_environment(values)}"
    yield "# HTCondor does not have:"
    yield from (f"#   {what}" for what in _MISSING)
    yield from (f"#   the payload's own copy of {name}" for name in copied)
    if plan.timeout is not None:
        yield f"#   the time limit of {plan.timeout:g} s: use allowed_execute_duration of the job"


def _has_test(plan: Plan) -> bool:
    """
    Tell whether the image has what ``apptainer test`` runs, which HTCondor
    tries before each job: trees that Apptainer did not make lack it.
    """
    path = f"{plan.image.resolved_path}/.singularity.d/actions/test"

    return plan.image.form != "tree" or within(SECONDS, lambda: os.path.lexists(path)) is not False


def _text(value: str) -> str:
    """
    Write a ClassAd string.
    """
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')

    return f'"{escaped}"'


def _environment(values: dict[str, str]) -> str:
    """
    Write variables as the submit command ``environment`` takes them.
    """
    words = []
    for name, value in values.items():
        quoted = value.replace("'", "''").replace('"', '""')
        words.append(f"{name}='{quoted}'" if set(quoted) & set(" \t'") or not quoted else f"{name}={quoted}")

    return f'"{" ".join(words)}"'


def _inexpressible(what: str) -> Problem:
    return Problem(
        kind="bind-inexpressible" if what.startswith("the bind") else "variable-undeliverable",
        message=f"{what} cannot be written as a knob of HTCondor",
        origin="plan --format htcondor",
        advice="use wlcg-isolate job-wrapper",
    )

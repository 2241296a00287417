"""
Write a plan down: as arguments, as a shell line, as text, as plain types.

Two ways lead from a plan to a running payload, and both start here:

* `launch_argv`: what `wlcg_isolate.launch` starts.  The command and the
  variables travel over a descriptor after the container stands, so they are
  exact and in no argument list.
* `static_argv` and `static_environ`: the runtime's call alone.  The variables
  travel in the runtime's own way.

A third, with the launch's protocol in a shell, is in `_supervisor`.
"""

from __future__ import annotations

import io
import os
import shlex
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Optional

from wlcg_isolate._decisions import environment_lines, isolation_lines
from wlcg_isolate._values import IDENTIFIER, printable
from wlcg_isolate.products import GPU_OPTIONS, container_options

if TYPE_CHECKING:
    from wlcg_isolate.binds import BindDecision
    from wlcg_isolate.plan import Plan

#: What runtimes add to a payload's environment (seen with Apptainer 1.4.5;
#: SingularityCE by its source).  A nested runtime would act on some of them.
RUNTIME_ADDS = (
    *(
        f"{prefix}_{name}"
        for prefix in ("APPTAINER", "SINGULARITY")
        for name in ("APPNAME", "BIND", "COMMAND", "CONTAINER", "ENVIRONMENT", "NAME", "NO_EVAL")
    ),
    "OLDPWD",
    "PROMPT_COMMAND",
    "PS1",
    "SHLVL",
    "USER_PATH",
)

#: Appended by the runtime to LD_LIBRARY_PATH for --nv, wanted or not.
RUNTIME_LIBS = "/.singularity.d/libs"

#: Removes what the runtime added, keeps what the image set.
_TIDY = (
    "unset " + " ".join(RUNTIME_ADDS) + "; "
    f"LD_LIBRARY_PATH=${{LD_LIBRARY_PATH%{RUNTIME_LIBS}}}; LD_LIBRARY_PATH=${{LD_LIBRARY_PATH%:}}; "
    'if [ -n "$LD_LIBRARY_PATH" ]; then export LD_LIBRARY_PATH; else unset LD_LIBRARY_PATH; fi; '
)


def runtime_argv(plan: Plan, scratch: str) -> tuple[str, ...]:
    """
    Return the runtime's command up to and including the image.

    Args:
        plan: The plan.

        scratch: Existing host directory whose ``tmp`` and ``var_tmp`` become
            ``/tmp`` and ``/var/tmp``.
    """
    runtime = plan.runtime
    options = [*container_options(userns=runtime.mode == "userns", pid=runtime.pid, gpus=plan.gpus)]
    if plan.image.mount.endswith("unpack") and runtime.flavour == "apptainer":
        # SingularityCE does so by itself.
        options += ["--unsquash"]
    if plan.registry_credentials is not None:
        options += ["--authfile", plan.registry_credentials]
    options += [*plan.isolation.options, "--workdir", scratch, "--pwd", plan.home]
    for bind in plan.mounts:
        options += ["--mount", _mount_spec(bind.source, bind.place, writable=bind.writable)]
    taken = {bind.place for bind in plan.mounts}
    for shown in plan.isolation.shown:
        if shown.target not in taken:
            options += ["--mount", _mount_spec(shown.source, shown.target, writable=shown.writable)]

    return (runtime.path, "exec", *options, plan.image.resolved_path)


def runtime_environ(plan: Plan, scratch: str) -> dict[str, str]:
    """
    Return the environment of the runtime itself.

    Args:
        plan: The plan.

        scratch: Where it may unpack an image file.
    """
    environ = dict(plan.runtime_environ)
    if plan.image.form != "tree":
        environ.setdefault(f"{plan.runtime.prefix}_TMPDIR", scratch)
    if plan.image.form == "uri":
        environ.setdefault(f"{plan.runtime.prefix}_CACHEDIR", os.path.join(scratch, "cache"))

    return environ


#: A field with none of these is written as it is.
_ODD_IN_CSV = frozenset(',"\r\n')


def _mount_spec(source: str, target: str, *, writable: bool) -> str:
    """
    Write one ``--mount`` value, a line of CSV (RFC 4180).

    Unlike ``--bind`` this can express commas, colons, quotes and newlines in
    a path.
    """
    fields = ["type=bind", f"src={source}", f"dst={target}"]
    if not writable:
        fields.append("ro")
    if not _ODD_IN_CSV.intersection(source + target):
        return ",".join(fields)
    import csv

    line = io.StringIO()
    # The writer quotes a newline only when it ends its lines with one.
    csv.writer(line, lineterminator="\r\n").writerow(fields)

    return line.getvalue()[:-2]


def static_argv(plan: Plan, scratch: str) -> tuple[str, ...]:
    """
    Return the whole command, payload included.
    """
    home = shlex.quote(plan.home)
    # The runtime starts elsewhere when the caller's directory is gone (1.4.5).
    shim = f'cd {home} || exit 125; {tidy_text(plan)}HOME={home}; PWD=$HOME; export HOME PWD; exec "$@"'

    return (*runtime_argv(plan, scratch), "/bin/sh", "-c", shim, "sh", *plan.request.payload.command)


def tidy_text(plan: Plan) -> str:
    """
    Write what leaves a shell in the container with no variable that was not
    decided on, but for the image's own where these stay.
    """
    return _TIDY + _without_runtime_environ(plan) + ("" if plan.image_environ else _only(plan.payload_environ))


def _without_runtime_environ(plan: Plan) -> str:
    """
    Write what takes away the runtime's own environment, but for ``PATH``,
    where nothing was decided and the image says nothing else.
    """
    own = {n: v for n, v in plan.runtime_environ.items() if n != "PATH" and n not in plan.payload_environ}

    return "".join(f'[ "${n}" != {shlex.quote(value)} ] || unset {n}; ' for n, value in own.items())


def _only(names: Iterable[str]) -> str:
    """
    Write what takes all variables but *names* and ``PATH`` away.

    A line of a value may look like a variable's name; then that one is taken
    away, which is there as little as it should be.  No value is in the text.
    """
    decided = "|".join(("PATH", *filter(IDENTIFIER.match, names)))

    return (
        "set -f; IFS='\n'; for w in $(export -p); do w=${w#export }; w=${w#declare -x }; w=${w%%=*}; "
        f'case $w in ""|[0-9]*|*[!A-Za-z0-9_]*|{decided}) ;; *) unset "$w";; esac; done; set +f; unset IFS w; '
    )


def static_environ(plan: Plan, scratch: str) -> dict[str, str]:
    """
    Return the runtime's whole environment for `static_argv`.
    """
    environ = runtime_environ(plan, scratch)
    for name, value in plan.payload_environ.items():
        # The runtime takes HOME from nowhere but its own option, and PWD from --pwd.
        if name not in ("HOME", "PWD"):
            environ[f"{plan.runtime.prefix}ENV_{name}"] = value

    return environ


def scratch_mount_points(plan: Plan) -> Iterator[tuple[str, str]]:
    """
    List the mount points below the scratch directory that binds need, with
    their kind.

    ``/tmp`` and ``/var/tmp`` are themselves binds, in which no layer of the
    runtime can create a mount point.
    """
    for bind in plan.mounts:
        if parent_of(plan, bind) is not None:
            continue
        for inside, name in (("/tmp/", "tmp"), ("/var/tmp/", "var_tmp")):
            if bind.place.startswith(inside):
                yield os.path.join(plan.scratch, name, bind.place[len(inside) :]), bind.kind or "file"


def workdir_mount_points(plan: Plan) -> Iterator[tuple[str, str]]:
    """
    List the mount points in the working directory that binds need, relative
    to it, with their kind.
    """
    for bind in plan.mounts:
        parent = parent_of(plan, bind)
        if parent is not None and parent.place == plan.home_place:
            yield os.path.relpath(bind.place, parent.place), bind.kind or "file"


def parent_of(plan: Plan, bind: BindDecision) -> Optional[BindDecision]:
    """
    Return the bind on whose source another one has its mount point, or None.
    """
    by_place = {other.place: other for other in plan.mounts}

    return next((by_place[place] for place in _above(bind.place) if place in by_place), None)


def _above(place: str) -> Iterator[str]:
    while place != "/":
        place = os.path.dirname(place)
        yield place


def as_dict(plan: Plan) -> dict[str, Any]:
    """
    Return the plan in plain types.
    """
    return {
        "trace_id": plan.trace_id,
        "argv": list(plan.argv),
        "environ": plan.environ,
        "supervised": {"argv": list(plan.supervised.argv), "environ": plan.supervised.environ},
        "runtime": {
            "path": plan.runtime.path,
            "flavour": plan.runtime.flavour,
            "version": plan.runtime.version,
            "mode": plan.runtime.mode,
            "layer": plan.runtime.layer,
            "pid_namespace": plan.runtime.pid,
            "reason": plan.runtime.reason,
        },
        "image": {
            "requested": plan.image.requested,
            "path": plan.image.path,
            "resolved_path": plan.image.resolved_path,
            "form": plan.image.form,
            "architecture": plan.image.architecture,
            "digest": {"kind": plan.image.digest.kind, "value": plan.image.digest.value},
            "verified_by": list(plan.image.verified_by),
            "mount": plan.image.mount,
            "looked_at": [look._asdict() for look in plan.image.looked_at],
        },
        "starter": {"name": plan.starter, "reason": plan.starter_reason},
        "workdir": plan.workdir,
        "isolation": plan.isolation.to_dict(),
        "gpus": list(plan.gpus),
        "timeout": plan.timeout,
        "binds": [
            {
                "source": bind.source,
                "target": bind.target,
                "writable": bind.writable,
                "origin": bind.origin,
                "decision": bind.decision,
                "reason": bind.reason,
            }
            for bind in (*plan.binds, *plan.given)
        ],
        "environment": [
            {"name": d.name, "decision": d.decision, "rule": d.rule, "reason": d.reason} for d in plan.environment
        ],
        "warnings": list(plan.warnings),
    }


def explain(plan: Plan) -> str:
    """
    Return one screen of text about the plan.
    """
    runtime, image = plan.runtime, plan.image
    lines = [
        f"payload   {shlex.join(plan.request.payload.command)}",
        f"trace id  {plan.trace_id}",
        f"runtime   {runtime.flavour} {runtime.version}, {runtime.mode} mode: {runtime.path}",
        f"          {runtime.reason}",
        f"image     {image.path} ({image.form}, {image.architecture or 'architecture unknown'})",
    ]
    if image.resolved_path != image.path:
        lines.append(f"          pinned to {image.resolved_path}")
    lines.append(f"          {_image_words(plan)}")
    lines.append(f"started   by the {plan.starter}{': ' + plan.starter_reason if plan.starter_reason else ''}")
    lines += [f"isolation {words}" for words in isolation_lines(plan)]
    lines += ["binds", *_bind_lines(plan), "environment", *environment_lines(plan)]
    lines += [f"warning   {warning}" for warning in plan.warnings]
    lines += [f"warning   {problem}" for problem in plan.unrenderable]

    return "\n".join(map(printable, lines))


def _image_words(plan: Plan) -> str:
    digest, known = plan.image.digest, plan.image.verified_by
    words = f"digest of the {digest.kind} {digest.value}" if digest.value else "no digest known"
    words += f", verified by {', '.join(known)}" if known else ""

    return f"{words}; root by way of: {plan.image.mount}"


def _bind_lines(plan: Plan) -> Iterator[str]:
    """
    Lay binds out as a table, what belongs to every container at its end.
    """
    rows = [("source", "target", "rw", "origin", "verdict")]
    rows += [
        (b.source, b.target, "rw" if b.writable else "ro", b.origin, f"{b.decision}: {b.reason}")
        for b in (*plan.binds, *plan.given)
    ]
    rows += [
        (f"{plan.scratch}/{name}", target, "rw", "library", "mount: private to this payload")
        for name, target in (("tmp", "/tmp"), ("var_tmp", "/var/tmp"))
    ]
    rows.append(("tmpfs", "/dev/shm", "rw", "runtime", "mount: memory that is private to this container"))
    rows += [
        ("devices and libraries", "/dev, /.singularity.d/libs", "rw", "gpu.use", f"mount: {GPU_OPTIONS[gpu]}")
        for gpu in plan.gpus
    ]
    shown = [tuple(map(printable, row)) for row in rows]
    widths = [min(_WIDEST, max(map(len, column))) for column in zip(*shown)]
    for row in shown:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths[:-1]))
        yield f"  {'  '.join(cells)}  {row[-1]}"


#: Of a column; what is longer pushes its own line on.
_WIDEST = 44

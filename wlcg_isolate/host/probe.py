"""
Start real containers, to know whether payloads would.

Rules:

1. What a runtime says proves nothing: a start counts when the payload in it
   ends with the status that only it gives, and when the kernel, asked from
   outside, says that it had namespaces of its own.
2. The options are those of a plan.
3. One start answers everything on a good node.  Where it fails, what it said
   chooses which part is left out of the next; at most `MAX_STARTS`.
4. Each start has a deadline.  One that passes it is "no answer", not "no".
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional

import attrs

from wlcg_isolate._messages import cause_of, plain
from wlcg_isolate.errors import Problem
from wlcg_isolate.host import mounts, sif, tiny
from wlcg_isolate.host.facts import ProbeFact
from wlcg_isolate.host.start import Start, run, runtime_environ
from wlcg_isolate.policy import Policy
from wlcg_isolate.products import container_options

MAX_STARTS = 3

#: A target that the probe's image does not have.
_MISSING = "/wlcg_isolate.missing"

#: By these names the programs are known that mount image files.
_FUSE_PROGRAMS = ("squashfuse", "fuse2fs", "gocryptfs")

#: Apptainer and SingularityCE say so when they unpack an image file first.
_UNPACKED = "temporary sandbox"


class Parts(NamedTuple):
    """
    What a start tries beside the plain one.

    Attributes:
        pid: A PID namespace.

        layer: A bind whose target is missing.
    """

    pid: bool
    layer: bool


#: What to leave out after a failure of this kind; after any other there is no use in going on.
_WITHOUT = {
    "bind-failed": Parts(pid=True, layer=False),
    "pid-namespace-unavailable": Parts(pid=False, layer=True),
    "runtime-privileges": Parts(pid=False, layer=False),
    "runtime-failed": Parts(pid=False, layer=False),
}


class _Image(NamedTuple):
    """
    The image on disk, and what belongs to it.

    Attributes:
        path: The image.

        work: Directory that stands for the working directory.

        home: Where that is in the container.
    """

    path: str
    work: str
    home: str


def probe(program: str, form: str, *, mode: str, machine: str, policy: Policy, unpack: bool = False) -> ProbeFact:
    """
    Start containers with *program* until it is clear what it can do.

    Args:
        program: Absolute path of the runtime.

        form: Form of the image: ``"tree"`` or ``"file"``.

        mode: ``"userns"`` or ``"setuid"``.

        machine: Architecture of the node.

        policy: What plans start containers with, and the deadline for each.

        unpack: Whether a plan would have an image file unpacked.
    """
    if machine not in tiny.ARCHITECTURES:
        reason = f"the library has no test program for {machine}"
        return ProbeFact(mode=mode, start="no-answer", kind="runtime-no-answer", reason=reason)
    with contextlib.ExitStack() as stack:
        try:
            image = _write_image(stack, form, policy.container_workdir, machine)
        except OSError as e:
            reason = f"no test image can be written: {e.strerror or e}"
            return ProbeFact(mode=mode, start="no-answer", kind="runtime-no-answer", reason=reason)
        options = ("--unsquash",) if unpack and form == "file" else ()
        return _find_out(program, image, mode, policy, options, file=form == "file")


def _find_out(
    program: str, image: _Image, mode: str, policy: Policy, more: tuple[str, ...], *, file: bool
) -> ProbeFact:
    tried: list[tuple[Parts, Start]] = []
    parts: Optional[Parts] = Parts(pid=True, layer=True)
    separate = ("mnt", "ipc", "user") if mode == "userns" else ("mnt", "ipc")
    # One product reads the variables of the other, or passes over what it does not know.
    environ = {**runtime_environ("SINGULARITY", policy), **runtime_environ("APPTAINER", policy)}
    while parts is not None:
        options = (*more, *container_options(userns=mode == "userns", pid=parts.pid, gpus=policy.gpu_use))
        argv = _argv(program, image, options, layer=parts.layer)
        tried.append((parts, run(argv, environ, separate=separate, seconds=policy.runtime_probe_seconds)))
        parts = _next(tried)
    fact = _judge(tried, mode)
    if file and fact.start == "yes":
        fact = attrs.evolve(fact, method=_method(next(start for _, start in tried if start.status == "yes")))

    return fact


def _argv(program: str, image: _Image, more: tuple[str, ...], *, layer: bool) -> tuple[str, ...]:
    options = [*more, "--workdir", image.work, "--pwd", image.home]
    options += ["--mount", f"type=bind,src={image.work},dst={image.home}"]
    if layer:
        options += ["--mount", f"type=bind,src={image.work},dst={_MISSING},ro"]

    return (program, "exec", *options, image.path, tiny.PROGRAM)


def _next(tried: list[tuple[Parts, Start]]) -> Optional[Parts]:
    """
    Choose what the next start leaves out; None when all is clear.
    """
    parts, start = tried[-1]
    if start.status == "no-answer" or len(tried) == MAX_STARTS:
        return None
    if len(tried) == 1:
        kind = None if start.status == "yes" or start.fault else cause_of(start.words).kind
        return _WITHOUT.get(kind or "")
    if parts == Parts(pid=False, layer=False):
        return Parts(pid=True, layer=False) if start.status == "yes" else None

    return None if start.status == "yes" else Parts(pid=False, layer=False)


def _judge(tried: list[tuple[Parts, Start]], mode: str) -> ProbeFact:
    good = [(parts, start) for parts, start in tried if start.status == "yes"]
    if not good:
        problem = _problem(tried[-1][1] if tried[-1][1].status == "no-answer" else tried[0][1])
        status = "no-answer" if problem.kind == "runtime-no-answer" else "no"
        return ProbeFact(
            mode=mode,
            start=status,
            kind=problem.kind,
            reason=problem.message,
            advice=problem.advice,
            starts=len(tried),
        )
    start = good[0][1]

    return ProbeFact(
        mode=mode,
        start="yes",
        layer=_layer(tried),
        pid_namespace=_pid_namespace(tried),
        nested=None if start.nested is None else start.nested == 0,
        seconds=round(start.seconds, 6),
        starts=len(tried),
    )


def _problem(start: Start) -> Problem:
    if start.status == "no-answer":
        return Problem(kind="runtime-no-answer", message=start.fault, advice="see what it waits for: strace -f")
    if start.fault:
        return Problem(kind="runtime-broken", message=start.fault, advice="repair or reinstall it")

    return cause_of(start.words)


def _layer(tried: list[tuple[Parts, Start]]) -> Optional[str]:
    for parts, start in tried:
        if start.status == "yes" and parts.layer:
            return _layer_seen(start.mountinfo)
    # It started with no more than the missing target left out.
    if any(start.status == "yes" and parts == Parts(pid=True, layer=False) for parts, start in tried):
        return "none"

    return None


def _layer_seen(mountinfo: str) -> str:
    table = tuple(mounts.parse_mountinfo(mountinfo))
    if not any(mount.target == _MISSING for mount in table):
        return "none"
    root = [mount.fs_type for mount in table if mount.target == "/"]

    return "overlay" if root and "overlay" in root[-1] else "underlay"


def _pid_namespace(tried: list[tuple[Parts, Start]]) -> Optional[bool]:
    for parts, start in tried:
        if start.status == "yes" and parts.pid:
            return "pid" not in start.shared
    if any(start.status == "yes" for _, start in tried):
        return False

    return None


def _method(start: Start) -> str:
    if _UNPACKED in plain(start.words):
        return "unpacked"

    return "fuse" if any(name.startswith(_FUSE_PROGRAMS) for name in start.helpers) else "kernel"


def _write_image(stack: contextlib.ExitStack, form: str, home: str, machine: str) -> _Image:
    import shutil

    place = _make_place()
    stack.callback(shutil.rmtree, place, ignore_errors=True)
    work = os.path.join(place, "work")
    path = os.path.join(place, "image" if form == "tree" else "image.sif")
    tiny.make_directory(work)
    if form == "tree":
        tiny.make_directory(path)
        tiny.write_tree(path, machine, home)
    else:
        content = sif.sif(sif.squashfs(tiny.directories(home), tiny.files(machine)), machine)
        with open(path, "xb") as f:
            os.fchmod(f.fileno(), 0o644)
            f.write(content)

    return _Image(path, work, home)


def _make_place() -> str:
    """
    Make a directory on a disk from which programs can be executed.
    """
    error = OSError(None, "no directory for temporary files can be used")
    for directory in _places():
        try:
            if not os.statvfs(directory).f_flag & os.ST_NOEXEC:
                made = tempfile.mkdtemp(prefix="wlcg-isolate-probe-", dir=directory)
                os.chmod(made, 0o700)
                return made
        except OSError as e:
            error = e

    raise error


def _places() -> Iterable[str]:
    def wanted() -> Iterator[str]:
        yield os.environ.get("TMPDIR", "")
        yield from ("/tmp", "/var/tmp")
        with contextlib.suppress(OSError):
            yield os.getcwd()

    # The runtime's --mount takes these as they are.
    return (path for path in wanted() if path.startswith("/") and not set(path) & set(',"\n\r'))

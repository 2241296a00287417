"""
Start one container with the test program, and look at it from outside.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, NamedTuple, Optional

from wlcg_isolate.host import procfs, tiny
from wlcg_isolate.policy import Policy

if TYPE_CHECKING:
    import subprocess

#: What a runtime gets to see: nothing of the pilot's environment, in which
#: any APPTAINER_* or SINGULARITY_* variable acts as an option.  Every call,
#: even for the version, would make a configuration directory in the user's
#: home; nothing can be made in /proc, and the runtime goes on without.
RUNTIME_ENVIRON: Mapping[str, str] = {
    "APPTAINER_CONFIGDIR": "/proc/wlcg_isolate",
    "SINGULARITY_CONFIGDIR": "/proc/wlcg_isolate",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
}


def runtime_environ(prefix: str, policy: Policy) -> dict[str, str]:
    """
    Return the whole environment of a runtime, without the payload's variables.

    Args:
        prefix: What its control variables start with.

        policy: Where it keeps its temporary files and its cache.
    """
    directories = {"TMPDIR": policy.runtime_tmpdir, "CACHEDIR": policy.runtime_cachedir}

    return {
        **RUNTIME_ENVIRON,
        **{f"{prefix}_{name}": path for name, path in directories.items() if path is not None},
    }


#: The kernel keeps 15 letters of a program's name.
_COMM = os.path.basename(tiny.PROGRAM)[:15]

#: Messages of a runtime are short; one that prints for ever must not fill memory.
_MAX_WORDS = 1 << 16

#: How long the runtime may take to clean up after TERM.
_GRACE_SECONDS = 2.0


#: How often to look whether a runtime has ended.
_POLL_SECONDS = 0.001


class _Ended(NamedTuple):
    """
    How a runtime ended.

    Attributes:
        whether: It did so in time.

        status: Its exit status; None when somebody else has taken it.
    """

    whether: bool
    status: Optional[int]


class Start(NamedTuple):
    """
    What one start showed.

    Attributes:
        status: ``"yes"``, ``"no"`` or ``"no-answer"``.

        words: Standard error of the runtime.

        fault: What was wrong beside its words, or "".

        seconds: From the call to the program's first sign of life.

        mountinfo: The container's table of mounts.

        shared: Namespaces that it shares with the host.

        helpers: Names of the other processes that the runtime started.

        nested: Error number of a user namespace inside, 0 for success; None
            when it was not told.
    """

    status: str
    words: bytes = b""
    fault: str = ""
    seconds: float = 0.0
    mountinfo: str = ""
    shared: tuple[str, ...] = ()
    helpers: tuple[str, ...] = ()
    nested: Optional[int] = None


def run(argv: tuple[str, ...], environ: Mapping[str, str], *, separate: tuple[str, ...], seconds: float) -> Start:
    """
    Start the test program (`wlcg_isolate.host.tiny`) in a container.

    Args:
        argv: The whole command.

        environ: The whole environment.

        separate: Namespaces that the container must not share.

        seconds: Deadline for everything.
    """
    import subprocess
    import tempfile

    begin = time.monotonic()
    with tempfile.TemporaryFile() as words:
        try:
            process = subprocess.Popen(  # noqa: S603 - the runtime under examination
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                env=dict(environ),
                cwd="/",
                start_new_session=True,
            )
        except OSError as e:
            return Start("no", fault=f"cannot be executed: {e.strerror}")
        try:
            seen = _watch(process, separate, begin, begin + seconds)
            # What is no container need not be waited for.
            ended = _Ended(True, None) if seen.fault else _wait(process, begin + seconds)
        finally:
            end(process)
        words.seek(0)
        seen = seen._replace(words=words.read(_MAX_WORDS))
    if seen.status == "no-answer" or not ended.whether:
        return seen._replace(status="no-answer", fault=f"no start of a container within {seconds:g} s")
    if seen.status == "yes" and ended.status not in (None, tiny.EXIT_STATUS):
        fault = f"it turns exit status {tiny.EXIT_STATUS} of a program into {ended.status}"
        return seen._replace(status="no", fault=fault)

    return seen


def _watch(process: subprocess.Popen[bytes], separate: tuple[str, ...], begin: float, deadline: float) -> Start:
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        return Start("no")
    marker = _marker(stdout, deadline)
    if not marker:
        return Start("no-answer" if marker is None else "no")
    seen = _look(process.pid, separate)._replace(seconds=time.monotonic() - begin)
    if seen.fault:
        return seen
    with contextlib.suppress(OSError):
        stdin.write(b"?")
        stdin.flush()
        answer = _read(stdout, 8, deadline)
        if answer is not None and len(answer) == 8:
            seen = seen._replace(nested=-int.from_bytes(answer, "little", signed=True))
    with contextlib.suppress(OSError):
        stdin.close()

    return seen


def _marker(stream: IO[bytes], deadline: float) -> Optional[bool]:
    """
    Wait for the program's first byte; None when the deadline passes.

    What comes before it are words of the runtime: some versions print them to
    standard output.
    """
    for _ in range(_MAX_WORDS):
        byte = _read(stream, 1, deadline)
        if byte is None:
            return None
        if byte in (b"", b"\0"):
            return bool(byte)

    return False


def _look(launcher: int, separate: tuple[str, ...]) -> Start:
    """
    Find the program among the runtime's processes and look at it.
    """
    names = {pid: _comm(pid) for pid in (launcher, *procfs.family(launcher))}
    inside = next((pid for pid, comm in names.items() if comm == _COMM), None)
    helpers = tuple(comm for pid, comm in names.items() if pid != inside)
    if inside is None:
        return Start("no", fault="its container cannot be seen from outside", helpers=helpers)
    mine, theirs = procfs.namespaces(), procfs.namespaces(inside)
    shared = tuple(kind for kind in ("mnt", "ipc", "pid", "user") if theirs.get(kind) in (None, mine.get(kind)))
    lacking = [kind for kind in separate if kind in shared]
    fault = f"it starts programs without a namespace of their own: {', '.join(lacking)}" if lacking else ""

    return Start("no" if fault else "yes", fault=fault, mountinfo=_mountinfo(inside), shared=shared, helpers=helpers)


def _read(stream: IO[bytes], count: int, deadline: float) -> Optional[bytes]:
    """
    Read *count* bytes or up to the end; None when the deadline passes.
    """
    got = b""
    while len(got) < count:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([stream], [], [], left)[0]:
            return None
        more = os.read(stream.fileno(), count - len(got))
        if not more:
            break
        got += more

    return got


def _wait(process: subprocess.Popen[bytes], deadline: float) -> _Ended:
    """
    Wait for the end and read the exit status, where that is possible.

    A caller that ignores its children, or reaps all of them, leaves none.
    """
    while time.monotonic() < deadline:
        try:
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                return _Ended(True, process.wait())
        except ChildProcessError:
            process.poll()
            return _Ended(True, None)
        time.sleep(_POLL_SECONDS)

    return _Ended(False, None)


def end(process: subprocess.Popen[bytes]) -> None:
    """
    Leave no process behind; TERM lets a runtime unmount what it mounted.

    One that the kernel does not let go (a dead network file system) is not
    waited for.
    """
    import subprocess

    family = {pid: procfs.start_ticks(pid) for pid in procfs.family(process.pid)} if process.poll() is None else {}
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_SECONDS)
    for pid, ticks in family.items():
        # A number may be somebody else's by now.
        if ticks is not None and procfs.start_ticks(pid) == ticks:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    for stream in _streams(process):
        with contextlib.suppress(OSError):
            stream.close()


def _streams(process: subprocess.Popen[bytes]) -> Iterator[IO[bytes]]:
    yield from (stream for stream in (process.stdin, process.stdout, process.stderr) if stream is not None)


def _comm(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as f:
            return f.read().strip()
    except OSError:
        return ""


def _mountinfo(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
            return f.read()
    except OSError:
        return ""

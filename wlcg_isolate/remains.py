"""
Tell the outcome of a payload that its pilot started itself, from what the
start has left (`Plan.supervised`, `Plan.shell`).

Rules:

1. Whether the payload started is read from the file ``started``, which was
   written before its first instruction where no container sees it.  Nothing
   that a payload prints counts.
2. Any process of the same user can ask, the plan's own or another one with
   the plan's JSON; the first answer is kept, and given again.
3. Files are reached through descriptors of directories that belong to this
   user, and no link is followed.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Optional, Union

import attrs

from wlcg_isolate import _events
from wlcg_isolate._kinds import KINDS
from wlcg_isolate._supervisor import STARTS, VERIFIES
from wlcg_isolate._values import as_mapping, as_tuple
from wlcg_isolate.errors import Problem, RequestError, TraceError
from wlcg_isolate.launch import Ready
from wlcg_isolate.launch.scratch import empty
from wlcg_isolate.outcome import Outcome, Usage, of_kind, of_payload, runtime_failure, signal_name
from wlcg_isolate.plan import Plan
from wlcg_isolate.trace import TraceRecord, journal_for

#: Version of the shape of `Start.to_dict`.
FORMAT = 1

#: How long to wait for the watcher to tidy up, once the caller says it is over.
_WAIT_SECONDS = 2.0

#: More than any file that a start leaves; the runtime's words may be more.
_MOST_BYTES = 1 << 16

#: How long an answer is kept.
_KEEP_SECONDS = 7 * 86_400.0

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: Exit statuses of env(1) when it cannot execute the runtime.
_NOT_EXECUTED = (126, 127)

#: The last signal (signal(7)), and what a shell adds to its number.
_LAST_SIGNAL, _BY_SIGNAL = 64, 128

#: What the end of a payload says of its beginning.
_IDENTITY = ("wlcg.vo", "wlcg.job", "wlcg.token", "wlcg.identity", "wlcg.user", "user.")


@attrs.frozen(kw_only=True)
class Start:
    """
    What has to be known of a plan to tell the outcome of its start.

    Attributes:
        trace_id: The payload's identity.

        trace_dirs: Directories for trace records, best first.

        scratch: The payload's private directory.

        timeout: Time limit in seconds, or None.

        record: What the start record says, the process aside.
    """

    trace_id: str
    trace_dirs: tuple[str, ...] = attrs.field(converter=as_tuple)
    scratch: str
    timeout: Optional[float]
    record: Mapping[str, Any] = attrs.field(converter=as_mapping)

    @classmethod
    def of(cls, plan: Plan) -> Start:
        """
        Read it from a plan.
        """
        nobody = Ready(pid=0, inner_pid=0, init=None, start_ticks=None, namespaces={})
        fields = TraceRecord.started(plan, nobody).fields
        kept = {name: value for name, value in fields.items() if value is not None}
        for name in ("process.pid", "process.vpid", "wlcg.isolation.starter"):
            kept.pop(name, None)

        return cls(
            trace_id=plan.trace_id,
            trace_dirs=plan.trace_dirs,
            scratch=plan.scratch,
            timeout=plan.timeout,
            record=kept,
        )

    def to_dict(self) -> dict[str, Any]:
        """
        Return it in plain types, as ``start`` of ``plan --json`` has it.
        """
        return {
            "version": FORMAT,
            "trace_id": self.trace_id,
            "trace_dirs": list(self.trace_dirs),
            "scratch": self.scratch,
            "timeout": self.timeout,
            "record": dict(self.record),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Start:
        """
        Read what `to_dict` gave.

        Raises:
            RequestError: It is something else.
        """
        names = {field.name for field in attrs.fields(cls)}
        if not isinstance(data, Mapping) or data.get("version") != FORMAT or set(data) != {"version", *names}:
            raise _invalid(f"it is no description of a start in version {FORMAT}")
        texts = [data["trace_id"], data["scratch"], *_list(data["trace_dirs"])]
        if not all(isinstance(text, str) and text for text in texts) or os.sep in data["trace_id"]:
            raise _invalid("a path or the trace id is no text")
        if not isinstance(data["timeout"], (int, float, type(None))) or not isinstance(data["record"], Mapping):
            raise _invalid("timeout is no number, or record is no object")

        return cls(**{name: data[name] for name in names})


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [None]


def outcome_of(start: Union[Plan, Start], exit_code: Optional[int] = None) -> Outcome:
    """
    Tell what became of a payload that the caller has started itself.

    The trace records are written, and what is left of the payload's private
    directory is removed.

    Args:
        start: The plan, or what `Start.from_dict` read of its JSON.

        exit_code: Of the process that was started, as
            `subprocess.Popen.returncode` has it: negative for a signal.  Not
            needed after `Plan.shell`, which leaves it.

    Raises:
        RequestError: The exit status is needed.
    """
    if isinstance(start, Plan):
        start = Start.of(start)
    with _opened(start) as left:
        if left is None:
            outcome = _left_nothing(start, exit_code)
            _record(start, None, outcome)
            return outcome
        known = _read(left, "outcome")
        if known is not None:
            return _outcome_from(known)
        deadline = time.monotonic() + _WAIT_SECONDS
        while exit_code is not None and _read(left, "end") is None and time.monotonic() < deadline:
            time.sleep(0.005)
        seen = _see(left, exit_code)
        outcome = _judge(start, seen)
        _remove(start.scratch)
        _record(start, seen, outcome)
        _write(left, "outcome", json.dumps(outcome.to_dict()))
    _prune(start)

    return outcome


class _Seen(NamedTuple):
    """
    What a start has left.

    Attributes:
        started: What it says of the payload's process; empty when there was
            none.

        begin: When it was released, in seconds since the epoch.

        wall: How long it ran, in seconds.

        cpu: What it and the runtime used of the processor, in seconds.

        status: The exit status, or None when a signal ended the runtime.

        killed_by: That signal, or None.

        flags: Names of the other files that are there.

        refused: Kind and message of a refusal, or "".

        words: What the runtime said, where the payload did not start.
    """

    started: Mapping[str, str]
    begin: float
    wall: float
    cpu: float
    status: Optional[int]
    killed_by: Optional[int]
    flags: frozenset[str]
    refused: str
    words: str


@contextlib.contextmanager
def _opened(start: Start) -> Iterator[Optional[int]]:
    """
    Open the directory with what is left, of which there may be none.
    """
    with contextlib.ExitStack() as opened:
        for place in start.trace_dirs:
            with contextlib.suppress(OSError):
                above = _own_directory(os.path.join(place, STARTS.format(uid=os.geteuid())), None, opened)
                yield _own_directory(start.trace_id, above, opened)
                return
        yield None


def _own_directory(path: str, above: Optional[int], opened: contextlib.ExitStack) -> int:
    fd = os.open(path, _DIRECTORY, dir_fd=above)
    opened.callback(os.close, fd)
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(None, "others may write there")

    return fd


def _read(directory: int, name: str) -> Optional[str]:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    with open(fd, "rb") as f:
        return f.read(_MOST_BYTES).decode(errors="surrogateescape")


def _write(directory: int, name: str, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(OSError), open(os.open(name, flags, 0o600, dir_fd=directory), "w", encoding="utf-8") as f:
        f.write(text)


def _see(left: int, exit_code: Optional[int]) -> _Seen:
    end = _read(left, "end")
    status, *times = (end or "").split() or [""]
    code = int(status) if status.isdigit() else exit_code
    if code is None:
        raise _invalid("the exit status of the process that was started is needed", origin="--exit-code")
    started = dict(line.partition(" ")[::2] for line in (_read(left, "started") or "").splitlines())
    begin, over = _time_of(left, "started"), _time_of(left, "end") or time.time()

    return _Seen(
        started=started,
        begin=begin,
        wall=max(0.0, over - begin) if started else 0.0,
        # Of the shell itself, and of its children.
        cpu=sum(map(_seconds, times[2:])),
        status=None if code < 0 else code,
        killed_by=-code if code < 0 else None,
        flags=frozenset(os.listdir(left)),
        refused=_read(left, "refused") or "",
        words=_read(left, "words") or "",
    )


def _time_of(directory: int, name: str) -> float:
    with contextlib.suppress(OSError):
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime

    return 0.0


def _seconds(text: str) -> float:
    """
    Read a time as ``times`` of a shell writes it: ``0m1.25s``.
    """
    minutes, _, seconds = text.rstrip("s").partition("m")
    try:
        return int(minutes) * 60 + float(seconds)
    except ValueError:
        return 0.0


def _judge(start: Start, seen: _Seen) -> Outcome:
    if not seen.started or seen.refused:
        problem = _refusal(seen)
        return of_kind(problem.kind, str(problem), started=False, trace_id=start.trace_id)
    status, signal = seen.status, None
    # With a PID namespace the runtime turns signal N into 128+N, as shells do.
    if status is not None and _BY_SIGNAL < status <= _BY_SIGNAL + _LAST_SIGNAL:
        status, signal = None, status - _BY_SIGNAL
    usage = Usage(wall_seconds=round(seen.wall, 6), cpu_seconds=round(seen.cpu, 6), max_rss_bytes=0)
    more: dict[str, Any] = {"trace_id": start.trace_id, "usage": usage}
    if "over" in seen.flags:
        limit = f"stopped after its time limit of {start.timeout:g} s"
        return of_kind("time-limit", limit, started=True, exit_code=status, signal=signal, **more)
    if "lost" in seen.flags:
        reason = "stopped, because the shell that waited for it had been ended"
        return of_kind("stopped", reason, started=True, exit_code=status, signal=signal, **more)
    if seen.killed_by is not None:
        reason = f"the runtime was ended by {signal_name(seen.killed_by)} while the payload ran"
        return of_kind("runtime-lost", reason, started=True, signal=seen.killed_by, **more)

    return of_payload(status, signal, **more)


def _refusal(seen: _Seen) -> Problem:
    """
    Say why a payload did not start.
    """
    kind, _, message = seen.refused.strip().partition(" ")
    if kind in KINDS:
        return _problem(kind, message, "the check from outside")
    if "hung" in seen.flags:
        return _problem("runtime-hung", "no start marker in time", "the runtime")
    if seen.status in _NOT_EXECUTED and seen.words.startswith("env: "):
        return _problem("runtime-vanished", seen.words.strip(), "this node")
    killed_by = seen.killed_by
    if seen.status is not None and _BY_SIGNAL < seen.status <= _BY_SIGNAL + _LAST_SIGNAL:
        killed_by = seen.status - _BY_SIGNAL

    return runtime_failure(seen.words, killed_by=killed_by)


def _left_nothing(start: Start, exit_code: Optional[int]) -> Outcome:
    code = "" if exit_code is None else f" (exit status {exit_code})"
    message = f"the start has left nothing in {', '.join(start.trace_dirs)}{code}: it was refused, or never tried"
    problem = _problem("trace-unwritable", message, "trace.directories")

    return of_kind(problem.kind, str(problem), started=False, trace_id=start.trace_id)


def _record(start: Start, seen: Optional[_Seen], outcome: Outcome) -> None:
    """
    Write the records; the outcome must not be lost with them.
    """
    try:
        journal = journal_for(start.trace_dirs)
        for record in _records(start, seen, outcome):
            journal.write(record)
    except TraceError as error:
        _events.emit("trace.lost", trace_id=start.trace_id, reason=str(error))


def _records(start: Start, seen: Optional[_Seen], outcome: Outcome) -> Iterator[TraceRecord]:
    problem = Problem(kind=outcome.kind, message=outcome.message, origin="the start", advice="")
    refused = TraceRecord.refused([problem], outcome)
    if seen is None or not outcome.started:
        about = ("process.args", "wlcg.process.args", "container.image.name", "process.working")
        yield attrs.evolve(refused, fields={**_some(start.record, *_IDENTITY, *about), **refused.fields})
        return
    process = {"process.pid": _number(seen, "pid"), "wlcg.process.start_ticks": _number(seen, "start_ticks")}
    words = seen.started.get("namespaces", "").split()
    about_start = {
        **start.record,
        **process,
        "process.vpid": _number(seen, "inner_pid"),
        **{f"wlcg.ns.{name}": int(inode) for name, inode in zip(words[::2], words[1::2])},
        "wlcg.isolation.starter": "shell",
        "wlcg.isolation.starter_reason": "the pilot started it itself",
        "wlcg.isolation.verified": list(VERIFIES),
    }
    begin = datetime.datetime.fromtimestamp(seen.begin, datetime.timezone.utc)
    stamp = begin.isoformat(timespec="microseconds").replace("+00:00", "Z")
    yield TraceRecord(action="payload.start", trace_id=start.trace_id, fields=about_start, timestamp=stamp)
    ended = {name: value for name, value in refused.fields.items() if name != "event.reason"}
    fields = {**_some(start.record, *_IDENTITY), **ended, **process}
    yield TraceRecord(action="payload.end", trace_id=start.trace_id, fields=fields)


def _some(record: Mapping[str, Any], *beginnings: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name.startswith(beginnings)}


def _number(seen: _Seen, name: str) -> Optional[int]:
    text = seen.started.get(name, "")

    return int(text) if text.isdigit() else None


def _outcome_from(text: str) -> Outcome:
    data = json.loads(text)
    usage = data.pop("usage")

    return Outcome(**data, usage=None if usage is None else Usage(**usage))


def _remove(scratch: str) -> None:
    """
    Remove the payload's private directory, where the watcher could not.
    """
    parent, name = os.path.split(scratch)
    with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
        above = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, above)
        fd = os.open(name, _DIRECTORY, dir_fd=above)
        opened.callback(os.close, fd)
        empty(fd)
        os.rmdir(name, dir_fd=above)


def _prune(start: Start) -> None:
    """
    Forget answers that are old.
    """
    import shutil

    for place in start.trace_dirs:
        directory = os.path.join(place, STARTS.format(uid=os.geteuid()))
        with contextlib.suppress(OSError):
            for entry in os.scandir(directory):
                answer = os.path.join(entry.path, "outcome")
                if os.path.isfile(answer) and time.time() - os.stat(answer).st_mtime > _KEEP_SECONDS:
                    shutil.rmtree(entry.path, ignore_errors=True)


def _problem(kind: str, message: str, origin: str) -> Problem:
    return Problem(kind=kind, message=message, origin=origin, advice="run wlcg-isolate doctor")


def _invalid(message: str, origin: str = "--plan") -> RequestError:
    advice = "give the JSON of wlcg-isolate plan --json, and the exit status of what was started"

    return RequestError([Problem(kind="request-invalid", message=message, origin=origin, advice=advice)])

"""
Fields of processes.
"""

from __future__ import annotations

from wlcg_isolate.trace.model.row import ECS, OTEL, OWN, row

_BEGIN = "pilot.start payload.start"

FIELDS = (
    row("container.id", str, ECS, "payload! identity.resolve", "The payload's trace id, and its variable "
        "`WLCG_ISOLATE_ID`."),
    row("process.pid", int, ECS, "pilot! live!", "Process id on the host, of the payload or the pilot."),
    row("process.entity_id", str, ECS, "pilot live", "Identity of the process for ever, made of boot, process id and "
        "start: the first 22 characters of base64url of SHA-256 of `BOOT|PID|TICKS`."),
    row("wlcg.process.start_ticks", int, OWN, "pilot live", "When it started, in clock ticks since boot."),
    row("process.start", str, ECS, _BEGIN, "The same as a time."),
    row("process.vpid", int, ECS, "payload.start!", "Its process id in the container."),
    row("process.executable", str, ECS, "pilot.start payload.running", "Path of its program, in its own container."),
    row("process.args_count", int, ECS, "payload.authorised! payload.refused payload.start!", "Number of arguments, "
        "the program's name included."),
    row("wlcg.process.args_sha256", str, OWN, "payload.authorised! payload.refused payload.start!", "SHA-256 of the "
        "arguments, each ended by a NUL byte."),
    row("process.args", tuple[str, ...], ECS, "payload.start", "The arguments, where `trace.record_arguments` is set; "
        "what looks like a credential is taken out."),
    row("process.working_directory", str, ECS, "payload.authorised! payload.refused payload.start!", "On the host."),
    row("process.parent.pid", int, ECS, "own", "The pilot; of the pilot, its parent."),
    row("process.parent.entity_id", str, ECS, "own", "Its identity for ever."),
    row("process.user.id", str, ECS, "own!", "Effective user id of the pilot, which is the payload's on the host."),
    row("process.real_user.id", str, ECS, "own!", "Real user id."),
    row("process.group.id", str, ECS, "own!", "Effective group id."),
    row("process.session_leader.pid", int, ECS, _BEGIN, "Its session."),
    row("process.group_leader.pid", int, ECS, _BEGIN, "Its process group."),
    row("process.linux.cgroup", str, OTEL, f"{_BEGIN} payload.running", "Its cgroup."),
    row("wlcg.process.ppid", int, OWN, "payload.start", "Its parent as the kernel has it, a process of the runtime."),
    row("wlcg.process.init_pid", int, OWN, "payload.start", "Process 1 of the container, on the host."),
    row("wlcg.process.loginuid", int, OWN, "own", "Who logged in, where somebody did."),
    row("wlcg.process.audit_session", int, OWN, "own", "Session of the audit system."),
    row("wlcg.process.env_marker", str, OWN, "payload.start!", "Value of `WLCG_ISOLATE_ID` in every process of it."),
    *(
        row(f"wlcg.ns.{name}", int, OWN, "payload.start", f"Inode of its {name} namespace.")
        for name in ("pid", "mnt", "user", "net", "ipc", "uts", "cgroup")
    ),
    row("wlcg.kill.reason", str, OWN, "payload.killed!", "`time-limit`; `stop` (the pilot asked for its end); `signal` "
        "(it passed one on); `kill` (it gave the payload up)."),
    row("wlcg.kill.signal", int, OWN, "payload.killed!", "The signal."),
    row("event.outcome", str, ECS, "done!", "`success` or `failure`."),
    row("event.duration", int, ECS, "done", "Wall time in nanoseconds."),
    row("process.exit_code", int, ECS, "done", "Exit status."),
    row("wlcg.process.term_signal", int, OWN, "done", "The signal that ended it."),
    row("wlcg.outcome.started", bool, OWN, "done!", "Whether its first instruction was reached."),
    row("wlcg.outcome.failed_by", str, OWN, "done", "Who failed."),
    row("wlcg.outcome.kind", str, OWN, "done!", "[Kind](kinds.md) of the outcome."),
    row("wlcg.outcome.retry", str, OWN, "done", "Where a retry makes sense."),
    row("wlcg.usage.cpu_seconds", float, OWN, "done", "CPU time of the whole tree."),
    row("wlcg.usage.user_seconds", float, OWN, "done", "The part of it in programs."),
    row("wlcg.usage.system_seconds", float, OWN, "done", "The part of it in the kernel."),
    row("wlcg.usage.max_rss_bytes", int, OWN, "done", "Largest resident set of one process."),
    row("wlcg.usage.tree_peak_bytes", int, OWN, "done", "Peak of the memory of the payload's own cgroup."),
    row("wlcg.usage.minor_faults", int, OWN, "done", "Page faults without I/O."),
    row("wlcg.usage.major_faults", int, OWN, "done", "Page faults that had to read."),
    row("wlcg.usage.read_bytes", int, OWN, "done", "Bytes read from disks."),
    row("wlcg.usage.written_bytes", int, OWN, "done", "Bytes written for disks."),
    row("wlcg.usage.voluntary_switches", int, OWN, "done", "How often a process waited for something."),
    row("wlcg.usage.involuntary_switches", int, OWN, "done", "How often a process had to let another one run."),
)  # fmt: skip

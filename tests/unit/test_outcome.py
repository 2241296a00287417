"""Who failed: what is known, and what only a text tells."""

from __future__ import annotations

import pytest

from wlcg_isolate import PlanError, classify
from wlcg_isolate.errors import Problem
from wlcg_isolate.outcome import Usage, of_kind, of_payload, of_refusal, runtime_failure, signal_name

OUTCOME_KEYS = ["started", "failed_by", "exit_code", "signal", "kind", "retry", "message", "trace_id", "usage"]

RED_FATAL = "\x1b[31mFATAL:  \x1b[0m "
RED_ERROR = "\x1b[91mERROR  : "


def shown(outcome):
    """Reduce an outcome to what decides: started, who, code, signal, kind, retry."""
    return (
        outcome.started,
        outcome.failed_by,
        outcome.exit_code,
        outcome.signal,
        outcome.kind,
        outcome.retry,
    )


def problem(kind, message="it is so"):
    """Make a finding."""
    return Problem(kind=kind, message=message)


@pytest.mark.parametrize(
    ("exit_code", "signal", "expected", "message", "status"),
    [
        (0, None, (True, None, 0, None, "success", None), "The payload ended with exit status 0.", 0),
        (None, None, (True, None, 0, None, "success", None), "The payload ended with exit status 0.", 0),
        (1, None, (True, "payload", 1, None, "exit-nonzero", None), "exit status 1", 1),
        (255, None, (True, "payload", 255, None, "exit-nonzero", None), "exit status 255", 255),
        (137, None, (True, "payload", 137, None, "exit-nonzero", None), "exit status 137", 137),
        (None, 9, (True, "payload", None, 9, "ended-by-signal", None), "ended by SIGKILL (9)", 137),
        (None, 15, (True, "payload", None, 15, "ended-by-signal", None), "ended by SIGTERM (15)", 143),
        (None, 40, (True, "payload", None, 40, "ended-by-signal", None), "ended by signal 40", 168),
    ],
    ids=["zero", "nothing", "one", "255", "137-is-no-signal", "kill", "term", "real-time"],
)
def test_end_of_payload(exit_code, signal, expected, message, status):
    """The end of a payload that started is told as it was."""
    outcome = of_payload(exit_code, signal)

    assert expected == shown(outcome)
    assert message == outcome.message
    assert status == outcome.status


RUNTIME_SAYS = {
    "userns-limit": (
        1,
        RED_ERROR + "Failed to create user namespace: maximum number of user namespaces exceeded, "
        "check /proc/sys/user/max_user_namespaces\x1b[0m\n",
        "user-namespaces-disabled",
    ),
    "userns-apparmor": (
        1,
        "ERROR  : Failed to create user namespace: Permission denied\n",
        "user-namespaces-disabled",
    ),
    "userns-no-space": (
        1,
        "ERROR  : Failed to create container process: No space left on device\n",
        "user-namespaces-disabled",
    ),
    "mount-namespace": (
        1,
        "ERROR  : Failed to create mount namespace: mount namespace requires privileges\n",
        "runtime-privileges",
    ),
    "capabilities": (1, RED_ERROR + "Requesting capability set 0x1 while permitted is 0x0\n", "runtime-privileges"),
    "no-passwd-entry": (
        255,
        RED_FATAL + "Couldn't determine user account information: user: unknown userid 4711\n",
        "user-unknown",
    ),
    "no-fuse": (
        255,
        "FATAL:   container creation failed: image driver mount failure: fuse: device /dev/fuse not found\n",
        "fuse-unavailable",
    ),
    "disk-full": (255, "FATAL:   while extracting: write /tmp/x: no space left on device\n", "no-space"),
    "quota": (255, "FATAL:   mkdir /work/tmp: Disk quota exceeded\n", "no-space"),
    "no-image": (
        255,
        RED_FATAL + "While checking container encryption: could not open image /nope: "
        "failed to retrieve path for /nope: lstat /nope: no such file or directory\n",
        "image-unusable",
    ),
    "bind": (
        255,
        RED_FATAL + "container creation failed: mount hook function failure: mount /a->/b error: "
        "while mounting /a: mount source /a doesn't exist\n",
        "bind-failed",
    ),
    "warning-before": (
        255,
        "WARNING: Skipping mount /etc/localtime\nFATAL:   container creation failed: mount hook function failure\n",
        "bind-failed",
    ),
}


@pytest.mark.parametrize(("exit_code", "text", "kind"), RUNTIME_SAYS.values(), ids=RUNTIME_SAYS)
@pytest.mark.parametrize("started", [None, False], ids=["guessed", "known"])
@pytest.mark.parametrize("form", [str, str.encode], ids=["text", "bytes"])
def test_runtime_failure_is_named(exit_code, text, kind, started, form):
    """What runtimes really print gives its kind, with colours and without."""
    outcome = classify(exit_code, form(text), started)

    assert (False, "runtime", None, None, kind, "other-node") == shown(outcome)
    assert 125 == outcome.status
    assert "\x1b" not in outcome.message
    assert outcome.message.startswith(f"{kind}: ")


@pytest.mark.parametrize(
    ("exit_code", "text", "started", "expected"),
    [
        (0, "FATAL: all is lost\n", None, (True, None, 0, None, "success", None)),
        (0, "FATAL:   could not open image x\n", None, (True, None, 0, None, "success", None)),
        (255, "FATAL: my own words\n", None, (True, "payload", 255, None, "exit-nonzero", None)),
        (1, "ERROR : my own words\n", None, (True, "payload", 1, None, "exit-nonzero", None)),
        (255, "could not open image\n", None, (True, "payload", 255, None, "exit-nonzero", None)),
        (2, "FATAL:   could not open image x\n", None, (True, "payload", 2, None, "exit-nonzero", None)),
        (255, "FATAL:   could not open image x\n", True, (True, "payload", 255, None, "exit-nonzero", None)),
        (-9, "", None, (True, "payload", None, 9, "ended-by-signal", None)),
        (-9, "FATAL:   could not open image x\n", None, (True, "payload", None, 9, "ended-by-signal", None)),
        (-11, "", True, (True, "payload", None, 11, "ended-by-signal", None)),
        (-9, "", False, (False, "runtime", None, None, "runtime-killed", "same-node")),
        (0, "", False, (False, "runtime", None, None, "runtime-failed", "other-node")),
        (255, "FATAL:   strange\n", False, (False, "runtime", None, None, "runtime-failed", "other-node")),
        (7, b"\xff\xfe no text", False, (False, "runtime", None, None, "runtime-failed", "other-node")),
        (7, b"\xff\xfe no text", None, (True, "payload", 7, None, "exit-nonzero", None)),
    ],
    ids=[
        "fatal-and-zero",
        "known-words-and-zero",
        "payload-says-fatal-255",
        "payload-says-error-1",
        "known-words-not-severe",
        "status-no-runtime-uses",
        "known-to-have-started",
        "killed",
        "killed-after-known-words",
        "crashed",
        "runtime-killed",
        "runtime-ended-well-without-payload",
        "runtime-unknown-words",
        "not-text-not-started",
        "not-text",
    ],
)
def test_classify(exit_code, text, started, expected):
    """Text decides only when nobody knows whether the payload started."""
    assert expected == shown(classify(exit_code, text, started))


def test_cause_is_the_severe_lines():
    """The message holds the runtime's severe lines and not its chatter."""
    found = runtime_failure("INFO:    fine\nFATAL:   one\nINFO:    chatter\nFATAL:   two\n")

    assert "FATAL:   one | FATAL:   two" == found.message


def test_silent_runtime_is_said_to_be_silent():
    """A runtime that printed nothing is reported so."""
    assert "it printed nothing" == runtime_failure("").message


def test_crash_of_the_runtime_is_named():
    """The message holds what a crashing runtime died of, and not its stack; a payload may crash so, too."""
    crash = "panic: unhandled fd: 4\n\ngoroutine 1 [running]:\nmain.main()\n\t/build/main.go:115 +0x44\n"

    assert "panic: unhandled fd: 4" == runtime_failure(crash).message
    assert classify(255, crash).started


def test_long_text_is_cut():
    """A runtime that prints megabytes does not fill the outcome."""
    assert 1000 == len(runtime_failure("FATAL: " + "x" * 5000).message)


@pytest.mark.parametrize(
    ("kinds", "first", "retry"),
    [
        (["image-missing"], "image-missing", "other-node"),
        (["image-missing", "usage"], "image-missing", "never"),
        (["usage", "image-missing"], "usage", "never"),
        (["runtime-killed", "image-missing"], "runtime-killed", "other-node"),
        (["stopped-before-start"], "stopped-before-start", "same-node"),
        (["end-unseen"], "end-unseen", None),
    ],
    ids=["alone", "never-wins", "never-first", "other-node-wins", "same-node", "nobody-knows"],
)
def test_refusal_takes_the_worst_advice(kinds, first, retry):
    """The first problem gives the kind, the worst of all the advice."""
    outcome = of_refusal(PlanError(problem(kind) for kind in kinds), trace_id="t-1")

    assert (first, retry) == (outcome.kind, outcome.retry)
    assert (False, "t-1", None, 125) == (outcome.started, outcome.trace_id, outcome.usage, outcome.status)
    assert [f"{kind}: it is so" for kind in kinds] == outcome.message.split("\n")


def test_started_without_exit_status_shows_the_own_status():
    """A payload whose end nobody saw is not shown as a success."""
    assert 125 == of_kind("end-unseen", started=True).status


@pytest.mark.parametrize(
    ("exit_code", "signal", "status"),
    [(0, None, 124), (3, None, 3), (124, None, 124), (None, 15, 143), (None, 9, 137), (None, None, 125)],
    ids=["zero", "own", "124", "term", "kill", "unseen"],
)
def test_time_limit_is_no_success(exit_code, signal, status):
    """A payload that was stopped in the middle and exits with 0 does not look like one that is done."""
    outcome = of_kind("time-limit", started=True, exit_code=exit_code, signal=signal)

    assert (status, exit_code) == (outcome.status, outcome.exit_code)


def test_outcome_in_plain_types():
    """The keys of the outcome file are those of the interface, in order."""
    usage = Usage(wall_seconds=1.5, cpu_seconds=0.25, max_rss_bytes=4096)
    ran = of_payload(3, None, trace_id="t-1", usage=usage).to_dict()
    refused = of_refusal(PlanError([problem("usage")])).to_dict()

    assert OUTCOME_KEYS == list(ran) == list(refused)
    assert {"wall_seconds": 1.5, "cpu_seconds": 0.25, "max_rss_bytes": 4096}.items() <= ran["usage"].items()
    assert (None, None) == (refused["usage"], refused["trace_id"])


@pytest.mark.parametrize(
    ("number", "name"), [(9, "SIGKILL (9)"), (15, "SIGTERM (15)"), (99, "signal 99")], ids=["kill", "term", "none"]
)
def test_signal_name(number, name):
    """Signals have their names, and others their numbers."""
    assert name == signal_name(number)

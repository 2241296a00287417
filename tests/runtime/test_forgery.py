"""
What a payload does to have its end told falsely: to look done where it failed, or to put the blame on the node.
"""

from __future__ import annotations

import pytest

from wlcg_isolate import Policy, run_isolated

QUICK = Policy(payload_grace_seconds=0.5)

FATAL = "FATAL:   container creation failed: mount hook function failure: mount source /x doesn't exist"

#: Traces process 1 and goes away, so that the kernel kills it: no signal from within the container could.
KILL_INIT = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, EXIT_KILL = 0x4206, 0x100000
if not os.fork():
    os._exit(libc.ptrace(SEIZE, 1, None, EXIT_KILL) & 1)
if os.wait()[1]:
    sys.exit(77)
time.sleep(20)
"""

#: Writes what the loader would to every pipe of every process, then ends as told.
WRITE_ALL = """
import os, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("pipe:"):
                os.write(os.open(f"/proc/{pid}/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK), bytes([int(sys.argv[1])]) * 100)
        except OSError:
            continue
sys.exit(int(sys.argv[2]))
"""

#: Ends the whole container's tree but itself, by every signal that there is.
KILL_ALL = "for i in $(seq 1 64); do [ $i = 19 ] || [ $i = 20 ] || kill -$i 1 2>/dev/null; done; sleep 0.2; exit 7"


def shown(outcome):
    """Reduce an outcome to who failed."""
    return (outcome.started, outcome.failed_by)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6, 9, 11, 15, 31])
def test_signal_to_process_1(request_for, number):
    """Signals to the container's process 1 come back to the payload, or do nothing."""
    outcome = run_isolated(request_for("sh", "-c", f"kill -{number} 1; sleep 0.1; exit 7"), QUICK)

    assert (True, "payload") == shown(outcome), outcome.message
    assert (outcome.exit_code, outcome.signal) in ((7, None), (None, number))


def test_all_signals_to_process_1(request_for):
    """All signals at once, too."""
    assert (True, "payload") == shown(run_isolated(request_for("sh", "-c", KILL_ALL), QUICK))


def test_process_1_is_killed_by_tracing_it(request_for):
    """The end of process 1, which ends the runtime by the same signal, is no loss of the runtime."""
    outcome = run_isolated(request_for("python3", "-c", KILL_INIT, name="debian11"), QUICK)

    assert (True, "payload", "ended-by-signal", 9) == (*shown(outcome), outcome.kind, outcome.signal), outcome.message


def test_child_of_a_failed_payload(request_for):
    """What runs beside a payload that fails cannot make it look done, by killing process 1 or otherwise."""
    program = KILL_INIT.replace("if not os.fork():", "if not os.fork():\n    time.sleep(0.2)", 1)
    outcome = run_isolated(request_for("python3", "-c", program, name="debian11"), QUICK)

    assert (True, "payload") == shown(outcome), outcome.message


@pytest.mark.parametrize("status", [0, 1, 125, 126, 127, 255])
@pytest.mark.parametrize("said", [0, 126, 127])
def test_bytes_in_every_pipe(request_for, said, status):
    """What a payload writes into the pipes of process 1 changes neither its status nor who failed."""
    outcome = run_isolated(request_for("python3", "-c", WRITE_ALL, str(said), str(status), name="debian11"), QUICK)

    assert (True, "payload" if status else None, status) == (*shown(outcome), outcome.exit_code)
    # It can say of itself that it was not found, where its status says so as well.
    assert ("command-" in outcome.kind) == (said == status != 0)


@pytest.mark.parametrize("text", [FATAL, f"\033[31m{FATAL}\033[0m", "wlcg-isolate: sh: not found"])
@pytest.mark.parametrize("status", [125, 126, 127, 137, 255])
def test_words_and_status_of_others(request_for, text, status):
    """Neither the words nor the exit statuses of a runtime, a shell or the loader move the blame."""
    outcome = run_isolated(request_for("sh", "-c", f'echo "{text}" >&2; exit {status}'), QUICK)

    assert (True, "payload", "exit-nonzero", status) == (*shown(outcome), outcome.kind, outcome.exit_code)


def test_own_runtime(cli, image, runtime):
    """A runtime that fails inside of a payload prints a runtime's words, and is the payload's all the same."""
    command = ("sh", "-c", f'echo "$(printf "{FATAL}")" >&2; kill -KILL $$')
    ran = cli.run("--image", image("tiny"), command=command)

    assert (137, "payload", "ended-by-signal") == (ran.status, ran.outcome["failed_by"], ran.outcome["kind"])

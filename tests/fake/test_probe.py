"""
Runtimes that lie, hang, print garbage, or fail in parts, when they are started on trial.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from wlcg_isolate import Bind, Policy, launch_plan, make_plan, probe_host, run_isolated
from wlcg_isolate.host import sif, tiny
from wlcg_isolate.host.probe import MAX_STARTS

POLICY = Policy(runtime_probe_seconds=3, runtime_start_seconds=3, payload_grace_seconds=0.5, host_cache_directories=())

UNSHARE = "unshare --user --map-current-user --mount --ipc"
GOOD = f'{UNSHARE} --pid --fork --mount-proc --kill-child "$image/wlcg-probe"'


@pytest.fixture
def probed(fake, request_for, tmp_path):
    """Start a runtime on trial; return what came of it, and how many starts there were."""

    def look(probe, *, policy=POLICY, **more):
        fact = probe_host(request_for(fake(probe=probe, **more)), policy).runtimes[0]
        calls = (tmp_path / "calls").read_text().count("probe")
        return fact.tree, calls

    return look


def test_good(probed):
    """A start that ends as it should counts, and one is enough."""
    fact, calls = probed(f"exec {GOOD}")

    assert ("yes", "none", True, 1) == (fact.start, fact.layer, fact.pid_namespace, calls)


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        ("exit 0", "it printed nothing"),
        ("exit 73", "it printed nothing"),
        ("printf '\\0'; read line; exit 73", "cannot be seen from outside"),
        ('exec "$image/wlcg-probe"', "without a namespace of their own: mnt, ipc, user"),
        (f'exec {UNSHARE.replace("--ipc", "")} "$image/wlcg-probe"', "without a namespace of their own: ipc"),
        (f"{GOOD}; exit 0", "it turns exit status 73 of a program into 0"),
        (f"{GOOD}; exit 255", "it turns exit status 73 of a program into 255"),
        ("head -c 100000 /dev/zero | tr '\\0' x; exit 73", "it printed nothing"),
        ("head -c 100000 /dev/urandom; exit 73", "cannot be seen from outside"),
        ("echo no such module >&2; exit 1", "no such module"),
        ("kill -KILL $$", "it printed nothing"),
    ],
    ids=[
        "exits with 0",
        "exits with the status",
        "answers without a container",
        "starts it on the host",
        "shares a namespace",
        "loses the status",
        "replaces the status",
        "prints for long",
        "prints garbage",
        "prints words",
        "is killed",
    ],
)
def test_liar(probed, probe, reason):
    """Exit status, output and existence prove nothing: only the program in its own namespaces does."""
    fact, calls = probed(probe)

    assert "no" == fact.start, fact
    assert reason in fact.reason
    assert fact.starts == calls <= MAX_STARTS


def test_noise_before_is_no_lie(probed):
    """Some versions print words of their own to standard output first."""
    fact, _ = probed(f"echo INFO: starting; exec {GOOD}")

    assert "yes" == fact.start


@pytest.mark.parametrize(
    "probe", ["exec sleep 60", f"{GOOD}; exec sleep 60", "trap '' TERM; sleep 60 & wait; wait; sleep 60"]
)
def test_hangs(probed, tmp_path, probe):
    """No answer within the deadline is a verdict of its own, and nothing is left running."""
    begin = time.monotonic()
    fact, calls = probed(probe, policy=Policy(runtime_probe_seconds=1, host_cache_directories=()))

    assert ("no-answer", "runtime-no-answer", 1) == (fact.start, fact.kind, calls)
    assert time.monotonic() - begin < 10
    assert [] == [pid for pid in _processes() if str(tmp_path).encode() in _command(pid)]


def test_no_answer_is_not_kept(fake, request_for, tmp_path):
    """What did not answer today is asked again."""
    request = request_for(fake(probe="exec sleep 60"))
    for _ in range(2):
        probe_host(request, Policy(runtime_probe_seconds=0.5, host_cache_directories=()))

    assert 2 == (tmp_path / "calls").read_text().count("probe")


def _fails(condition, words, status=255):
    """Fail when the options match a pattern, and start the program otherwise."""
    return f"case $* in {condition}) echo '{words}' >&2; exit {status} ;; *) exec {GOOD} ;; esac"


NO_LAYER = "FATAL:   container creation failed: destination /wlcg_isolate.missing does not exist in container"
NO_PROC = "FATAL:   container creation failed: mount proc->/proc error: can't mount proc: operation not permitted"
ODD = "FATAL:   something that nobody has seen before"


@pytest.mark.parametrize(
    ("probe", "layer", "pid", "starts"),
    [
        (_fails("*wlcg_isolate.missing*", NO_LAYER.replace("does not", "doesn'\\''t")), "none", True, 2),
        (_fails("*--pid*", NO_PROC.replace("'", "'\\''")), "none", False, 2),
        (_fails("*wlcg_isolate.missing*", ODD), "none", True, 3),
        (_fails("*--pid*", ODD), None, False, 3),
    ],
    ids=["no layer", "no proc", "layer, in other words", "pid, in other words"],
)
def test_does_without(probed, probe, layer, pid, starts):
    """Where a part cannot be had, the rest is found out with the next start, three at the most."""
    fact, calls = probed(probe)

    assert ("yes", layer, pid, starts, starts) == (fact.start, fact.layer, fact.pid_namespace, fact.starts, calls)


def test_next_candidate_is_taken(fake, request_for):
    """One that starts nothing makes room for the next in the search."""
    bad = fake(name="bad", probe="echo 'ERROR  : Failed to create user namespace: user namespace disabled' >&2; exit 1")
    good = fake(name="good")
    policy = Policy(runtime_search=(bad, good), runtime_probe_seconds=5, host_cache_directories=())
    request = request_for(None)
    outcome = run_isolated(request, policy)

    assert (good, "success") == (make_plan(request, policy).runtime.path, outcome.kind)


def test_only_candidate_refuses(fake, request_for, tmp_path):
    """Without a next one the payload is refused, with the cause and the runtime's own words."""
    words = "ERROR  : Failed to create container process: No space left on device"
    outcome = run_isolated(request_for(fake(probe=f"echo '{words}' >&2; exit 1")), POLICY)

    assert (False, "runtime", "user-namespaces-disabled") == (outcome.started, outcome.failed_by, outcome.kind)
    assert "not about a disk" in outcome.message
    assert "run" not in (tmp_path / "calls").read_text().split()


def test_lies_about_its_version(fake, request_for):
    """A program that calls itself newer than it is does not know the options, and says so when it is started."""
    words = 'Error for command "exec": unknown flag: --no-eval'
    runtime = fake(probe=f"echo '{words}' >&2; exit 1", banner="apptainer version 1.4.5")
    outcome = run_isolated(request_for(runtime), POLICY)

    assert (False, "runtime-option") == (outcome.started, outcome.kind)


def test_replaced_between_probe_and_launch(fake, request_for, tmp_path):
    """What the verdict was about is not what is started: the launch sees it."""
    request = request_for(fake(), "touch", str(tmp_path / "started"))
    plan = make_plan(request, POLICY)
    fake('exec "$@"')
    outcome = launch_plan(plan)

    assert (False, "isolation-incomplete") == (outcome.started, outcome.kind)
    assert not (tmp_path / "started").exists()


def test_replaced_between_two_plans(fake, request_for):
    """Another file under the same name is found out anew."""
    request = request_for(fake())
    make_plan(request, POLICY)
    fake(probe="exit 1")

    assert "no" == probe_host(request, POLICY).runtimes[0].tree.start


def test_no_pid_namespace_leaves_nothing(fake, isolate, request_for, tmp_path):
    """Without a PID namespace, what the payload put into a session of its own is ended with it."""
    runtime = fake(
        isolate.replace(" --pid --fork --mount-proc --kill-child", "").replace("exec unshare", "unshare"),
        probe=_fails("*--pid*", ODD),
    )
    script = f"setsid sleep 4712 & echo $! >{tmp_path}/left; exit 3"
    outcome = run_isolated(request_for(runtime, "sh", "-c", script), POLICY)
    left = int((tmp_path / "left").read_text())

    assert (True, 3) == (outcome.started, outcome.exit_code)
    assert b"" == _command(left)


def test_caller_ignores_children(probed):
    """A pilot that ignores its children takes the exit status away; what was seen from outside still counts."""
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        fact, _ = probed(f"exec {GOOD}")
    finally:
        signal.signal(signal.SIGCHLD, previous)

    assert "yes" == fact.start


def test_cache_in_the_payloads_reach_is_not_used(fake, request_for, tmp_path):
    """A payload must not write the verdicts that its successors go by."""
    place = tmp_path / "work" / "cache"
    probe_host(request_for(fake()), Policy(host_cache_directories=(str(place), str(tmp_path / "away"))))

    assert (False, 1) == (place.exists(), len(os.listdir(tmp_path / "away")))


def test_no_disk_for_the_test_image(fake, request_for, mocker):
    """Where nothing can be written, the start of the payload itself has to tell."""
    mocker.patch("wlcg_isolate.host.probe.tempfile.mkdtemp", side_effect=OSError(28, "No space left on device"))
    outcome = run_isolated(request_for(fake()), POLICY)

    assert "success" == outcome.kind


def test_no_program_for_this_architecture(fake, request_for, mocker):
    """On an architecture without a test program, too."""
    mocker.patch.object(tiny, "ARCHITECTURES", frozenset())
    outcome = run_isolated(request_for(fake()), POLICY)

    assert "success" == outcome.kind


#: Where this user may mount by FUSE, file systems really hang in these tests; elsewhere there are no such tests, since
#: nothing else that hangs can be made without privileges.
CAN_MOUNT = os.access("/dev/fuse", os.R_OK | os.W_OK)


@pytest.fixture
def hanging(tmp_path):
    """Mount a real FUSE file system whose program does not answer any more."""
    image, place = tmp_path / "image.sqfs", tmp_path / "mnt"
    image.write_bytes(sif.squashfs(["data"], {"file": b"content"}))
    place.mkdir()
    server = subprocess.Popen(["squashfuse", "-f", str(image), str(place)])
    try:
        deadline = time.monotonic() + 10
        while not os.path.ismount(place) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert os.path.ismount(place)
        # What the kernel knows already it need not ask for.
        time.sleep(1.1)
        os.kill(server.pid, signal.SIGSTOP)
        yield place
    finally:
        # Its end lets go whoever waits for it.
        server.kill()
        server.wait()
        subprocess.run(["umount", "-l", str(place)], check=False, stderr=subprocess.DEVNULL)


if CAN_MOUNT:

    def test_file_system_that_hangs(fake, request_for, hanging):
        """A dead network file system costs its deadline, and is reported as what it is."""
        request = request_for(fake(), binds=[_bind(hanging / "data"), _bind(hanging / "file", required=False)])
        policy = Policy(host_touch_seconds=0.5, runtime_probe_seconds=5, host_cache_directories=())
        begin = time.monotonic()
        outcome = run_isolated(request, policy)

        assert (False, "bind-source-no-answer", "other-node") == (outcome.started, outcome.kind, outcome.retry)
        assert time.monotonic() - begin < 15

    def test_everything_hangs(fake, request_for, hanging, monkeypatch):
        """Runtime, PATH, image and cache on a dead file system: each is given up, and none takes the pilot along."""
        monkeypatch.setenv("PATH", f"{hanging}/bin:{os.environ['PATH']}")
        policy = Policy(
            host_touch_seconds=0.4,
            runtime_probe_seconds=5,
            runtime_search=("nosuch-runtime", str(hanging / "apptainer"), fake()),
            host_cache_directories=(str(hanging / "cache"),),
            bind_default=(),
        )
        begin = time.monotonic()
        facts = probe_host(request_for(None, image=str(hanging / "image")), policy)

        assert ["no-answer", "works"] == [fact.verdict for fact in facts.runtimes]
        assert "no-answer" == facts.image.root.state
        assert time.monotonic() - begin < 15


def _bind(path, *, required=True):
    return Bind(source=str(path), target=f"/opt/{path.name}", required=required)


def _processes():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _command(pid):
    """Read a process's arguments; one that has ended has none, reaped or not."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read()
    except OSError:
        return b""

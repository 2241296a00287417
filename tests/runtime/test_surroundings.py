"""
What surrounds a payload, looked at from inside a real container, and proven to be what holds it: each attempt that must
fail is made once more where policy lets it succeed.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from wlcg_isolate import Bind, Payload, Policy, Request, run_isolated

IS_ROOT = os.geteuid() == 0
TOOLS = Path(__file__).resolve().parents[2] / "tools"

#: Tries what reaches out of a container, without changing anything where it succeeds.
ESCAPES = """\
import ctypes, errno, glob, os, socket

libc = ctypes.CDLL(None, use_errno=True)
done = []


def attempt(name, what):
    try:
        what()
    except OSError as e:
        print("no", name, errno.errorcode.get(e.errno, e.errno))
    else:
        print("YES", name)


def append(path):
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))


def call(*words):
    if libc.syscall(*words) < 0:
        raise OSError(ctypes.get_errno(), "")


def make_cgroup():
    for place in [*glob.glob("/sys/fs/cgroup/*/"), "/sys/fs/cgroup/"]:
        try:
            os.mkdir(place + "escape")
        except OSError:
            continue
        os.rmdir(place + "escape")
        return
    raise PermissionError(errno.EACCES, "")


def release_agent():
    for path in glob.glob("/sys/fs/cgroup/*/release_agent"):
        append(path)
        return
    raise FileNotFoundError(errno.ENOENT, "")


attempt("core_pattern", lambda: append("/proc/sys/kernel/core_pattern"))
attempt("hosts", lambda: append("/etc/hosts"))
attempt("localtime", lambda: append("/etc/localtime"))
attempt("irq", lambda: append("/proc/irq/default_smp_affinity"))
attempt("uevent", lambda: append("/sys/kernel/uevent_helper"))
attempt("cgroup", make_cgroup)
attempt("release_agent", release_agent)
attempt("image", lambda: os.close(os.open("/etc/escape", os.O_WRONLY | os.O_CREAT)))
attempt("clone3", lambda: call(435, 0, 0))
attempt("user-namespace", lambda: call(272, 0x10000000))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, runtime, image):
    """Run a payload under a policy, and return its outcome, its output and its start record."""

    def make(*command, name="debian11", settings=None, program=None, binds=(), **policy):
        place = tmp_path_factory.mktemp("run")
        (place / "work").mkdir()
        request = Request(
            payload=Payload(command=command), image=image(name), workdir=place / "work", trace_dir=place / "trace",
            runtime=program or runtime, settings=settings or {}, binds=binds,
        )  # fmt: skip
        with open(place / "out", "wb") as out:
            outcome = run_isolated(request, Policy(**policy), stdout=out, stderr=out)
        lines = [line for file in (place / "trace").glob("*.jsonl") for line in file.read_text().splitlines()]
        records = {record["event.action"]: record for record in map(json.loads, lines)}

        return outcome, (place / "out").read_text(), records.get("payload.start", {})

    return make


def verdicts(text):
    """Read what the attempts gave: name to whether it succeeded."""
    return {line.split()[1]: line.split()[0] == "YES" for line in text.splitlines() if line.startswith(("no ", "YES "))}


@pytest.fixture(scope="module")
def held(run):
    """What the attempts gave under the built-in policy."""
    return run("python3", "-c", ESCAPES)


@pytest.mark.parametrize(
    "name", "core_pattern hosts localtime irq uevent cgroup release_agent image clone3 user-namespace".split()
)
def test_no_way_out(held, name):
    """What reaches out of a container fails, for root's payload as for any other."""
    _, text, _ = held

    assert False is verdicts(text)[name], text


def test_ways_out_where_policy_lets_them(run):
    """The same attempts succeed where they may: nothing but policy stood in their way."""
    _, text, record = run("python3", "-c", ESCAPES, isolation_root="allow", isolation_nesting=True)
    expected = {"user-namespace", *({"core_pattern", "hosts", "irq", "cgroup"} if IS_ROOT else ())}

    assert expected <= {name for name, succeeded in verdicts(text).items() if succeeded}, text
    assert ["nesting", *(["root"] if IS_ROOT else [])] == record["wlcg.isolation.less"]


@pytest.fixture(scope="module")
def status(run):
    """What the kernel says of a payload's process."""
    _, text, record = run("cat", "/proc/self/status", name="tiny")

    return dict(line.split(":\t", 1) for line in text.splitlines()), record


@pytest.mark.parametrize("field", ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
def test_no_capability(status, field):
    """Nobody's payload has a capability or can come to have one, root's included."""
    assert "0" * 16 == status[0][field]


def test_no_new_privileges(status):
    """No program gives the payload more than it has, and the kernel keeps calls back; the record says so."""
    lines, record = status

    assert ("1", "2") == (lines["NoNewPrivs"], lines["Seccomp"])
    assert (True, [], [], "confined" if IS_ROOT else None) == (
        record["wlcg.isolation.filtered"],
        record["wlcg.isolation.less"],
        record["wlcg.isolation.differences"],
        record.get("wlcg.isolation.root"),
    )


def test_root_is_refused(run):
    """Where policy refuses root's payloads, nothing of one runs."""
    outcome, text, _ = run("echo", "ran", isolation_root="refuse")

    assert (("root-refused", "") if IS_ROOT else ("success", "ran\n")) == (outcome.kind, text)


# --- network

NETWORK = """\
import os, socket, sys
print(sorted(line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]))
try:
    socket.socket(socket.AF_UNIX).connect("\\0" + sys.argv[1])
    print("reached")
except OSError as e:
    print(e.strerror)
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname(), 5)
print("loopback")
"""


@pytest.mark.parametrize("network", ["none", "host"])
def test_network(run, network):
    """Without the host's network a payload has its own loopback, and reaches no abstract socket of the pilot."""
    name = f"wlcg-isolate-test-{os.getpid()}-{network}"
    with socket.socket(socket.AF_UNIX) as pilot:
        pilot.bind("\0" + name)
        pilot.listen()
        _, text, record = run("python3", "-c", NETWORK, name, isolation_network=network)
    devices, reached, loopback = text.splitlines()

    assert (network == "none") == (devices == "['lo']")
    assert ("Connection refused" if network == "none" else "reached", "loopback") == (reached, loopback)
    assert (network, network == "none") == (
        record["wlcg.isolation.network"],
        record["wlcg.ns.net"] != os.stat("/proc/self/ns/net").st_ino,
    )


# --- keyrings

#: Joins a session keyring, as a batch system does, and puts keys where a pilot has them; the rest is its payload.
PILOT = """\
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(250, 1, b"wlcg-isolate-test")
for ring, name in ((-3, b"of-session"), (-4, b"of-user")):
    key = libc.syscall(248, b"user", name, b"secret-" + name, len(name) + 7, ring)
    libc.syscall(250, 15, key, 60)
os.execv(sys.argv[1], [*sys.argv[1:], str(libc.syscall(250, 0, -3, 0)), str(libc.syscall(250, 0, -4, 0))])
"""

#: Links what it is told into its own keyring and reads what is in it.
READER = """\
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
for ring in map(int, sys.argv[1:]):
    libc.syscall(250, 8, ring, -3)
    for name in (b"of-session", b"of-user"):
        key = libc.syscall(250, 10, ring, b"user", name, 0)
        text = ctypes.create_string_buffer(64)
        if key > 0 and libc.syscall(250, 11, key, ctypes.byref(text), 64) > 0:
            print(text.value.decode())
print("ended")
"""


@pytest.mark.parametrize("allowed", [False, True], ids=["hidden", "allowed"])
def test_keyrings(cli, image, allowed):
    """A payload finds no key of the pilot's, neither in its session nor through its user; where allowed it does."""
    options = ["--set", "isolation.allow_keyrings=true"] if allowed else []
    argv = cli.argv("--image", image("debian11"), *options, command=("python3", "-c", READER))
    done = subprocess.run(
        [sys.executable, "-c", PILOT, *argv], env=cli.environ, cwd=cli.workdir, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    found = set(done.stdout.split())

    assert ({"secret-of-session", "secret-of-user", "ended"} if allowed else {"ended"}) == found, done.stderr


# --- containers in containers


@pytest.fixture(scope="module")
def nested(run, runtime, image):
    """Run a real runtime in a real container."""
    program = os.path.realpath(runtime)
    prefix = program.partition("/usr/bin/")[0] or "/usr"

    def make(*options, **policy):
        binds = [Bind(source=prefix, target=prefix), Bind(source=image("tiny"), target="/inner")]
        words = (program, "exec", "--userns", *options, "/inner", "sh", "-c", "id -u; echo inside")
        return run(*words, binds=binds, **policy)

    return make


def test_nested_container(nested):
    """Where policy says so, a payload starts a container of its own, and plan and record say that it may."""
    outcome, text, record = nested(isolation_nesting=True)

    assert ("success", True) == (outcome.kind, f"{os.geteuid()}\ninside\n" in text), text
    less = ["nesting", "root-nesting"] if IS_ROOT else ["nesting"]
    assert (True, less) == (record["wlcg.isolation.nesting"], record["wlcg.isolation.less"])


def test_nested_container_with_processes_of_its_own(nested):
    """A plain user's payload gives it process ids of its own; for root the host's settings stay out of reach."""
    outcome, text, _ = nested("--pid", "--ipc", "--contain", isolation_nesting=True)

    assert ("exit-nonzero" if IS_ROOT else "success") == outcome.kind, text
    assert ("mounting proc" if IS_ROOT else "inside") in text


def test_no_nested_container(nested):
    """Otherwise it cannot, and the runtime inside says why."""
    outcome, text, _ = nested()

    assert ("exit-nonzero", True) == (outcome.kind, "not allowed to create user namespace" in text), text


# --- a runtime that does not do as it is told

#: Leaves options out that it is given, and is the real runtime otherwise.
FORGETFUL = """\
import os, sys
words, drop = sys.argv[1:], {drop!r}
if words[-1] != "/wlcg-probe":
    kept = []
    while words:
        word = words.pop(0)
        if word in ("--no-mount", "--network", "--add-caps") and word in drop:
            words.pop(0)
        elif word == "--mount" and any(place in words[0] for place in drop):
            words.pop(0)
        elif word not in drop:
            kept.append(word)
    words = kept
os.execv({runtime!r}, [{runtime!r}, *words])
"""

FORGOTTEN = {
    "pid": (["--pid"], "no pid namespace", {}),
    "ipc": (["--ipc"], "no ipc namespace", {}),
    "net": (["--net", "--network"], "no net namespace", {"isolation_network": "none"}),
    "contain": (["--contain"], "/tmp is not private", {}),
}
FORGOTTEN_OF_ROOT = {
    "privileges": (["--no-privs"], "no_new_privs is not set", {}),
    "capabilities": (["--no-privs"], "the payload has capabilities (CapEff", {}),
    "sys": (["--no-mount"], "/sys of the host can be written by root", {}),
    "proc": (["dst=/proc/sys"], "/proc/sys is not kept from root", {}),
    "hosts": (["--no-mount", "dst=/etc/hosts"], "/etc/hosts of the host can be written", {}),
}


@pytest.fixture
def forgetful(tmp_path, runtime):
    """Make a runtime that leaves options out in silence."""

    def make(drop):
        program, text = tmp_path / "apptainer", tmp_path / "forgetful.py"
        text.write_text(FORGETFUL.format(drop=drop, runtime=os.path.realpath(runtime)))
        # Not in the first line, where no blank may be.
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(text))} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return str(program)

    return make


@pytest.mark.parametrize("name", [*FORGOTTEN, *(FORGOTTEN_OF_ROOT if IS_ROOT else ())])
def test_difference(run, forgetful, name):
    """A container that is not what was asked for runs nothing, or runs with the difference in its record."""
    drop, words, more = {**FORGOTTEN, **FORGOTTEN_OF_ROOT}[name]
    program = forgetful(drop)
    refused, text, started = run("echo", "ran", name="tiny", program=program, **more)
    warned, said, record = run("echo", "ran", name="tiny", program=program, isolation_on_difference="warn", **more)

    assert ("isolation-incomplete", False, "", {}) == (refused.kind, refused.started, text, started)
    assert words in refused.message
    assert ("success", "ran\n") == (warned.kind, said), warned.message
    assert any(words in difference for difference in record["wlcg.isolation.differences"])
    assert ["differences"] == record["wlcg.isolation.less"]


# --- limits

LIMITS = """\
import os, resource
for name in "RLIMIT_NOFILE RLIMIT_CORE RLIMIT_AS RLIMIT_FSIZE".split():
    print(name, *resource.getrlimit(getattr(resource, name)))
try:
    open("/srv/big", "wb").write(b"x" * (1 << 21))
except OSError as e:
    print(e.strerror)
"""


def test_limits_of_each_process(run):
    """A payload has the limits of policy, or stricter ones that it asks for itself, and cannot lift them."""
    wanted = {"limits_core_bytes": 0, "limits_open_files": 100, "limits_address_space_bytes": 1 << 34}
    own = {"limits.open_files": 50, "limits.file_bytes": 1 << 20, "limits.address_space_bytes": 1 << 36}
    outcome, text, record = run("sh", "-c", f"trap '' XFSZ; exec python3 -c '{LIMITS}'", settings=own, **wanted)
    expected = [
        "RLIMIT_NOFILE 50 50", "RLIMIT_CORE 0 0", f"RLIMIT_AS {1 << 34} {1 << 34}",
        f"RLIMIT_FSIZE {1 << 20} {1 << 20}", "File too large",
    ]  # fmt: skip

    assert ("success", expected) == (outcome.kind, text.splitlines())
    assert {"open_files": 50, "core_bytes": 0, "address_space_bytes": 1 << 34, "file_bytes": 1 << 20} == record[
        "wlcg.isolation.limits"
    ]


BOMB = """\
import os, time
count = 0
try:
    while count < 500:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        count += 1
except BlockingIOError:
    pass
print(count, flush=True)
"""


def test_fork_bomb(run):
    """A payload makes no more processes than it may; where that cannot be kept, it is not started."""
    outcome, text, record = run("python3", "-c", BOMB, limits_processes=40)
    no_group = outcome.kind == "limit-unavailable"

    if IS_ROOT and no_group:
        # The kernel does not count root's.
        assert ("", False) == (text, outcome.started)
        return
    assert 20 <= int(text) < 40
    assert {"processes": 40} == record["wlcg.isolation.limits"]


@pytest.mark.parametrize("required", [True, False])
def test_limit_that_cannot_be_given(run, tmp_path, required):
    """Memory is limited by a cgroup or not at all; what policy makes of that is what happens."""
    policy = {"limits_memory_bytes": 1 << 30, "limits_cgroup": str(tmp_path), "limits_required": required}
    outcome, text, record = run("echo", "ran", name="tiny", **policy)

    if required:
        assert ("limit-unavailable", "policy", "") == (outcome.kind, outcome.failed_by, text)
        assert str(tmp_path) in outcome.message
    else:
        assert ("success", "ran\n", ["memory_bytes"], {}) == (
            outcome.kind,
            text,
            record["wlcg.isolation.limits_missing"],
            record["wlcg.isolation.limits"],
        )


#: Mounts a hierarchy of version 2 for itself alone, delegates a cgroup in it to a user, and runs a command there, in
#: the cgroup's own "pilot" as batch systems and systemd do it.
DELEGATED = """\
set -e
slot=$1 user=$2
shift 2
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "$slot" "$slot/pilot"
chown -R "$user" "$slot"
echo $$ >"$slot/pilot/cgroup.procs"
status=0
"$@" || status=$?
echo $$ >/sys/fs/cgroup/cgroup.procs
ls -d "$slot"/*/ >&2
rmdir "$slot/pilot" "$slot"
exit $status
"""

IN_A_GROUP = """\
import os, sys, time
print(open("/proc/self/cgroup").read().strip().splitlines()[-1])
for path in (sys.argv[1] + "/pilot/cgroup.kill", sys.argv[1] + "/cgroup.procs"):
    try:
        os.close(os.open(path, os.O_WRONLY))
        print("WRITABLE")
    except OSError as e:
        print(e.strerror)
if os.fork() == 0:
    os.setsid()
    time.sleep(600)
"""


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_real_cgroup(cli, image, user):
    """A payload is put into a cgroup of its own, cannot write in it nor above, and leaves nothing of it behind."""
    slot = f"/sys/fs/cgroup/wlcg-isolate-test-{os.getpid()}"
    named = f'limits.cgroup="{slot}"'
    if not IS_ROOT:
        # A plain user cannot mount one; what is no cgroup is not taken for one.
        assert "limit-unavailable" == cli.run("--image", image("tiny"), "--set", named).outcome["kind"]
        return
    with tempfile.TemporaryDirectory() as place:
        # What pytest makes is closed to others.
        os.chmod(place, 0o755)
        cli.workdir, cli.trace_dir, cli.outcome = (
            Path(place, "work"),
            Path(place, "trace"),
            Path(place, "trace/outcome"),
        )
        for path in (cli.workdir, cli.trace_dir):
            path.mkdir(mode=0o700)
            shutil.chown(path, user)
        argv = cli.argv("--image", image("debian11"), "--set", named, command=("python3", "-c", IN_A_GROUP, slot))
        if user != "root":
            cache = os.path.dirname(os.path.dirname(image("tiny")))
            seen = (str(TOOLS.parent), sys.prefix, sys.base_prefix, cache)
            argv = [str(TOOLS / "as-plain-user"), *(w for directory in seen for w in ("--see", directory)), *argv]
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", DELEGATED, "sh", slot, user, *argv],
            env={**cli.environ, "HOME": place}, cwd="/", capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        record = next((r for r in cli.records() if r["event.action"] == "payload.start"), {})

    assert 0 == done.returncode, done.stderr
    assert f"{slot}/pilot/\n" == done.stderr
    inside, *answers = done.stdout.splitlines()
    assert inside.endswith("/" + os.path.basename(record["wlcg.isolation.cgroup"]))
    assert [["No such file or directory"] * 2, ["Read-only file system"] * 2][user != "root"] == answers

"""
Jobs in a real pool of HTCondor, which runs in a container of its own: what the job wrapper starts is nested in that.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HOME = "/var/lib/condor"
JOBS = 50

#: Where the example has the command line.
INSTALLED = "/opt/wlcg_isolate/bin"

#: Source: HTCondor, src/condor_utils/condor_holdcodes.h.
HOOK_PREPARE_JOB_FAILURE = 19

#: Which of them: sysexits(3), EX_NOINPUT.
NO_INPUT = 66

CONFIG = """
RELEASE_DIR = /usr
LOCAL_DIR = /var/lib/condor
LIBEXEC = /usr/libexec/condor
LIB = /usr/lib
SSH_TO_JOB_SSHD_CONFIG_TEMPLATE = /usr/lib/condor/condor_ssh_to_job_sshd_config_template
LOG = $(LOCAL_DIR)/log
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
LOCK = $(LOCAL_DIR)/lock
RUN = $(LOCAL_DIR)/run
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
SHARED_PORT_PORT = {port}
NETWORK_INTERFACE = 127.0.0.1
DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD STARTD
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
ALLOW_WRITE = *
ALLOW_READ = *
ALLOW_ADMINISTRATOR = *
ALLOW_DAEMON = *
ALLOW_NEGOTIATOR = *
UID_DOMAIN = test
FILESYSTEM_DOMAIN = test
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_CYCLE_DELAY = 1
NEGOTIATOR_MIN_INTERVAL = 1
SCHEDD_INTERVAL = 2
SCHEDD_MIN_INTERVAL = 1
JOB_START_DELAY = 0
NUM_CPUS = 4
MEMORY = 4096
RunBenchmarks = False
START = True
USE_PROCD = False
"""

#: Where the job wrapper isolates.
WRAPPED = """
USER_JOB_WRAPPER = /var/lib/condor/wrapper
STARTER_JOB_HOOK_KEYWORD = ISOLATE
ISOLATE_HOOK_PREPARE_JOB_BEFORE_TRANSFER = /var/lib/condor/hook-before-transfer
ISOLATE_HOOK_PREPARE_JOB = /var/lib/condor/hook
STARTD_ATTRS = $(STARTD_ATTRS) SINGULARITY_IMAGES_DICT
SINGULARITY_IMAGES_DICT = "rhel9:{images}/debian11"
"""

#: A worker node's own words around the example: where things are.
WRAPPER = """#!/bin/sh
PATH={bin}:{runtime}:/usr/bin:/bin
XDG_CACHE_HOME=/var/lib/condor/cache XDG_STATE_HOME=/var/lib/condor/trace
export PATH XDG_CACHE_HOME XDG_STATE_HOME
exec /var/lib/condor/user-job-wrapper "$@"
"""

#: The same for the hooks.
HOOK = """#!/bin/sh
PATH={bin}:{runtime}:/usr/bin:/bin
XDG_CACHE_HOME=/var/lib/condor/cache
export PATH XDG_CACHE_HOME
exec /var/lib/condor/{example}
"""


#: Lists what runs in the pool.
ALL_COMMANDS = "cat /proc/[0-9]*/cmdline 2>/dev/null || :"

#: Starts the daemons, and then runs the scripts whose names it reads.
SERVE = """condor_master -f &
echo
while read -r f; do sh $f >$f.out 2>$f.err </dev/null; echo $? >$f.status; echo; done
"""


class Pool:
    """A pool on this machine alone, that ends with the tests."""

    def __init__(self, place, runtime, images, config=WRAPPED):
        self.place, self.images = place, images
        for name in ("log", "spool", "execute", "lock", "run", "trace", "cache", "jobs"):
            (place / name).mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        (place / "condor_config").write_text((CONFIG + config).replace("{port}", str(port)).replace("{images}", images))
        bin_ = Path(sys.prefix) / "bin"
        at = {"bin": shlex.quote(str(bin_)), "runtime": shlex.quote(str(Path(runtime).parent))}
        self._put("wrapper", WRAPPER.format(**at))
        self._put("hook", HOOK.format(example="job-hook", **at))
        self._put("hook-before-transfer", HOOK.format(example="job-hook-before-transfer", **at))
        for name in ("user-job-wrapper", "job-hook", "job-hook-before-transfer"):
            text = (ROOT / "examples/htcondor" / name).read_text()
            self._put(name, text.replace(INSTALLED, shlex.quote(str(bin_))))
        # In a namespace of one user, sshd cannot give a terminal to the group tty.
        (place / "group").write_text("root:x:0:\n")
        binds = [
            sys.prefix,
            sys.base_prefix,
            str(Path(runtime).resolve().parents[3]),
            images,
            f"{place}/group:/etc/group",
        ]
        # The daemons refuse what root in a user namespace cannot do: change users.
        self._argv = ["unshare", "--user", "--map-user=65534", "--map-group=65534"] if os.geteuid() == 0 else []
        self._argv += [runtime, "-q", "exec", "--userns", "--contain", "--cleanenv", "--no-home", "--pid", "--pwd", "/"]
        self._argv += ["--env", f"CONDOR_CONFIG={HOME}/condor_config", "--bind", f"{place}:{HOME}"]
        self._argv += [word for bind in binds for word in ("--bind", bind)]
        self._image = f"{images}/condor"
        self._in = None
        self._process = subprocess.Popen(
            [
                *self._argv,
                self._image,
                "/bin/sh",
                "-c",
                SERVE,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        )
        self._process.stdout.readline()
        self._count = 0

    def _put(self, name, text):
        (self.place / name).write_text(text)
        (self.place / name).chmod(0o755)

    def call(self, script):
        """Run a script in the pool's container; give what it prints."""
        self._count += 1
        name = f"call{self._count}"
        (self.place / name).write_text(script)
        self._process.stdin.write(f"{HOME}/{name}\n")
        self._process.stdin.flush()
        self._process.stdout.readline()
        said = (self.place / f"{name}.err").read_text()
        assert "0" == (self.place / f"{name}.status").read_text().strip(), said
        return (self.place / f"{name}.out").read_text()

    def wait(self, ready, seconds=60):
        """Wait until something is true."""
        deadline = time.monotonic() + seconds
        while not (found := ready()):
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.3)
        return found

    def logs(self):
        """Read the ends of the daemons' logs."""
        return "\n".join(
            f"{p.name}: {p.read_text(errors='replace')[-1500:]}" for p in (self.place / "log").glob("St*Log*")
        )

    def submit(self, name, *lines, count=1):
        """Submit jobs; give the number of their cluster."""
        common = [
            f"output={HOME}/jobs/{name}.$(Process).out",
            f"error={HOME}/jobs/{name}.$(Process).err",
            f"log={HOME}/jobs/{name}.log",
            "should_transfer_files=YES",
            "request_memory=10",
            "request_disk=1",
        ]
        (self.place / f"{name}.sub").write_text("\n".join([*common, *lines, f"queue {count}\n"]))
        return self.call(f"condor_submit -terse {HOME}/{name}.sub").split(".")[0]

    def history(self, cluster):
        """List the descriptions of jobs that are over."""
        return json.loads(self.call(f"condor_history -json {cluster}") or "[]")

    def records(self):
        """Read all records."""
        lines = [x for p in (self.place / "trace").rglob("*.jsonl") for x in p.read_text().splitlines()]
        return [json.loads(line) for line in lines]

    def stop(self):
        """End the container, and with its process ids all that is in it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


def serving(place, config=WRAPPED):
    """Run a pool until its tests are over."""
    pool = Pool(place, os.environ["WLCG_ISOLATE_TEST_RUNTIME"], os.environ["WLCG_ISOLATE_TEST_IMAGES"], config)
    try:
        pool.wait(lambda: "slot1" in pool.call("condor_status -af Name || :"))
        yield pool
    finally:
        pool.stop()


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """The pool."""
    yield from serving(tmp_path_factory.mktemp("pool"))


@pytest.mark.serves("htcondor", "USER_JOB_WRAPPER; scratch directory and ads under their new paths; GlobalJobId")
def test_fifty_jobs(pool):
    """Fifty jobs run in their image, see their ads where these are now, and are recorded with their ids."""
    seen = "grep -q GlobalJobId $_CONDOR_JOB_AD && test -r $_CONDOR_MACHINE_AD && echo $_CONDOR_SCRATCH_DIR"
    # The pool's own image has that directory.
    script = f"{seen} && ! test -e /etc/condor && exit 5"
    (pool.place / "job.sh").write_text(f"#!/bin/sh\n{script}\n")
    image = f'+SingularityImage="{pool.images}/tiny"'
    cluster = pool.submit("many", f"executable={HOME}/job.sh", image, count=JOBS)
    pool.wait(lambda: JOBS == len(pool.history(cluster)), 120)
    ends = pool.history(cluster)
    ids = {ad["GlobalJobId"] for ad in ends}
    outs = {p.read_text() for p in (pool.place / "jobs").glob("many.*.out")}
    recorded = {r.get("wlcg.batch.global_job_id") for r in pool.records() if r["event.action"] == "payload.start"}

    assert {5} == {ad["ExitCode"] for ad in ends}, (pool.place / "jobs/many.0.err").read_text()
    assert {"/srv\n"} == outs
    assert ids == recorded


@pytest.mark.serves("htcondor", "condor_rm")
def test_removed_job(pool):
    """A job that is removed in the middle leaves no process, and a record of its end."""
    cluster = pool.submit(
        "long",
        "executable=/bin/sleep",
        "transfer_executable=false",
        "arguments=3471",
        f'+SingularityImage="{pool.images}/tiny"',
    )
    pool.wait(lambda: "sleep\x003471" in pool.call(ALL_COMMANDS))
    pool.wait(lambda: any(cluster == r.get("wlcg.batch.job_id", "").split(".")[0] for r in pool.records()))
    pool.call(f"condor_rm {cluster}")
    pool.wait(lambda: "sleep\x003471" not in pool.call(ALL_COMMANDS))
    pool.wait(lambda: pool.history(cluster))

    assert [3] == [ad["JobStatus"] for ad in pool.history(cluster)]
    assert "payload.end" in [r["event.action"] for r in pool.records() if cluster in r.get("wlcg.batch.job_id", "")]


def described(pool, cluster):
    """Describe a job that is in the queue."""
    return json.loads(pool.call(f"condor_q -json {cluster}") or "[]")


@pytest.mark.serves("htcondor", "a job that can run nowhere is held, with code and reason (prepare hook)")
def test_held_job(pool):
    """A job that wants what no node has is held before it begins, and its reason says why."""
    cluster = pool.submit("held", "executable=/bin/true", "transfer_executable=false", '+REQUIRED_OS="vms"')
    pool.wait(lambda: [5] == [ad["JobStatus"] for ad in described(pool, cluster)])
    (ad,) = described(pool, cluster)

    assert HOOK_PREPARE_JOB_FAILURE == ad["HoldReasonCode"]
    assert "image-unknown" in ad["HoldReason"]


@pytest.mark.serves("htcondor", "a job whose image is missing is held, with code and reason (prepare hook)")
def test_image_is_missing(pool):
    """A job whose image is missing is held before it begins, and says which it is."""
    cluster = pool.submit(
        "missing", "executable=/bin/true", "transfer_executable=false", '+SingularityImage="/nosuch/image"'
    )
    pool.wait(lambda: [5] == [ad["JobStatus"] for ad in described(pool, cluster)])
    (ad,) = described(pool, cluster)

    assert (HOOK_PREPARE_JOB_FAILURE, NO_INPUT) == (ad["HoldReasonCode"], ad["HoldReasonSubCode"])
    assert "image-missing" in ad["HoldReason"]
    assert "/nosuch/image" in ad["HoldReason"]


@pytest.mark.differs("htcondor", "ads that a job's own files replace", "the ads that the hook was given count")
def test_job_forges_its_ads(pool):
    """Ads that a job transfers change neither its image, nor what is on record, nor what it may bind."""
    forged = pool.place / "forged"
    forged.mkdir()
    ad = f'GlobalJobId = "forged"\nSingularityImage = "{pool.images}/debian11"\n'
    (forged / ".job.ad").write_text(ad)
    (forged / ".machine.ad").write_text('Name = "forged"\n')
    cluster = pool.submit(
        "forge",
        "executable=/bin/sh",
        "transfer_executable=false",
        """arguments="-c 'cat .job.ad; test -e /bound || test -e /etc/debian_version || echo tiny' " """,
        f"transfer_input_files={HOME}/forged/.job.ad,{HOME}/forged/.machine.ad",
        'environment="APPTAINER_BIND=/etc:/bound"',
        f'+SingularityImage="{pool.images}/tiny"',
    )
    pool.wait(lambda: pool.history(cluster))

    # The forgery is where HTCondor lets it be.
    assert f"{ad}tiny\n" == (pool.place / "jobs/forge.0.out").read_text()
    assert "forged" not in [r.get("wlcg.job.id") for r in pool.records()]
    assert "forged" not in [r.get("wlcg.batch.global_job_id") for r in pool.records()]


@pytest.mark.serves("htcondor", "container_image: a file that the job transfers")
def test_image_of_the_job(pool):
    """A job brings its image as a file."""
    cluster = pool.submit(
        "own_image",
        "executable=/bin/cat",
        "transfer_executable=false",
        "arguments=/etc/os-release",
        f"transfer_input_files={pool.images}/tiny.sif",
        '+SingularityImage="tiny.sif"',
    )
    pool.wait(lambda: pool.history(cluster))

    assert [0] == [ad["ExitCode"] for ad in pool.history(cluster)]


#: It writes over all that HTCondor leaves for the server of a session.
HOSTILE = """#!/bin/sh
echo mine >of_job
while test ! -e over; do
    for d in .condor_ssh_to_job_*; do
        test -e $d/sshd_config || continue
        echo "ForceCommand /bin/touch /var/lib/condor/escaped" >$d/sshd_config
        echo "/bin/touch /var/lib/condor/escaped" >$d/env.sh
        sed -i 's#command="[^"]*"#command="/bin/touch /var/lib/condor/escaped"#' $d/authorized_keys
    done
    sleep 0.01
done
rm -f over of_job
"""


class Shown:
    """A job that waits for sessions to look at it, and would have them do its work on the node."""

    def __init__(self, pool):
        self.pool = pool
        (pool.place / "shown.sh").write_text(HOSTILE)
        self.cluster = pool.submit(
            "shown",
            f"executable={HOME}/shown.sh",
            """environment="COLOUR='dark green' LD_PRELOAD=/srv/libgetpwnam.so _CONDOR_SHELL=/srv/evil" """,
            f'+SingularityImage="{pool.images}/tiny"',
        )
        pool.wait(lambda: list((pool.place / "execute").glob("dir_*/of_job")))
        (self.scratch,) = [p.parent for p in (pool.place / "execute").glob("dir_*/of_job")]

    def session(self, command, options=""):
        """Run a command in the job."""
        return self.pool.call(f"condor_ssh_to_job -auto-retry {options} {self.cluster}.0 {command}")


@pytest.fixture(scope="module")
def shown(pool):
    """The job."""
    shown = Shown(pool)
    yield shown
    shown.session("touch over")
    pool.wait(lambda: pool.history(shown.cluster))
    assert not (pool.place / "escaped").exists()


@pytest.mark.serves("htcondor", "condor_ssh_to_job: a container like the job's")
def test_session(pool, shown):
    """A user looks at the job's files, in its image, with its variables; it is on record."""
    said = shown.session("'cat of_job; pwd; echo $COLOUR; test -e /etc/condor || echo isolated'")
    starts = [r for r in pool.records() if r["event.action"] == "payload.start"]

    assert "mine\n/srv\ndark green\nisolated\n" == said
    assert 2 == len([r for r in starts if r.get("wlcg.batch.job_id", "").split(".")[0] == shown.cluster])


def test_session_ends_with_its_status(shown):
    """What a user runs there ends as it does."""
    assert "7\n" == shown.session("'exit 7' || echo $?")


def test_terminal_of_a_session(pool, shown):
    """A user without a command gets a shell on a terminal."""
    words = ["condor_ssh_to_job", "-auto-retry", f"{shown.cluster}.0"]
    typed = "sleep 3; echo 'test -t 0 && echo on $((40 + 2)) $TERM'; echo exit; sleep 1"
    with_terminal = f"import pty, sys; sys.exit(pty.spawn({words}))"
    said = pool.call(f"({typed}) | TERM=vt100 {shlex.quote(sys.executable)} -c {shlex.quote(with_terminal)}")

    assert "on 42 vt100" in said


@pytest.mark.serves("htcondor", "REQUIRED_OS with the slot's images")
def test_platform(pool):
    """A job that names an operating system runs in the slot's image for it."""
    cluster = pool.submit(
        "os",
        "executable=/bin/grep",
        "transfer_executable=false",
        'arguments="-c =bullseye /etc/os-release"',
        '+REQUIRED_OS="rhel9"',
    )
    pool.wait(lambda: pool.history(cluster))

    assert [0] == [ad["ExitCode"] for ad in pool.history(cluster)]
    assert "1\n" == (pool.place / "jobs" / "os.0.out").read_text()


@pytest.mark.serves("htcondor", "arguments with the scratch directory's path; the job's Environment")
def test_job_of_its_own(pool):
    """Arguments and variables of a job arrive, and what HTCondor's own environment holds does not."""
    cluster = pool.submit(
        "own",
        "executable=/bin/sh",
        "transfer_executable=false",
        """arguments="-c 'echo $A; echo $B; echo ${LIBEXEC-none}; pwd' " """,
        """environment="A='x y' B=c=d" """,
        f'+SingularityImage="{pool.images}/tiny"',
    )
    pool.wait(lambda: pool.history(cluster))

    assert "x y\nc=d\nnone\n/srv\n" == (pool.place / "jobs/own.0.out").read_text()


@pytest.mark.serves("htcondor", "a job that would configure its wrapper is refused")
def test_job_sets_policy(pool):
    """A job cannot name its own binds: it is held."""
    cluster = pool.submit(
        "steer",
        "executable=/bin/true",
        "transfer_executable=false",
        'environment="GLIDEIN_SINGULARITY_BINDPATH=/:/host"',
        f'+SingularityImage="{pool.images}/tiny"',
    )
    pool.wait(lambda: [5] == [ad["JobStatus"] for ad in described(pool, cluster)])

    assert "variable-forbidden" in described(pool, cluster)[0]["HoldReason"]


def test_session_that_breaks_off(pool, shown):
    """A user whose connection is gone leaves no process behind."""
    command = f"condor_ssh_to_job -auto-retry {shown.cluster}.0 'sleep 3472'"
    pool.call(f"setsid {command} >/dev/null 2>&1 & echo $! >{HOME}/ssh.pid")
    pool.wait(lambda: "sleep\x003472" in pool.call(ALL_COMMANDS))
    pool.call(f"kill -s KILL -- -$(cat {HOME}/ssh.pid)")

    pool.wait(lambda: "sleep\x003472" not in pool.call(ALL_COMMANDS), 20)


@pytest.mark.serves("htcondor", "condor_submit -interactive")
def test_interactive_job(pool):
    """What keeps the place of an interactive job ends when its user comes."""
    (pool.place / "interactive.sub").write_text(
        f'+SingularityImage = "{pool.images}/tiny"\nlog = {HOME}/jobs/interactive.log\nrequest_memory = 10\n'
        "should_transfer_files = YES\nqueue\n"
    )
    words = ["condor_submit", "-interactive", f"{HOME}/interactive.sub"]
    typed = "sleep 12; echo 'pwd; echo on $((40 + 2))'; echo exit; sleep 1"
    with_terminal = f"import pty, sys; sys.exit(pty.spawn({words}))"
    said = pool.call(f"({typed}) | TERM=vt100 {shlex.quote(sys.executable)} -c {shlex.quote(with_terminal)}")

    assert "on 42" in said, pool.call("condor_history -l -limit 1 -constraint InteractiveJob")
    pool.wait(lambda: "" == pool.call("condor_q -af ClusterId -constraint InteractiveJob"), 30)


@pytest.fixture
def pool_of_knobs(tmp_path):
    """A pool that starts containers itself, as a plan says."""
    images, runtime = os.environ["WLCG_ISOLATE_TEST_IMAGES"], os.environ["WLCG_ISOLATE_TEST_RUNTIME"]
    program = [f"{sys.prefix}/bin/wlcg-isolate", "plan", "--format", "htcondor", "--runtime", runtime]
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "data").write_text("bound\n")
    asked = ["--image", f"{images}/debian11", "--bind", f"{shown}:/mnt:ro", "--env", "COLOUR=dark green"]
    knobs = subprocess.run(
        [*program, *asked, "--", "true"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    yield from serving(tmp_path, knobs.replace(f"{shown}:", f"{HOME}/shown:"))


@pytest.mark.serves("htcondor", "plan --format htcondor: knobs that a pool takes")
def test_knobs(pool_of_knobs):
    """HTCondor itself starts the container that the plan describes."""
    pool = pool_of_knobs
    said = "echo $COLOUR; pwd; cat /mnt/data; grep -c =bullseye /etc/os-release"
    (pool.place / "job.sh").write_text(f"#!/bin/sh\n{said}\n")
    cluster = pool.submit("knobs", f"executable={HOME}/job.sh")
    pool.wait(lambda: pool.history(cluster))

    assert "dark green\n/srv\nbound\n1\n" == (pool.place / "jobs/knobs.0.out").read_text()

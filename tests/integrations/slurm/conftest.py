"""
A Slurm of one node on the loopback device, whose daemons stop with the tests.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

PATH = f"{Path(sys.executable).parent}:{Path(os.environ['WLCG_ISOLATE_TEST_RUNTIME']).parent}:/usr/bin:/bin"

_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={place}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,sched_min_interval=0
SlurmdParameters=config_overrides
MpiDefault=none
KillWait=20
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=grid Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""

_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


class Slurm:
    """The cluster, and how to use it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.work = place / "work"
        self.trace = place / "trace"
        self.environ = {
            "PATH": PATH,
            "HOME": str(place),
            "SLURM_CONF": str(place / "slurm.conf"),
            "WLCG_ISOLATE_SITE": "",
            "XDG_CACHE_HOME": str(place / "cache"),
        }
        self._daemons = []

    def start(self):
        """Write the configuration and start the daemons, each on a port that was free."""
        for name in ("state", "spool", "work", "trace"):
            (self.place / name).mkdir()
        (self.place / "key").write_bytes(os.urandom(128))
        (self.place / "key").chmod(0o400)
        with socket.socket() as one, socket.socket() as two:
            for each in (one, two):
                each.bind(("127.0.0.1", 0))
            ports = [each.getsockname()[1] for each in (one, two)]
        host = socket.gethostname().partition(".")[0]
        values = {"host": host, "ports": ports, "user": getpass.getuser(), "place": self.place}
        (self.place / "slurm.conf").write_text(_CONF.format(**values))
        files = [f"--{n}-file={self.place}/{n}" for n in ("key", "pid", "log", "seed")]
        self._daemon("munged", "-F", f"--socket={self.place}/munge.socket", *files)
        self.until((self.place / "munge.socket").exists)
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D")
        self.until(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T", check=False))

    def _daemon(self, *argv):
        with (self.place / f"{argv[0]}.output").open("wb") as log:
            self._daemons.append(
                subprocess.Popen(argv, env={**self.environ, "PATH": f"{PATH}:/usr/sbin:/sbin"}, stdout=log, stderr=log)
            )

    def stop(self):
        """End all jobs and then the daemons, by their process ids."""
        try:
            if (self.place / "slurmd.output").exists():
                self.ask("scancel", "--signal=KILL", "--full", "--user", getpass.getuser(), check=False)
                self.ask("scancel", "--user", getpass.getuser(), check=False)
                self.until(lambda: not self.ask("squeue", "-h", check=False).strip(), 40)
        finally:
            for daemon in reversed(self._daemons):
                daemon.send_signal(signal.SIGTERM)
            for daemon in reversed(self._daemons):
                try:
                    daemon.wait(20)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()

    def ask(self, *argv, check=True):
        """Call a program of Slurm."""
        done = subprocess.run(
            argv, env=self.environ, stdout=subprocess.PIPE, text=True, check=check, timeout=60, cwd=self.work
        )
        return done.stdout

    def until(self, what, seconds=90):
        """Wait until something holds, while the daemons run."""
        end = time.monotonic() + seconds
        while not what():
            good = time.monotonic() < end and all(daemon.poll() is None for daemon in self._daemons)
            assert good, "\n".join(f.read_text()[-2000:] for f in self.place.glob("*.output"))
            time.sleep(0.1)

    def submit(self, script, *options):
        """Submit a script and return its job's id."""
        file = self.place / "job.sh"
        file.write_text(script)

        return self.ask("sbatch", "--parsable", *options, str(file)).strip()

    def jobs(self, job):
        """Describe a job, or each of an array: state, exit status and signal."""
        text = self.ask("scontrol", "-o", "show", "job", job)
        pattern = r"^JobId=(\d+) .*?JobState=(\w+) .*?ExitCode=(\d+:\d+)"

        return {m[1]: (m[2], m[3], m[0]) for m in re.finditer(pattern, text, re.MULTILINE)}

    def ended(self, job, count=1):
        """Wait for a job's end; give state and exit status of each of its parts."""
        self.until(
            lambda: len(self.jobs(job)) == count and all(state in _ENDED for state, _, _ in self.jobs(job).values())
        )
        return {name: found[:2] for name, found in self.jobs(job).items()}

    def output(self, job):
        """Read what a job printed."""
        return (self.work / f"slurm-{job}.out").read_text()

    def records(self, job):
        """Read the trace records of a job's payloads."""
        lines = [line for file in sorted(self.trace.glob("*.jsonl")) for line in file.read_text().splitlines()]
        found = [json.loads(line) for line in lines]

        return [record for record in found if record.get("wlcg.batch.job_id") == job]


@pytest.fixture(scope="session")
def slurm():
    """A running Slurm."""
    # A socket's path is short.
    place = Path(tempfile.mkdtemp(prefix="slurm"))
    # Munge wants everybody to reach its socket.
    place.chmod(0o711)
    cluster = Slurm(place)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(place, ignore_errors=True)

"""
Run one job with PanDA's pilot: its own job, queue data, thread, executor and
look at errors.  Run by the pilot's Python; prints what the job became.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pilot.user

pilot.user.__path__.append(sys.argv[1])

from pilot.common.errorcodes import ErrorCodes  # noqa: E402 - finds the plug-in
from pilot.control import data, payload  # noqa: E402
from pilot.info.filespec import FileSpec  # noqa: E402
from pilot.info.jobdata import JobData  # noqa: E402
from pilot.info.queuedata import QueueData  # noqa: E402
from pilot.user.isolated import common  # noqa: E402
from pilot.util.constants import UTILITY_AFTER_PAYLOAD_FINISHED  # noqa: E402
from pilot.util.middleware import containerise_general_command  # noqa: E402

NAMES = ("finished_data_in", "validated_payloads", "monitored_payloads", "finished_payloads", "failed_payloads")


class Args(SimpleNamespace):
    """What a pilot was told; nothing else."""

    def __getattr__(self, name):
        """Give the default of the pilot's options."""
        if name.startswith("__"):
            raise AttributeError(name)
        return ""


def main():
    """Run it, after an earlier one in the same pilot where there is one."""
    said = json.loads(sys.argv[2])
    home = os.path.dirname(said["job"]["workdir"])
    os.environ.update(PILOT_HOME=home, PILOT_WORK_DIR=home, PILOT_SITENAME="Q")
    os.environ["PILOT_USER"] = said.get("user", "isolated")
    os.chdir(home)
    for number, job in enumerate((*said.get("before", ()), said["job"])):
        # As the pilot does when it takes a job.
        ErrorCodes().reset_pilot_errors()
        found = run({"jobid": str(4711 - number), **job}, said)
        print(json.dumps(found))  # noqa: T201 - read by the test


def run(fields, said):
    """Have the pilot's thread run one job; say what it became."""
    job = JobData({"taskid": "17", "attemptnr": 1, "processingtype": "t"}, use_kmap=False)
    for name, value in fields.items():
        setattr(job, name, value)
    # As the pilot does when it takes a job.
    job.init(SimpleNamespace(queuedata=QueueData({"name": "Q", "resource": "Q", **said["queue"]})))
    job.usecontainer = True
    if said.get("after"):
        common.get_utility_commands = lambda order=None, **_: (
            {"command": said["after"], "args": "", "label": "postprocess"}
            if order == UTILITY_AFTER_PAYLOAD_FINISHED
            else {}
        )
    args = Args(
        graceful_stop=threading.Event(), job_aborted=threading.Event(), update_server=False, pod=False,
        workflow="generic", harvester=False, version_tag="PR", queue="Q", resource="Q", mainworkdir=os.getcwd(),
        timing={}, start_time=time.time(), job_type="user", harvester_workdir="", harvester_submitmode="pull",
    )  # fmt: skip
    if said.get("transfer"):
        return transfer(job, args, said["transfer"])
    queues = SimpleNamespace(**{name: queue.Queue() for name in NAMES})
    queues.finished_data_in.put(job)
    queues.validated_payloads.put(job)
    traces = SimpleNamespace(pilot={"nr_jobs": 0, "error_code": 0})
    thread = threading.Thread(target=payload.execute_payloads, args=(queues, traces, args), daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while queues.finished_payloads.empty() and queues.failed_payloads.empty() and time.monotonic() < deadline:
        time.sleep(0.05)
        if os.path.exists(said.get("stop_when") or ""):
            args.graceful_stop.set()
        if os.path.exists(said.get("kill_when") or ""):
            # As the pilot's monitor of memory does; never by its kill_processes, which ends whatever of this user's has
            # lost its parent, on the whole machine.
            said["kill_when"] = ""
            job.piloterrorcodes, job.piloterrordiags = ErrorCodes().add_error_code(ErrorCodes.PAYLOADEXCEEDMAXMEM)
            os.killpg(payload_group(job), signal.Signals[said.get("kill_by", "SIGTERM")])
    args.graceful_stop.set()
    fate = "finished" if not queues.finished_payloads.empty() else "failed"
    if queues.failed_payloads.empty() and fate == "failed":
        fate = "lost"

    return [fate, job.transexitcode, list(job.piloterrorcodes), list(job.piloterrordiags)]


def payload_group(job):
    """Give the group of the payload that this pilot has started, which leads a session of its own."""
    group = os.getpgid(job.pid)
    if group != job.pid or group == os.getpgrp():
        raise RuntimeError(f"process {job.pid} leads no group of its own")

    return group


def transfer(job, args, label):
    """Have the pilot move one file by its script for that, in a container."""
    file = FileSpec(lfn="file", scope="s", guid="g", dataset="d", ddmendpoint="E", filesize=1, filetype="input")
    args.input_dir, args.output_dir, args.rucio_host = "", "", ""
    if label == "general":
        job.debug_command = "env >said; . /etc/os-release; echo $VERSION_ID >>said"
        newer = "container_options" not in inspect.signature(containerise_general_command).parameters
        containerise_general_command(job, **({} if newer else {"container_options": ""}), label=label)
        return [True, None, None, list(job.piloterrorcodes)]
    if label == "stage-in":
        job.indata = [file]
        done = data._stage_in(args, job)
    else:
        job.outdata = [file]
        # In newer versions the pilot's options are handed over.
        newer = "args" in inspect.signature(data._do_stageout).parameters
        done = data._do_stageout(job, *([args, [file], "pw"] if newer else [[file], "pw", "Q"]), "output")

    return [done, file.status, file.turl or file.surl, list(job.piloterrorcodes)]


if __name__ == "__main__":
    logging.basicConfig(level="DEBUG")
    main()
    sys.stdout.flush()
    # The pilot's threads are not waited for.
    os._exit(0)

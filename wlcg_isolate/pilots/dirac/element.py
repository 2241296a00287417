"""
The computing element that DIRAC's own loader finds.

It is DIRAC's ``SingularityComputingElement`` but for one method: DIRAC makes
the job's directory, renews its proxy, limits it by cgroups and starts the
command; this library decides on the command, and tells what became of it.

Rules:

1. Whatever happens, the job's container, its directory, its proxy, the
   renewal of that proxy and the count of running jobs go with the job.
2. What the job could have put in place of a file is not followed and not
   waited for.
3. A release of DIRAC that lacks what is used here is refused when the
   element is made, not when a job runs.
4. No failure is an exception: DIRAC would lose the job.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import tempfile
from collections.abc import Iterator
from typing import Any, Optional

import attrs
from DIRAC import S_ERROR, gConfig
from DIRAC.Core.Utilities.CGroups2 import CG2Manager
from DIRAC.Resources.Computing.SingularityComputingElement import CONTAINER_WORKDIR, SingularityComputingElement

from wlcg_isolate._supervisor import supervised
from wlcg_isolate.errors import IsolateError, LaunchError, Problem, RequestError
from wlcg_isolate.launch.cgroup import own_group
from wlcg_isolate.launch.mounts import mounts_of
from wlcg_isolate.outcome import Outcome, of_kind
from wlcg_isolate.pilots.dirac import configured
from wlcg_isolate.pilots.dirac.ending import Lifeline, wait_for_end, was_begun
from wlcg_isolate.pilots.dirac.renewal import renewing
from wlcg_isolate.pilots.dirac.settings import Job, request_for, result_of
from wlcg_isolate.plan import Plan, make_plan
from wlcg_isolate.policy import Policy, load_policy
from wlcg_isolate.remains import outcome_of
from wlcg_isolate.remains.left import remove
from wlcg_isolate.run import refuse, trace_places

#: Private to DIRAC's class, which has no other way to them.
USED = ("createWorkArea", "getEnv", "findInstallBaseDir", "installDIRACInContainer", "workdir")

#: An exit status is no longer.
_STATUS_BYTES = 16


# DIRAC has no type information: its class is Any to mypy.
class IsolatedComputingElement(SingularityComputingElement):  # type: ignore[misc]
    """
    Runs jobs in containers that this library plans.

    All options of ``SingularityComputingElement`` hold, and these:

    ``IsolationExperiment``
        Profile of the experiment, by name or file (default: ``dirac``).

    ``IsolationSite``
        The site's file, where it is not at its usual place.

    ``ImageReference``, ``ImageBasePath``
        As in DIRAC's coming resolver of images.
    """

    def __init__(self, ceUniqueID: str) -> None:
        super().__init__(ceUniqueID)
        self._submitted = 0
        self._running = 0
        for name in USED:
            self._of_dirac(name)

    def initializeParameters(self) -> None:
        """
        Collect the options, those of DIRAC's own element among them.
        """
        self.ceType = "Singularity"
        super().initializeParameters()

    def submitJob(self, executableFile: str, proxy: Optional[str] = None, **kwargs: Any) -> dict[str, Any]:
        """
        Run a job and wait for its end.

        Args:
            executableFile: Not used: DIRAC makes a wrapper for the container.

            proxy: The job's proxy, as text.

            **kwargs: What DIRAC hands over; *jobDesc* tells of the job.

        Returns:
            ``S_OK`` with the exit status of the job, or ``S_ERROR`` when it
            is to be rescheduled.
        """
        self._submitted += 1
        self._running += 1
        try:
            with self._area() as area:
                return self._run(area, proxy, kwargs)
        except Exception as e:  # noqa: BLE001 - DIRAC's own preparation raises whatever its configuration leads to
            self.log.error("The job could not be run", repr(e))
            return dict(S_ERROR(f"Error running singularity command: {type(e).__name__}: {e}"))
        finally:
            self._running -= 1

    def getCEStatus(self) -> dict[str, Any]:
        """
        Tell how many jobs run.
        """
        return {**super().getCEStatus(), "SubmittedJobs": self._submitted, "RunningJobs": self._running}

    def _of_dirac(self, name: str) -> Any:
        return getattr(self, f"_SingularityComputingElement__{name}")

    @contextlib.contextmanager
    def _area(self) -> Iterator[str]:
        """
        Have DIRAC prepare the job in a directory that surely goes.
        """
        os.makedirs(CONTAINER_WORKDIR, exist_ok=True)
        area = tempfile.mkdtemp(dir=os.path.abspath(CONTAINER_WORKDIR))
        try:
            yield area
        finally:
            if not self._keeps():
                # With whatever modes the job gave to what it made.
                remove(area)
                if os.path.exists(area):
                    self.log.error("The job's directory could not be removed", area)

    def _keeps(self) -> bool:
        return configured.is_set(self.ceParameters, "KeepWorkArea")

    def _run(self, area: str, proxy: Optional[str], submitted: dict[str, Any]) -> dict[str, Any]:
        description = submitted.get("jobDesc") or {}
        self._SingularityComputingElement__workdir = area
        level = submitted.get("logLevel", "INFO")
        made = self._of_dirac("createWorkArea")(description, submitted.get("log"), level, proxy)
        if not made["OK"]:
            return dict(made)
        with self._renewing(area, proxy, made.get("proxyLocation")):
            outcome, status = self._contain(area, self._job(made["tmpDir"], description, proxy))
        result = result_of(outcome, status)
        if not result["OK"]:
            self.log.error("The job did not run to its end", result["Message"])
            result["Outcome"] = outcome.to_dict()

        return result

    def _renewing(
        self, area: str, proxy: Optional[str], place: Optional[str]
    ) -> contextlib.AbstractContextManager[None]:
        """
        Have DIRAC renew the job's proxy for as long as it runs.
        """
        if not proxy or place is None:
            return contextlib.nullcontext()

        return renewing(
            proxy, place, area=area, renew=self._monitorProxy, period=float(self.proxyCheckPeriod), log=self.log
        )

    def _contain(self, area: str, job: Job) -> tuple[Outcome, Optional[int]]:
        """
        Run a job that is prepared.

        Returns:
            What became of the container, and the exit status that the job
            left in it.
        """
        policy, request = Policy(), None
        try:
            policy = load_policy(self._option("IsolationSite"), self._option("IsolationExperiment") or "dirac")
            request = request_for(job, policy)
            plan = make_plan(request, policy)
        except IsolateError as e:
            return refuse(e, request, trace_places(request, policy), policy), None
        self.log.debug("Plan for the container", plan.explain())

        return self._start(area, plan), _status_in(job.directory)

    def _start(self, area: str, plan: Plan) -> Outcome:
        """
        Have DIRAC start a container and wait for its end, or its interruption.
        """
        life = Lifeline(area)
        # Where the pilot is killed, nobody else removes it.
        command = supervised(plan, life=life.path, estate="" if self._keeps() else area, group=_own_group())
        limits = configured.limits(self.ceParameters, self.maxRAM)
        try:
            ended = CG2Manager().systemCall(
                0, list(command.argv), callbackFunction=self.sendOutput, env=command.environ, ceParameters=limits
            )
            if ended["OK"]:
                life.over()
                return outcome_of(plan, ended["Value"][0])
        except BaseException:
            # The pilot is told to end, in whatever way: the container ends first.
            life.cut()
            self.log.error("The job was interrupted", str(_stopped(plan)))
            raise
        finally:
            life.cut()
        # The text goes on with the whole command.
        reason = str(ended["Message"]).partition(" for '")[0]
        self.log.error("Fail to run Singularity", reason)

        return _given_up(plan, reason)

    def _job(self, directory: str, description: dict[str, Any], proxy: Optional[str]) -> Job:
        """
        Collect what is to be known of a job.
        """
        installs = self._of_dirac("installDIRACInContainer")

        return Job(
            directory=directory,
            image=configured.image(self.ceParameters, self.log),
            environ=self._of_dirac("getEnv")(),
            binds=tuple(configured.binds(self.ceParameters, self.log)),
            options=self._option("ContainerOptions") or "",
            installation=None if installs else self._of_dirac("findInstallBaseDir")(),
            runtime=configured.runtime(self.ceParameters, self.log),
            job_id=str(description.get("jobID", 0)),
            vo=(description.get("jobParams") or {}).get("VirtualOrganization") or None,
            pilot_id=gConfig.getValue("/LocalSite/PilotReference", "") or None,
            has_proxy=bool(proxy),
        )

    def _option(self, name: str) -> Optional[str]:
        return configured.option(self.ceParameters, name)


def _own_group() -> str:
    """
    Find this process's cgroup, for what watches: DIRAC removes the job's as
    soon as the runtime has ended.
    """
    found = own_group(mounts_of())

    return "" if found is None else os.path.join(found[1], "cgroup.procs")


def _stopped(plan: Plan) -> Outcome:
    """
    Wait for the end of a container that was cut off, and record it.
    """
    status = wait_for_end(plan)

    try:
        # Where DIRAC has taken the status itself, it has sent signals before.
        return outcome_of(plan, -signal.SIGTERM if status is None else status)
    except RequestError:
        # Not even KILL ends what waits for a disk.
        return of_kind("stopped", "told to end, and has not yet", started=True, signal=int(signal.SIGTERM))


def _given_up(plan: Plan, reason: str) -> Outcome:
    """
    Tell the outcome of a command that DIRAC could not start, or has ended.
    """
    if not was_begun(plan):
        problem = Problem(
            kind="runtime-failed",
            message=f"the command was not started: {reason}",
            origin="DIRAC's systemCall",
            advice="look at the limits of the pilot's user and at the node's memory",
        )
        return refuse(LaunchError([problem]), plan.request, plan.trace_dirs, plan.policy)
    outcome = _stopped(plan)

    return attrs.evolve(outcome, message=f"{outcome.message}; DIRAC gave up: {reason}")


def _status_in(directory: str) -> Optional[int]:
    """
    Read the exit status that the job left.
    """
    try:
        fd = os.open(os.path.join(directory, "retcode"), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        try:
            return int(file.read(_STATUS_BYTES))
        except ValueError:
            return None

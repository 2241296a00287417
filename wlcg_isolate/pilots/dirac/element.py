"""
The computing element that DIRAC's own loader finds.

It is DIRAC's ``SingularityComputingElement`` but for one method: DIRAC makes
the job's directory, renews its proxy, limits it by cgroups and starts the
command; this library decides on the command, and tells what became of it.

Rules:

1. Whatever happens, the job's directory, its proxy, the renewal of that
   proxy and the count of running jobs go with the job.
2. What the job could have put in place of a file is not followed and not
   waited for.
3. A release of DIRAC that lacks what is used here is refused when the
   element is made, not when a job runs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, Optional

from DIRAC import S_ERROR, gConfig
from DIRAC.Core.Utilities.CGroups2 import CG2Manager
from DIRAC.Core.Utilities.ThreadScheduler import gThreadScheduler
from DIRAC.Resources.Computing.SingularityComputingElement import CONTAINER_WORKDIR, SingularityComputingElement
from DIRAC.Resources.Storage.StorageElement import StorageElement

from wlcg_isolate.errors import IsolateError
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.pilots.dirac.images import DEFAULT_ROOT, resolve_image
from wlcg_isolate.pilots.dirac.settings import Job, request_for, result_of
from wlcg_isolate.plan import make_plan
from wlcg_isolate.policy import Policy, load_policy
from wlcg_isolate.remains import outcome_of
from wlcg_isolate.run import refuse, trace_places

#: Private to DIRAC's class, which has no other way to them.
_USED = ("createWorkArea", "getEnv", "findInstallBaseDir")

#: What DIRAC takes for "no".
_NO = ("", "false", "no", "0", "n")

#: An exit status is no longer.
_STATUS_BYTES = 16


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
        for name in _USED:
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
        except OSError as e:
            self.log.error("The job could not be prepared", repr(e))
            return dict(S_ERROR(f"Failed to create container work directory in {CONTAINER_WORKDIR!r}: {e}"))
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
            if not self._is_set("KeepWorkArea"):
                shutil.rmtree(area, ignore_errors=True)

    def _run(self, area: str, proxy: Optional[str], submitted: dict[str, Any]) -> dict[str, Any]:
        description = submitted.get("jobDesc") or {}
        self._SingularityComputingElement__workdir = area
        level = submitted.get("logLevel", "INFO")
        made = self._of_dirac("createWorkArea")(description, submitted.get("log"), level, proxy)
        if not made["OK"]:
            return dict(made)
        with self._renewing(made.get("proxyLocation")):
            outcome, status = self._contain(self._job(made["tmpDir"], description, proxy))
        result = result_of(outcome, status)
        if not result["OK"]:
            self.log.error("The job did not run to its end", result["Message"])
            result["Outcome"] = outcome.to_dict()

        return result

    @contextlib.contextmanager
    def _renewing(self, file: Optional[str]) -> Iterator[None]:
        """
        Have DIRAC renew the job's proxy for as long as it runs.
        """
        if file is None:
            yield
            return
        task = gThreadScheduler.addPeriodicTask(
            self.proxyCheckPeriod, self._monitorProxy, taskArgs=(file,), executions=0, elapsedTime=0
        )
        if not task["OK"]:
            self.log.warn("The proxy will not be renewed", task["Message"])
        try:
            yield
        finally:
            if task["OK"]:
                gThreadScheduler.removeTask(task["Value"])

    def _contain(self, job: Job) -> tuple[Outcome, Optional[int]]:
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
            command = plan.supervised
        except IsolateError as e:
            return refuse(e, request, trace_places(request, policy), policy), None
        self.log.debug("Plan for the container", plan.explain())
        ended = CG2Manager().systemCall(
            0, list(command.argv), callbackFunction=self.sendOutput, env=command.environ, ceParameters=self._limits()
        )
        if not ended["OK"]:
            self.log.error("Fail to run Singularity", ended["Message"])

        return outcome_of(plan, ended["Value"][0] if ended["OK"] else 127), _status_in(job.directory)

    def _job(self, directory: str, description: dict[str, Any], proxy: Optional[str]) -> Job:
        """
        Collect what is to be known of a job.
        """
        installs = self._of_dirac("installDIRACInContainer")

        return Job(
            directory=directory,
            image=self._image(),
            environ=self._of_dirac("getEnv")(),
            binds=tuple(self._binds()),
            options=self._option("ContainerOptions") or "",
            installation=None if installs else self._of_dirac("findInstallBaseDir")(),
            runtime=self._runtime(),
            job_id=str(description.get("jobID", 0)),
            vo=(description.get("jobParams") or {}).get("VirtualOrganization") or None,
            pilot_id=gConfig.getValue("/LocalSite/PilotReference", "") or None,
            has_proxy=bool(proxy),
        )

    def _image(self) -> str:
        root = self._option("ContainerRoot")
        found = resolve_image(
            imageRef=self._option("ImageReference"),
            basePath=self._option("ImageBasePath"),
            containerRoot=root,
            log=self.log,
        )

        # What is not there is refused with the reason.
        return str(found or root or DEFAULT_ROOT)

    def _runtime(self) -> Optional[str]:
        """
        Find the runtime that the configuration names, or that DIRAC brings.
        """
        named = self._option("ContainerBin")
        if named and not os.access(named, os.X_OK):
            # An option of older releases, which they passed over then.
            self.log.warn("ContainerBin cannot be executed", named)
        own = os.path.join(os.path.dirname(sys.executable), "apptainer")

        return next((path for path in (named, own) if path and os.access(path, os.X_OK)), None)

    def _binds(self) -> Iterator[str]:
        """
        List the binds that element, site and local storage ask for.
        """
        yield from (self._option("ContainerBind") or "").split(",")
        site = gConfig.getValue("/LocalSite/Site", "")
        element = gConfig.getValue("/LocalSite/GridCE", "")
        if site and element:
            section = f"/Resources/Sites/{site.split('.')[0]}/{site}"
            for place in (section, f"{section}/CEs/{element}"):
                yield from gConfig.getValue(f"{place}/ContainerBind", [])
        for name in gConfig.getValue("/LocalSite/LocalSE", []):
            yield from self._storage(name)

    def _storage(self, name: str) -> Iterator[str]:
        """
        Give the bind of a storage element that is mounted on the node.
        """
        element = StorageElement(name)
        if not element.valid:
            self.log.warn("Storage Element not valid", name)
            return
        found = element.getStorageParameters(protocol="file")
        if not found["OK"] or "Path" not in found["Value"]:
            return
        path, mode = found["Value"]["Path"], found["Value"].get("MountOptions", "ro")
        if mode in ("ro", "rw"):
            yield f"{path}:{path}:{mode}"
        else:
            self.log.warn("Unknown mount mode", f"{mode} of {name}")

    def _limits(self) -> dict[str, Any]:
        """
        Give the options that DIRAC's cgroups read, memory as its own element
        has it.
        """
        if not self.maxRAM:
            return dict(self.ceParameters)
        most = self.ceParameters.get("MemoryLimitMB")

        return {**self.ceParameters, "MemoryLimitMB": min(self.maxRAM, int(most)) if most else self.maxRAM}

    def _option(self, name: str) -> Optional[str]:
        return self.ceParameters.get(name) or None

    def _is_set(self, name: str) -> bool:
        return str(self.ceParameters.get(name, "")).lower() not in _NO


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

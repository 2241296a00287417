"""
Several jobs at once: DIRAC's pool, which knows its own inner elements only.

DIRAC's pool chooses the element in a function that it hands to its worker
processes.  This one hands them another function, and is DIRAC's pool in all
else.

Rules:

1. Every job that was submitted has a result, also when its process was
   killed: DIRAC would never ask for it again.
2. A worker process ends with the pilot, or when it is told to, and its job's
   container before it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Optional

from DIRAC import S_ERROR
from DIRAC.Resources.Computing import PoolComputingElement as dirac

from wlcg_isolate.pilots.dirac.element import IsolatedComputingElement

#: ``LocalCEType = Pool/NAME``, for the names that mean a container.
CONTAINERS = ("Isolated", "Singularity")

#: Seconds between two looks for the pilot.
_PERIOD = 1.0


# DIRAC has no type information: its class is Any to mypy.
class PoolComputingElement(dirac.PoolComputingElement):  # type: ignore[misc]
    """
    DIRAC's pool, with jobs in containers that this library plans.

    Attributes:
        pPool: The processes, once there was a job.
    """

    pPool: Optional[ProcessPoolExecutor]  # noqa: N815 - DIRAC's name

    def submitJob(
        self, executableFile: str, proxy: Optional[str] = None, inputs: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """
        Hand a job to one of the pool's processes.
        """
        if self.pPool is None:
            self.pPool = self._processes()
        try:
            return dict(super().submitJob(executableFile, proxy, inputs=inputs, **kwargs))
        except BrokenProcessPool:
            # One of them was killed, and DIRAC has counted nothing of this job yet.
            self.pPool = self._processes()
            return dict(super().submitJob(executableFile, proxy, inputs=inputs, **kwargs))

    def _processes(self) -> ProcessPoolExecutor:
        # What runs without a container is DIRAC's alone.
        ours = self.innerCESubmissionType in CONTAINERS

        return _Executor(max_workers=self.processors, initializer=_follow_pilot if ours else None)

    def finalizeJob(self, taskID: int, future: Future[Any]) -> None:
        """
        Take the result of a job, also of one whose process has ended.
        """
        error = None if future.cancelled() else future.exception()
        if error is None and not future.cancelled():
            super().finalizeJob(taskID, future)
            return
        self.processorsPerTask.pop(future)
        self.ramPerTask.pop(future, None)
        self.log.error("The process of a job has ended", f"{taskID}: {error!r}")
        self.taskResults[taskID] = dict(S_ERROR(f"The process of the job has ended: {error!r}"))


class _Executor(ProcessPoolExecutor):
    """
    Has `run_job` called instead of DIRAC's own function.
    """

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """
        Hand a call to a process.
        """
        return super().submit(run_job if function is dirac.executeJob else function, *args, **kwargs)


def _follow_pilot() -> None:
    """
    Have a worker process end with the pilot, and in good order.
    """

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise SystemExit(128 + signal.SIGTERM)

    def follow(pilot: int) -> None:
        while os.getppid() == pilot:
            time.sleep(_PERIOD)
        os.kill(os.getpid(), signal.SIGTERM)

    # The process is the pool's own: no handler of the pilot's is lost.
    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=follow, args=(os.getppid(),), name="pilot", daemon=True).start()


def run_job(
    executableFile: str, proxy: Optional[str], taskID: int, inputs: Any, innerCEParameters: Any, **kwargs: Any
) -> dict[str, Any]:
    """
    Run a job in a process of the pool.

    Args:
        executableFile: Wrapper that DIRAC made.

        proxy: The job's proxy, as text.

        taskID: The pool's number of the job.

        inputs: What the wrapper needs.

        innerCEParameters: Processors and memory that the job gets.

        **kwargs: What else DIRAC hands over.
    """
    try:
        if kwargs.get("InnerCESubmissionType") not in CONTAINERS:
            return dict(dirac.executeJob(executableFile, proxy, taskID, inputs, innerCEParameters, **kwargs))
        del kwargs["InnerCESubmissionType"]
        element = IsolatedComputingElement(f"Task-{taskID}")
        element.ceParameters.update({name: innerCEParameters[name] for name in ("NumberOfProcessors", "MaxRAM")})

        return element.submitJob(executableFile, proxy, inputs=inputs, **kwargs)
    except SystemExit:
        # Else the process would wait for the next job.
        os.kill(os.getpid(), signal.SIGTERM)
        raise

"""
Several jobs at once: DIRAC's pool, which knows its own inner elements only.

DIRAC's pool chooses the element in a function that it hands to its worker
processes.  This one hands them another function, and is DIRAC's pool in all
else.
"""

from __future__ import annotations

from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, Optional

from DIRAC.Resources.Computing import PoolComputingElement as dirac

from wlcg_isolate.pilots.dirac.element import IsolatedComputingElement

#: ``LocalCEType = Pool/NAME``, for the names that mean a container.
CONTAINERS = ("Isolated", "Singularity")


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
            self.pPool = _Executor(max_workers=self.processors)

        return dict(super().submitJob(executableFile, proxy, inputs=inputs, **kwargs))


class _Executor(ProcessPoolExecutor):
    """
    Has `run_job` called instead of DIRAC's own function.
    """

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """
        Hand a call to a process.
        """
        return super().submit(run_job if function is dirac.executeJob else function, *args, **kwargs)


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
    if kwargs.get("InnerCESubmissionType") not in CONTAINERS:
        return dict(dirac.executeJob(executableFile, proxy, taskID, inputs, innerCEParameters, **kwargs))
    del kwargs["InnerCESubmissionType"]
    element = IsolatedComputingElement(f"Task-{taskID}")
    element.ceParameters.update({name: innerCEParameters[name] for name in ("NumberOfProcessors", "MaxRAM")})

    return element.submitJob(executableFile, proxy, inputs=inputs, **kwargs)

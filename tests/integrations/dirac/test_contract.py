"""
What is used of DIRAC without a promise of DIRAC's: private parts of its class, and what is replaced of it.
"""

from __future__ import annotations

import hashlib
import inspect

import pytest
from DIRAC.Core.Utilities import CGroups2
from DIRAC.Resources.Computing import ComputingElement, PoolComputingElement, SingularityComputingElement
from DIRAC.Resources.Computing.ComputingElementFactory import ComputingElementFactory

from wlcg_isolate.pilots.dirac import pool
from wlcg_isolate.pilots.dirac.element import USED

PRIVATE = "_SingularityComputingElement__"
CLASS = SingularityComputingElement.SingularityComputingElement

#: What was read in DIRAC 9.1.22, and the first digits of its SHA-256.
READ = {
    "replaced: SingularityComputingElement.submitJob": (CLASS.submitJob, "d2ce504d5a2a"),
    "replaced: PoolComputingElement.executeJob": (PoolComputingElement.executeJob, "d7cea02e5bb7"),
    "called: SingularityComputingElement.__init__": (CLASS.__init__, "88025adb5fda"),
    "called: createWorkArea": (getattr(CLASS, f"{PRIVATE}createWorkArea"), "a7ed272679e7"),
    "called: getEnv": (getattr(CLASS, f"{PRIVATE}getEnv"), "f953292de564"),
    "called: findInstallBaseDir": (getattr(CLASS, f"{PRIVATE}findInstallBaseDir"), "9a3d89e64bd3"),
    "called: ComputingElement._monitorProxy": (ComputingElement.ComputingElement._monitorProxy, "23389b779757"),
    "called: PoolComputingElement.submitJob": (PoolComputingElement.PoolComputingElement.submitJob, "a3f2f1a1cd5b"),
    "called: PoolComputingElement.finalizeJob": (PoolComputingElement.PoolComputingElement.finalizeJob, "55ea15ba7e28"),
    "called: CG2Manager.systemCall": (CGroups2.CG2Manager.systemCall, "7c685e7d96fe"),
}


@pytest.mark.parametrize("name", READ)
def test_as_it_was_read(name):
    """DIRAC is what was read; where this fails, read it again, see what must follow, and write down the digits."""
    function, expected = READ[name]

    assert expected == hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:12], inspect.getsource(
        function
    )


def test_private_names(pilot):
    """All that is private to DIRAC's class and used is there, under the names that the element looks for."""
    element = pilot.element()

    assert [] == [name for name in USED if not hasattr(element, PRIVATE + name)]
    assert set(USED) == {"createWorkArea", "getEnv", "findInstallBaseDir", "installDIRACInContainer", "workdir"}


def test_a_release_without_them(pilot, monkeypatch):
    """A release of DIRAC that lacks one of them is refused when the element is made; a pool says so for each job."""
    monkeypatch.delattr(CLASS, f"{PRIVATE}getEnv")

    made = ComputingElementFactory().getCE("Isolated", "Isolated")
    assert (False, True) == (made["OK"], "getEnv" in made["Message"])

    one = pilot.element("Pool")
    assert one.setParameters({"InnerCESubmissionType": pool.CONTAINERS[0]})["OK"]
    assert one.submitJob("ignored", None, jobDesc=pilot.job())["OK"]
    result = one.shutdown()["Value"][0]
    assert (False, True) == (result["OK"], "getEnv" in result["Message"])

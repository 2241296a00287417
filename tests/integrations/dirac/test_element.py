"""
Jobs in the computing element, which DIRAC's own factory makes and DIRAC's own code starts.
"""

from __future__ import annotations

import os
import resource
import threading
import time

import pytest
from DIRAC.Core.Utilities.CGroups2 import CG2Manager
from DIRAC.Resources.Computing import ComputingElement as dirac
from DIRAC.Resources.Computing.SingularityComputingElement import SingularityComputingElement

from wlcg_isolate.pilots.dirac import renewal
from wlcg_isolate.pilots.dirac.element import IsolatedComputingElement

RUNTIME = os.environ["WLCG_ISOLATE_TEST_RUNTIME"]
IMAGE = os.path.join(os.environ["WLCG_ISOLATE_TEST_IMAGES"], "debian13")


@pytest.mark.serves("dirac", "ComputingElementFactory and ObjectLoader find the element")
@pytest.mark.parametrize("kind", ["Isolated", "Singularity"])
def test_loader(pilot, kind):
    """DIRAC's factory makes the element for its own name, and for the one that configurations have."""
    element = pilot.element(kind)

    assert IsolatedComputingElement is type(element)
    assert isinstance(element, SingularityComputingElement)
    assert (IMAGE, "Singularity") == (element.ceParameters["ContainerRoot"], element.ceType)


@pytest.mark.serves("dirac", "S_OK with the job's exit status")
@pytest.mark.serves("dirac", "environment list")
@pytest.mark.serves("dirac", "ContainerBind: a:::b:::ro")
@pytest.mark.serves("dirac", "the job uses the pilot's installation")
@pytest.mark.serves("dirac", "KeepWorkArea")
@pytest.mark.differs("dirac", "where the job's files are", "/tmp is private; it has links to them in /srv")
def test_job(pilot, proxy, seen, monkeypatch, tmp_path):
    """A job sees what DIRAC promises it, and nothing of it is left."""
    for name in ("store", "data"):
        (tmp_path / name).mkdir()
    store = f"{tmp_path / 'store'}:::/store"
    pilot.configure(ContainerBind=f"{store}, {tmp_path / 'data'}:::/data:::ro", KeepWorkArea="False")
    for name in ("DIRAC_X", "XrdSecPROTOCOL", "BEARER_TOKEN_FILE", "HTTP_PROXY_X", "DIRACOS", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, "value")
    element = pilot.element()

    result = element.submitJob("ignored", proxy, jobDesc=pilot.job(Status=5, Store="/store"), logLevel="INFO")

    saw = seen()
    assert {"OK": True, "Value": 5} == result
    assert {
        "DIRAC_X": "value", "XrdSecPROTOCOL": "value", "BEARER_TOKEN_FILE": "value", "FROM_DIRACOSRC": "yes",
        "X509_USER_PROXY": "/tmp/proxy", "DIRACSYSCONFIG": "/tmp/pilot.cfg", "TMP": "/tmp", "TMPDIR": "/tmp",
        "HTTP_PROXY_X": None, "LD_LIBRARY_PATH": None, "DIRACOS": "value",
    } == {name: saw["environ"].get(name) for name in (
        "DIRAC_X", "XrdSecPROTOCOL", "BEARER_TOKEN_FILE", "FROM_DIRACOSRC", "X509_USER_PROXY", "DIRACSYSCONFIG",
        "TMP", "TMPDIR", "HTTP_PROXY_X", "LD_LIBRARY_PATH", "DIRACOS",
    )}  # fmt: skip
    assert ("/tmp", True) == (saw["cwd"], saw["proxy"])
    assert (pilot.place / "pilot.cfg").read_text() == saw["config"]
    assert "--cfg" in saw["arguments"]
    assert "stored" == (tmp_path / "store" / "result").read_text()
    modes = {line.split()[4]: line.split()[5].split(",")[0] for line in saw["mounts"].splitlines()}
    assert ("rw", "ro", "ro") == (modes["/store"], modes["/data"], modes[str(pilot.place / "diracos")])
    assert [] == pilot.left()
    assert (1, 0) == (element.getCEStatus()["SubmittedJobs"], element.getCEStatus()["RunningJobs"])
    start, end = pilot.records()
    assert ("payload.start", "payload.end") == (start["event.action"], end["event.action"])
    assert ("7", "lhcb", "CN=Jane,DC=ch") == (start["wlcg.job.id"], start["wlcg.vo"], start["user.name"])


@pytest.mark.serves("dirac", "proxy renewal, for as long as the job runs")
def test_renewal(pilot, proxy, monkeypatch, capfd):
    """The proxy that the job uses is renewed while it runs, which the job sees, and not longer."""
    renewed = []

    def renew(self, file):
        renewed.append(os.path.exists(file))
        with open(file + ".new", "w") as new:
            new.write("renewed")
        os.replace(file + ".new", file)

    monkeypatch.setattr(renewal, "_LEAST_PERIOD", 0.5)
    monkeypatch.setattr(IsolatedComputingElement, "_monitorProxy", renew)
    element = pilot.element()

    result = element.submitJob("ignored", proxy, jobDesc=pilot.job(Sleep=2))

    count = len(renewed)
    time.sleep(1.5)
    assert {"OK": True, "Value": 0} == result
    assert "PROXY renewed" in capfd.readouterr().out
    assert [True] * count == renewed


FAILURES = {
    "image": pytest.param(
        {"ContainerRoot": "/nosuch/image"}, "Failed to find singularity image to exec: image-missing: ",
        marks=pytest.mark.serves("dirac", "S_ERROR when the image is missing"),
    ),
    "runtime": pytest.param(
        {"ContainerBin": "{broken}"}, "Error running singularity command: image-unusable: ",
        marks=pytest.mark.differs(
            "dirac", "S_ERROR when the runtime fails", "names the cause; DIRAC misses the return code in every case"
        ),
    ),
    "bind": pytest.param(
        {"ContainerBind": "/nosuch/source"}, "Error running singularity command: bind-source-missing: ",
        marks=pytest.mark.serves("dirac", "S_ERROR when the source of a bind is missing"),
    ),
    "options": pytest.param(
        {"ContainerOptions": "--nosuch"}, "Error running singularity command: request-invalid: ",
        marks=pytest.mark.differs(
            "dirac", "ContainerOptions: any option", "GPUs, binds and namespaces; another one refuses the job"
        ),
    ),
    "site": pytest.param(
        {"IsolationSite": "/nosuch/site.toml"}, "Error running singularity command: policy-invalid: ",
    ),
}  # fmt: skip


@pytest.mark.serves("dirac", "nothing is left of a job that could not be started")
@pytest.mark.parametrize(("options", "message"), FAILURES.values(), ids=FAILURES)
def test_not_started(pilot, proxy, options, message):
    """A job that cannot be started is to be rescheduled; DIRAC is told why, and nothing of it is left."""
    broken = pilot.place / "broken"
    broken.write_text(
        f"""#!/bin/sh
case "$*" in *{IMAGE}*wlcg_isolate_line*) exec {RUNTIME} exec {pilot.place}/diracos/diracosrc true ;; esac
exec {RUNTIME} "$@"
"""
    )
    broken.chmod(0o755)
    pilot.configure(**{name: value.format(broken=broken) for name, value in options.items()})
    element = pilot.element()

    result = element.submitJob("ignored", proxy, jobDesc=pilot.job())

    assert not result["OK"]
    assert message == result["Message"][: len(message)]
    assert not result["Outcome"]["started"]
    assert [] == pilot.left()
    assert "proxy renewal" not in {thread.name for thread in threading.enumerate()}
    assert (1, 0) == (element.getCEStatus()["SubmittedJobs"], element.getCEStatus()["RunningJobs"])
    assert 1 == element.available()["Value"]
    assert ["payload.refused"] == [record["event.action"] for record in pilot.records()]


@pytest.mark.serves("dirac", "S_ERROR when the job leaves no exit status")
def test_no_status(pilot, proxy):
    """What a job puts in the place of its exit status is neither followed nor believed."""
    result = pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job(Link="yes"))

    message = "Failed to get return code from inner wrapper: "
    assert (False, message) == (result["OK"], result["Message"][: len(message)])
    assert [] == pilot.left()


INSTALLER = """
mkdir -p diracos/bin diracos/etc && {rest}
ln -s /usr/bin/python3 diracos/bin/python
for one in pip dirac-configure; do printf '#!/bin/sh\\n' >diracos/bin/$one; chmod +x diracos/bin/$one; done
echo 'export PATH=/tmp/diracos/bin:$PATH' >diracos/diracosrc
echo installed >diracos/etc/dirac.cfg
"""


@pytest.mark.differs(
    "dirac", "InstallDIRACInContainer: exit status", "the job's status arrives; DIRAC's script loses all but 0"
)
@pytest.mark.parametrize(("rest", "expected"), [("true", 5), ("exit 6", None)])
def test_installation(pilot, proxy, tmp_path, seen, monkeypatch, rest, expected):
    """A job that has DIRAC installed gives its own status; one whose installation fails is rescheduled."""
    monkeypatch.setenv("DIRAC_X", "value")
    (tmp_path / "source").mkdir()
    installer = tmp_path / "source" / f"DIRACOS-Linux-{os.uname().machine}.sh"
    installer.write_text(INSTALLER.replace("{rest}", rest))
    (pilot.place / "pilot.json").write_text(
        '{"Project": "DIRAC", "DefaultSetup": "s", "Setups": {"s": {"Version": "9"}}, "ConfigurationServers": ["c"]}'
    )
    pilot.configure(
        InstallDIRACInContainer="yes", ContainerBind=f"{tmp_path / 'source'}:::/cvmfs/dirac.egi.eu/installSource:::ro"
    )

    result = pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job(Status=5))

    assert (expected is not None, expected) == (result["OK"], result.get("Value"))
    if expected is not None:
        saw = seen()
        assert (None, "installed\n") == (saw["environ"].get("DIRAC_X"), saw["config"])
    assert [] == pilot.left()


@pytest.mark.serves("dirac", "the site's file limits what a job gets")
def test_site(pilot, proxy, seen, monkeypatch):
    """What the site drops does not pass, though DIRAC's list has it; what it forbids refuses the job."""
    monkeypatch.setenv("BEARER_TOKEN", "value")
    pilot.configure(**pilot.limit(f'[environment]\ndrop = ["BEARER_*"]\n[image]\nallowed_roots = ["{IMAGE}"]'))
    element = pilot.element()

    assert {"OK": True, "Value": 0} == element.submitJob("ignored", proxy, jobDesc=pilot.job())
    assert "BEARER_TOKEN" not in seen()["environ"]

    element.ceParameters["ContainerRoot"] = str(pilot.place)
    result = element.submitJob("ignored", proxy, jobDesc=pilot.job())

    assert "image-not-allowed" == result["Outcome"]["kind"]


def test_runtimes(pilot, proxy, monkeypatch, tmp_path):
    """An option of older releases that leads nowhere is passed over; without any runtime, DIRAC is told so."""
    monkeypatch.setenv("PATH", f"{os.path.dirname(RUNTIME)}:/usr/bin:/bin")
    pilot.configure(ContainerBin="/nosuch/singularity")
    element = pilot.element()

    assert {"OK": True, "Value": 0} == element.submitJob("ignored", proxy, jobDesc=pilot.job())

    profile = tmp_path / "experiment.toml"
    profile.write_text('version = 1\n[runtime]\nsearch = ["/nosuch/apptainer"]\n')
    element.ceParameters["IsolationExperiment"] = str(profile)
    result = element.submitJob("ignored", proxy, jobDesc=pilot.job())

    message = "Failed to find singularity: runtime-missing: "
    assert (False, message) == (result["OK"], result["Message"][: len(message)])


PREPARATIONS = {
    "no pilot.json": ({"InstallDIRACInContainer": "yes"}, "TypeError: "),
    "limit of memory": ({"MemoryLimitMB": "much", "MaxRAM": "1000"}, "ValueError: "),
}


@pytest.mark.differs("dirac", "its preparation raises", "S_ERROR: the job is rescheduled; DIRAC's element raises")
@pytest.mark.parametrize(("options", "message"), PREPARATIONS.values(), ids=PREPARATIONS)
def test_preparation_raises(pilot, proxy, options, message):
    """What DIRAC's own preparation raises is an answer, in a pool too, and nothing is left."""
    pilot.configure(**options)

    pool = pilot.element("Pool")
    assert pool.setParameters({"InnerCESubmissionType": "Isolated"})["OK"]
    assert pool.submitJob("ignored", proxy, jobDesc=pilot.job(MaxRAM="0"))["OK"]
    results = [pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job()), pool.shutdown()["Value"][0]]

    for result in results:
        assert (False, True) == (result["OK"], f"Error running singularity command: {message}" in result["Message"])
    assert [] == pilot.left()


@pytest.mark.differs("dirac", "a job leaves directories without modes", "they go with it; DIRAC leaves them")
def test_locked(pilot, proxy):
    """What a job leaves goes with it, whatever modes it has given to it."""
    assert {"OK": True, "Value": 0} == pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job(Locked="yes"))

    assert [] == pilot.left()


@pytest.mark.differs("dirac", "whose proxy is renewed", "the one that DIRAC gave; what the job writes is not read")
@pytest.mark.parametrize("forged", ["text", "link", "pipe"])
def test_forged_proxy(pilot, proxy, monkeypatch, capfd, forged):
    """A job that puts something else in the place of its proxy has its own renewed, by DIRAC's own code."""
    asked = []

    def renew(proxyToBeRenewed, **more):
        with open(proxyToBeRenewed) as file:
            asked.append(file.read())
        os.unlink(proxyToBeRenewed)
        with open(proxyToBeRenewed, "w") as file:
            file.write(proxy + "renewed")
        return {"OK": True, "Value": proxyToBeRenewed}

    monkeypatch.setattr(renewal, "_LEAST_PERIOD", 0.5)
    monkeypatch.setattr(dirac.gProxyManager, "renewProxy", renew)

    result = pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job(Forge=forged, Sleep=2.5))

    assert {"OK": True, "Value": 0} == result
    assert asked[0] == proxy
    output = capfd.readouterr().out
    assert output.count("renewed") > 0
    assert "FORGED" not in output


@pytest.mark.differs("dirac", "the command cannot be started", "S_ERROR with the kernel's reason")
def test_not_startable(pilot, proxy, monkeypatch):
    """A command that the kernel does not start is no failure of the runtime, nor of the records."""
    for name in ("DIRAC_X", "DIRAC_Y"):
        monkeypatch.setenv(name, "x" * 100_000)
    small, large = resource.getrlimit(resource.RLIMIT_STACK)
    # The kernel lets arguments and variables have a quarter of it.
    resource.setrlimit(resource.RLIMIT_STACK, (400_000, large))
    try:
        result = pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job())
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, (small, large))

    assert not result["OK"]
    assert "runtime-failed: the command was not started: OSError(7, " in result["Message"]
    assert [] == pilot.left()
    assert ["payload.refused"] == [record["event.action"] for record in pilot.records()]


def test_not_prepared(pilot, proxy):
    """A pilot whose own file is missing leaves no proxy behind."""
    (pilot.place / "pilot.cfg").unlink()

    result = pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job())

    assert not result["OK"]
    assert "pilot.cfg" in result["Message"]
    assert [] == pilot.left()


@pytest.mark.serves("dirac", "cgroups: CPULimit, MemoryLimitMB, MaxRAM")
def test_cgroups(pilot, proxy, tmp_path, monkeypatch):
    """DIRAC puts the job under the limits of its options before the container is made."""
    manager = CG2Manager()
    monkeypatch.setattr(manager, "_cgroup_path", str(tmp_path))
    monkeypatch.setattr(manager, "_ready", True)
    pilot.configure(CPULimit="1.5", MemoryLimitMB="2000", MaxRAM="1000", KeepWorkArea="yes")

    result = pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job())

    (slot,) = tmp_path.glob("subproc_*")
    assert {"OK": True, "Value": 0} == result
    assert ("150000 100000", str(1000 * 2**20)) == (
        (slot / "cpu.max").read_text().strip(), (slot / "memory.max").read_text().strip()
    )  # fmt: skip
    assert (slot / "cgroup.procs").read_text().strip().isdigit()
    assert {"proxy", "dirac_container.sh", "retcode"} < {path.name for path in pilot.left()}


@pytest.mark.serves("dirac", "Pool/Singularity: several jobs at once")
@pytest.mark.parametrize("inner", ["Isolated", "Singularity"])
def test_pool(pilot, inner):
    """DIRAC's pool runs jobs in our containers, here without a proxy, and gives each job's answer."""
    pilot.configure(NumberOfProcessors="2")
    pool = pilot.element("Pool")
    assert pool.setParameters({"InnerCESubmissionType": inner})["OK"]

    for number in (0, 5):
        assert pool.submitJob("ignored", None, jobDesc=pilot.job(number, Status=number))["OK"]
    assert 0 == pool._getProcessorsForJobs({})
    # The pool's own wait for the end would forget the answers.
    pool.pPool.shutdown(wait=True)

    assert {0: {"OK": True, "Value": 0}, 1: {"OK": True, "Value": 5}} == pool.taskResults
    assert 4 == len(pilot.records())
    assert [] == pilot.left()

"""
A pilot of DIRAC on a node: its directory, its installation and its configuration.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from diraccfg import CFG
from DIRAC.ConfigurationSystem.private.ConfigurationClient import gConfigurationData
from DIRAC.Core.Security.DiracX import PEM_BEGIN, PEM_END
from DIRAC.Core.Security.X509Chain import X509Chain
from DIRAC.Resources.Computing import SingularityComputingElement as original
from DIRAC.Resources.Computing.ComputingElementFactory import ComputingElementFactory

WRAPPER = Path(__file__).parent / "wrapper.py"

RUNTIME = os.environ["WLCG_ISOLATE_TEST_RUNTIME"]
IMAGE = os.path.join(os.environ["WLCG_ISOLATE_TEST_IMAGES"], "debian13")


@pytest.fixture(scope="session")
def proxy(tmp_path_factory):
    """A proxy of a user, made by DIRAC, with a token of DiracX behind it as the job agent has it."""
    place = tmp_path_factory.mktemp("user")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/DC=ch/CN=Jane",
         "-keyout", place / "key.pem", "-out", place / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    chain = X509Chain()
    assert chain.loadChainFromFile(str(place / "cert.pem"))["OK"]
    assert chain.loadKeyFromFile(str(place / "key.pem"))["OK"]

    token = f"{PEM_BEGIN}\neyJhY2Nlc3NfdG9rZW4iOiAieCJ9\n{PEM_END}\n"

    return chain.generateProxyToString(3600, diracGroup="user")["Value"] + token


class Pilot:
    """What a pilot's job agent does with its computing element."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.containers = place / "DIRAC_containers"
        self.trace = place.parent / "state"

    def configure(self, **options):
        """Have these options in ``/LocalSite``."""
        options = {"Site": "LCG.Test.ch", "ContainerRoot": IMAGE, "ContainerBin": RUNTIME, **options}
        lines = "\n".join(f"  {name} = {value}" for name, value in options.items())
        text = f"LocalSite\n{{\n{lines}\n}}\nRegistry\n{{\n  ProxyCheckingPeriod = 1\n}}\n"
        (self.place / "pilot.cfg").write_text(text)
        gConfigurationData.localCFG = CFG().loadFromBuffer(text)
        gConfigurationData.remoteCFG = CFG()
        gConfigurationData.sync()

    def element(self, kind="Isolated"):
        """Have DIRAC make the computing element."""
        made = ComputingElementFactory().getCE(kind, kind)
        assert made["OK"], made

        return made["Value"]

    def job(self, number=7, **params):
        """Describe a job as the job agent does."""
        return {
            "jobID": number,
            "jobParams": {"JobID": str(number), "VirtualOrganization": "lhcb", **params},
            "resourceParams": {},
            "optimizerParams": {},
        }

    def limit(self, text):
        """Have the site say this in its file, and give the option for it."""
        site = self.place.parent / "site.toml"
        site.write_text(f"version = 1\n{text}\n")
        site.chmod(0o644)

        return {"IsolationSite": str(site)}

    def records(self):
        """Read the trace records of payloads."""
        lines = [line for file in sorted(self.trace.rglob("*.jsonl")) for line in file.read_text().splitlines()]

        return [r for r in map(json.loads, lines) if r["event.action"].startswith("payload.")]

    def left(self):
        """List what is left of jobs."""
        return sorted(self.containers.rglob("*")) if self.containers.exists() else []


@pytest.fixture
def pilot(tmp_path, monkeypatch):
    """A pilot in its directory, with an installation of DIRAC beside it."""
    place = tmp_path / "pilot"
    place.mkdir()
    install = place / "diracos"
    (install / "bin").mkdir(parents=True)
    (install / "bin" / "python").symlink_to("/usr/bin/python3")
    (install / "diracosrc").write_text(f"export PATH={install}/bin:$PATH FROM_DIRACOSRC=yes\n")
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "base_prefix", str(install))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    template = original.createJobWrapper
    monkeypatch.setattr(
        original, "createJobWrapper", lambda **more: template(**more, defaultWrapperLocation=str(WRAPPER))
    )
    pilot = Pilot(place)
    pilot.configure()

    return pilot


@pytest.fixture
def seen(capfd):
    """Read what the job saw, once it has run."""

    def read():
        (line,) = [line for line in capfd.readouterr().out.splitlines() if line.startswith("SEEN ")]

        return json.loads(line[5:])

    return read

"""
What DIRAC's configuration says of storage, binds and limits, in jobs that DIRAC starts.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from DIRAC.ConfigurationSystem.private.ConfigurationClient import gConfigurationData
from DIRAC.Core.Utilities.CGroups2 import CG2Manager
from DIRAC.ResourceStatusSystem.Client.ResourceStatusClient import ResourceStatusClient
from diraccfg import CFG

from wlcg_isolate.pilots.dirac import element as module

UNIFIED = next(
    (Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"),
    None,
)
MEMORY = Path("/sys/fs/cgroup/memory")

#: Nobody delegates a cgroup to a plain user here.
ROOT = os.geteuid() == 0


def mounted(seen):
    """Read mount points and whether they can be written."""
    lines = [line.split() for line in seen["mounts"].splitlines()]

    return {words[4]: words[5].split(",")[0] for words in lines}


def storage(name, path, options=""):
    """Describe a storage element that is mounted on the node."""
    return f"""
    {name}
    {{
      BackendType = local
      AccessProtocols = file
      WriteProtocols = file
      File
      {{
        PluginName = File
        Protocol = file
        Path = {path}
        Access = local
        {options}
      }}
    }}
"""


@pytest.mark.serves("dirac", "LocalSE: storage elements that are mounted on the node")
@pytest.mark.serves("dirac", "ContainerBind of the site and of its computing element")
def test_places(pilot, proxy, tmp_path, monkeypatch, seen):
    """Local storage, and binds of the site and of its element, are shown as DIRAC's own element shows them."""
    # The one service that DIRAC asks of them.
    states = [
        [name, "StorageElement", access, "Active", "all"]
        for name in ("READ", "WRITE", "ODD", "REMOTE")
        for access in ("ReadAccess", "WriteAccess", "CheckAccess", "RemoveAccess")
    ]
    monkeypatch.setattr(ResourceStatusClient, "selectStatusElement", lambda *_, **__: {"OK": True, "Value": states})
    places = {name: tmp_path / name for name in ("ro", "rw", "odd", "site", "element")}
    for path in places.values():
        path.mkdir()
    pilot.configure(GridCE="ce.test.ch", LocalSE="READ, WRITE, ODD, REMOTE, UNKNOWN")
    remote = (
        storage("REMOTE", "/nowhere")
        .replace("PluginName = File", "PluginName = File\n Host = x")
        .replace("Protocol = file", "Protocol = srm")
    )
    text = f"""
Resources
{{
  Sites
  {{
    LCG
    {{
      LCG.Test.ch
      {{
        ContainerBind = {places["site"]}:::/site:::ro
        CEs
        {{
          ce.test.ch
          {{
            ContainerBind = {places["element"]}:::/element
          }}
        }}
      }}
    }}
  }}
  StorageElements
  {{
    {storage("READ", places["ro"])}
    {storage("WRITE", places["rw"], "MountOptions = rw")}
    {storage("ODD", places["odd"], "MountOptions = noexec")}
    {remote}
  }}
}}
"""
    gConfigurationData.mergeWithLocal(CFG().loadFromBuffer(text))
    gConfigurationData.sync()

    result = pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job(Store=str(places["rw"])), logLevel="INFO")

    shown = mounted(seen())
    assert {"OK": True, "Value": 0} == result
    assert ("ro", "rw", "ro", "rw") == (
        shown[str(places["ro"])], shown[str(places["rw"])], shown["/site"], shown["/element"]
    )  # fmt: skip
    assert {str(places["odd"]), "/nowhere"} & set(shown) == set()
    assert "stored" == (places["rw"] / "result").read_text()


@pytest.fixture
def group(monkeypatch):
    """A cgroup of the kernel for DIRAC to make the job's in, as root."""
    made = []

    def make(parent, **files):
        path = parent / f"wlcg-isolate-test-{os.getpid()}"
        path.mkdir()
        made.append(path)
        manager = CG2Manager()
        monkeypatch.setattr(manager, "_cgroup_path", str(path))
        monkeypatch.setattr(manager, "_ready", True)
        for name, value in files.items():
            monkeypatch.setattr(manager, name, value)

        return path

    yield make
    for path in made:
        for below in path.glob("subproc_*"):
            below.rmdir()
        path.rmdir()


if ROOT and UNIFIED:

    @pytest.mark.serves("dirac", "cgroups: the job's own is removed with it")
    def test_real_group(pilot, proxy, group, monkeypatch):
        """The kernel has the container, and nothing else, in the cgroup that DIRAC makes, which DIRAC can remove."""
        path = group(UNIFIED, CTRL_MEM_EVENTS="cgroup.events")
        write = CG2Manager._write_control
        # The controllers of this node may belong to version 1: then no limit has a file here.
        monkeypatch.setattr(
            CG2Manager, "_write_control",
            lambda self, name, file, value: write(self, name, file, value) if (path / name / file).exists() else None,
        )  # fmt: skip
        seen = {}

        def look():
            deadline = time.monotonic() + 30
            while "Wrapper_7" not in " ".join(seen.values()) and time.monotonic() < deadline:
                for file in path.glob("subproc_*/cgroup.procs"):
                    for pid in file.read_text().split():
                        try:
                            seen[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                        except OSError:
                            seen.pop(pid, None)
                time.sleep(0.02)

        thread = threading.Thread(target=look)
        thread.start()
        result = pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job(Sleep=1))
        thread.join()

        assert {"OK": True, "Value": 0} == result
        assert "Wrapper_7" in " ".join(seen.values())
        assert [] == list(path.glob("subproc_*"))


if ROOT and MEMORY.exists():

    @pytest.mark.serves("dirac", "cgroups: a job that takes more memory than it may is ended by the kernel")
    def test_real_memory(pilot, proxy, group, monkeypatch, seen):
        """A job in the container is held to the limit that DIRAC's manager writes, here under older names."""
        path = group(MEMORY, CTRL_MEM_MAX="memory.limit_in_bytes", CTRL_MEM_OOM_GROUP="notify_on_release",
                     CTRL_MEM_EVENTS="memory.oom_control")  # fmt: skip
        monkeypatch.setattr(module, "_own_group", lambda: str(MEMORY / "cgroup.procs"))
        pilot.configure(MemoryLimitMB="400", MaxRAM="200")

        small = pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job(Memory=20))
        large = pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job(Memory=600))

        assert {"OK": True, "Value": 0} == small
        assert {"OK": True, "Value": 137} == large
        assert [] == list(path.glob("subproc_*"))


@pytest.mark.serves("dirac", "cgroups: none are needed")
def test_no_group(pilot, proxy):
    """Where DIRAC can make no cgroup, the job runs without, as in DIRAC."""
    manager = CG2Manager()
    assert not manager._ready
    pilot.configure(CPULimit="1", MemoryLimitMB="100", MaxRAM="0")

    assert {"OK": True, "Value": 0} == pilot.element().submitJob("ignored", proxy, jobDesc=pilot.job())

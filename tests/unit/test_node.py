"""
What a node is, read without running anything.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from wlcg_isolate.host import node as reading
from wlcg_isolate.host.batch import batch_of
from wlcg_isolate.host.gather import gather
from wlcg_isolate.host.mounts import of_files, parse_mountinfo, proc_is_masked
from wlcg_isolate.host.node import cgroup_version, cpu_level, read_node, vsyscall_of
from wlcg_isolate.host.nodefacts import BatchFact, MountFact, NodeFacts


def forever(path):
    """Wait for as long as an answer takes on a loaded machine."""
    return 30


V1 = "fpu lm sse sse2"
V2 = f"{V1} cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"
V3 = f"{V2} abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"
V4 = f"{V3} avx512bw avx512cd avx512dq avx512f avx512vl"


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (f"processor\t: 0\nflags\t\t: {V1}\n", 1),
        (f"flags\t\t: {V2}\nbugs\t\t: spectre_v1\n", 2),
        (f"flags\t\t: {V3}\n", 3),
        (f"flags\t\t: {V4} amx_tile\n", 4),
        # One flag short of the next level, whatever else is there.
        (f"flags\t\t: {V4.replace(' movbe', '')}\n", 2),
        ("flags\t\t: fpu sse2\n", None),
        ("Features\t: fp asimd evtstrm aes\n", None),
        ("", None),
    ],
)
def test_cpu_level(cpuinfo, expected):
    """The level is the highest of which nothing is missing."""
    assert expected == cpu_level(cpuinfo)


@pytest.mark.parametrize(
    ("maps", "machine", "expected"),
    [
        ("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0   [vsyscall]\n", "x86_64", "xonly"),
        ("ffffffffff600000-ffffffffff601000 r-xp 00000000 00:00 0   [vsyscall]\n", "x86_64", "emulate"),
        ("7ffd1000-7ffd2000 r-xp 00000000 00:00 0 [vdso]\n", "x86_64", "none"),
        ("", "aarch64", None),
    ],
)
def test_vsyscall(maps, machine, expected):
    """How old programs fare is seen in a process's own memory."""
    assert expected == vsyscall_of(maps, machine)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0::/system.slice/condor.service\n", ("v2", "/system.slice/condor.service")),
        ("12:pids:/user\n1:name=systemd:/user\n", ("v1", None)),
        ("12:pids:/user\n0::/user\n", ("hybrid", "/user")),
        ("", (None, None)),
    ],
)
def test_cgroup(text, expected):
    """The versions are told apart by their line without a controller."""
    assert expected == cgroup_version(text)


MOUNTINFO = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
30 27 0:40 / /cvmfs rw,relatime shared:3 - autofs /etc/auto.cvmfs rw,fd=5
31 30 0:41 / /cvmfs/atlas.cern.ch ro,nosuid,nodev - fuse cvmfs2 ro,user_id=0
32 27 0:42 /sub\040dir /data\040of\040us ro,noexec - nfs4 server:/export\134x rw,vers=4.2
33 22 0:50 / /proc/acpi ro,relatime - tmpfs tmpfs ro
no line of this table
34 27 0:51
"""


def test_mounts():
    """Names with blanks are read, optional fields are passed over, and noise is left out."""
    expected = [
        MountFact(target="/", source="/dev/vda", fs_type="ext4", options=("rw", "relatime")),
        MountFact(target="/cvmfs", source="/etc/auto.cvmfs", fs_type="autofs", options=("rw", "relatime")),
        MountFact(target="/cvmfs/atlas.cern.ch", source="cvmfs2", fs_type="fuse", options=("ro", "nosuid", "nodev")),
        MountFact(target="/data of us", source="server:/export\\x", fs_type="nfs4", options=("ro", "noexec")),
    ]

    assert expected == list(of_files(parse_mountinfo(MOUNTINFO)))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("33 22 0:50 / /proc/acpi ro - tmpfs tmpfs ro", True),
        ("33 22 0:21 /sys /proc/sys ro - proc proc rw", True),
        ("33 22 0:50 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw", False),
        ("33 22 0:50 / /proc rw - proc proc rw", False),
        ("33 22 0:50 / /procedures rw - tmpfs tmpfs rw", False),
    ],
)
def test_masked_proc(line, expected):
    """Covers over parts of /proc are seen; the automount point that every system has is none."""
    assert expected == proc_is_masked(parse_mountinfo(line))


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/cvmfs/atlas.cern.ch/repo", "fuse"), ("/cvmfs", "autofs"), ("/cvmfsx", "ext4"), ("/", "ext4")],
)
def test_mount_of(path, expected):
    """A path lies on the deepest mount above it."""
    facts = NodeFacts(mounts=of_files(parse_mountinfo(MOUNTINFO)))

    assert expected == facts.mount_of(path).fs_type


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "4711", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, BatchFact(system="slurm", job_id="4711")),
        ({"_CONDOR_SCRATCH_DIR": "/execute/dir_1"}, BatchFact(system="htcondor")),
        ({"PBS_JOBID": "7.server"}, BatchFact(system="pbs", job_id="7.server")),
        ({"LSB_JOBID": "7"}, BatchFact(system="lsf", job_id="7")),
        ({"SGE_ROOT": "/opt/sge", "JOB_ID": "9"}, BatchFact(system="gridengine", job_id="9")),
        ({"JOB_ID": "9"}, None),
        ({"SGE_ROOT": "/opt/sge"}, None),
        ({"SLURM_JOBID": "4711"}, BatchFact(system="slurm", job_id="4711")),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "pilot-x7"},
            BatchFact(system="kubernetes", job_id="pilot-x7"),
        ),
    ],
)
def test_batch(environ, expected):
    """Each batch system gives itself away; the innermost one counts."""
    assert expected == batch_of(environ)


def test_htcondor_names_its_job(tmp_path):
    """HTCondor sets no variable for the job's name, but the file that it names holds it."""
    ad = tmp_path / ".job.ad"
    ad.write_text('ClusterId = 7\nGlobalJobId = "schedd.example#7.0#1700000000"\n')
    facts = read_node({"_CONDOR_JOB_AD": str(ad)}, [], forever)

    assert BatchFact(system="htcondor", job_id="schedd.example#7.0#1700000000") == facts.batch


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"APPTAINER_CONTAINER": "/x"}, "apptainer"),
        ({"SINGULARITY_CONTAINER": "/x"}, "singularity"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"container": "podman"}, "podman"),
        ({"container": "rkt"}, "other"),
    ],
)
def test_container(environ, expected):
    """In what the pilot runs is told by variables first."""
    assert expected == read_node(environ, [], forever).container


def test_this_node():
    """On a real node every fact is read, and agrees with what the system's own tools say."""
    facts = read_node({}, ["/", "/nosuch"], forever)

    assert {"/": True, "/nosuch": False} == {path: bool(free) for path, free in facts.free.items()}
    assert (True, os.path.expanduser("~root") if os.geteuid() == 0 else facts.home) == (facts.user_known, facts.home)
    assert "/" in [mount.target for mount in facts.mounts]
    assert (False, False) == (facts.chroot, facts.no_new_privs)


def test_no_new_privs():
    """A pilot that may gain no rights is seen as such."""
    show = "from wlcg_isolate.host.node import read_node; print(read_node({}, [], lambda path: 5).no_new_privs)"
    argv = ["setpriv", "--no-new-privs", sys.executable, "-c", show]

    assert "True\n" == subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_user_namespace():
    """A pilot in a user namespace of its own is seen as such."""
    show = "from wlcg_isolate.host.node import read_node; print(read_node({}, [], lambda path: 5).user_namespace)"
    argv = ["unshare", "--user", "--map-root-user", sys.executable, "-c", show]

    assert "True\n" == subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_unknown_user(mocker):
    """A user without an entry is known to be none."""
    mocker.patch("wlcg_isolate.host.node.pwd.getpwuid", side_effect=KeyError)
    facts = read_node({}, [], forever)

    assert (False, None, None) == (facts.user_known, facts.user_name, facts.home)


def test_user_database_hangs(mocker):
    """A directory service that does not answer is no answer, and hides nothing else."""
    mocker.patch("wlcg_isolate.host.node.pwd.getpwuid", side_effect=lambda uid: time.sleep(5))
    before = time.monotonic()
    facts = read_node({}, ["/"], lambda path: 0.2)

    assert (None, True) == (facts.user_known, bool(facts.free["/"]))
    assert time.monotonic() - before < 3


REPOSITORY = "31 30 0:41 / {} ro,nosuid - fuse cvmfs2 ro\n"


@pytest.mark.parametrize(
    ("attributes", "revision", "fqrn"),
    [
        ({"user.revision": b"4711", "user.fqrn": b"atlas.cern.ch"}, 4711, "atlas.cern.ch"),
        ({"user.fqrn": b"atlas.cern.ch"}, None, "atlas.cern.ch"),
        ({}, None, None),
    ],
    ids=["shown", "half", "hidden"],
)
def test_repository(tmp_path, mocker, attributes, revision, fqrn):
    """Revision and name are read where the client shows them; hidden ones are no fault."""

    def getxattr(path, name):
        if name not in attributes:
            raise OSError(61, "No data available")
        return attributes[name]

    place = tmp_path / "atlas.cern.ch"
    place.mkdir()
    mocker.patch.object(reading.os, "getxattr", getxattr)
    table = list(parse_mountinfo(REPOSITORY.format(place)))
    mocker.patch.object(reading.mounts, "parse_mountinfo", return_value=table)
    (found,) = read_node({}, [], forever).repositories

    assert ("atlas.cern.ch", str(place), revision, fqrn, "") == (
        found.name,
        found.path,
        found.revision,
        found.fqrn,
        found.reason,
    )


def test_repository_that_is_gone(mocker):
    """A mount that lost its client says so."""
    table = list(parse_mountinfo(REPOSITORY.format("/nosuch/repo")))
    mocker.patch.object(reading.mounts, "parse_mountinfo", return_value=table)
    (found,) = read_node({}, [], forever).repositories

    assert "No such file or directory" in found.reason


def test_gather():
    """Answers, errors and silence are told apart, and one that is silent holds up none of the others."""

    def fail():
        raise OSError("broken")

    answers = gather({"a": lambda: 1, "b": lambda: time.sleep(5), "c": fail, "d": lambda: None}, lambda name: 0.2)

    assert {"a": (1, False, False), "b": (None, True, False), "c": (None, False, True), "d": (None, False, False)} == {
        name: (answer.value, answer.silent, answer.error is not None) for name, answer in answers.items()
    }

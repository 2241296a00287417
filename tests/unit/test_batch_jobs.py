"""What batch systems and computing elements call a pilot's job."""

from __future__ import annotations

import os

import pytest

from wlcg_isolate.host.batch import ELEMENTS, SYSTEMS, batch_of
from wlcg_isolate.trace import pilot
from wlcg_isolate.trace.batch import batch_jobs

AD = """\
ClusterId = 4711
GlobalJobId = "schedd01.example.org#4711.3#1700000000"
Owner = "jane"
ProcId = 3
RemoteHost = "slot1_2@wn031.example.org"
"""


def shown(environ, ad=None):
    """List system, id, global id, queue, slot and submit host of each job."""
    return [
        (job.system, job.job_id, job.global_job_id, job.queue, job.slot, job.submit_host)
        for job in batch_jobs(environ, ad)
    ]


@pytest.mark.serves("gridengine", "job and task id in trace records")
@pytest.mark.serves("pbs", "job id, queue and submit host in trace records")
@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, []),
        ({"HOSTNAME": "x", "JOB_ID": "7"}, []),
        ({"_CONDOR_SCRATCH_DIR": "/x"}, [("htcondor", None, None, None, None, None)]),
        (
            {"SLURM_JOBID": "88", "SLURM_JOB_PARTITION": "grid", "SLURM_SUBMIT_HOST": "ce"},
            [("slurm", "88", None, "grid", None, "ce")],
        ),
        (
            {"PBS_JOBID": "7.pbs.example.org", "PBS_QUEUE": "wlcg", "PBS_O_HOST": "ce"},
            [("pbs", "7.pbs.example.org", None, "wlcg", None, "ce")],
        ),
        ({"PBS_JOBID": "7[4].pbs"}, [("pbs", "7[4].pbs", None, None, None, None)]),
        (
            {"LSB_JOBID": "912", "LSB_JOBINDEX": "0", "LSB_QUEUE": "grid_lsf", "LSB_SUB_HOST": "ce"},
            [("lsf", "912", None, "grid_lsf", None, "ce")],
        ),
        ({"LSB_JOBID": "912", "LSB_JOBINDEX": "5"}, [("lsf", "912[5]", None, None, None, None)]),
        ({"OAR_JOB_ID": "12"}, [("oar", "12", None, None, None, None)]),
        (
            {"SGE_ROOT": "/opt/sge", "JOB_ID": "39", "SGE_TASK_ID": "undefined", "QUEUE": "grid.q"},
            [("gridengine", "39", None, "grid.q", None, None)],
        ),
        ({"SGE_TASK_ID": "3", "JOB_ID": "39"}, [("gridengine", "39[3]", None, None, None, None)]),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "pilot-x7k2p", "POD_NAMESPACE": "atlas"},
            [("kubernetes", "pilot-x7k2p", None, "atlas", None, None)],
        ),
        (
            {"GRID_GLOBAL_JOBID": "https://ce:443/arex/A", "GRID_GLOBAL_JOBHOST": "ce", "SLURM_JOB_ID": "5"},
            [
                ("slurm", "5", None, None, None, None),
                ("arc", "https://ce:443/arex/A", "https://ce:443/arex/A", None, None, "ce"),
            ],
        ),
        ({"CE_JOBID": "7"}, []),
        ({"CE_JOBID": "CREAM7", "BLAH_CREAM": "1"}, [("cream", "CREAM7", None, None, None, None)]),
    ],
)
def test_systems(environ, expected):
    """Each system is known by its own variables, and not by those that others have too."""
    assert expected == shown(environ)


@pytest.mark.serves("slurm", "array job and task in trace records")
@pytest.mark.serves("gridengine", "array in trace records")
@pytest.mark.serves("pbs", "array in trace records, of OpenPBS and Torque")
@pytest.mark.serves("lsf", "job, array and queue in trace records")
@pytest.mark.parametrize(
    ("environ", "job", "array", "task", "names"),
    [
        ({"SLURM_JOB_ID": "90", "SLURM_ARRAY_JOB_ID": "88", "SLURM_ARRAY_TASK_ID": "0"}, "90", "88", "0",
         ["slurm:90", "slurm:88_0"]),
        ({"SLURM_JOB_ID": "90"}, "90", None, None, ["slurm:90"]),
        ({"PBS_JOBID": "7[4].pbs", "PBS_ARRAY_ID": "7[].pbs", "PBS_ARRAY_INDEX": "4"}, "7[4].pbs", "7[].pbs", "4",
         ["pbs:7[4].pbs"]),
        ({"PBS_JOBID": "7[4].pbs", "PBS_ARRAYID": "4"}, "7[4].pbs", "7[].pbs", "4", ["pbs:7[4].pbs"]),
        ({"PBS_JOBID": "7.pbs", "PBS_ARRAYID": "4"}, "7.pbs", None, None, ["pbs:7.pbs"]),
        ({"LSB_JOBID": "912", "LSB_JOBINDEX": "5"}, "912[5]", "912", "5", ["lsf:912[5]"]),
        ({"LSB_JOBID": "912", "LSB_JOBINDEX": "0"}, "912", None, None, ["lsf:912"]),
        ({"JOB_ID": "39", "SGE_TASK_ID": "3"}, "39[3]", "39", "3", ["gridengine:39[3]"]),
        ({"JOB_ID": "39", "SGE_TASK_ID": "undefined"}, "39", None, None, ["gridengine:39"]),
        ({"OAR_JOB_ID": "13", "OAR_ARRAY_ID": "12", "OAR_ARRAY_INDEX": "2"}, "13", "12", "2", ["oar:13"]),
    ],
)  # fmt: skip
def test_arrays(environ, job, array, task, names):
    """A task of an array is recorded by its own name, and with its array and its number there."""
    fields = pilot.batch_fields(environ, None)
    fact = batch_of(environ)

    assert (job, array, task) == tuple(
        fields[f"wlcg.batch.{name}"] for name in ("job_id", "array_job_id", "array_task_id")
    )
    assert names == fields["wlcg.batch.all"]
    assert (fields["wlcg.batch.system"], job) == (fact.system, fact.job_id)


def test_sources():
    """Each row says where its variables are written down, and none names one for two things."""
    for system in (*SYSTEMS, *ELEMENTS):
        variables = [*system.job, *system.array, *system.task, *filter(None, (system.queue, system.slot))]

        assert system.source
        assert len(variables) == len(set(variables))


def test_description_of_htcondor():
    """HTCondor's id is in the file that it gives the job; the scheduler's name is a part of the global one."""
    expected = (
        "htcondor",
        "4711.3",
        "schedd01.example.org#4711.3#1700000000",
        None,
        "slot1_2@wn031.example.org",
        "schedd01.example.org",
    )

    assert [expected] == shown({"_CONDOR_JOB_AD": "/x"}, AD)
    assert [expected] == shown({}, AD)
    assert "slot1" == shown({"_CONDOR_SLOT": "slot1"}, AD)[0][4]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (
            "htcondor-glidein",
            ["htcondor:schedd01.example.org#4711.3#1700000000", "glidein:schedd_glideins1@factory.example.org#4711.2",
             "osg-ce:ce01.example.org/jobmanager-condor"],
        ),
        ("slurm-arc", ["slurm:881234", "slurm:881230_4", "arc:https://ce02.example.org:443/arex/AbCdEfGh"]),
        (
            "grid-engine-cream",
            ["gridengine:3941215", "cream:https://cream01.example.org:8443/CREAM123456789",
             "wms:https://wms.example.org:9000/AbC", "gram:https://cream01.example.org:20001/4711/"],
        ),
        ("laptop", None),
        ("el9-environment-modules", None),
    ],
)  # fmt: skip
def test_hosts(all_hosts, host, expected):
    """On each kind of host all names of the job are found, the innermost first."""
    ad = AD if "condor" in host else None

    assert expected == pilot.batch_fields(all_hosts[host]["environ"], ad).get("wlcg.batch.all")


def test_fields(all_hosts):
    """The first job's parts have fields of their own, and the computing element has one."""
    fields = pilot.batch_fields(all_hosts["slurm-arc"]["environ"], None)

    assert ("slurm", "881234", "grid", "c017", "ce02.example.org", "ce02.example.org") == tuple(
        fields[f"wlcg.batch.{name}"] for name in ("system", "job_id", "queue", "slot", "submit_host", "ce")
    )


def test_description_is_read(tmp_path, monkeypatch):
    """The file that HTCondor names is read; one that is missing or never ends is not waited for."""
    (tmp_path / "ad").write_text(AD)
    os.mkfifo(tmp_path / "fifo")
    found = {}
    for name in ("ad", "none", "fifo"):
        monkeypatch.setenv("_CONDOR_JOB_AD", str(tmp_path / name))
        pilot._of_process.cache_clear()
        found[name] = pilot._of_process(os.getpid())
    pilot._of_process.cache_clear()

    assert ["4711.3", None, None] == [found[name]["wlcg.batch.job_id"] for name in ("ad", "none", "fifo")]
    assert {"htcondor"} == {fields["wlcg.batch.system"] for fields in found.values()}

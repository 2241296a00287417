"""
``wlcg-isolate job-wrapper`` as HTCondor calls it, in real Apptainer.
"""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest

from wlcg_isolate import Credential, PlanError, make_plan
from wlcg_isolate.pilots.knobs import knobs
from wlcg_isolate.request import Bind


class Slot:
    """One slot of a pilot: a scratch directory with its ads."""

    def __init__(self, place, runtime, program):
        self.scratch = place / "dir_1"
        self.scratch.mkdir()
        self.place = place
        self.error = place / "dir_1" / ".job_wrapper_failure"
        self.program = program
        self.environ = {
            "PATH": f"{runtime.rpartition('/')[0]}:/usr/bin:/bin",
            "HOME": str(place),
            "_CONDOR_SCRATCH_DIR": str(self.scratch),
            "_CONDOR_JOB_AD": str(self.scratch / ".job.ad"),
            "_CONDOR_MACHINE_AD": str(self.scratch / ".machine.ad"),
            "_CONDOR_WRAPPER_ERROR_FILE": str(self.error),
            "GLIDEIN_CONTAINER_ENV": "osgset",
        }

    def run(self, *command, job="", machine="", **environ):
        """Run a job; give its exit status and what it printed."""
        (self.scratch / ".job.ad").write_text(f'GlobalJobId = "schedd#7.0#1"\n{job}\n')
        (self.scratch / ".machine.ad").write_text(f'Name = "slot1@wn"\n{machine}\n')
        done = subprocess.run(
            [*self.program, "job-wrapper", *command], cwd=self.scratch, env={**self.environ, **environ},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        self.stderr = done.stderr

        return done.returncode, done.stdout

    def records(self):
        """All records of payloads."""
        lines = [line for file in self.place.rglob("*.jsonl") for line in file.read_text().splitlines()]

        return [record for record in map(json.loads, lines) if record["event.action"].startswith("payload.")]


@pytest.fixture
def slot(tmp_path, runtime, command_line):
    """A slot whose node has Apptainer."""
    (tmp_path / "cli").mkdir()

    return Slot(tmp_path, runtime, command_line(runtime).program)


@pytest.fixture
def images(image):
    """The machine ad of a pilot with two images."""
    return f'SINGULARITY_IMAGES_DICT = "rhel7:{image("debian11")},default:{image("debian13")}"'


@pytest.mark.serves("glideinwms", "USER_JOB_WRAPPER")
@pytest.mark.serves("osg", "exit status of a good image with a failing job")
def test_job(slot, images):
    """A job runs in the pilot's image for its platform, with its own exit status and no error file."""
    slot.error.write_text("of an earlier job")
    job = 'REQUIRED_OS = "rhel7"'
    status, printed = slot.run(
        "sh", "-c", '. /etc/os-release; echo "$VERSION_ID $PWD $HOME"; exit 3', job=job, machine=images
    )

    assert (3, "11 /srv /srv\n") == (status, printed)
    assert not slot.error.exists()


@pytest.mark.serves("osg", "SingularityCleanEnv: nothing of the host arrives, the job's variables do")
def test_environment(slot, images):
    """Upstream's fixture: the job's variables arrive, nothing of the host does; ads are under their new paths."""
    (slot.scratch / "in").write_text("read\n")
    status, printed = slot.run(
        "sh", "-c", 'env; grep GlobalJobId "$_CONDOR_JOB_AD"; cat "$1"', "sh", str(slot.scratch / "in"),
        machine=images, job='Environment = "FOO=something BAR=\'yes=no\'"', FOO="something", BAR="yes=no",
        FOOBAR="DO_NOT_PROPAGATE", LD_LIBRARY_PATH="DO_NOT_PROPAGATE", SINGULARITYENV_X="DO_NOT_PROPAGATE",
    )  # fmt: skip

    assert 0 == status
    assert "DO_NOT_PROPAGATE" not in printed
    lines = printed.splitlines()
    assert {"FOO=something", "BAR=yes=no", "_CONDOR_SCRATCH_DIR=/srv", "_CONDOR_JOB_AD=/srv/.job.ad"} <= set(lines)
    assert ['GlobalJobId = "schedd#7.0#1"', "read"] == lines[-2:]


@pytest.mark.serves("htcondor", "records carry GlobalJobId")
def test_record(slot, images):
    """Start and end are on record under the job's id."""
    slot.run("true", machine=images)

    assert [("payload.start", "schedd#7.0#1"), ("payload.end", "schedd#7.0#1")] == [
        (record["event.action"], record["wlcg.job.id"])
        for record in slot.records()
        if record["event.action"] in ("payload.start", "payload.end")
    ]


@pytest.mark.serves("glideinwms", "the wrapper error file (_CONDOR_WRAPPER_ERROR_FILE)")
@pytest.mark.serves("osg", "bad binary path: error file, exit status, no job")
def test_runtime_is_missing(slot, images):
    """The job goes back to the queue by the error file, in one line, and has not run."""
    status, printed = slot.run("echo", "ran", machine=images, PATH="/usr/bin:/bin")

    assert "" == printed
    assert status
    assert 1 == slot.error.read_text().count("\n")
    assert slot.error.read_text().startswith("runtime-missing: ")


def test_payload_cannot_misuse_the_error_file(slot, images):
    """A link that it plants leads nowhere, and a job that ran is no failure of the node."""
    victim = slot.place / "victim"
    victim.write_text("kept")
    status, _ = slot.run("sh", "-c", f"ln -s {victim} .job_wrapper_failure; ls -l .job_wrapper_failure", machine=images)

    assert (0, "kept") == (status, victim.read_text())
    assert not slot.error.is_symlink()
    assert 4 == slot.run("sh", "-c", "echo mine >.job_wrapper_failure; exit 4", machine=images)[0]
    assert not slot.error.exists()


@pytest.mark.serves("htcondor", "getenv = True")
def test_whole_environment_of_an_access_point(slot, images):
    """What cannot arrive is left out, and refuses no job; nor does what HTCondor and a glidein have of their own."""
    taken = dict.fromkeys("_ BASH_ENV LD_LIBRARY_PATH OLDPWD PPID RANDOM SHLVL UID USER which_declare".split(), "v")
    own = {"_CONDOR_ANCESTOR_22": "1", "CONDOR_INHERIT": "1", "OSG_SINGULARITY_IMAGE": "/x", "USER": "someone"}
    job = f'Environment = "{" ".join(f"{name}=v" for name in taken)}"'
    status, printed = slot.run("sh", "-c", "echo $USER $BASH_ENV", machine=images, job=job, **{**taken, **own})

    assert (0, "someone\n") == (status, printed)


@pytest.mark.differs("htcondor", "APPTAINER_BIND and the like in a job's Environment", "not obeyed")
def test_payload_cannot_bind(slot, images, tmp_path):
    """Words for the runtime in a job's environment show it nothing of the host, whatever their values have become."""
    (tmp_path / "secret").write_text("secret")
    binds = f"{tmp_path}:/shown"
    names = ("APPTAINER_BIND", "SINGULARITY_BIND", "APPTAINER_BINDPATH", "SINGULARITY_BINDPATH")
    job = f'Environment = "{" ".join(f"{name}=#CoNdOrScRaTcHdIr#" for name in names)} SLURM_JOB_ID=7"'
    status, printed = slot.run("ls", "/shown", machine=images, job=job, **dict.fromkeys(names, binds), SLURM_JOB_ID="7")

    assert status
    assert "" == printed
    assert {"htcondor"} == {record["wlcg.batch.system"] for record in slot.records()}


def test_payload_cannot_move_its_records(slot, images, tmp_path):
    """Where records go is not a job's to say."""
    other = {"XDG_STATE_HOME": f"{tmp_path}/mine", "HOME": f"{tmp_path}/mine"}
    job = f'Environment = "{" ".join(f"{name}={value}" for name, value in other.items())}"'
    site = tmp_path / "site.toml"
    site.write_text(f'version = 1\n[trace]\ndirectories = ["{tmp_path}/site"]\n')
    assert (0, "") == slot.run("true", machine=images, job=job, WLCG_ISOLATE_SITE=str(site), **other), slot.stderr

    assert 2 <= len(slot.records())
    assert not (tmp_path / "mine").exists()


def test_refused_job_cannot_move_its_records(slot, images, tmp_path):
    """That a job was refused is on record where all else is."""
    job = f'Environment = "WLCG_ISOLATE_SITE=/x XDG_STATE_HOME={tmp_path}/mine"'
    slot.run("true", machine=images, job=job, WLCG_ISOLATE_SITE="/x", XDG_STATE_HOME=f"{tmp_path}/mine")

    assert ["payload.refused"] == [record["event.action"] for record in slot.records()]
    assert not (tmp_path / "mine").exists()


def test_ads_that_no_hook_kept(slot, images):
    """Where the hook must have kept a job's ads, a job without is the node's failure."""
    status, printed = slot.run("--require-hook", "--", "echo", "ran", machine=images)

    assert ("", True) == (printed, status != 0)
    assert slot.error.read_text().startswith("job-unproven: ")


def test_payload_cannot_choose_its_policy(slot, images, tmp_path):
    """A policy that the job names is not even read."""
    job = f'Environment = "WLCG_ISOLATE_SITE={tmp_path}/mine.toml"'
    status, printed = slot.run("echo", "ran", machine=images, job=job, WLCG_ISOLATE_SITE=f"{tmp_path}/mine.toml")

    assert status
    assert "" == printed
    assert "variable-forbidden" in slot.stderr
    assert "mine.toml" not in slot.stderr


def test_payload_cannot_bring_its_runtime(slot, images):
    """A program of the job that is called as the runtime is not even looked for."""
    fake = slot.scratch / "apptainer"
    fake.write_text("#!/bin/sh\ntouch ran-outside\n")
    fake.chmod(0o755)
    path = f"{slot.scratch}:/usr/bin:/bin"
    real = f"{slot.environ['PATH'].split(':')[0]}/apptainer"
    status, _ = slot.run("true", machine=images, job=f'Environment = "PATH={path}"', PATH=path)
    assert slot.error.exists() == (status != 0)
    named, printed = slot.run(
        "echo", "ran", machine=images, job=f'Environment = "PATH={path}"', PATH=path,
        GLIDEIN_SINGULARITY_BINARY_OVERRIDE=real,
    )  # fmt: skip

    assert (0, "ran\n") == (named, printed)
    assert not (slot.scratch / "ran-outside").exists()


class Hooked:
    """A starter: the parent of the hooks and the wrapper of one job."""

    def __init__(self, slot):
        self.slot = slot

    def run(self, script, job="", **environ):
        """Run a script, in which "isolate" is the command line; give what it printed."""
        (self.slot.scratch / "ad").write_text(f'GlobalJobId = "true#1"\n{job}\n')
        (self.slot.scratch / ".machine.ad").write_text('Name = "slot1@wn"\n')
        function = f'isolate() {{ {shlex.join(self.slot.program)} "$@"; }}'
        done = subprocess.run(
            ["sh", "-c", f"{function}; {script}; exit $?"],
            cwd=self.slot.scratch, capture_output=True, text=True, timeout=60,
            env={**self.slot.environ, **environ}, check=False,
        )  # fmt: skip
        self.stderr = done.stderr

        return done.stdout


@pytest.fixture
def hooked(slot):
    """The starter of the slot."""
    return Hooked(slot)


def test_hooks_and_wrapper_of_one_job(hooked, slot, image):
    """What the hook was given counts: not the ads that came with the job's files."""
    script = (
        "isolate job-hook --before-transfer <ad; isolate job-hook <ad;"
        "echo 'GlobalJobId = \"forged\"' | tee .job.ad >.machine.ad;"
        "isolate job-wrapper --require-hook -- echo ran"
    )
    said = hooked.run(script, job=f'SingularityImage = "{image("tiny")}"')

    assert "HookStatusCode = 0\nHookStatusCode = 0\nran\n" == said, hooked.stderr
    assert {"true#1"} == {record.get("wlcg.job.id") for record in slot.records()}
    assert {"true#1"} == {record.get("wlcg.batch.global_job_id") for record in slot.records()}


@pytest.mark.serves("htcondor", "prepare hook: hold, or back to the queue")
def test_hook_judges(hooked, image):
    """A missing image holds, unless the pool wants it tried elsewhere; what the node lacks goes back."""
    missing = 'SingularityImage = "/nosuch/image"'
    good = f'SingularityImage = "{image("tiny")}"'

    assert hooked.run("isolate job-hook <ad", job=missing).startswith("HookStatusCode = 66\nHookStatusMessage =")
    assert hooked.run("isolate job-hook --missing-image requeue <ad", job=missing).startswith("HookStatusCode = 307")
    assert hooked.run("isolate job-hook <ad", job=good, PATH="/usr/bin:/bin").startswith("HookStatusCode = 300")
    assert "HookStatusCode = 0\n" == hooked.run("isolate job-hook --before-transfer <ad", job=missing)


@pytest.mark.serves("osg", "missing image: no job")
def test_image_is_missing(slot):
    """A missing image is the node's failure: the job goes back to the queue."""
    status, printed = slot.run("echo", "ran", job='SingularityImage = "/nosuch/image"')

    assert "" == printed
    assert status
    assert slot.error.read_text().startswith("image-missing: ")
    assert ["payload.refused"] == [record["event.action"] for record in slot.records()]


def test_wrong_everywhere_is_no_node_failure(slot, images):
    """A job that can run nowhere does not go from node to node."""
    status, printed = slot.run("echo", "ran", machine=images, job='REQUIRED_OS = "vms"')

    assert ("", False) == (printed, slot.error.exists())
    assert status
    assert "image-unknown" in slot.stderr


def test_no_command(slot):
    """The wrapper without a job is an error, and its help is none."""
    assert 0 != slot.run()[0]
    assert (0, "usage:") == (slot.run("--help")[0], slot.run("--help")[1][:6])


@pytest.mark.serves("htcondor", "knobs from a plan (plan --format htcondor)")
def test_knobs(cli, image, tmp_path):
    """The command line prints runtime, image, binds and variables."""
    argv = [*cli.program, "plan", "--format", "htcondor", "--image", image("debian11"), "--workdir", str(cli.workdir)]
    argv += ["--bind", f"{tmp_path}/work:/data:rw", "--env", 'A=it\'s "x"', "--", "true"]
    done = subprocess.run(argv, env=cli.environ, capture_output=True, text=True, check=True, timeout=60)
    lines = dict(line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line)

    assert f'"{image("debian11")}"' == lines["SINGULARITY_IMAGE_EXPR"]
    assert lines["SINGULARITY"].endswith("apptainer")
    assert f"{tmp_path}/work:/data:rw" in lines["SINGULARITY_BIND_EXPR"]
    assert "A='it''s \"\"x\"\"'" in lines["STARTER_JOB_ENVIRONMENT"]
    assert "WLCG_ISOLATE_ID" not in done.stdout
    # Debian's tree has nothing for HTCondor's own test, which would fail for ever.
    assert "false" == lines["SINGULARITY_RUN_TEST_BEFORE_JOB"]


def test_inexpressible_knobs(request_for, quick, tmp_path):
    """What HTCondor cannot be told is refused, not left out."""
    odd = tmp_path / "a,b"
    odd.mkdir()
    plan = make_plan(request_for("true", binds=[Bind(source=str(odd), target="/mnt")], env={"X": "$(y)"}), quick)
    with pytest.raises(PlanError, match="cannot be written"):
        knobs(plan)


@pytest.mark.parametrize("value", ["$(HOME)", "$ENV(HOME)", "a $$(b)", "$F(x)"])
def test_knobs_expand_nothing(request_for, quick, value):
    """HTCondor would put other text in place of a macro."""
    with pytest.raises(PlanError, match="cannot be written"):
        knobs(make_plan(request_for("true", env={"X": value}), quick))


def test_knobs_hold_no_copy_of_a_credential(request_for, quick, tmp_path):
    """A credential is one payload's, and no configuration's."""
    (tmp_path / "token").write_text("secret")
    credential = Credential(variable="BEARER_TOKEN_FILE", source=str(tmp_path / "token"))
    text = knobs(make_plan(request_for("true", credentials=[credential]), quick))

    assert ["#   the payload's own copy of BEARER_TOKEN_FILE"] == [x for x in text.splitlines() if "BEARER" in x]

"""
PanDA's pilot 3 runs jobs through its own execution code and the plug-in of
``examples/panda``, in real Apptainer.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PLUGIN = HERE.parents[2] / "examples" / "panda"
DN = "/DC=ch/DC=cern/OU=Users/CN=someone"

#: Sent over by the pilot itself; here it starts none.
OUT_OF_SCOPE = {
    ("panda", "container_type bash for transfers"): "the pilot runs its script on the host, without a container",
    (
        "panda",
        "execArgs and containerExec of a job",
    ): "options of ALRB's container, and commands for HPO that start one",
    ("panda", "payloads that start a container themselves (runcontainer)"): "the pilot leaves the wrapper out for them",
    ("panda", "event service jobs"): "the pilot leaves the wrapper out for them, but for Raythena",
    ("panda", "choice of software release (asetup, lsetup)"): "runs inside the container as the job's command has it",
}


class Pilot:
    """One job of the pilot, in a place of its own."""

    def __init__(self, place, environ, image):
        self.workdir = place / "PanDA" / "job"
        self.workdir.mkdir(parents=True)
        self.environ = environ
        self.image = image
        self.place = place

    def run(self, script, *, queue=None, environ=None, before=(), more=None, **job):
        """Run a job whose payload is a script; give its fate, exit status, error codes and diagnostics."""
        (self.workdir / "trf.sh").write_text(f"#!/bin/bash\n{script}\n")
        (self.workdir / "trf.sh").chmod(0o755)
        said = {"workdir": str(self.workdir), "transformation": "trf.sh", "imagename": self.image, "produserid": DN}
        jobs = {"job": {**said, **job}, "before": [{**said, **other} for other in before]}
        words = json.dumps({**jobs, "queue": queue or {}, **(more or {})})
        argv = [sys.executable, "-W", "ignore", str(HERE / "job.py"), str(PLUGIN), words]
        done = subprocess.run(
            argv, env={**self.environ, **(environ or {})}, capture_output=True, text=True, timeout=120, check=False
        )
        (self.place / "log").write_text(done.stderr)
        assert done.stdout, done.stderr[-2000:]

        return json.loads(done.stdout.splitlines()[-1])

    def printed(self, stream="stdout"):
        """What the payload printed."""
        return (self.workdir / f"payload.{stream}").read_text()

    def records(self):
        """All records of payloads."""
        lines = [line for file in self.place.rglob("*.jsonl") for line in file.read_text().splitlines()]

        return [record for record in map(json.loads, lines) if record["event.action"].startswith("payload.")]


def commands_with(word):
    """List the processes of this machine that have it in their command."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())

    return [words for words in found if word in words]


@pytest.fixture
def pilot(tmp_path):
    """A pilot whose node has Apptainer."""
    environ = {
        "PATH": f"{Path(os.environ['WLCG_ISOLATE_TEST_RUNTIME']).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": os.environ["WLCG_ISOLATE_TEST_PANDA_PILOT"],
        "PANDA_AUTH_TOKEN": "token-of-the-pilot",
        # It has a node of its own, and ends whatever has lost its parent there; these tests have none.
        "PILOT_NOKILL": "yes",
    }

    return Pilot(tmp_path, environ, str(Path(os.environ["WLCG_ISOLATE_TEST_IMAGES"], "debian11")))


@pytest.mark.serves("panda", "wrapper and do_use_container as a user plug-in")
def test_job_finishes(pilot):
    """The real pilot runs a job in the image, in its working directory, and nothing of the pilot arrives."""
    fate = pilot.run('. /etc/os-release; echo "$VERSION_ID $PWD ${PANDA_AUTH_TOKEN-none}"; env; echo >made')

    assert ["finished", 0, [], []] == fate
    assert "11 /srv none" == pilot.printed().splitlines()[0]
    assert "token-of-the-pilot" not in pilot.printed()
    assert (pilot.workdir / "made").exists()
    assert [] == list(pilot.workdir.parent.glob(".wlcg-isolate-*"))


@pytest.mark.serves("panda", "trace record with job id and prodUserID")
def test_job_is_recorded(pilot):
    """Start and end are on record, with the job and its user."""
    pilot.run("exit 0")
    start, end = (r for r in pilot.records() if r["event.action"] in ("payload.start", "payload.end"))

    assert ("4711", "4711") == (start["wlcg.job.id"], end["wlcg.job.id"])
    assert "CN=someone" in json.dumps(start)


FATES = {
    "fails": ("exit 5", 5, 1305),
    "fails-with-255": ("echo 'FATAL: container creation failed' >&2; exit 255", 255, 1305),
    "prints-what-a-runtime-prints": ("echo 'error: while mounting image' >&2; exit 255", 255, 1305),
    "prints-a-failed-user-namespace": ("echo 'Failed to create user namespace' >&2; exit 1", 1, 1305),
    "prints-operation-not-permitted": ("echo 'Operation not permitted' >&2; exit 1", 1, 1305),
    "prints-apptainer-not-installed": ("echo 'Apptainer is not installed' >&2; exit 3", 3, 1305),
    "cannot-make-a-directory": ("echo 'cannot create directory' >&2; exit 64", 64, 1305),
    "unknown-transform": ("exit 251", 251, 1305),
    "crashes": ("kill -SEGV $$", 139, 1328),
    "aborts": ("kill -ABRT $$", 134, 1305),
    "has-no-interpreter": ("exec /nosuch/python", 127, 1305),
    "is-no-program": ("exec /etc/passwd", 126, 1305),
}


@pytest.mark.serves("panda", "error codes of payloads, whatever they print")
@pytest.mark.parametrize("case", FATES)
def test_payload_fails(pilot, case):
    """The payload is blamed for what it did, with its own exit status."""
    script, status, code = FATES[case]
    fate, transexit, codes, _ = pilot.run(script)

    assert ("failed", status, [code]) == (fate, transexit, codes[:1])


@pytest.mark.differs(
    "panda", "a good payload that prints runtime errors", "it has finished; the pilot may call it a failed container"
)
def test_good_payload_prints(pilot):
    """A job that exits with 0 has finished, though the pilot takes its words for the runtime's."""
    assert "finished" == pilot.run("echo 'Apptainer is not installed' >&2")[0]


@pytest.mark.serves("panda", "IMAGENOTFOUND")
def test_image_is_missing(pilot):
    """The job has the code of a missing image, and did not run on the host."""
    fate, _, codes, texts = pilot.run("echo ran", imagename="/nosuch/image")

    assert ("failed", 1360) == (fate, codes[0])
    assert "/nosuch/image" in texts[0]
    assert "ran" not in pilot.printed()
    assert ["payload.refused"] == [record["event.action"] for record in pilot.records()]


@pytest.mark.serves("panda", "APPTAINERNOTINSTALLED")
def test_runtime_is_missing(pilot):
    """The job has the code of a missing runtime, and did not run on the host."""
    fate, _, codes, _ = pilot.run(
        "echo ran", environ={"PATH": "/usr/bin:/bin"}, queue={"container_type": "apptainer:pilot"}
    )

    assert ("failed", 1372) == (fate, codes[0])
    assert "ran" not in pilot.printed()


@pytest.mark.serves("panda", "a broken image is no fault of the payload")
def test_image_is_broken(pilot):
    """An image that is cut off has the code of an image that cannot be mounted."""
    image = pilot.place / "broken.sif"
    image.write_bytes(b"#!/usr/bin/env run-singularity\n" + b"SIF_MAGIC".ljust(9000, b"\0"))
    fate, _, codes, _ = pilot.run("echo ran", imagename=str(image))

    assert ("failed", 1309) == (fate, codes[0])
    assert "ran" not in pilot.printed()


@pytest.mark.differs(
    "panda", "a job without image and platform", "refused with an error code; the pilot runs it on the host"
)
def test_no_image(pilot):
    """A job that names nothing to run in does not run on the host."""
    fate, _, codes, _ = pilot.run("echo ran", imagename="")

    assert "failed" == fate
    assert codes[0] > 1000
    assert "ran" not in pilot.printed()


@pytest.mark.serves("panda", "container_type: singularity:pilot, where the node has Apptainer only")
def test_runtime_has_another_name(pilot):
    """What the queue names comes first; then what the site has."""
    assert "finished" == pilot.run("exit 0", queue={"container_type": "singularity:pilot;docker:wrapper"})[0]


@pytest.mark.serves("panda", "container_options: binds")
@pytest.mark.serves("panda", "environ")
def test_queue_settings(pilot):
    """Binds and variables of the queue arrive."""
    data = pilot.place / "data"
    data.mkdir()
    (data / "file").write_text("from the site")
    queue = {
        "container_options": f"-B {data}:/data:ro,${{workdir}},/nosuch/dir --contain",
        "environ": "HOW='it is' WHERE=here",
    }
    fate = pilot.run('cat /data/file; echo " $HOW $WHERE"; touch /data/x || echo read-only', queue=queue)

    assert "finished" == fate[0]
    assert "from the site it is here\nread-only\n" == pilot.printed()


@pytest.mark.serves("panda", "catchall: singularity_options")
def test_catchall(pilot):
    """The options may stand in the field for everything."""
    data = pilot.place / "data"
    data.mkdir()
    (data / "file").touch()
    fate = pilot.run("ls /data", queue={"catchall": f"x=1,singularity_options='-B {data}:/data --contain'"})

    assert "finished" == fate[0]
    assert "file\n" == pilot.printed()


@pytest.mark.differs("panda", "container_options that are unknown or lessen isolation", "refused, each with its reason")
def test_queue_settings_are_refused(pilot):
    """What nobody understands is not passed on."""
    fate, _, codes, texts = pilot.run("echo ran", queue={"container_options": "--writable --frobnicate -H /home"})

    assert "failed" == fate
    assert codes[0] > 1000
    assert all(word in texts[0] for word in ("--writable", "--frobnicate", "--home"))


@pytest.mark.serves("panda", "cmtconfig and alrbuserplatform name the image")
def test_platform(pilot):
    """A platform is looked up in policy."""
    site = pilot.place / "site.toml"
    site.write_text(f'version = 1\n[image.names]\nel7 = "{pilot.image}"\n')
    site.chmod(0o600)
    environ = {"WLCG_ISOLATE_SITE": str(site)}
    fate = pilot.run("exit 0", imagename="", platform="x86_64-centos7-gcc11-opt", environ=environ)

    assert "finished" == fate[0]


@pytest.mark.serves("panda", "a pilot that is stopped stops its payload")
def test_graceful_stop(pilot):
    """The pilot's TERM to the whole session ends the payload, which is not blamed, and leaves nothing behind."""
    ready = pilot.workdir / "ready"
    fate, _, codes, _ = pilot.run("echo >ready; exec sleep 60.4711", more={"stop_when": str(ready)})

    assert ("failed", 1201) == (fate, codes[0])
    assert [] == commands_with(b"60.4711")
    assert [] == list(pilot.workdir.parent.glob(".wlcg-isolate-*"))
    assert "payload.end" == pilot.records()[-1]["event.action"]


@pytest.mark.serves("panda", "several jobs of one pilot")
def test_job_after_job(pilot):
    """What became of one job is not what becomes of the next."""
    fates = [
        pilot.run("exit 0", before=[{"imagename": "/nosuch/image"}]),
        pilot.run("exit 6", before=[{}, {}], jobid="4700"),
    ]

    assert ["finished", 0, [], []] == fates[0]
    assert ("failed", 6, [1305]) == tuple(fates[1][:3])


@pytest.mark.serves("panda", "the payload's own proxy (X509_UNIFIED_DISPATCH)")
def test_own_proxy(pilot):
    """A payload gets a private copy of its own proxy, and its exit status is still its own."""
    own = pilot.place / "own"
    own.write_text("proxy of the user")
    own.chmod(0o600)
    fate = pilot.run(
        'cat "$X509_USER_PROXY"; echo " $A $B"; exit 9',
        environ={"X509_UNIFIED_DISPATCH": str(own)},
        queue={"environ": "A=1 B=$A"},
    )

    assert ("failed", 9, [1305]) == tuple(fate[:3])
    assert "proxy of the user 1 1\n" == pilot.printed()
    assert [] == list(pilot.workdir.parent.glob(".wlcg-isolate-*"))


@pytest.mark.differs(
    "panda", "X509_USER_PROXY for payloads", "the pilot's own proxy never arrives; the payload's own does"
)
def test_proxy_of_the_pilot(pilot):
    """The pilot's proxy is not the payload's."""
    (pilot.place / "proxy").write_text("proxy of the pilot")
    environ = {"X509_USER_PROXY": str(pilot.place / "proxy")}
    fate = pilot.run('echo "${X509_USER_PROXY-none}"', environ=environ)

    assert "finished" == fate[0]
    assert "none\n" == pilot.printed()


@pytest.mark.serves("panda", "a monitor of the pilot that ends a payload")
def test_monitor_ends_the_payload(pilot):
    """The monitor's reason comes before the signal that it used."""
    ready = pilot.workdir / "ready"
    fate, _, codes, _ = pilot.run("echo >ready; exec sleep 60.4713", more={"kill_when": str(ready)})

    assert ("failed", 1235) == (fate, codes[0])
    assert {1201, 1305} & set(codes)


@pytest.mark.parametrize("own", [False, True])
def test_monitor_kills_the_payload(pilot, own):
    """So it does when it has no patience left; nothing goes on, and the payload has started on record."""
    (pilot.place / "own").write_text("proxy of the user")
    environ = {"X509_UNIFIED_DISPATCH": str(pilot.place / "own")} if own else {}
    ready = str(pilot.workdir / "ready")
    fate, _, codes, texts = pilot.run(
        "echo >ready; exec sleep 60.4715", environ=environ, more={"kill_when": ready, "kill_by": "SIGKILL"}
    )
    deadline = time.monotonic() + 10
    while (running := commands_with(b"60.4715")) and time.monotonic() < deadline:
        time.sleep(0.1)

    assert ("failed", 1235) == (fate, codes[0]), texts
    assert [] == running
    assert not any("before the payload started" in text for text in texts)
    assert [] == list(pilot.workdir.parent.rglob(".wlcg-isolate-*"))


@pytest.mark.serves("panda", "commands after the payload")
def test_command_after_the_payload_fails(pilot):
    """A good payload does not hide what failed after it."""
    fate, status, codes, _ = pilot.run("exit 0", more={"after": "exit 7;"})

    assert ("failed", 7, [1357, 1305]) == (fate, status, codes)


@pytest.mark.parametrize("own", [False, True])
def test_graceful_stop_is_ignored(pilot, own):
    """A payload that ignores TERM is ended with its pilot's patience, and it is not the runtime that is blamed."""
    (pilot.place / "own").write_text("proxy of the user")
    site = pilot.place / "site.toml"
    site.write_text("version = 1\n[payload]\ngrace_seconds = 5\n")
    site.chmod(0o600)
    environ = {"WLCG_ISOLATE_SITE": str(site)}
    if own:
        environ["X509_UNIFIED_DISPATCH"] = str(pilot.place / "own")
    ready = pilot.workdir / "ready"
    fate, _, codes, texts = pilot.run(
        "trap '' TERM; echo >ready; sleep 60.4714; sleep 60.4714", environ=environ, more={"stop_when": str(ready)}
    )
    deadline = time.monotonic() + 10
    while (running := commands_with(b"60.4714")) and time.monotonic() < deadline:
        time.sleep(0.1)

    assert ("failed", 1201) == (fate, codes[0]), texts
    assert [] == running
    assert [] == list(pilot.workdir.parent.rglob(".wlcg-isolate-*"))


def test_graceful_stop_with_own_proxy(pilot):
    """The signal reaches the payload also where the command line runs it, and no file is left."""
    own = pilot.place / "own"
    own.write_text("proxy of the user")
    own.chmod(0o600)
    ready = pilot.workdir / "ready"
    fate, _, codes, _ = pilot.run(
        "echo >ready; exec sleep 60.4712",
        environ={"X509_UNIFIED_DISPATCH": str(own)},
        more={"stop_when": str(ready)},
    )

    assert ("failed", 1201) == (fate, codes[0])
    assert [] == commands_with(b"60.4712")
    assert [] == list(pilot.workdir.parent.glob(".wlcg-isolate-*"))
    assert "payload.end" == pilot.records()[-1]["event.action"]


def test_refused_after_a_start(pilot):
    """A job that is refused is not taken for the one of that number that ran before."""
    image = pilot.place / "empty.sif"
    image.touch()
    found = [
        pilot.run("exit 0", before=before, imagename=str(image), jobid="4711")
        for before in ([], [{"jobid": "4711", "imagename": pilot.image}])
    ]

    assert ("failed", 1309) == (found[0][0], found[0][2][0])
    assert found[0] == found[1]


@pytest.mark.serves("panda", "IMAGE_BASE")
@pytest.mark.parametrize("name", ["docker://registry.example/atlas/analysis:1", "atlas/other:1"])
def test_image_base(pilot, name):
    """The pilot's own look at the directory, by the name's last part and by all of it, and ours agree."""
    base = pilot.place / "base"
    (base / "atlas").mkdir(parents=True)
    (base / "analysis:1").symlink_to(pilot.image)
    (base / "atlas" / "other:1").symlink_to(pilot.image)
    fates = [
        pilot.run("echo ran", imagename=name, queue={"catchall": f"x=1 IMAGE_BASE={base}"}),
        pilot.run("echo ran", imagename=name, environ={"IMAGE_BASE": str(base)}, queue={"catchall": "IMAGE_BASE=/no"}),
    ]

    assert [["finished", 0, [], []]] * 2 == fates


@pytest.mark.serves("panda", "environ that names other variables")
def test_environ_that_names_variables(pilot):
    """They have the values that they have in the container, as in the pilot's own set-up."""
    queue = {"environ": "BASE='/a b' MORE=$BASE/c:${NOWHERE} PATH=/first:$PATH QUOTED='$BASE' AFTER=\"$MORE\""}
    fate = pilot.run(
        'printf "%s\\n" "$MORE" "$QUOTED" "$AFTER" "${PATH%%:*}" "${PANDA_AUTH_TOKEN-none}"; ls /', queue=queue
    )

    assert "finished" == fate[0]
    assert ["/a b/c:", "$BASE", "/a b/c:", "/first", "none"] == pilot.printed().splitlines()[:5]


@pytest.mark.serves("panda", "container_options to which the pilot adds ${workdir}")
@pytest.mark.parametrize(
    "options", ["-B /etc/hosts --nv --contain", "--no-home --contain -B /etc/hosts", "-i --containall"]
)
def test_workdir_that_the_pilot_adds(pilot, options):
    """The real queue data put it behind whatever stands before --contain, also where that is a flag."""
    assert "finished" == pilot.run("exit 0", queue={"container_options": options})[0]


#: In place of the pilot's own, which needs storage; the pilot starts it in the same way and reads what it writes.
SCRIPT = """
import json, os, sys
from pilot.common.errorcodes import ErrorCodes
release = dict(line.rstrip().split("=", 1) for line in open("/etc/os-release") if "=" in line)["VERSION_ID"].strip('"')
proxy = open(os.environ["X509_USER_PROXY"]).read()
found = [os.getcwd(), release, proxy, os.environ["PILOT_RUCIO_SITENAME"], sys.argv[1:4], str(ErrorCodes.KILLSIGNAL)]
url = json.dumps(found)
kind = os.path.basename(sys.argv[0])[:-3]
what = [url, "E"] if kind == "stagein" else [url, url, "c", 1]
with open(f"{kind}_status.json", "w") as file:
    json.dump({"file": ["transferred", 0, *what], "error": ["", 0]}, file)
"""


@pytest.fixture
def mover(pilot):
    """A pilot whose queue has transfers done in a container."""
    source = pilot.place / "source" / "pilot3" / "pilot"
    shutil.copytree(
        Path(os.environ["WLCG_ISOLATE_TEST_PANDA_PILOT"], "pilot"),
        source,
        ignore=shutil.ignore_patterns("*.pyc", "user"),
    )
    (source / "scripts").mkdir(exist_ok=True)
    for name in ("stagein.py", "stageout.py"):
        # Not executable, as in the pilot's releases.
        (source / "scripts" / name).write_text(SCRIPT)
    site = pilot.place / "site.toml"
    site.write_text(f'version = 1\n[image.names]\nel9 = "{pilot.image}"\n')
    site.chmod(0o600)
    (pilot.place / "proxy").write_text("proxy of the pilot")
    pilot.environ.update(
        WLCG_ISOLATE_SITE=str(site),
        PILOT_SOURCE_DIR=str(source.parents[1]),
        PILOT_RUCIO_SITENAME="SITE",
        X509_USER_PROXY=str(pilot.place / "proxy"),
    )

    return pilot


MIDDLEWARE = {"container_type": "apptainer:pilot;container:middleware", "environ": "A=1"}


@pytest.mark.serves("panda", "middleware containers for stage-in and stage-out")
@pytest.mark.parametrize("label", ["stage-in", "stage-out"])
def test_transfer(mover, label):
    """The pilot's own thread has its script run in the middleware's image, and believes what that writes."""
    done, status, url, codes = mover.run("", queue=MIDDLEWARE, more={"transfer": label})

    assert (True, "transferred", []) == (done, status, codes)
    assert ["/srv", "11", "proxy of the pilot", "SITE", ["-d", "-w", "/srv"], "1200"] == json.loads(url)


@pytest.mark.serves("panda", "general commands in the middleware's container")
def test_general_command(mover):
    """The pilot's function for them has no proxy handed over, neither its own nor the payload's."""
    own = {"X509_UNIFIED_DISPATCH": str(mover.place / "proxy")}
    *_, codes = mover.run("", queue=MIDDLEWARE, environ=own, more={"transfer": "general"})
    said = (mover.workdir / "said").read_text()

    assert [] == codes
    assert "\n11\n" in said
    assert "X509" not in said


#: What a payload leaves for the pilot's script, which runs from the same directory, with the pilot's proxy.
PLANTED = """
for name in json subprocess psutil sitecustomize usercustomize _distutils_hack runpy; do
    echo 'open("/srv/stolen", "w").write("x")' >$name.py
done
mkdir -p pilot/common pilot/util __pycache__
python3 - <<'END'
import site, os
place = site.getusersitepackages()
os.makedirs(place)
open(f"{place}/x.pth", "w").write("import sys; open('/srv/stolen', 'w')")
END
echo 'open("/srv/stolen", "w").write("x")' >stageout.py
echo 'open("/srv/stolen", "w").write("x")' | tee pilot/psutil.py >pilot/common/json.py
ln -s /srv/stageout.py stagein.py
"""


@pytest.mark.differs(
    "panda",
    "what a payload leaves in its directory, at stage-out",
    "none of it is executed with the pilot's proxy; in the pilot's container it is",
)
def test_transfer_after_a_hostile_payload(mover):
    """Modules and scripts that the payload has left are not those that the pilot's script runs with."""
    fate = mover.run(PLANTED)
    done, status, *_ = mover.run("", queue=MIDDLEWARE, more={"transfer": "stage-out"})

    assert ("finished", True, "transferred") == (fate[0], done, status)
    assert not (mover.workdir / "stolen").exists()


@pytest.mark.serves("panda", "transfers that cannot be isolated")
def test_transfer_is_refused(mover):
    """It has failed, whatever file a payload has left that says otherwise."""
    (mover.workdir / "stageout_status.json").write_text(
        '{"file": ["transferred", 0, "u", "u", "c", 1], "error": ["", 0]}'
    )
    done, status, _, codes = mover.run(
        "", queue={**MIDDLEWARE, "container_options": "--writable"}, more={"transfer": "stage-out"}
    )

    assert (False, False) == (done, status == "transferred")
    assert codes[0] > 1000

"""
Payloads that a job agent in Java runs, by the JSON of a plan.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "jalien"

RUNTIME = os.environ.get("WLCG_ISOLATE_TEST_RUNTIME", "")
TINY = os.path.join(os.environ.get("WLCG_ISOLATE_TEST_IMAGES", ""), "tiny")

OUT_OF_SCOPE = {
    ("alice", "DebugTag (a user's image and command)"): "which image a user may choose is policy: image.allowed_roots",
    ("alice", "Podman and Docker"): "the library knows Apptainer, SingularityCE and Singularity",
}


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """The class path of the compiled example; a warning of the compiler is an error."""
    place = tmp_path_factory.mktemp("classes")
    jar = Path(os.environ["WLCG_ISOLATE_TEST_JARS"], "json-simple.jar")
    sources = [str(path) for path in sorted(EXAMPLE.rglob("*.java"))]
    # json-simple 2 calls the interface of version 1, which JAliEn's kind of code uses, deprecated.
    lint = ["-Xlint:all,-deprecation", "-Werror"]
    subprocess.run(["javac", *lint, "--release", "17", "-cp", str(jar), "-d", str(place), *sources], check=True)

    return f"{place}:{jar}"


@pytest.fixture
def agent(classes, tmp_path):
    """Run a payload as the job agent does; give what it printed and, last, the outcome."""
    workdir, site = tmp_path / "work", tmp_path / "site.toml"
    workdir.mkdir()
    place = tmp_path / "cvmfs" / "alice.cern.ch" / "containers" / "fs" / "apptainer"
    place.mkdir(parents=True)
    (place / f"compat_el9-{os.uname().machine}").symlink_to(TINY)
    site.write_text(f'version = 1\n[cvmfs]\nroot = "{tmp_path}/cvmfs"\n')
    given = {"workdir": workdir, "trace_dir": tmp_path / "trace", "runtime": RUNTIME, "image": TINY}
    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "WLCG_ISOLATE": str(Path(sys.executable).parent / "wlcg-isolate"),
        "WLCG_ISOLATE_SITE": str(site),
        "JALIEN_TOKEN_CERT": "secret",
        "ALIEN_SITE": "CERN",
    }

    def run(*command, seconds=60, token=None, **more):
        options = [f"{name}={value}" for name, value in {**given, **more}.items() if value]
        argv = ["java", "-Xshare:auto", "-cp", classes, "RunPayload", str(seconds), *options, "--", *command]
        done = subprocess.run(
            argv, env={**environ, **({"JALIEN_TOKEN": token} if token else {})}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert "" == done.stderr
        return done.stdout.splitlines()

    return run


def outcome_of(lines):
    """Read the outcome, which the published schema describes."""
    outcome = json.loads(lines[-1])
    schema = json.loads((resources.files("wlcg_isolate") / "schemas" / "outcome.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(outcome)

    return outcome


@pytest.mark.serves("alice", "a job agent in Java: plan --json, own process, outcome")
@pytest.mark.serves("alice", "/workdir, payload variables of the site, JALIEN_TOKEN_* stays outside")
def test_payload(agent, tmp_path):
    """A payload runs in the working directory, with the site's variables and without the agent's token."""
    script = 'pwd; echo "$ALIEN_SITE/$JALIEN_TOKEN_CERT"; echo x >result; exit 3'
    lines = agent("sh", "-c", script)
    outcome = outcome_of(lines)

    assert f"trace id: {outcome['trace_id']}" == lines[0]
    assert ["/workdir", "CERN/"] == lines[1:3]
    assert (True, "payload", "exit-nonzero", 3) == (
        outcome["started"],
        outcome["failed_by"],
        outcome["kind"],
        outcome["exit_code"],
    )
    assert "x\n" == (tmp_path / "work" / "result").read_text()


@pytest.mark.serves("alice", "a token for the wrapper on its standard input")
def test_token(agent):
    """What the agent hands over on the payload's standard input arrives whole, and nowhere else."""
    token = "-----BEGIN-----\n" + "x" * 3000 + "\n-----END-----"
    lines = agent("sh", "-c", "cat | wc -c; env | grep -c BEGIN", token=token)

    assert [str(len(token)), "0"] == [line.strip() for line in lines[1:3]]


@pytest.mark.serves("alice", "records carry VO and job id")
def test_records(agent, tmp_path):
    """The records name the job, and what was seen from outside before the payload began."""
    outcome = outcome_of(agent("true"))
    records = [
        json.loads(line) for file in (tmp_path / "trace").glob("*.jsonl") for line in file.read_text().splitlines()
    ]
    (start,) = [record for record in records if record["event.action"] == "payload.start"]

    assert "success" == outcome["kind"]
    assert ("alice", "2718281828", outcome["trace_id"]) == (
        start["wlcg.vo"],
        start["wlcg.job.id"],
        start["container.id"],
    )
    assert start["wlcg.isolation.verified"]


@pytest.mark.serves("alice", "no container, no job: refusals with all reasons")
def test_refused(agent):
    """A payload that cannot be isolated is refused with every reason, and nothing is started."""
    lines = agent("true", image="/nosuch", workdir="/gone")

    assert lines[0].startswith("refused: wlcg-isolate: ")
    assert ["image-missing", "workdir-missing"] == [
        kind for kind in ("image-missing", "workdir-missing") if kind in "\n".join(lines)
    ]
    assert "trace id" not in "\n".join(lines)


@pytest.mark.serves("alice", "the agent's own time limit and signals")
@pytest.mark.parametrize(
    ("script", "kind"), [("kill -SEGV $$", "ended-by-signal"), ("exec sleep 1000", "ended-by-signal")]
)
def test_signals(agent, script, kind):
    """A payload that ends by a signal, its own or the agent's, is told from one that exits with such a status."""
    lines = agent("sh", "-c", script, seconds=3)
    outcome = outcome_of(lines)

    assert kind == outcome["kind"], outcome
    assert ("the agent stops it" in lines) == ("sleep" in script)


@pytest.mark.serves("alice", "platforms of a job's packages")
@pytest.mark.parametrize("platform", ["el9", "el9-x86_64"])
def test_platform(agent, platform):
    """A platform leads to the experiment's image in CVMFS."""
    assert "success" == outcome_of(agent("true", image=None, platform=platform))["kind"]


@pytest.mark.differs(
    "alice", "of several platforms the lowest", "the order of the request counts: one of EL7 is not taken before EL9"
)
def test_platforms(agent):
    """Of several platforms the first is taken that has an image on this node."""
    assert "success" == outcome_of(agent("true", image=None, platform="el8,el9"))["kind"]

"""
The journal of real pilots, with real containers.
"""

from __future__ import annotations

import base64
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from wlcg_isolate import run_isolated
from wlcg_isolate.trace import close_journals, iter_records
from wlcg_isolate.trace.verify import verify

PILOT = """
import os, sys, threading
from wlcg_isolate import Payload, Request, load_policy, run_isolated
from wlcg_isolate.trace import Journal

write = Journal.write

def told(journal, record, **more):
    write(journal, record, **more)
    os.write(1, record.event_id.encode() + b"\\n")

Journal.write = told
image, runtime, place, trace = sys.argv[1:]

def work(number):
    workdir = os.path.join(place, str(number))
    os.makedirs(workdir, exist_ok=True)
    request = Request(
        payload=Payload(command=("true",)), image=image, runtime=runtime, workdir=workdir, trace_dir=trace
    )
    while True:
        outcome = run_isolated(request, load_policy())
        if outcome.kind != "success":
            sys.exit(outcome.message)

threading.Thread(target=work, args=(1,), daemon=True).start()
work(2)
"""


def killed_pilot(argv, seconds):
    """Run a pilot for a time from its first record on, and kill it; give what it knew to be on disk."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as pilot:
        first = pilot.stdout.readline()
        killer = threading.Timer(seconds, pilot.send_signal, (signal.SIGKILL,))
        killer.start()
        heard = first + pilot.stdout.read()
        killer.join()

    assert -signal.SIGKILL == pilot.returncode

    return heard.split()


@pytest.mark.parametrize("kills", [6, pytest.param(1000, marks=pytest.mark.soak)])
def test_pilots_that_are_killed(image, runtime, tmp_path, kills):
    """Whenever a pilot is killed, no record that it knew of is lost, and its file verifies to where it was cut."""
    seed = time.time_ns()
    chance = random.Random(seed)
    acknowledged = set()
    for number in range(kills):
        trace = tmp_path / "trace" / str(number // 20)
        argv = [sys.executable, "-c", PILOT, image("tiny"), runtime, str(tmp_path / "work"), str(trace)]
        acknowledged |= set(killed_pilot(argv, chance.uniform(0, 0.4)))
    found, reports = set(), []
    for directory in (tmp_path / "trace").iterdir():
        found |= {r["event.id"] for r in iter_records(str(directory))}
        reports.append(verify(str(directory)))

    assert set() == acknowledged - found, f"seed {seed}"
    assert {0} == {report.status for report in reports}, f"seed {seed}"
    assert kills == sum(file.state == "left-open" for report in reports for file in report.files)
    assert kills < len(acknowledged)


def test_whole_way_with_a_key(cli, image, tmp_path):
    """A site that seals its files can check them with its own key, and sees what was changed."""
    private = X25519PrivateKey.generate()
    public = base64.b64encode(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    (tmp_path / "site.toml").write_text(f'version = 1\n[trace]\nseal_public_key = "{public}"\n')
    (tmp_path / "key").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    ran = [cli.run("--image", image("tiny"), "--site", tmp_path / "site.toml") for _ in range(2)]
    argv = [*cli.program, "trace", "verify", str(cli.trace_dir), "--key", str(tmp_path / "key"), "--json"]
    before = subprocess.run(argv, env=cli.environ, capture_output=True, check=False)
    report = json.loads(before.stdout)
    file = min(cli.trace_dir.iterdir())
    file.write_bytes(file.read_bytes().replace(b'"wlcg.outcome.kind":"success"', b'"wlcg.outcome.kind":"stopped"'))
    after = subprocess.run(argv, env=cli.environ, capture_output=True, check=False)

    assert [0, 0] == [r.status for r in ran]
    assert (0, 1) == (before.returncode, after.returncode)
    assert [("closed", 0, "hash chain and keyed digests, checked")] * 2 == [
        (f["state"], f["level"], f["protection"]) for f in report["files"]
    ]


def test_disk_that_fills_up_meanwhile(request_for, policy, tmp_path):
    """A payload whose end cannot be recorded keeps its result, and its outcome tells what is missing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(_):
        (file,) = (tmp_path / "trace").glob("*.jsonl")
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, hard))

    try:
        outcome = run_isolated(request_for("sh", "-c", "exit 3"), policy, on_start=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    close_journals()

    assert (True, 3, "exit-nonzero") == (outcome.started, outcome.exit_code, outcome.kind)
    assert "warning: the record payload.end is lost: " in outcome.message
    assert 0 == verify(str(tmp_path / "trace")).status


@pytest.mark.parametrize("how", ["refuse", "continue"])
def test_directory_that_takes_no_records(request_for, policy, tmp_path, how):
    """Where no record can be written policy decides, and the outcome tells."""
    (tmp_path / "file").write_text("")
    asked = request_for("touch", "/srv/started", trace_dir=tmp_path / "file")
    outcome = run_isolated(asked, attrs.evolve(policy, trace_on_write_error=how))

    assert (how == "continue") == outcome.started == os.path.exists(tmp_path / "work" / "started")
    assert ("success" if how == "continue" else "trace-unwritable") == outcome.kind
    assert "trace records cannot be written to" in outcome.message

"""
Secrets of the runtime itself: the credentials of a registry from which it pulls.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import io
import json
import os
import stat
import subprocess
import tarfile
import threading
import typing
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest

from wlcg_isolate import Bind, PlanError, Policy, launch_plan, make_plan
from wlcg_isolate.pilots import panda

USER, PASSWORD = "robot", "hunter2-registry"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

#: What pilots and users set for the runtime today; none of it may reach it.
VARIABLES = (
    "APPTAINER_DOCKER_USERNAME APPTAINER_DOCKER_PASSWORD SINGULARITY_DOCKER_USERNAME SINGULARITY_DOCKER_PASSWORD "
    "DOCKER_USERNAME DOCKER_PASSWORD DOCKER_HOST REGISTRY_AUTH_FILE APPTAINER_AUTHFILE SINGULARITY_AUTHFILE "
    "APPTAINER_ENCRYPTION_PASSPHRASE SINGULARITY_ENCRYPTION_PASSPHRASE APPTAINER_DOCKER_LOGIN"
).split()


class Registry(http.server.BaseHTTPRequestHandler):
    """As much of a registry as a pull needs, for one user."""

    contents: typing.ClassVar = {}

    def do_GET(self):
        """Give what is asked for to whoever knows the password."""
        self._answer(body=True)

    def do_HEAD(self):
        """Tell what there is."""
        self._answer(body=False)

    def log_message(self, *_):
        """Keep quiet."""

    def _answer(self, *, body):
        if self.headers.get("Authorization") != f"Basic {BASIC}":
            status, kind, text = 401, "application/json", b"{}"
        elif self.path.rstrip("/") == "/v2":
            status, kind, text = 200, "application/json", b"{}"
        else:
            kind, text = self.contents.get(self.path.rpartition("/")[2], ("application/json", None))
            status, text = (404, b"{}") if text is None else (200, text)
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="here"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Docker-Content-Digest", _digest(text))
        self.end_headers()
        if body:
            self.wfile.write(text)


def _digest(text):
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def _contents(tree):
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(tree, arcname=".")
        shell = b'#!/bin/sh\nexec /bin/sh "$@"\n'
        bash = tarfile.TarInfo("./bin/bash")
        bash.size, bash.mode = len(shell), 0o755
        tar.addfile(bash, io.BytesIO(shell))
    diff, packed = _digest(layer.getvalue()), gzip.compress(layer.getvalue(), 1)
    rootfs = {"type": "layers", "diff_ids": [diff]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": {}}).encode()
    vendor = "application/vnd.docker"
    kinds = {"config": f"{vendor}.container.image.v1+json", "layer": f"{vendor}.image.rootfs.diff.tar.gzip"}
    blobs = {kind: {"mediaType": kinds[kind], "size": len(t), "digest": _digest(t)} for kind, t in
             (("config", config), ("layer", packed))}  # fmt: skip
    kind = f"{vendor}.distribution.manifest.v2+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": blobs["config"], "layers": [blobs["layer"]]}
    text = json.dumps(manifest).encode()

    return {
        "1": (kind, text),
        _digest(text): (kind, text),
        _digest(config): (kinds["config"], config),
        _digest(packed): (kinds["layer"], packed),
    }


@pytest.fixture
def registry(image):
    """Serve the small image on this machine, to whoever knows the password."""
    handler = type("Handler", (Registry,), {"contents": _contents(image("tiny"))})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def watched(tmp_path, runtime):
    """The real runtime behind a script that writes down how it is called, and lets it speak HTTP."""
    script = tmp_path / "watched"
    script.write_text(
        f"#!/bin/bash\n{{ printf '%s\\n' \"$@\"; env; }} >>{tmp_path}/calls\n"
        f'case $1 in exec) shift; exec {runtime} exec --no-https "$@" ;; esac\nexec {runtime} "$@"\n'
    )
    script.chmod(0o755)

    return str(script)


def test_pull_with_credentials(request_for, registry, watched, tmp_path, monkeypatch):
    """The runtime reads them from a file; no argument list, no environment and no record ever holds them."""
    for name in VARIABLES:
        monkeypatch.setenv(name, PASSWORD)
    file = tmp_path / "registry.json"
    file.write_text(json.dumps({"auths": {registry: {"auth": BASIC}}}))
    file.chmod(0o600)
    request = request_for("sh", "-c", "env; cat /proc/*/environ; find / -xdev -name registry.json")
    request = attrs.evolve(request, image=f"docker://{registry}/x/tiny:1", runtime=watched)
    policy = Policy(image_pull=("docker",), image_registry_credentials=str(file))
    plan = make_plan(request, policy)
    with open(tmp_path / "out", "wb") as out:
        outcome = launch_plan(plan, stdout=out, stderr=out)
    without = launch_plan(make_plan(request, attrs.evolve(policy, image_registry_credentials=None)))
    calls = (tmp_path / "calls").read_text()
    records = "".join(path.read_text() for path in (tmp_path / "trace").glob("*.jsonl"))

    assert ("success", False) == (outcome.kind, without.started), outcome.message
    assert f"--authfile\n{file}\n" in calls
    for secret in (PASSWORD, BASIC):
        for place in (calls, records, (tmp_path / "out").read_text(), json.dumps(plan.to_dict()), plan.shell()):
            assert secret not in place
    assert "registry.json" not in (tmp_path / "out").read_text()
    assert 0o600 == stat.S_IMODE(os.stat(file).st_mode)


def test_file_that_the_payload_would_see(request_for, tmp_path):
    """Credentials in the working directory, or in a bind, refuse."""
    seen = tmp_path / "data" / "registry.json"
    for file in (tmp_path / "work" / "registry.json", seen, tmp_path / "missing.json"):
        if "missing" not in file.name:
            Path(file).parent.mkdir(exist_ok=True)
            file.write_text("{}")
        request = request_for("true", binds=(Bind(source=str(seen.parent)),) if file == seen else ())
        policy = Policy(image_pull=("docker",), image_registry_credentials=str(file))
        with pytest.raises(PlanError) as caught:
            make_plan(attrs.evolve(request, image="docker://127.0.0.1:1/x:1"), policy)

        assert [("credential-missing", "image.registry_credentials")] == [
            (problem.kind, problem.origin) for problem in caught.value.problems
        ]


@pytest.mark.serves("panda", "DOCKER_TOKENS of a user, where the site lets images be pulled")
def test_pull_for_panda(registry, watched, tmp_path, monkeypatch):
    """PanDA's pilot hands over a user's login by file, which is gone afterwards; without it the image is not there."""
    (tmp_path / "job").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "apptainer").symlink_to(watched)
    site = tmp_path / "site.toml"
    site.write_text('version = 1\n[image]\npull = ["docker"]\n')
    site.chmod(0o600)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("WLCG_ISOLATE_SITE", str(site))
    token = {"username": USER, "token": PASSWORD, "registry_path": f"docker://{registry}/x"}
    job = SimpleNamespace(
        workdir=str(tmp_path / "job"),
        jobid="4712",
        imagename=f"docker://{registry}/x/tiny:1",
        pandasecrets=json.dumps({"DOCKER_TOKENS": json.dumps([token])}),
        infosys=None,
    )

    def start():
        line = panda.wrapper("echo ran; cat /proc/*/environ", job=job)
        done = subprocess.run(["/bin/bash", "-c", line], capture_output=True, text=True, check=False, timeout=60)
        return line + done.stdout + done.stderr, panda.outcome_for(job)

    (text, outcome), job.pandasecrets = start(), ""
    without = start()[1]
    calls = (tmp_path / "calls").read_text()

    assert ("success", False) == (outcome.kind, without.started), text
    assert "ran" in text
    assert "--authfile" in calls
    assert [] == [place for place in (calls, text) for secret in (PASSWORD, BASIC) if secret in place]
    assert [] == list(tmp_path.glob(".wlcg-isolate-*"))

"""
Image files are mounted or unpacked by the real runtime, and what is said of them is so.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import attrs
import pytest

from wlcg_isolate import Bind, LaunchError, PlanError, Policy, launch, make_plan, run_isolated
from wlcg_isolate.host.inspection import inspect_image
from wlcg_isolate.host.signature import check_sif
from wlcg_isolate.images.fault import ImageFault
from wlcg_isolate.images.identify import open_image
from wlcg_isolate.images.rootfs import look_up

FILES = ["tiny.sif", "tiny.sqfs", "debian11.sif"]
FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)


@pytest.fixture(scope="session")
def squashfs_tool(image):
    """Find a program of squashfs-tools, where tools/get-image puts them."""
    place = Path(image("tiny")).parent.parent / "squashfs-r1" / "usr" / "bin"

    return lambda name: shutil.which(name) or str(place / name)


@pytest.mark.parametrize("name", FILES)
def test_run(cli, image, name):
    """A payload in an image file does what one in a tree does, and nothing is left."""
    script = "test -d /proc/self && echo in > /srv/out && cat /etc/os-release; exit 7"
    ran = cli.run("--image", image(name), command=("/bin/sh", "-c", script))
    started = ran.records[0]

    assert (7, "payload") == (ran.status, ran.outcome["failed_by"])
    assert Path(image(name.split(".")[0]), "etc/os-release").read_bytes() == ran.stdout
    assert ["out"] == os.listdir(cli.workdir)
    assert ("fuse" if FUSE else "unpack") == started["wlcg.image.mount"]
    assert ("none", []) == (started["wlcg.image.digest.kind"], started["wlcg.image.verified_by"])


@pytest.mark.parametrize("name", FILES)
def test_argv_and_shell(request_for, policy, tmp_path, name):
    """Argv with environ, and the shell line, do the same, and leave nothing."""
    script = 'pwd; cat /etc/os-release; echo "$A"; exit 9'
    plan = make_plan(request_for("sh", "-c", script, name=name, env={"A": "x y"}), policy)
    bare = subprocess.run(plan.argv, env=plan.environ, stdout=subprocess.PIPE, check=False)
    line = subprocess.run(["sh", "-c", plan.shell()], stdout=subprocess.PIPE, check=False)
    with open(tmp_path / "out", "wb") as f:
        status = run_isolated(plan.request, policy, stdout=f).status
    expected = (9, (tmp_path / "out").read_bytes())

    assert 9 == status
    assert b"x y\n" in expected[1]
    assert expected == (bare.returncode, bare.stdout)
    assert expected == (line.returncode, line.stdout)
    # What argv leaves, callers are told of: the directories of /tmp.
    assert {"tmp", "var_tmp"} >= set(os.listdir(tmp_path / "work"))


@pytest.mark.parametrize("name", ["tiny.sif", "tiny.sqfs"])
def test_binds(request_for, policy, tmp_path, name):
    """Targets that an image file has, and such that it has not, are mounted."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("")
    binds = tuple(Bind(source=str(tmp_path / "data"), target=target) for target in ("/data", "/not/in/the/image"))
    plan = make_plan(request_for("ls", "/data/x", "/not/in/the/image/x", name=name, binds=binds), policy)
    reasons = {bind.target: bind.reason for bind in plan.binds}

    assert 0 == launch.start(plan).wait().exit_code
    assert "the target exists in the image" == reasons["/data"]
    assert "the target is not in the image; the runtime's layer creates it" == reasons["/not/in/the/image"]


PATHS = (
    "/", "/bin/sh", "/etc/passwd", "/var/run", "/usr/bin/env", "/nosuch", "/bin/../etc/hosts", "/etc/passwd/x",
    "/../../bin", "/lib/../lib64", "/usr/share", "/etc/os-release", "/tmp/../srv", "/usr/bin/busybox",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_inside(request_for, policy, image, tmp_path, name):
    """What is said of paths inside is what a payload finds there."""
    script = 'for p; do if [ -d "$p" ]; then echo directory; elif [ -e "$p" ]; then echo file; else echo None; fi; done'
    with open(tmp_path / "out", "wb") as f:
        run_isolated(request_for("sh", "-c", script, "sh", *PATHS, name=name), policy, stdout=f)
    found = inspect_image(image(name), PATHS, 10)

    assert (tmp_path / "out").read_text().split() == [str(look["target_kind"]) for look in found["paths"]]


@pytest.mark.parametrize("compression", ["gzip", "xz", "lzo", "lz4", "zstd"])
def test_every_path(image, squashfs_tool, tmp_path, compression):
    """Every path that unsquashfs lists is found, with its kind and the begin of its content."""
    file = tmp_path / "image.sqfs"
    tree = image("debian11")
    subprocess.run(
        [squashfs_tool("mksquashfs"), f"{tree}/etc", f"{tree}/usr/lib/python3.9", file, "-comp", compression, "-quiet"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    listed = subprocess.run(
        [squashfs_tool("unsquashfs"), "-lln", file], stdout=subprocess.PIPE, check=True, text=True
    ).stdout.splitlines()
    lines = [line.split(maxsplit=5) for line in listed if line[:1] in "-dl" and "squashfs-root/" in line]
    paths = {words[5].partition(" -> ")[0][len("squashfs-root") :]: words[0][0] for words in lines}
    checked = 0
    with open_image(str(file)) as opened:
        for path, letter in paths.items():
            if letter == "l":
                continue
            found = look_up(opened.root, path)
            assert ({"d": "directory", "-": "file"}[letter], path) == (found.kind, found.path)
            if letter == "-":
                source = next(p for p in (f"{tree}/etc{path[4:]}", f"{tree}/usr/lib{path}") if os.path.exists(p))
                with open(source, "rb") as f:
                    assert f.read(300_000) == opened.root.read(found.node, 0, 300_000)
            checked += 1

    assert checked > 500


def test_verified(cli, image, tmp_path):
    """A listed file runs, with its checksum in the record; an altered one does not."""
    file = tmp_path / "image.sif"
    shutil.copy(image("tiny.sif"), file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{sha256}  image.sif\n")
    good = cli.run("--image", file)
    with file.open("r+b") as f:
        f.seek(600_000)
        f.write(b"altered")
    bad = cli.run("--image", file, command=("touch", "/srv/started"))

    assert (0, "success") == (good.status, good.outcome["kind"])
    assert ("file", sha256, [str(tmp_path / "SHA256SUMS")]) == tuple(
        good.records[0][f"wlcg.image.{key}"] for key in ("digest.kind", "digest.value", "verified_by")
    )
    assert (125, "image-digest-mismatch") == (bad.status, bad.outcome["kind"])
    assert not (cli.workdir / "started").exists()


def test_replaced_after_it_was_verified(request_for, policy, image, tmp_path):
    """A file that takes the place of the verified one never sees the payload."""
    file = tmp_path / "image.sif"
    shutil.copy(image("tiny.sif"), file)
    request = attrs.evolve(request_for("touch", "/srv/started"), image=str(file))
    plan = make_plan(request, policy)
    shutil.copy(image("tiny.sif"), tmp_path / "other")
    os.replace(tmp_path / "other", file)
    with pytest.raises(LaunchError) as caught:
        launch.start(plan)

    assert ["image-changed"] == [problem.kind for problem in caught.value.problems]
    assert [] == os.listdir(tmp_path / "work")


@pytest.mark.parametrize("size", [0, 200, 40_000, 1_000_000])
def test_cut_short(cli, image, tmp_path, size):
    """A file that was cut short is refused before the runtime sees it."""
    file = tmp_path / "image.sif"
    shutil.copy(image("tiny.sif"), file)
    os.truncate(file, size)
    ran = cli.run("--image", file)

    assert 125 == ran.status
    assert ran.outcome["kind"] in ("image-corrupt", "image-form-unsupported")


@pytest.fixture(scope="session")
def signed(runtime, image, tmp_path_factory):
    """Sign a SIF with a key made for it; return file and public key."""
    place = tmp_path_factory.mktemp("signed")
    (place / "keys").mkdir(mode=0o700)
    environ = {"PATH": "/usr/bin:/bin", "APPTAINER_CONFIGDIR": str(place), "APPTAINER_KEYSDIR": str(place / "keys")}
    shutil.copy(image("tiny.sif"), place / "image.sif")
    key = ["key", "newpair", "-N", "t", "-E", "t@example.org", "-C", "x", "-P", "", "-U=false", "-b", "2048"]
    for words in (key, ["sign", str(place / "image.sif")]):
        subprocess.run(
            [runtime, *words], env=environ, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    shutil.copy(place / "keys" / "pgp-public", place / "public.gpg")

    return place / "image.sif", str(place / "public.gpg")


def test_signature(signed, runtime, image, tmp_path):
    """A SIF that a key of policy signed is good; without the signature, or altered, it is not."""
    file, key = signed
    shutil.copy(file, tmp_path / "altered.sif")
    with (tmp_path / "altered.sif").open("r+b") as f:
        f.seek(600_000)
        f.write(b"altered")
    place = str(tmp_path / "verified")
    fingerprint = check_sif(str(file), [key], runtime, place, 60)

    assert 40 == len(fingerprint)
    assert fingerprint == check_sif(str(file), [key], "/nosuch", place, 60), "it is remembered"
    for path in (tmp_path / "altered.sif", image("tiny.sif")):
        with pytest.raises(ImageFault, match="no valid signature"):
            check_sif(str(path), [key], runtime, place, 60)


def test_signature_decides(signed, request_for, image, tmp_path):
    """With keys in policy, a signed SIF runs and another does not."""
    file, key = signed
    policy = Policy(image_sif_keys=(key,), image_verified_directory=str(tmp_path / "verified"))
    signed_request = attrs.evolve(request_for("true"), image=str(file))
    with pytest.raises(PlanError) as caught:
        make_plan(attrs.evolve(signed_request, image=image("tiny.sif")), policy)

    assert "success" == run_isolated(signed_request, policy).kind
    assert ["image-unverified"] == [problem.kind for problem in caught.value.problems]


def docker_archive(tree, place):
    """Write a tree as docker save does."""
    with tarfile.open(place / "layer.tar", "w") as tar:
        tar.add(tree, arcname=".")
    digest = hashlib.sha256((place / "layer.tar").read_bytes()).hexdigest()
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}}
    (place / "config.json").write_text(json.dumps({**config, "config": {}}))
    manifest = [{"Config": "config.json", "RepoTags": ["tiny:1"], "Layers": ["layer.tar"]}]
    (place / "manifest.json").write_text(json.dumps(manifest))
    with tarfile.open(place / "image.tar", "w") as tar:
        for name in ("manifest.json", "config.json", "layer.tar"):
            tar.add(place / name, arcname=name)

    return place / "image.tar"


def test_pull(request_for, image, tmp_path):
    """What policy lets the runtime fetch by a URI runs, and leaves nothing; without that it is refused."""
    reference = f"docker-archive:{docker_archive(image('tiny'), tmp_path)}"
    request = attrs.evolve(request_for("cat", "/etc/os-release"), image=reference)
    with pytest.raises(PlanError) as caught:
        make_plan(request, Policy())
    with open(tmp_path / "out", "wb") as f:
        outcome = run_isolated(request, Policy(image_pull=("docker-archive",)), stdout=f)

    assert ["image-pull-refused"] == [problem.kind for problem in caught.value.problems]
    assert "success" == outcome.kind, outcome.message
    assert Path(image("tiny"), "etc/os-release").read_bytes() == (tmp_path / "out").read_bytes()
    assert [] == os.listdir(tmp_path / "work")


GUIDE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "publish-an-image.md"


def test_guide(cli, image, squashfs_tool, tmp_path):
    """The guide's commands make the same file twice, and a descriptor that runs as tree and as file."""
    blocks = re.findall(r"<!-- test: publish -->\n```sh\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    tree = tmp_path / "tree"
    shutil.copytree(image("tiny"), tree, symlinks=True)
    digests = set()
    for out in (tmp_path / "one", tmp_path / "two"):
        out.mkdir()
        environ = {
            "PATH": f"{Path(squashfs_tool('mksquashfs')).parent}:/usr/bin:/bin",
            "TREE": str(tree), "OUT": str(out), "NAME": "tiny", "REFERENCE": "tiny:1",
        }  # fmt: skip
        subprocess.run(["sh", "-euc", "".join(blocks)], env=environ, check=True)
        digests.add((out / "SHA256SUMS").read_text())
        os.utime(tree / "etc")
    reference = tmp_path / "one" / "tiny.sqfs.image.json"
    as_tree = cli.run("--image", reference)
    tree.rename(tmp_path / "gone")
    as_file = cli.run("--image", reference)

    assert 3 == len(blocks)
    assert 1 == len(digests)
    assert ["tree", "squashfs"] == [ran.records[-2]["wlcg.image.form"] for ran in (as_tree, as_file)]
    assert [str(reference), str(tmp_path / "one" / "SHA256SUMS")] == as_file.records[-2]["wlcg.image.verified_by"]
    assert [0, 0] == [as_tree.status, as_file.status]


def test_cvmfs_elsewhere(request_for, image, tmp_path):
    """An image on a CVMFS that is mounted elsewhere runs, and the payload finds CVMFS where it belongs."""
    root = tmp_path / "cvmfs"
    flat = root / "unpacked.cern.ch" / ".flat" / "ab"
    flat.mkdir(parents=True)
    digest = "ab" + "0" * 62
    shutil.copytree(image("tiny"), flat / digest, symlinks=True)
    place = root / "unpacked.cern.ch" / "registry.hub.docker.com" / "grid"
    place.mkdir(parents=True)
    (place / "tiny:1").symlink_to(f"/cvmfs/unpacked.cern.ch/.flat/ab/{digest}")
    policy = Policy(cvmfs_root=str(root))
    request = attrs.evolve(
        request_for("cat", f"/cvmfs/unpacked.cern.ch/.flat/ab/{digest}/etc/group"), image="grid/tiny:1"
    )
    plan = make_plan(request, policy)

    assert (str(flat / digest), "config", digest) == (
        plan.image.resolved_path, plan.image.digest.kind, plan.image.digest.value,
    )  # fmt: skip
    assert 0 == launch.start(plan).wait().exit_code

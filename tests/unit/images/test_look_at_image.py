"""
The look at an image leads where the node's file systems lead.

CVMFS is a faithful tree: links, ``.flat``, ``.multiarch`` and ``.images`` as
the publishers make them, at a root of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from pathlib import Path

import attrs
import pytest

from wlcg_isolate import Payload, Policy, Request
from wlcg_isolate.fitness import choose_image, looked_at
from wlcg_isolate.host import HostFacts
from wlcg_isolate.host.image import look_at_image
from wlcg_isolate.host.processor import as_facts
from wlcg_isolate.images.misfit import Node

NODE = Node(machine="x86_64", kernel="5.14.0", level=3, vsyscall=True, cores=8)
HUB = "registry.hub.docker.com"
CONFIG = "ab" + "0" * 62
LAYERS = "cd" + "1" * 62


def with_shell(elf, **more):
    """Make the smallest system."""
    return {"bin": {"sh": elf}, ".singularity.d": {}, **more}


@pytest.fixture
def cvmfs(tmp_path, unpack, elf_of):
    """Make trees as they are published, with links as their publishers make them."""
    root = tmp_path / "cvmfs"
    x86, arm = with_shell(elf_of()), with_shell(elf_of(machine=183))
    unpacked = {
        ".flat": {"ab": {CONFIG: x86}, "ef": {"ef" + "2" * 62: arm}},
        ".multiarch": {
            "amd64": {HUB: {"cmssw": {"el9:x86_64": f"/cvmfs/unpacked.cern.ch/.flat/ab/{CONFIG}"}}},
            "x86_64": "amd64",
            "arm64": {HUB: {"cmssw": {"el9:latest": "../../../../.flat/ef/ef" + "2" * 62}}},
            "aarch64": "arm64",
            "arm64:v8": {HUB: {"only": {"v8:1": "../../../../.flat/ef/ef" + "2" * 62}}},
        },
        HUB: {
            "cmssw": {"el8:x86_64": f"../../.flat/ab/{CONFIG}", "el9:latest": "../../.flat/ef/ef" + "2" * 62},
            "library": {"alma:9": f"../../.flat/ab/{CONFIG}", "gone:1": "../../.flat/00/gone"},
        },
        ".layers": {},
        ".chains": {},
    }
    osg = {
        ".images": {LAYERS[:2]: {LAYERS[2:]: x86}},
        "htc": {"rocky:9": f"/cvmfs/singularity.opensciencegrid.org/.images/{LAYERS[:2]}/{LAYERS[2:]}"},
    }
    atlas = {"repo": {"containers": {"fs": {"singularity": {"x86_64-el9": x86, "aarch64-el9": arm}}}}}
    unpack(root, {"unpacked.cern.ch": unpacked, "singularity.opensciencegrid.org": osg, "atlas.cern.ch": atlas})
    # As the real client has; nothing here depends on it.
    with contextlib.suppress(OSError):
        os.setxattr(root / "unpacked.cern.ch", "user.revision", b"42")

    return root


@pytest.fixture
def resolve(cvmfs):
    """Resolve a reference on a node with this CVMFS."""

    def make(reference, *, node=NODE, platform_name=None, digest=None, **policy):
        settings = Policy(**{"cvmfs_root": str(cvmfs), "image_verified_directory": "/dev/null/x", **policy})
        request = Request(
            payload=Payload(command=("true",)), image=reference, platform=platform_name, image_digest=digest
        )
        fact = look_at_image(request, settings, node, paths={}, workdir="/tmp")
        facts = HostFacts(
            hostname="n", machine=node.machine, kernel=node.kernel, uid=1, gid=1, cwd="/", environ={}, runtimes=(),
            image=fact, node=as_facts(node),
        )  # fmt: skip
        image, problems = choose_image(request, settings, facts)
        return image, problems, looked_at(request, settings, facts)

    return make


ARM = attrs.evolve(NODE, machine="aarch64", level=None)


@pytest.mark.parametrize(
    ("reference", "node", "path", "resolved", "kind"),
    [
        pytest.param(
            "cmssw/el9:x86_64", NODE, f"unpacked.cern.ch/.multiarch/amd64/{HUB}/cmssw/el9:x86_64",
            f"unpacked.cern.ch/.flat/ab/{CONFIG}", "config", id="new layout, absolute link",
        ),
        pytest.param(
            "cmssw/el8:x86_64", NODE, f"unpacked.cern.ch/{HUB}/cmssw/el8:x86_64",
            f"unpacked.cern.ch/.flat/ab/{CONFIG}", "config", id="old layout",
        ),
        pytest.param(
            "htc/rocky:9", NODE, "singularity.opensciencegrid.org/htc/rocky:9",
            f"singularity.opensciencegrid.org/.images/{LAYERS[:2]}/{LAYERS[2:]}", "layers", id="osg, absolute link",
        ),
        pytest.param(
            "cmssw/el9", ARM, f"unpacked.cern.ch/.multiarch/arm64/{HUB}/cmssw/el9:latest",
            "unpacked.cern.ch/.flat/ef/ef" + "2" * 62, "config", id="arm, no tag",
        ),
        pytest.param(
            "only/v8:1", ARM, f"unpacked.cern.ch/.multiarch/arm64:v8/{HUB}/only/v8:1",
            "unpacked.cern.ch/.flat/ef/ef" + "2" * 62, "config", id="arm with its variant",
        ),
        pytest.param(
            "alma:9", NODE, f"unpacked.cern.ch/{HUB}/library/alma:9", f"unpacked.cern.ch/.flat/ab/{CONFIG}", "config",
            id="official",
        ),
        pytest.param(
            f"docker://{HUB}/cmssw/el8:x86_64", NODE, f"unpacked.cern.ch/{HUB}/cmssw/el8:x86_64",
            f"unpacked.cern.ch/.flat/ab/{CONFIG}", "config", id="uri that is published",
        ),
        pytest.param(
            f"/cvmfs/unpacked.cern.ch/.multiarch/x86_64/{HUB}/cmssw/el9:x86_64", NODE,
            f"unpacked.cern.ch/.multiarch/x86_64/{HUB}/cmssw/el9:x86_64", f"unpacked.cern.ch/.flat/ab/{CONFIG}",
            "config", id="path through an alias",
        ),
        pytest.param(
            "/cvmfs/atlas.cern.ch/repo/containers/fs/singularity/x86_64-el9", NODE,
            "atlas.cern.ch/repo/containers/fs/singularity/x86_64-el9",
            "atlas.cern.ch/repo/containers/fs/singularity/x86_64-el9", "none", id="path",
        ),
    ],
)  # fmt: skip
def test_published(cvmfs, resolve, reference, node, path, resolved, kind):
    """A name leads to the tree that is published for this node, wherever CVMFS is mounted."""
    image, problems, looks = resolve(reference, node=node)

    assert [] == problems
    assert (f"{cvmfs}/{path}", f"{cvmfs}/{resolved}", kind) == (image.path, image.resolved_path, image.digest.kind)
    assert (image.path, "taken") == looks[-1]
    assert all(look.verdict == "does not exist" for look in looks[:-1])


def test_wrong_architecture_in_the_old_layout(cvmfs, resolve):
    """What the name does not tell, the ELF header does; the search goes on."""
    _, (problem,), looks = resolve("cmssw/el9:latest")
    verdicts = {look.path[len(str(cvmfs)) :]: look.verdict for look in looks}

    assert "image-wrong-architecture" == problem.kind
    assert "is built for aarch64; this node is x86_64" == verdicts[f"/unpacked.cern.ch/{HUB}/cmssw/el9:latest"]
    assert (
        "published for aarch64; this node is x86_64"
        == verdicts[f"/unpacked.cern.ch/.multiarch/arm64/{HUB}/cmssw/el9:latest"]
    )


def test_only_published_for_another_architecture(resolve):
    """That it is there for others is the reason."""
    _, (problem,), _ = resolve("only/v8:1")

    assert "image-wrong-architecture" == problem.kind
    assert "there is no image 'only/v8:1' for this node, only for aarch64: " in problem.message


def test_not_published(resolve):
    """What is nowhere is missing, with every place that was looked at."""
    _, (problem,), looks = resolve("no/such:1")

    assert "image-missing" == problem.kind
    assert 3 == problem.message.count("does not exist")
    assert 3 < len(looks)


def test_dangling_tag(resolve):
    """A tag whose tree is gone is missing."""
    _, (problem,), _ = resolve("gone:1")

    assert "image-missing" == problem.kind


def test_names_of_policy(cvmfs, resolve):
    """A platform leads to the path of policy, on CVMFS as it is mounted here."""
    names = {"el9": "/cvmfs/atlas.cern.ch/repo/containers/fs/singularity/{arch}-el9", "el8": "/nosuch"}
    image, _, looks = resolve(None, platform_name="rhel8,x86_64-centos9-gcc13-opt", image_names=names)

    assert f"{cvmfs}/atlas.cern.ch/repo/containers/fs/singularity/x86_64-el9" == image.path
    assert [("/nosuch", "does not exist"), (image.path, "taken")] == list(looks)


def test_wrong_architecture_of_a_path(resolve):
    """A path of another architecture is refused with that."""
    _, (problem,), _ = resolve("/cvmfs/atlas.cern.ch/repo/containers/fs/singularity/aarch64-el9")

    assert "image-wrong-architecture" == problem.kind


def test_outside_of_the_roots(cvmfs, resolve, tmp_path):
    """A link out of the allowed directories is refused by where it leads."""
    (tmp_path / "outside").mkdir()
    (cvmfs / "link").symlink_to(tmp_path / "outside")
    _, problems, _ = resolve("/cvmfs/link", image_allowed_roots=(str(cvmfs),))

    assert "image-not-allowed" in [problem.kind for problem in problems]


def test_moved_tag(cvmfs, resolve):
    """A tag that moves after it was resolved changes nothing."""
    image, _, _ = resolve("cmssw/el8:x86_64")
    tag = cvmfs / "unpacked.cern.ch" / HUB / "cmssw" / "el8:x86_64"
    tag.unlink()
    tag.symlink_to("../../.flat/ef/ef" + "2" * 62)

    assert f"{cvmfs}/unpacked.cern.ch/.flat/ab/{CONFIG}" == image.resolved_path


def test_list_goes_on_to_what_fits(resolve, unpack, tmp_path, elf_of):
    """In a list, what needs a newer processor gives way to what runs here."""
    unpack(tmp_path / "el10", with_shell(elf_of(level=3)))
    unpack(tmp_path / "el9", with_shell(elf_of(level=2)))
    names = {"el10": str(tmp_path / "el10"), "el9": str(tmp_path / "el9")}
    old, new = attrs.evolve(NODE, level=2), NODE

    assert names["el9"] == resolve("el10,el9", node=old, image_names=names)[0].path
    assert names["el10"] == resolve("el10,el9", node=new, image_names=names)[0].path


def test_fallback_warns(resolve, unpack, tmp_path, elf_of):
    """What nobody asked for is taken last, and with a warning."""
    unpack(tmp_path / "spare", with_shell(elf_of()))
    image, _, _ = resolve("/nosuch", image_fallback=(str(tmp_path / "spare"),))

    assert str(tmp_path / "spare") == image.path
    assert any("image.fallback names" in warning for warning in image.warnings)


@pytest.fixture
def both(tmp_path, unpack, system, squashfs_of, sif_of):
    """Make an image in both forms, with its descriptor."""
    place = tmp_path / "both"
    unpack(place / "tree", system)
    data = sif_of(squashfs_of(system, compress=True))
    (place / "image.sif").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    descriptor = {"tree": {"path": "tree"}, "file": {"name": "image.sif", "sha256": sha256, "size": len(data)}}
    (place / "image.sif.image.json").write_text(json.dumps(descriptor))

    return place


def test_descriptor(resolve, both):
    """A descriptor leads to the tree, or to the file where the tree is not there."""
    reference = str(both / "image.sif.image.json")
    tree, _, _ = resolve(reference)
    file, _, _ = resolve(reference, image_prefer=("file", "tree"))
    os.rename(both / "tree", both / "gone")
    rest, _, looks = resolve(reference)

    assert ("tree", "sif", "sif") == (tree.form, file.form, rest.form)
    assert [str(both / name) for name in ("image.sif.image.json", "tree", "image.sif")] == [x.path for x in looks]
    assert (str(both / "image.sif.image.json"),) == rest.verified_by


def test_file_is_verified(resolve, both):
    """A file with a descriptor is verified by it."""
    image, problems, _ = resolve(str(both / "image.sif"))

    assert ([], "file", "sif") == (problems, image.digest.kind, image.form)
    assert image.identity is not None


@pytest.mark.parametrize(
    ("digest", "kinds"), [("a" * 64, ["image-digest-mismatch"]), (None, [])], ids=["other", "the file's own"]
)
def test_checksum_in_the_request(resolve, both, digest, kinds):
    """The request's checksum must hold as well."""
    value = digest or hashlib.sha256((both / "image.sif").read_bytes()).hexdigest()
    _, problems, _ = resolve(str(both / "image.sif"), digest=f"sha256:{value}")

    assert kinds == [problem.kind for problem in problems]


def test_altered_file(resolve, both):
    """A file that is not the published one is refused."""
    with (both / "image.sif").open("r+b") as f:
        f.seek(-1, os.SEEK_END)
        f.write(b"\xff")
    _, problems, _ = resolve(str(both / "image.sif"))

    assert ["image-digest-mismatch"] == [problem.kind for problem in problems]


def test_unlisted(resolve, both):
    """Policy may ask for a checksum of every file."""
    (both / "image.sif.image.json").unlink()
    warned, _, _ = resolve(str(both / "image.sif"))
    _, problems, _ = resolve(str(both / "image.sif"), image_unlisted=False)

    assert any("it was not verified" in warning for warning in warned.warnings)
    assert ["image-unlisted"] == [problem.kind for problem in problems]


@pytest.mark.parametrize("size", [0, 10, 100, 5000, 7000])
def test_cut_file(resolve, both, size):
    """A file that was cut short is refused before it is started."""
    os.truncate(both / "image.sif", size)
    _, problems, _ = resolve(str(both / "image.sif"))

    assert problems[0].kind in ("image-corrupt", "image-form-unsupported")


def test_no_answer(resolve, both, mocker):
    """An image that does not answer is no answer, not a missing one."""
    mocker.patch("wlcg_isolate.host.image.within", return_value=None)
    _, problems, _ = resolve(str(both / "tree"))

    assert ["image-no-answer"] == [problem.kind for problem in problems]


def test_unreadable(resolve, both, mocker):
    """A file that may not be read is told as that."""
    mocker.patch("wlcg_isolate.host.image.open_image", side_effect=PermissionError(13, "Permission denied"))
    _, problems, _ = resolve(str(both / "image.sif"))

    assert ["image-unreadable"] == [problem.kind for problem in problems]


def test_targets_in_a_file(resolve, both):
    """Targets of binds are looked up in a file as in a tree."""
    request = Request(payload=Payload(command=("true",)), image=str(both / "image.sif"))
    file = look_at_image(request, Policy(), NODE, paths={}, prove=False)
    request = attrs.evolve(request, image=str(both / "tree"))
    tree = look_at_image(request, Policy(), NODE, paths={}, prove=False)

    assert dict(tree.targets) == dict(file.targets)
    assert ("/srv", "directory") == (file.targets["/srv"].path, file.targets["/srv"].kind)


def test_what_is_looked_at_is_what_is_judged(resolve):
    """The look ends where the choice takes, and never before."""
    for reference in ("cmssw/el9:x86_64", "cmssw/el8:x86_64", "htc/rocky:9", "alma:9"):
        image, _, looks = resolve(reference)
        assert [look.path for look in looks if look.verdict == "taken"] == [image.path]
        assert looks[-1].path == image.path


def test_this_machine(resolve, unpack, tmp_path):
    """The tree of a real program is of this machine."""
    unpack(tmp_path / "own", {"bin": {}})
    (tmp_path / "own" / "bin" / "sh").write_bytes(Path("/bin/sh").read_bytes())
    image, problems, _ = resolve(str(tmp_path / "own"), node=attrs.evolve(NODE, machine=platform.machine()))

    assert ([], platform.machine()) == (problems, image.architecture)

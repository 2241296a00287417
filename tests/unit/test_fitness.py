"""
An image is taken as it is pinned, or refused with everything that is wrong.
"""

from __future__ import annotations

import pytest

from wlcg_isolate import Policy
from wlcg_isolate.fitness import Image, LookedAt, choose_image, looked_at
from wlcg_isolate.fitness.mounting import decide_mount
from wlcg_isolate.host import NodeFacts, PathFact, TargetFact
from wlcg_isolate.images.catalogue import Candidate
from wlcg_isolate.images.contents import Contents
from wlcg_isolate.images.digests import Digest, Proof


def look(state, **more):
    """Make a look at the image's path that found no readable directory."""
    return PathFact(**{"path": "/image", "state": state, **more})


def test_good_image(facts, image_fact, present, request_for):
    """A tree is pinned to where its links lead."""
    root = present("/cvmfs/repo/el9", resolved="/cvmfs/repo/.flat/17", is_link=True)
    expected = Image(
        requested="el9",
        path="/cvmfs/repo/el9",
        resolved_path="/cvmfs/repo/.flat/17",
        form="tree",
        architecture="x86_64",
        looked_at=(LookedAt("/cvmfs/repo/el9", "taken"),),
    )

    policy = Policy(image_names={"el9": "/cvmfs/repo/el9"})
    actual = choose_image(request_for(image="el9"), policy, facts(image=image_fact(requested="el9", root=root)))

    assert (expected, []) == actual


@pytest.mark.parametrize("machine", [None, "x86_64"])
def test_architecture(facts, image_fact, request_for, machine):
    """A shell that tells no architecture is no reason to refuse."""
    image, problems = choose_image(request_for(), Policy(), facts(image=image_fact(machine=machine)))

    assert [] == problems
    assert machine == image.architecture


@pytest.mark.parametrize(
    ("overrides", "kind", "message", "origin"),
    [
        pytest.param({"image": None}, "image-not-named", "no image is named", "request", id="not named"),
        pytest.param(
            {"image": "el9"}, "image-unknown", "policy maps 'el9' to no path", "--image", id="name without a path"
        ),
        pytest.param(
            {"image": None, "platform": "el9"},
            "image-unknown",
            "policy maps 'el9' to no path",
            "--platform",
            id="platform without a path",
        ),
        pytest.param(
            {"image": "a", "platform": "b"},
            "image-unknown",
            "policy maps 'a' to no path",
            "--image",
            id="image before platform",
        ),
        pytest.param(
            {"image": "./tree"},
            "image-reference-invalid",
            "'./tree' is no usable image reference: a part of it is empty or '.'",
            "--image",
            id="relative path",
        ),
        pytest.param(
            {"image": "docker://alma:9"},
            "image-pull-refused",
            "docker://alma:9 would be pulled by docker for this payload",
            "--image",
            id="docker",
        ),
        pytest.param(
            {"image": "oras://host/a/b:1"},
            "image-pull-refused",
            "oras://host/a/b:1 would be pulled by oras for this payload",
            "--image",
            id="oras",
        ),
    ],
)
def test_no_path(facts, request_for, overrides, kind, message, origin):
    """A reference that leads to no path is refused by the kind of its reason."""
    image, problems = choose_image(request_for(**overrides), Policy(), facts(image=None))

    assert None is image
    assert [(kind, message, origin)] == [(p.kind, p.message, p.origin) for p in problems]


SHELL = "/bin/sh"


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        pytest.param(
            {"root": look("missing", reason="No such file or directory"), "form": None},
            "image-missing",
            "/image does not exist",
            id="missing",
        ),
        pytest.param(
            {"root": look("no-answer", reason="no answer within 20 s"), "form": None},
            "image-no-answer",
            "/image gives no answer: no answer within 20 s",
            id="no answer",
        ),
        pytest.param(
            {"root": look("unreadable", reason="Permission denied"), "form": None},
            "image-unreadable",
            "/image cannot be read: Permission denied",
            id="unreadable",
        ),
        pytest.param(
            {"root": look("present", kind="directory", resolved="/image"), "form": None},
            "image-unreadable",
            "/image cannot be read",
            id="no right to read",
        ),
        *(
            pytest.param(
                {"root": look("present", kind="file", resolved="/image", readable=True), "form": form},
                "image-form-unsupported",
                f"/image is no image that runs here (it looks like: {form})",
                id=form,
            )
            for form in ("ext3", "unknown")
        ),
        pytest.param({"targets": {}}, "image-no-shell", "/image holds no /bin/sh", id="shell not looked up"),
        *(
            pytest.param(
                {"targets": {SHELL: TargetFact(path=SHELL, kind=kind, resolves_to=SHELL)}, "machine": None},
                "image-no-shell",
                "/image holds no /bin/sh",
                id=f"shell is {kind}",
            )
            for kind in (None, "directory", "other")
        ),
        pytest.param(
            {"targets": {SHELL: TargetFact(path=SHELL, reason="Permission denied")}, "machine": None},
            "image-no-shell",
            "/image holds no /bin/sh: Permission denied",
            id="shell cannot be told",
        ),
        *(
            pytest.param(
                {"machine": machine, "contents": Contents(shell=True, machine=machine)},
                "image-wrong-architecture",
                f"/image is built for {machine}; this node is x86_64",
                id=machine,
            )
            for machine in ("aarch64", "ppc64le", "unknown")
        ),
    ],
)
def test_refused(facts, image_fact, request_for, overrides, kind, message):
    """An image that cannot be run is refused by the kind of its reason."""
    image, problems = choose_image(request_for(), Policy(), facts(image=image_fact(**overrides)))

    assert None is image
    assert [(kind, message, "/image")] == [(p.kind, p.message, p.origin) for p in problems]


def test_no_shell_is_needed(facts, image_fact, request_for):
    """Where the loader starts the payload, an image needs no shell."""
    node = facts(image=image_fact(targets={}, machine=None), loader_fault=None)
    image, problems = choose_image(request_for(), Policy(), node)

    assert ("/image", None, []) == (image.path, image.architecture, problems)


def test_node_of_other_architecture(facts, image_fact, request_for):
    """The node's own architecture is what counts."""
    image = image_fact(contents=Contents(shell=True, machine="x86_64"))
    _, problems = choose_image(request_for(), Policy(), facts(machine="aarch64", image=image))

    assert ["/image is built for x86_64; this node is aarch64"] == [problem.message for problem in problems]


FILE = {"form": "sif", "size": 100 << 20, "inodes": 5000, "unsquashfs": "/usr/bin/unsquashfs", "room": 1 << 40}
GOOD = Digest(kind="file", value="a" * 64)


@pytest.fixture
def image_file(image_fact, present):
    """Make the fact of a good image file."""
    root = present("/image", kind="file")

    return lambda **more: image_fact(**{"root": root, **FILE, **more})


@pytest.mark.parametrize(
    ("proof", "policy", "request_more", "kind"),
    [
        (None, {}, {}, None),
        (Proof(verdict="verified", digest=GOOD, identity=(1, 2, 3, 4, 5), sources=("list",)), {}, {}, None),
        (Proof(verdict="unlisted"), {}, {}, None),
        (Proof(verdict="unlisted"), {"image_unlisted": False}, {}, "image-unlisted"),
        (Proof(verdict="mismatch", reason="x"), {}, {}, "image-digest-mismatch"),
        (Proof(verdict="failed", kind="image-unverified", reason="x"), {}, {}, "image-unverified"),
        (Proof(verdict="failed", kind="image-list-invalid", reason="x"), {}, {}, "image-list-invalid"),
    ],
    ids=lambda value: getattr(value, "verdict", str(value)),
)
def test_proof(facts, image_file, request_for, proof, policy, request_more, kind):
    """What a checksum said decides."""
    image, problems = choose_image(request_for(**request_more), Policy(**policy), facts(image=image_file(proof=proof)))

    assert ([] if kind is None else [kind]) == [problem.kind for problem in problems]
    if image is not None and proof is not None and proof.verdict == "verified":
        assert (GOOD, (1, 2, 3, 4, 5), ("list",)) == (image.digest, image.identity, image.verified_by)


def test_checksum_for_a_tree(facts, request_for):
    """A file's checksum is never compared with a tree."""
    _, problems = choose_image(request_for(image_digest="sha256:" + "a" * 64), Policy(), facts())

    assert ["image-unverified"] == [problem.kind for problem in problems]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/cvmfs/unpacked.cern.ch/.flat/aa/" + "a" * 64, "config"),
        ("/cvmfs/singularity.opensciencegrid.org/.images/aa/" + "a" * 62, "layers"),
        ("/cvmfs/x", "none"),
    ],
)
def test_digest_of_a_tree(facts, image_fact, present, request_for, path, kind):
    """The digest in a path is recorded with its kind."""
    image, _ = choose_image(request_for(), Policy(), facts(image=image_fact(root=present("/i", resolved=path))))

    assert kind == image.digest.kind


@pytest.mark.parametrize(
    ("roots", "kinds"),
    [
        (("/",), []),
        (("/image",), []),
        (("/cvmfs", "/im"), ["image-not-allowed"]),
        (("/cvmfs",), ["image-not-allowed"]),
    ],
)
def test_allowed_roots(facts, request_for, roots, kinds):
    """An image must really lie where policy allows it."""
    _, problems = choose_image(request_for(), Policy(image_allowed_roots=roots), facts())

    assert kinds == [problem.kind for problem in problems]


def test_link_out_of_the_roots(facts, image_fact, present, request_for):
    """It is the end of the links that counts."""
    image = image_fact(root=present("/cvmfs/x", resolved="/tmp/x"))
    _, problems = choose_image(request_for(), Policy(image_allowed_roots=("/cvmfs",)), facts(image=image))

    assert ["/tmp/x lies below no allowed directory: /cvmfs"] == [p.message for p in problems]


def candidate(path, **more):
    """Make a place to look at."""
    return Candidate(path=path, reference="a/b:1", source="image.search", **more)


def test_first_good_one(facts, image_fact, present, request_for):
    """Every place has its verdict, in the order of looking."""
    others = (
        image_fact(root=look("missing"), form=None, candidate=candidate("/image"), number=0),
        image_fact(root=present("/b"), contents=Contents(shell=True, machine="ppc64le"), number=1),
        image_fact(root=present("/d"), candidate=candidate("/d", usable=False, architecture="aarch64"), number=3),
    )
    image = image_fact(root=present("/c"), candidate=candidate("/c"), others=others, number=2, requested="a/b:1")
    chosen, problems = choose_image(request_for(image="a/b:1"), Policy(), facts(image=image))

    assert [] == problems
    assert (
        LookedAt("/image", "does not exist"),
        LookedAt("/b", "is built for ppc64le; this node is x86_64"),
        LookedAt("/c", "taken"),
        LookedAt("/d", "published for aarch64; this node is x86_64"),
    ) == chosen.looked_at


def test_none_is_good(facts, image_fact, present, request_for):
    """When no place is good, one problem tells of all that matter."""
    others = (
        image_fact(root=present("/d"), candidate=candidate("/d", usable=False, architecture="aarch64"), number=1),
        image_fact(root=look("missing"), candidate=candidate("/e", usable=False, architecture="ppc64le"), number=2),
    )
    image = image_fact(root=look("missing"), form=None, candidate=candidate("/image"), others=others, requested="a/b:1")
    _, (problem,) = choose_image(request_for(image="a/b:1"), Policy(), facts(image=image))

    assert "image-wrong-architecture" == problem.kind
    assert (
        "there is no image 'a/b:1' for this node, only for aarch64: /image does not exist; "
        "/d published for aarch64; this node is x86_64"
    ) == problem.message


def test_names_are_looked_at_too(facts, request_for):
    """A name that led to no place is among what was looked at."""
    looks = looked_at(request_for(image="el6,/image"), Policy(), facts())

    assert ["policy maps 'el6' to no path", "taken"] == [look.verdict for look in looks]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"candidate": candidate("/image", fallback=True)}, "which image.fallback names"),
        ({"contents": Contents(shell=True, machine="x86_64")}, "has no /.singularity.d"),
        ({"label": "aarch64"}, "is labelled aarch64, and its programs are for x86_64"),
        ({"proof": Proof(verdict="unlisted"), "form": "sif"}, "it was not verified"),
    ],
    ids=str,
)
def test_warnings(facts, image_fact, request_for, more, words):
    """What refuses nothing is told."""
    image, problems = choose_image(request_for(), Policy(), facts(image=image_fact(**more)))

    assert [] == problems
    assert any(words in warning for warning in image.warnings)


FUSE = {"kind": "other", "resolved": "/dev/fuse"}


@pytest.mark.parametrize(
    ("more", "mode", "fuse", "mount", "kinds", "warned"),
    [
        pytest.param({}, "userns", True, "fuse", [], [], id="fuse"),
        pytest.param({}, "userns", False, "unpack", [], ["unpacked for this payload"], id="no fuse"),
        pytest.param({}, "setuid", False, "setuid", [], [], id="set-uid"),
        pytest.param(
            {"unsquashfs": None}, "userns", False, "unpack", ["image-cannot-be-mounted"], [], id="no unsquashfs"
        ),
        pytest.param({"unsquashfs": None}, "userns", True, "fuse", [], [], id="no unsquashfs needed"),
        pytest.param({"room": 1 << 20}, "userns", False, "unpack", ["image-cannot-be-mounted"], [], id="no room"),
        pytest.param({"room": None}, "userns", False, "unpack", [], ["unpacked"], id="room unknown"),
    ],
)
def test_mount(facts, image_file, request_for, more, mode, fuse, mount, kinds, warned):
    """How a file becomes a root is decided before the start."""
    device = look("present", **FUSE, readable=fuse, writable=fuse)
    found = facts(image=image_file(**more), paths={"/dev/fuse": device})
    image, _ = choose_image(request_for(), Policy(), found)
    image, problems = decide_mount(image, Policy(), found, mode=mode, place="/work")

    assert (mount, kinds) == (image.mount, [problem.kind for problem in problems])
    assert all(any(words in warning for warning in image.warnings) for words in warned)


def test_cost_of_unpacking(facts, image_file, request_for):
    """Time and space of unpacking are told, with the place."""
    found = facts(image=image_file(), paths={"/dev/fuse": look("missing")})
    image, _ = choose_image(request_for(), Policy(), found)
    image, _ = decide_mount(image, Policy(), found, mode="userns", place="/work")

    assert any("about 300 MiB in /work, and" in warning for warning in image.warnings)


@pytest.mark.parametrize(("cores", "warned"), [(8, False), (16, True), (64, True), (None, False)])
def test_many_cores(facts, image_file, request_for, cores, warned):
    """A file on FUSE for many processors is warned of."""
    node = NodeFacts(cores=cores)
    found = facts(image=image_file(), node=node)
    image, _ = choose_image(request_for(), Policy(), found)
    image, _ = decide_mount(image, Policy(), found, mode="userns", place="/work")

    assert warned == any("one FUSE process" in warning for warning in image.warnings)


def test_tree_needs_no_mount(facts, request_for):
    """A tree is a root already."""
    image, _ = choose_image(request_for(), Policy(), facts())

    assert (image, []) == decide_mount(image, Policy(), facts(), mode="userns", place="/work")


@pytest.mark.parametrize("fuse", [True, False])
def test_pull(facts, image_fact, present, request_for, fuse):
    """What policy lets the runtime pull is taken as it is named."""
    image = image_fact(form="uri", root=present("oras://h.example/a:1"), machine=None, targets={})
    request = request_for(image="oras://h.example/a:1")
    device = look("present", **FUSE, readable=fuse, writable=fuse)
    found = facts(image=image, paths={"/dev/fuse": device})
    chosen, problems = choose_image(request, Policy(image_pull=("oras",)), found)
    chosen, more = decide_mount(chosen, Policy(), found, mode="userns", place="/work")

    assert ([], []) == (problems, more)
    assert ("oras://h.example/a:1", "pull-fuse" if fuse else "pull-unpack") == (chosen.resolved_path, chosen.mount)

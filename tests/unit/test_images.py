"""
An image is taken as it is pinned, or refused with everything that is wrong.
"""

from __future__ import annotations

import pytest

from wlcg_isolate import Policy
from wlcg_isolate.host import PathFact, TargetFact
from wlcg_isolate.images import Image, choose_image


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
    )

    actual = choose_image(request_for(image="el9"), Policy(), facts(image=image_fact(requested="el9", root=root)))

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
            {"image": "./tree"}, "image-unknown", "policy maps './tree' to no path", "--image", id="relative path"
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
                f"/image is no unpacked tree (it looks like: {form})",
                id=form,
            )
            for form in ("sif", "squashfs", "ext3", "unknown")
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
                {"machine": machine},
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


def test_node_of_other_architecture(facts, request_for):
    """The node's own architecture is what counts."""
    _, problems = choose_image(request_for(), Policy(), facts(machine="aarch64"))

    assert ["/image is built for x86_64; this node is aarch64"] == [problem.message for problem in problems]

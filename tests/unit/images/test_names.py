"""
Names are read by their form, and lead nowhere but where they say.
"""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from wlcg_isolate import Policy, Problem
from wlcg_isolate.images.catalogue import candidates
from wlcg_isolate.images.names import Reference, parse_reference

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/cvmfs/x/y:z", {"kind": "path"}),
        ("/", {"kind": "path"}),
        ("el9", {"kind": "name"}),
        ("x86_64-el7-gcc12-opt", {"kind": "name"}),
        ("cmssw/el9:x86_64", {"kind": "oci", "repository": "cmssw/el9", "tag": "x86_64"}),
        ("cmssw/el9", {"kind": "oci", "repository": "cmssw/el9"}),
        ("alma:9", {"kind": "oci", "repository": "alma", "tag": "9"}),
        ("ghcr.io/a/b:1", {"kind": "oci", "registry": "ghcr.io", "repository": "a/b", "tag": "1"}),
        ("host.example:5005/a/b", {"kind": "oci", "registry": "host.example:5005", "repository": "a/b"}),
        ("localhost/a:1", {"kind": "oci", "registry": "localhost", "repository": "a", "tag": "1"}),
        (f"a/b:1@{DIGEST}", {"kind": "oci", "repository": "a/b", "tag": "1", "digest": DIGEST}),
        (f"a@{DIGEST}", {"kind": "oci", "repository": "a", "digest": DIGEST}),
        ("docker://a/b:1", {"kind": "uri", "scheme": "docker", "repository": "a/b", "tag": "1"}),
        ("oras://h.example/a:1", {"kind": "uri", "scheme": "oras"}),
        ("https://h.example/a.sif", {"kind": "uri", "scheme": "https"}),
        ("oci-archive:/x.tar", {"kind": "uri", "scheme": "oci-archive"}),
        ("docker-archive:x.tar", {"kind": "uri", "scheme": "docker-archive"}),
    ],
    ids=repr,
)
def test_read(text, expected):
    """Each form is taken for what it is."""
    assert Reference(text=text, **expected) == parse_reference(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a/../b", "it holds '..'"),
        ("../b", "it holds '..'"),
        ("/cvmfs/../etc", "it holds '..'"),
        ("/..", "it holds '..'"),
        ("docker:///etc/passwd", "an absolute path stands"),
        ("docker://a/../../b", "it holds '..'"),
        ("a//b", "a part of it is empty"),
        ("./tree", "a part of it is empty or '.'"),
        ("a/", "a part of it is empty"),
        ("a/b:", "it is neither"),
        ("a/b:tag/../x", "it holds '..'"),
        ("a/b:tag/x", "it is neither"),
        ("a b/c", "it is neither"),
        ("a/b@sha256:12", "it is neither"),
        ("a/b\n", "it is neither"),
        ("a/$(id)", "it is neither"),
        ("-v/x", "it is neither"),
    ],
    ids=repr,
)
def test_refused(text, words):
    """What leads elsewhere, or is no name, is refused with the reason."""
    problem = parse_reference(text)

    assert ("image-reference-invalid", "--image") == (problem.kind, problem.origin)
    assert words in problem.message


ROOTS = ("/cvmfs/unpacked.cern.ch/", "/cvmfs/singularity.opensciencegrid.org/")


@given(st.text(st.sampled_from("ab:/.-@_09\\ \n$"), min_size=1, max_size=30))
def test_never_leads_out(text):
    """No name leads out of the directories of the layouts."""
    places, problems = candidates(text, None, Policy(), "x86_64")

    assert places or problems or not text.replace(",", "").strip()
    for place in places:
        assert ".." not in place.path.split("/")
        if not text.strip().startswith("/"):
            assert place.path.startswith(ROOTS)


def paths(image, platform=None, machine="x86_64", **policy):
    """List the paths that are to be looked at, those that may be taken first."""
    places, _ = candidates(image, platform, Policy(**policy), machine)

    return [place.path for place in places if place.usable]


def problems_of(image, platform=None, machine="x86_64", **policy):
    """List the kinds of problems."""
    return [p.kind for p in candidates(image, platform, Policy(**policy), machine)[1]]


HUB = "registry.hub.docker.com"
UNPACKED = "/cvmfs/unpacked.cern.ch"
OSG = "/cvmfs/singularity.opensciencegrid.org"


def test_layouts():
    """An OCI name is looked for in all layouts, the new one first."""
    assert [
        f"{UNPACKED}/.multiarch/amd64/{HUB}/cmssw/el7:x86_64",
        f"{UNPACKED}/{HUB}/cmssw/el7:x86_64",
        f"{OSG}/cmssw/el7:x86_64",
    ] == paths("cmssw/el7:x86_64")


def test_spellings_of_arm():
    """On 64-bit Arm both spellings of the new layout are tried."""
    assert [
        f"{UNPACKED}/.multiarch/arm64/ghcr.io/a/b:1",
        f"{UNPACKED}/.multiarch/arm64:v8/ghcr.io/a/b:1",
        f"{UNPACKED}/ghcr.io/a/b:1",
        f"{OSG}/a/b:1",
    ] == paths("ghcr.io/a/b:1", machine="aarch64")


def test_without_a_tag():
    """Without a tag, those of the architecture come before the latest."""
    assert [f"{OSG}/cmssw/el9:{tag}" for tag in ("x86_64", "amd64", "latest")] == paths("cmssw/el9")[-3:]
    assert [f"{OSG}/cmssw/el9:{tag}" for tag in ("aarch64", "arm64", "latest")] == paths(
        "cmssw/el9", machine="aarch64"
    )[-3:]


def test_official():
    """A name of one part is one of Docker's own."""
    assert f"{UNPACKED}/{HUB}/library/alma:9" in paths("alma:9")


def test_other_architectures_are_told():
    """Places of other architectures are looked at last, and never taken."""
    places, _ = candidates("a/b:1", None, Policy(), "x86_64")
    usable = [place.usable for place in places]

    assert usable == sorted(usable, reverse=True)
    assert {"aarch64", "ppc64le"} == {place.architecture for place in places if not place.usable}


def test_search_is_policy():
    """Order, layouts, registries and tags are those of policy."""
    assert ["/x/r1/a/b-t1", "/x/r1/a/b-t2", "/x/r2/a/b-t1", "/x/r2/a/b-t2"] == paths(
        "a/b",
        image_search=("/x/{registry}/{repository}-{tag}",),
        image_registries=("r1", "r2"),
        image_tags=("t1", "t2"),
    )


def test_search_by_the_last_part():
    """A layout may ask for the last part of a repository only, and for no tag, and is then looked at once."""
    layouts = ("/x/{name}:{tag}", "/x/{name}", "/y/{repository}")

    assert ["/x/b:t", "/x/b", "/y/a/b"] == paths("r.io/a/b:t", image_search=layouts)
    assert ["/x/b", "/y/library/b"] == paths("docker://b", image_search=layouts[1:], image_tags=("t1", "t2"))[:2]


NAMES = {
    "el9": "/images/{arch}-el9",
    "rhel8": {"x86_64": "/images/el8-x86", "aarch64": "/images/el8-arm"},
    "el7": "/images/{goarch}/el7",
    "my-own": "/images/mine",
}


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("el9", ["/images/x86_64-el9"]),
        ("alma9", ["/images/x86_64-el9"]),
        ("x86_64-el9-gcc12-opt", ["/images/x86_64-el9"]),
        ("el8", ["/images/el8-x86"]),
        ("rhel8", ["/images/el8-x86"]),
        ("slc7", ["/images/amd64/el7"]),
        ("el7_amd64_gcc12", ["/images/amd64/el7"]),
        ("my-own", ["/images/mine"]),
        ("special", ["/images/amd64/el7"]),
        ("special-64", ["/images/amd64/el7"]),
        ("el9,el8", ["/images/x86_64-el9", "/images/el8-x86"]),
        ("rhel8, rhel9 ,el7", ["/images/el8-x86", "/images/x86_64-el9", "/images/amd64/el7"]),
        ("any", ["/images/x86_64-el9", "/images/el8-x86", "/images/amd64/el7", "/images/mine"]),
    ],
)
def test_platforms(reference, expected):
    """Platforms in all spellings, and lists of them in their order, lead to the paths of policy."""
    more = {"special": "el7", "special-64": "el7/x86_64"}

    assert expected == paths(None, reference, image_names=NAMES, image_platforms=more)
    assert expected == paths(reference, None, image_names=NAMES, image_platforms=more)


@pytest.mark.parametrize(
    ("image", "platform", "machine", "kind"),
    [
        (None, "el6", "x86_64", "image-unknown"),
        ("el6", None, "x86_64", "image-unknown"),
        (None, "aarch64-el9", "x86_64", "image-wrong-architecture"),
        (None, "x86_64-el8", "aarch64", "image-wrong-architecture"),
        ("oras://h.example/x:1", None, "x86_64", "image-pull-refused"),
        ("docker://a/b:1", None, "x86_64", "image-pull-refused"),
        (f"a/b@{DIGEST}", None, "x86_64", "image-unknown"),
    ],
)
def test_names_that_lead_nowhere(image, platform, machine, kind):
    """A name without a path is refused by the kind of its reason."""
    assert [kind] == problems_of(image, platform, machine, image_names=NAMES)


def test_only_for_another_architecture():
    """An image that policy has for another architecture is listed, and not to be taken."""
    places, problems = candidates(None, "el8", Policy(image_names={"el8": {"aarch64": "/arm"}}), "x86_64")

    assert ["image-other-architecture"] == [problem.kind for problem in problems]
    assert [("/arm", "aarch64", False)] == [(p.path, p.architecture, p.usable) for p in places]


def test_32_bit_on_64_bit():
    """A 32-bit platform runs on a 64-bit node."""
    assert ["/images/i686-el9"] == paths(None, "i686-el9", image_names=NAMES)


def test_fallback():
    """What policy falls back to comes last, and is marked."""
    places, _ = candidates("/a", None, Policy(image_names=NAMES, image_fallback=("el9", "/b")), "x86_64")

    assert [("/a", False), ("/images/x86_64-el9", True), ("/b", True)] == [(p.path, p.fallback) for p in places]
    assert ((), ()) == candidates(None, None, Policy(image_fallback=("/b",)), "x86_64")


def test_pull():
    """Where policy allows a scheme, the URI itself is a place; CVMFS is looked at before."""
    places, problems = candidates("docker://a/b:1", None, Policy(image_pull=("docker",)), "x86_64")
    usable = [place for place in places if place.usable]

    assert () == problems
    assert "docker://a/b:1" == usable[-1].path
    assert f"{OSG}/a/b:1" == usable[-2].path


def test_moved_cvmfs():
    """Where CVMFS is elsewhere, its paths are looked for there."""
    assert ["/scratch/cvmfs/x"] == paths("/cvmfs/x", cvmfs_root="/scratch/cvmfs")
    assert ["/cvmfs2/x"] == paths("/cvmfs2/x", cvmfs_root="/scratch/cvmfs")
    assert f"/scratch{OSG}/a/b:1" in paths("a/b:1", cvmfs_root="/scratch/cvmfs")


@pytest.mark.parametrize("text", ["/a,b", "https://h.example/a,b"])
def test_commas(text):
    """A comma in a path or URI parts nothing."""
    places, problems = candidates(text, None, Policy(image_pull=("https",)), "x86_64")

    assert ([text], ()) == ([place.path for place in places], problems)


def test_problem_type():
    """A name that cannot be read is a problem, not an error."""
    assert isinstance(parse_reference("a/../b"), Problem)

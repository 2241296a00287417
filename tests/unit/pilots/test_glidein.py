"""
What GlideinWMS says of containers: upstream's own cases (test/bats,
singularity_lib), and values measured on its code.
"""

from __future__ import annotations

import os
import time

import pytest

from wlcg_isolate._values import is_below
from wlcg_isolate.errors import PlanError, RequestError
from wlcg_isolate.pilots import glidein, glidein_environment, glidein_images, glidein_trust, places
from wlcg_isolate.pilots.classads import environment_of, parse_ad
from wlcg_isolate.pilots.glidein_runtime import find_runtime
from wlcg_isolate.pilots.places import Places, outside_places, resolve_cvmfs
from wlcg_isolate.pilots.starters import Starter

OUT_OF_SCOPE = {
    ("glideinwms", "dict_set_val, dict_items_iterator, dict_keys_iterator"): "helpers of shell code; dictionaries here",
    ("glideinwms", "env_clear, env_restore, GWMS_OLDENV_*"): "the pilot's own environment is never changed",
    ("glideinwms", "env_process_options: keepall and clearpaths"): "what passes is a list, of policy and of the sets",
    ("glideinwms", "env_gets_cleared: --cleanenv"): "the runtime's environment is made new for each payload",
    ("glideinwms", "gwms_from_config, glidein_config"): "settings are read from the environment and the machine's ad",
    ("glideinwms", "GLIDEIN_SINGULARITY_OPTS, GLIDEIN_SINGULARITY_GLOBAL_OPTS"): "what the runtime is told is policy",
    ("glideinwms", "singularity_test_bin, singularity_test_exec"): "wlcg-isolate doctor tries the runtimes",
    (
        "glideinwms",
        "singularity_locate_bin: module load",
    ): "runtime.search of policy names it",
    ("glideinwms", "singularity_check_paths: its letters"): "every bind is looked at, source and target",
    ("glideinwms", "fall-back to the host (PREFERRED)"): "nothing runs without isolation",
    ("glideinwms", "EXITSLEEP, stopping a glidein"): "a pilot decides that by the outcome",
    (
        "osg",
        "choice of a default image by chance, stash and osdf downloads",
    ): "images are named by policy, and verified",
}

#: Columns: NEVER, OPTIONAL, PREFERRED, REQUIRED, REQUIRED_GWMS.
NEGOTIATED = {
    "DISABLE_GWMS": "DISABLE DISABLE DISABLE DISABLE FAIL",
    "NEVER": "NEVER NEVER NEVER FAIL FAIL",
    "OPTIONAL": "NEVER NEVER PREFERRED REQUIRED REQUIRED",
    "PREFERRED": "NEVER PREFERRED PREFERRED REQUIRED REQUIRED",
    "REQUIRED": "FAIL REQUIRED REQUIRED REQUIRED REQUIRED",
    "other": "FAIL FAIL FAIL FAIL FAIL",
    "": "FAIL FAIL FAIL FAIL FAIL",
}
SITES = ("NEVER", "OPTIONAL", "PREFERRED", "REQUIRED", "REQUIRED_GWMS")


@pytest.mark.serves("glideinwms", "negotiation of GLIDEIN_Singularity_Use and GLIDEIN_SINGULARITY_REQUIRE")
@pytest.mark.parametrize("vo", NEGOTIATED)
def test_negotiation(vo):
    """The table of factory and frontend."""
    assert NEGOTIATED[vo].split() == [glidein.negotiate(vo, site) for site in SITES]


@pytest.mark.differs("glideinwms", "an empty word in the negotiation", "fails; upstream may take it for PREFERRED")
def test_negotiation_of_nothing():
    """A word that is none fails."""
    assert ["FAIL"] * 3 == [glidein.negotiate(*words) for words in (("REQUIRED", ""), ("PREFERRED", ""), ("", ""))]


@pytest.mark.serves("glideinwms", "SINGULARITY_IMAGES_DICT (dict_get_val, dict_check_key, dict_get_keys)")
def test_images():
    """Upstream's dictionary of odd keys."""
    images = glidein_images.parse_images(" key 1:val1:opt1,key2:val2,key3:val3:opt3,key4,key5:,key6 :val6")

    assert ["val1:opt1", "val2", "val3:opt3", "", "", "val6"] == list(images.values())
    assert [" key 1", "key2", "key3", "key4", "key5", "key6 "] == list(images)


@pytest.mark.differs("glideinwms", "a platform twice in SINGULARITY_IMAGES_DICT", "refused; upstream takes either")
def test_images_twice():
    """Nobody knows which one is meant."""
    with pytest.raises(RequestError, match="'a' twice"):
        glidein_images.parse_images("a:1,b:2,a:3")


INTERSECTIONS = {
    "common": ("val1,val2,val3,val4,val5", "val2,val5,val6", "val2,val5"),
    "any-second": ("val2,val5", "any", "val2,val5"),
    "any-first": ("any", "val2,val5", "val2,val5"),
    "any-both": ("any", "any", "any"),
    "none": ("a,b", "c", ""),
    "empty": ("", "a", ""),
}


@pytest.mark.serves("glideinwms", "REQUIRED_OS and GLIDEIN_REQUIRED_OS (list_get_intersection)")
@pytest.mark.parametrize("name", INTERSECTIONS)
def test_intersection(name):
    """Upstream's cases."""
    first, second, both = INTERSECTIONS[name]

    assert both == ",".join(glidein_images.intersect(first, second))


@pytest.mark.differs(
    "glideinwms",
    "order of REQUIRED_OS",
    "the job's counts, and any may be in a list; upstream sorts by letters",
)
def test_intersection_keeps_order():
    """The first that a job names is preferred."""
    assert ["rhel10", "rhel9"] == glidein_images.intersect("rhel10,rhel9,rhel8", "rhel9,rhel10")
    assert ["rhel8"] == glidein_images.intersect("rhel9,any", "rhel8")


DICT = {"rhel7": "/tmp", "default": "/nonexist/def", "rhel8": "/cvmfs/x/y"}
WITH_TEST = {**DICT, "testimage": "/test"}
SAME = {
    "rhel7": (DICT, "rhel7", "", "/tmp", None),
    "default-is-missing": (DICT, "default", "", "/nonexist/def", "missing"),
    "no-platform": (DICT, "rhel9", "", "", "none"),
    "any-has-default": (DICT, "rhel9,any", "", "/nonexist/def", "missing"),
    "second-platform": (DICT, "rhel9,rhel7", "", "/tmp", None),
    "not-in-cvmfs": (DICT, "rhel7", "cvmfs", "/tmp", "restricted"),
    "test-in-its-place": (WITH_TEST, "rhel7", "cvmfs,test", "/test", None),
    "in-cvmfs-missing": (DICT, "rhel8", "cvmfs", "/cvmfs/x/y", "missing"),
    "remote-is-not-looked-for": (DICT, "rhel8", "cvmfs,remote", "/cvmfs/x/y", None),
    "nothing-asked": (DICT, "", "", "", "none"),
    "test-for-none": (WITH_TEST, "rhel9", "test", "/test", None),
    "any-takes-what-there-is": ({"el9": "/tmp"}, "any", "", "/tmp", None),
}


@pytest.mark.serves("glideinwms", "singularity_get_image with its restrictions")
@pytest.mark.parametrize("name", SAME)
def test_find_image(name):
    """The values measured on upstream's code."""
    images, platforms, restrictions, image, fault = SAME[name]
    found = glidein_images.find_image(
        images, platforms.split(",") if platforms else [], restrictions, exists=lambda path: path == "/tmp"
    )

    assert (image, fault) == found


OTHERWISE = {
    "any-platform-will-do": (DICT, "rhel9", "any", "/tmp", None),
    "no-standard-name": ({"mine": "/tmp"}, "default,rhel9,rhel8,rhel7,rhel6", "any", "/tmp", None),
    "other-spelling": ({"el9": "/tmp"}, "rhel9", "", "/tmp", None),
    "registry-refused": ({"el9": "docker://x/y"}, "rhel9", "cvmfs", "docker://x/y", "restricted"),
}


@pytest.mark.differs("glideinwms", "restriction any", "works as documented; upstream does not know it")
@pytest.mark.parametrize("name", OTHERWISE)
def test_find_image_as_documented(name):
    """What upstream documents and does not do; spellings of one operating system are one."""
    images, platforms, restrictions, image, fault = OTHERWISE[name]

    assert (image, fault) == glidein_images.find_image(
        images, platforms.split(","), restrictions, exists=lambda path: path == "/tmp"
    )


@pytest.mark.serves("glideinwms", "SingularityImage and ContainerImage of a job")
def test_job_image_wins():
    """A job's own image goes before the pilot's."""
    machine = parse_ad('SINGULARITY_IMAGES_DICT = "default:/tmp"')

    assert "/own" == glidein_images.choose_image(parse_ad('SingularityImage = "/own"'), machine, {})
    assert "a/b:c" == glidein_images.choose_image(parse_ad('ContainerImage = "docker://a/b:c"'), machine, {})
    assert "/tmp" == glidein_images.choose_image(parse_ad(""), machine, {})


def test_image_of_policy():
    """Without images of the pilot, the names of policy hold."""
    assert "default" == glidein_images.choose_image(parse_ad(""), parse_ad(""), {})
    ad = parse_ad('REQUIRED_OS = "any,rhel8,rhel9"')
    assert "rhel8" == glidein_images.choose_image(ad, parse_ad(""), {})


@pytest.mark.differs("glideinwms", "restrictions and a job's own image", "hold for it; upstream lets it pass")
def test_job_image_is_restricted():
    """A user's image must lie where the pilot wants images."""
    with pytest.raises(PlanError) as caught:
        glidein_images.choose_image(
            parse_ad('SingularityImage = "/home/x.sif"'), parse_ad('SINGULARITY_IMAGE_RESTRICTIONS = "cvmfs"'), {}
        )

    assert "image-not-allowed" == caught.value.problems[0].kind


@pytest.mark.parametrize("image", ["/cvmfs/../home/x.sif", "file:///home/x.sif", "file://home/x.sif", "/cvmfsx/y"])
def test_restrictions_hold_for_every_spelling(image):
    """A job cannot spell its way out of CVMFS."""
    with pytest.raises(PlanError) as caught:
        glidein_images.choose_image(
            parse_ad(f'ContainerImage = "{image}"'), parse_ad('SINGULARITY_IMAGE_RESTRICTIONS = "cvmfs"'), {}
        )

    assert "image-not-allowed" == caught.value.problems[0].kind


@pytest.mark.serves("glideinwms", "file://PATH and file:///PATH (uri_is_valid_file_or_remote)")
@pytest.mark.parametrize("image", ["file:///abs/p", "file://abs/p", "/abs/p"])
def test_image_by_uri(image):
    """Two or three slashes mean the same path."""
    assert "/abs/p" == glidein_images.choose_image(parse_ad(f'SingularityImage = "{image}"'), parse_ad(""), {})


@pytest.mark.serves("glideinwms", "images in CVMFS with CVMFS_MOUNT_DIR")
def test_image_of_cvmfs_elsewhere(tmp_path):
    """The image comes from where CVMFS is mounted; its link is followed."""
    (tmp_path / "repo" / "img1").mkdir(parents=True)
    (tmp_path / "repo" / "latest").symlink_to("/cvmfs/repo/img1")
    environ = {"CVMFS_MOUNT_DIR": f"{tmp_path}/"}
    machine = parse_ad('SINGULARITY_IMAGES_DICT = "rhel9:/cvmfs/repo/img1"\nSINGULARITY_IMAGE_RESTRICTIONS = "cvmfs"')
    own = parse_ad('SingularityImage = "/cvmfs/repo/latest"')

    assert f"{tmp_path}/repo/img1" == glidein_images.choose_image(own, machine, environ)
    assert f"{tmp_path}/repo/img1" == glidein_images.choose_image(parse_ad(""), machine, environ)


@pytest.mark.parametrize(
    ("required", "kind"), [("rhel6", "image-unknown"), ("rhel9", "image-missing")], ids=["unknown", "missing"]
)
def test_no_image(required, kind):
    """What is wrong with the image is told by its kind."""
    images = 'SINGULARITY_IMAGES_DICT = "rhel9:/nosuch/image"'
    with pytest.raises(PlanError) as caught:
        glidein_images.choose_image(parse_ad(f'REQUIRED_OS = "{required}"'), parse_ad(images), {})

    assert kind == caught.value.problems[0].kind


def shown(binds):
    """Write binds as the runtime takes them."""
    return [f"{bind.source}:{bind.target}:{'rw' if bind.writable else 'ro'}" for bind in binds]


@pytest.mark.differs(
    "glideinwms",
    "GLIDEIN_SINGULARITY_BINDPATH twice on one target",
    "the first counts; upstream hands on both",
)
def test_binds():
    """Frontend, factory, defaults; the first on a target counts."""
    environ = {
        "GLIDEIN_SINGULARITY_BINDPATH": "/tmp:/data,/nonexist:/x,/etc/hosts:/etc/hosts:ro",
        "GLIDEIN_SINGULARITY_BINDPATH_DEFAULT": "/tmp:/data,/var/tmp",
    }
    binds = shown(glidein.binds_of(parse_ad(""), environ))

    assert ["/tmp:/data:rw", "/nonexist:/x:rw", "/etc/hosts:/etc/hosts:ro", "/var/tmp:/var/tmp:rw"] == binds[:4]
    assert 1 == len([bind for bind in binds if ":/etc/hosts:" in bind])
    assert "/cvmfs:/cvmfs:ro" == binds[-1]


@pytest.mark.serves("glideinwms", "SingularityBindCVMFS")
def test_no_cvmfs():
    """A job may do without CVMFS."""
    assert [] == [b for b in glidein.binds_of(parse_ad("SingularityBindCVMFS = False"), {}) if b.target == "/cvmfs"]


@pytest.mark.differs("glideinwms", "binds of /cvmfs/... with CVMFS_MOUNT_DIR", "taken from there; upstream drops them")
def test_binds_of_cvmfs_elsewhere():
    """CVMFS of a cvmfsexec is shown under its usual name."""
    environ = {"CVMFS_MOUNT_DIR": "/alt/", "GLIDEIN_SINGULARITY_BINDPATH": "/cvmfs/repo/x:/x,/cvmfs/repo/y"}
    binds = shown(glidein.binds_of(parse_ad(""), environ))

    assert ["/alt/repo/x:/x:rw", "/alt/repo/y:/cvmfs/repo/y:rw"] == binds[:2]
    assert "/alt:/cvmfs:ro" == binds[-1]


def test_bad_binds():
    """All binds that cannot be read are told."""
    environ = {"GLIDEIN_SINGULARITY_BINDPATH": "/a:/b:nosuid,/c:d:e:f", "GLIDEIN_SINGULARITY_BINDPATH_DEFAULT": "/x:y"}
    with pytest.raises(RequestError) as caught:
        glidein.binds_of(parse_ad(""), environ)

    assert 3 == len(caught.value.problems)


TOKENS = {
    "": "clearpaths",
    "aaa,osgset": "aaa,osgset,condorset,gwmsset",
    "aaa,osgset,condorset": "aaa,osgset,condorset,gwmsset",
    "condorset": "condorset,gwmsset",
    "clear": "clear,clearall,gwmsset,osgset,condorset",
    "keepall,clear": "keepall,clear,clearall,gwmsset,osgset,condorset",
}


@pytest.mark.serves("glideinwms", "GLIDEIN_CONTAINER_ENV: its words (env_process_options)")
@pytest.mark.parametrize("text", TOKENS)
def test_tokens(text):
    """What follows from each word."""
    assert TOKENS[text].split(",") == glidein.read_tokens(text)


ALL = {name: "" for names in glidein_environment._SETS.values() for name in names}
ALL.update(
    dict.fromkeys(("_CONDOR_A", "_CONDOR_B", "_CONDOR_C", "_CONDOR_D"), "x"),
    OTHER="x",
    SINGULARITYENV_X="x",
    _CONDOR_ANCESTOR_1="x",
)
COUNTS = {"": 17, "gwmsset": 17, "condorset": 17, "osgset": 42, "clear": 42}


@pytest.mark.differs(
    "glideinwms",
    "GLIDEIN_CONTAINER_ENV: how many pass (env_preserve)",
    "HTCondor's own always pass; what steers the runtime, or tells of an outer container, does not in the end",
)
@pytest.mark.parametrize("text", COUNTS)
def test_kept(text):
    """Upstream counts 13, 13, 17, 44 and 44; set but empty counts as set."""
    names = glidein.kept_names(glidein.read_tokens(text), ALL, parse_ad(""))

    assert COUNTS[text] == len(names)
    assert not {"OTHER", "SINGULARITYENV_X", "SINGULARITY_WORKDIR"} & set(names)


@pytest.mark.differs(
    "glideinwms", "variables of the job ad", "arrive, but for those that steer the runtime; upstream loses them"
)
def test_job_environment():
    """What a job asked for arrives; what would steer the runtime does not."""
    job = parse_ad("Environment = \"A=1 B='x y' SINGULARITYENV_PATH=/evil APPTAINERENV_LD_PRELOAD=/x C='it''s' D=a=b\"")
    environ = {
        "A": "1",
        "B": "x y",
        "SINGULARITYENV_PATH": "/evil",
        "APPTAINERENV_LD_PRELOAD": "/x",
        "C": "it's",
        "D": "a=b",
    }

    assert ["A", "B", "C", "D"] == glidein.kept_names([], environ, job)


RUNTIMES = {
    "override-is-a-path": ("/X:/tmp/bin", {}, "/X/singularity"),
    "override-is-a-path-2": ("/tmp/bin:/X", {}, "/X/singularity"),
    "override-is-a-program": ("/X/singularity", {"SINGULARITY_BIN": "ppp"}, "/X/singularity"),
    "directory": ("", {"SINGULARITY_BIN": "/X"}, "/X/singularity"),
    "neither": ("", {"SINGULARITY_BIN": "ppp"}, None),
    "osg-by-default": ("", {"OSG_SINGULARITY_BINARY": "/X/singularity"}, "/X/singularity"),
    "path": ("", {"OSG_SINGULARITY_BINARY": "/X/singularity", "SINGULARITY_BIN": "PATH"}, None),
    "condor": ("", {"SINGULARITY_BIN": "CONDOR", "CONDOR_DIR": "/X"}, "/X/usr/libexec/apptainer"),
    "osg": ("", {"SINGULARITY_BIN": "OSG", "OSG_SINGULARITY_BINARY": "/X/singularity"}, "/X/singularity"),
    "osg-without-one": ("", {"SINGULARITY_BIN": "OSG", "OSG_SINGULARITY_BINARY": ""}, None),
    "override-that-is-missing": ("/nosuch", {"SINGULARITY_BIN": "/X"}, "/X/singularity"),
}


@pytest.mark.serves("glideinwms", "GLIDEIN_SINGULARITY_BINARY_OVERRIDE, SINGULARITY_BIN (singularity_locate_bin)")
@pytest.mark.parametrize("name", RUNTIMES)
def test_runtime(name):
    """Upstream's cases; where it takes PATH, the library looks for itself."""
    override, environ, expected = RUNTIMES[name]
    there = {"/X/singularity", "/X/usr/libexec/apptainer"}

    assert expected == find_runtime({"GLIDEIN_SINGULARITY_BINARY_OVERRIDE": override, **environ}, there.__contains__)


def test_usable_runtime(tmp_path):
    """A directory is no program, nor is a file that nobody may execute."""
    for name, mode in (("apptainer", 0o644), ("singularity", 0o755)):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(mode)

    assert f"{tmp_path}/singularity" == find_runtime({"SINGULARITY_BIN": str(tmp_path)})
    assert None is find_runtime({"GLIDEIN_SINGULARITY_BINARY_OVERRIDE": str(tmp_path / "apptainer")})


CVMFS = [
    ("", "/cvmfs", True), ("", "/cvmfs/dir/file", True), ("", "/cvmfs_dir/file", False),
    ("", "/altcvmfs/dir/file", False),
    ("/altcvmfs", "/altcvmfs/dir/file", True), ("/altcvmfs", "/cvmfs_dir/file", False),
    ("/altcvmfs/", "/altcvmfs", True), ("/altcvmfs/", "/altcvmfs/dir/file", True),
    ("/altcvmfs/", "/cvmfs_dir/file", False),
]  # fmt: skip


@pytest.mark.serves("glideinwms", "cvmfs_path_in_cvmfs")
@pytest.mark.parametrize(("mount", "path", "expected"), CVMFS)
def test_in_cvmfs(mount, path, expected):
    """Upstream's cases."""
    assert expected == (is_below(path, "/cvmfs") or bool(mount and is_below(path, mount)))


LINKS = {"/m/repo/latest": "/cvmfs/repo/img1", "/m/repo/rel": "img1"}
RESOLVED = [
    ("", "/cvmfs_dir/file", "/cvmfs_dir/file"), ("", "/cvmfs/dir/file", "/cvmfs/dir/file"), ("", "/cvmfs", "/cvmfs"),
    ("/altcvmfs/", "/cvmfs_dir/file", "/cvmfs_dir/file"), ("/altcvmfs/", "/cvmfs/dir/file", "/altcvmfs/dir/file"),
    ("/altcvmfs/", "/cvmfs", "/altcvmfs"),
    ("/m", "/cvmfs/repo/latest", "/m/repo/img1"), ("/m", "/cvmfs/repo/rel", "/m/repo/rel"),
]  # fmt: skip


@pytest.mark.serves("glideinwms", "cvmfs_resolve_path")
@pytest.mark.parametrize(("mount", "path", "expected"), RESOLVED)
def test_resolve_cvmfs(mount, path, expected):
    """Upstream's cases, and the one link that it follows."""
    assert expected == resolve_cvmfs(path, mount, LINKS.get)


A = "/condor/execute/dir_29865/glide_8QOQl2"
B = f"/export/data1{A}"


@pytest.mark.serves("glideinwms", "all spellings of the scratch directory (singularity_make_outside_pwd_list)")
def test_outside_places():
    """A directory that is bound elsewhere has two names."""

    def real(path):
        return path.replace("/condor", "/export/data1/condor", 1) if path.startswith("/condor") else path

    environ = {"PWD": A, "_CONDOR_SCRATCH_DIR": A, "_CONDOR_JOB_IWD": "/elsewhere"}

    assert [A, B] == outside_places(environ, real=real)
    assert [B, A] == outside_places(environ, B, real)


def same(path):
    """A file system without links."""
    return path


REWRITTEN = {
    "one": (
        ["/notexist/test1"],
        "/notexist/test1 /notexist/test11 /notexist/test1/dir1 /root/notexist/test1/dir2 notexist/test1/dir2",
        "/srv /notexist/test11 /srv/dir1 /root/notexist/test1/dir2 notexist/test1/dir2",
    ),
    "two": (
        ["/notexist/test1", "/notexist/test2"],
        "/notexist/test1 /notexist/test2 /notexist/test2/dir1",
        "/srv /srv /srv/dir1",
    ),
    "words": (["/w/dir_1"], "--in=/w/dir_1/a /w/dir_1/ /w/dir_1:/w/dir_1/c -n -e a:b", None),
}


@pytest.mark.serves("glideinwms", "paths in arguments (singularity_update_path)")
@pytest.mark.parametrize("name", ["one", "two"])
def test_rewrite(name):
    """Upstream's cases: a whole word that is a path, up to a boundary."""
    outside, words, expected = REWRITTEN[name]
    places = Places(outside=outside, inside="/srv", real=same)

    assert expected.split() == [places.rewrite(word) for word in words.split()]


def test_rewrite_odd_words():
    """Blanks and the directory itself; what is no path stays."""
    places = Places(outside=["/w/dir_1"], inside="/srv", real=same)
    words = ["--in=/w/dir_1/a", "/w/dir_1/sp ace", "/w/dir_1/", "/w/dir_1:/w/dir_1/c", "", "-n", "a:b"]

    assert ["--in=/w/dir_1/a", "/srv/sp ace", "/srv/", "/w/dir_1:/w/dir_1/c", "", "-n", "a:b"] == [
        places.rewrite(word) for word in words
    ]


@pytest.mark.differs("glideinwms", "paths with .. in arguments", "stay; upstream turns one that leads out into /srv/..")
def test_rewrite_of_dots():
    """A path that leads out of the directory is not the directory's."""
    assert "/w/dir_1/../x" == Places(outside=["/w/dir_1"], inside="/srv", real=same).rewrite("/w/dir_1/../x")


@pytest.mark.serves("glideinwms", "paths in arguments that lead through links")
def test_rewrite_through_links(tmp_path, monkeypatch):
    """Upstream's case with a linked directory."""
    base = tmp_path.resolve()
    (base / "dir1" / "sub1").mkdir(parents=True)
    (base / "dir1" / "sub2").mkdir()
    (base / "dir2").symlink_to("dir1")
    monkeypatch.chdir(base / "dir2")
    places = Places(outside=outside_places({"PWD": str(base / "dir2")}), inside="/srv")
    words = ["../dir1", "sub1/fout", "output", f"{base}/dir1", f"{base}/dir2/fout", "sub1", f"{base}/dir1/sub2", "-n"]

    assert ["../dir1", "sub1/fout", "output", "/srv", "/srv/fout", "sub1", "/srv/sub2", "-n"] == [
        places.rewrite(word) for word in words
    ]


@pytest.mark.differs("glideinwms", "variables that hold a list of paths", "each is rewritten; upstream leaves lists")
def test_rewrite_of_lists():
    """A list separated by colons."""
    places = Places(outside=["/w"], inside="/srv", real=same)

    assert "/srv/a:/usr/bin:/srv" == places.rewrite_list("/w/a:/usr/bin:/w")
    assert "http://x:80/w" == places.rewrite_list("http://x:80/w")


@pytest.fixture
def job(tmp_path):
    """Make the environment of a wrapper: the two ads in a scratch directory."""

    def make(job_ad, machine_ad="", **environ):
        (tmp_path / ".job.ad").write_text(job_ad)
        (tmp_path / ".machine.ad").write_text(machine_ad)
        names = {"_CONDOR_JOB_AD": str(tmp_path / ".job.ad"), "_CONDOR_MACHINE_AD": str(tmp_path / ".machine.ad")}
        return {"PWD": str(tmp_path), "_CONDOR_SCRATCH_DIR": str(tmp_path), **names, **environ}

    return make


AD = """\
SingularityImage = "/images/x"
GlobalJobId = "schedd#1.0#2"
x509userproxysubject = "/DC=org/CN=someone"
AuthTokenSubject = "someone"
AuthTokenIssuer = "https://issuer.example.org"
Environment = "A=1"
"""


@pytest.mark.serves("glideinwms", "variables with paths (singularity_setup_inside_env)")
@pytest.mark.serves("htcondor", "GlobalJobId and the user of the job ad")
def test_request(job, tmp_path):
    """Image, identity, paths of HTCondor and of the user's proxy."""
    environ = job(
        AD, 'Name = "slot1@wn"', A="1", HOME="/home/pilot", _CONDOR_CHIRP_CONFIG=f"{tmp_path}/.chirp.config",
        GLIDEIN_CONTAINER_ENV="osgset", X509_USER_PROXY=f"{tmp_path}/proxy", X509_USER_CERT="/pilot/cert",
        OSG_WN_TMP="/osg/tmp",
    )  # fmt: skip
    request = glidein.request_for(["run", f"{tmp_path}/in"], environ, workdir=str(tmp_path))

    assert ("run", "/srv/in") == request.payload.command
    assert ("/images/x", str(tmp_path)) == (request.image, request.workdir)
    assert {
        "A": "1",
        "_CONDOR_JOB_AD": "/srv/.job.ad",
        "_CONDOR_MACHINE_AD": "/srv/.machine.ad",
        "_CONDOR_SCRATCH_DIR": "/srv",
        "_CONDOR_CHIRP_CONFIG": "/srv/.chirp.config",
        "X509_USER_PROXY": "/srv/proxy",
        "OSG_WN_TMP": "/osg/tmp",
    } == dict(request.env)
    who = request.identity
    assert ("schedd#1.0#2", "/DC=org/CN=someone", "someone", "slot1@wn", "wms-asserted") == (
        who.job_id, who.user_dn, who.user_sub, who.pilot_id, who.source
    )  # fmt: skip


@pytest.mark.serves("glideinwms", "CVMFSReposList (cvmfs_test_and_open)")
def test_repositories(job, tmp_path):
    """The repositories that a job names are those without which it cannot run."""
    for ad, expected in {'CVMFSReposList = "a.cern.ch, b.cern.ch"': ("a.cern.ch", "b.cern.ch"), "": None}.items():
        settings = glidein.request_for(["x"], job(f"{AD}{ad}"), workdir=str(tmp_path)).settings
        assert expected == settings.get("cvmfs.repositories")


@pytest.mark.serves("glideinwms", "GLIDEIN_CONTAINER_ENV_CLEARLIST")
def test_clear_list(job, tmp_path):
    """A variable of the list does not pass, though the job asked for it."""
    environ = job(AD, A="1", GLIDEIN_CONTAINER_ENV_CLEARLIST="A")

    assert "A" not in glidein.request_for(["x"], environ, workdir=str(tmp_path)).env


@pytest.mark.differs("glideinwms", "settings of the pilot in a job's Environment", "refused; upstream obeys the job")
@pytest.mark.parametrize(
    "name",
    [
        "WLCG_ISOLATE_SITE", "GLIDEIN_SINGULARITY_BINDPATH", "GLIDEIN_CONTAINER_ENV_CLEARLIST",
        "SINGULARITY_IMAGES_DICT", "SINGULARITY_IMAGE_RESTRICTIONS", "CVMFS_MOUNT_DIR", "_CONDOR_MACHINE_AD",
    ],
)  # fmt: skip
def test_job_sets_no_settings(job, tmp_path, name):
    """A job cannot name its own policy, binds or images."""
    environ = job(f'SingularityImage = "/x"\nEnvironment = "{name}=/ FOO=1"')
    calls = (
        lambda e: glidein_trust.check_settings(environment_of(glidein_trust.ads_of(e)[0])),
        lambda e: glidein.request_for(["x"], e, workdir=str(tmp_path)),
    )
    for call in calls:
        with pytest.raises(RequestError) as caught:
            call(environ)

        assert [("variable-forbidden", True)] == [(p.kind, name in p.message) for p in caught.value.problems]


@pytest.mark.differs("glideinwms", "APPTAINER_BIND and the like in the job's Environment", "not obeyed")
def test_own_environment():
    """The library goes by nothing that the job set, by name; nor by words for the runtime, whoever said them."""
    environ = {"PATH": "/srv", "HOME": "/srv", "XDG_STATE_HOME": "/srv/x", "APPTAINER_BIND": "/:/x", "A": "changed"}
    environ.update(SINGULARITYENV_X="1", SITE="here", SLURM_JOB_ID="7")

    assert {"SITE": "here", "PATH": "/usr/local/bin:/usr/bin:/bin"} == glidein_trust.own_environ(
        environ, ["PATH", "HOME", "XDG_STATE_HOME", "A", "SLURM_JOB_ID"]
    )
    assert "/srv" == glidein_trust.own_environ(environ, [])["PATH"]


@pytest.mark.serves("htcondor", "container_image: a path in the scratch directory")
def test_image_in_the_scratch_directory(tmp_path):
    """A file that the job transferred is its image; a name that is none there stays a name."""
    (tmp_path / "my.sif").touch()
    for text, expected in {"my.sif": f"{tmp_path}/my.sif", "dir/my.sif": f"{tmp_path}/my.sif", "el9": "el9"}.items():
        job = parse_ad(f'ContainerImage = "{text}"')
        assert expected == glidein_images.choose_image(job, parse_ad(""), {}, str(tmp_path))
    with pytest.raises(PlanError, match="restrictions"):
        glidein_images.choose_image(
            parse_ad('ContainerImage = "my.sif"'),
            parse_ad('SINGULARITY_IMAGE_RESTRICTIONS = "cvmfs"'),
            {},
            str(tmp_path),
        )


def test_ads_that_a_hook_kept(job, tmp_path):
    """They count before those in the scratch directory; where they must be kept, nothing else counts."""
    environ = job('GlobalJobId = "forged"', 'Name = "forged"')
    starter = Starter(path=str(tmp_path / "starter"))
    with pytest.raises(PlanError) as caught:
        glidein_trust.ads_of(environ, starter, proven=True)
    assert ["job-unproven", "job-unproven"] == [problem.kind for problem in caught.value.problems]
    starter.keep("job.ad", 'GlobalJobId = "true"')
    ads = glidein_trust.ads_of(environ, starter)
    assert ["true", "forged"] == [ads[0].text("GlobalJobId"), ads[1].text("Name")]
    with pytest.raises(PlanError, match=r"machine\.ad"):
        glidein_trust.ads_of(environ, starter, proven=True)
    starter.keep("machine.ad", 'Name = "slot"')

    assert "slot" == glidein_trust.ads_of(environ, starter, proven=True)[1].text("Name")


@pytest.mark.serves("glideinwms", "the user's proxy and tokens, which HTCondor leaves in the scratch directory")
def test_credentials_of_the_job(job, tmp_path):
    """They pass without a word in GLIDEIN_CONTAINER_ENV; the pilot's, elsewhere, never do."""
    environ = job(AD, X509_USER_PROXY=f"{tmp_path}/x", BEARER_TOKEN_FILE=f"{tmp_path}/.condor_creds/t.use")
    environ.update(_CONDOR_CREDS=f"{tmp_path}/.condor_creds", X509_USER_KEY="/pilot/key")
    environ["KRB5CCNAME"] = f"FILE:{tmp_path}/me.cc"
    env = glidein.request_for(["x"], environ, workdir=str(tmp_path)).env
    environ["KRB5CCNAME"] = "FILE:/tmp/krb5cc_pilot"

    assert "/srv/me.cc" == env["KRB5CCNAME"]
    assert "KRB5CCNAME" not in glidein.request_for(["x"], environ, workdir=str(tmp_path)).env
    assert ("/srv/x", "/srv/.condor_creds/t.use", "/srv/.condor_creds", None) == tuple(
        env.get(name) for name in ("X509_USER_PROXY", "BEARER_TOKEN_FILE", "_CONDOR_CREDS", "X509_USER_KEY")
    )


#: What getenv = True takes along from an access point.
TAKEN = (
    "_ BASH_ENV HOME LD_LIBRARY_PATH LD_PRELOAD LOGNAME OLDPWD PATH PPID PWD PYTHONPATH RANDOM SHLVL TMP UID "
    "USER APPTAINER_BIND which_declare"
).split()


@pytest.mark.serves("htcondor", "getenv = True")
def test_whole_environment_of_an_access_point(job, tmp_path):
    """What cannot arrive is left out, and refuses no job; nor does what HTCondor and a glidein have of their own."""
    words = " ".join(f"{name}=v" for name in TAKEN)
    ad = f'SingularityImage = "/cvmfs/x"\nEnvironment = "{words} BASH_FUNC_which%%=v"'
    environ = job(ad, GLIDEIN_CONTAINER_ENV="osgset", _CONDOR_ANCESTOR_22="1", CONDOR_INHERIT="1")
    environ.update({**dict.fromkeys([*TAKEN, "BASH_FUNC_which%%"], "v"), "OSG_SINGULARITY_IMAGE": "/x"})
    env = glidein.request_for(["x"], environ, workdir=str(tmp_path)).env

    assert ["LOGNAME", "USER"] == [name for name in TAKEN if name in env]
    assert {"LOGNAME", "USER", "_CONDOR_JOB_AD", "_CONDOR_MACHINE_AD", "_CONDOR_SCRATCH_DIR"} == set(env)


def test_misleading_working_directory(job, tmp_path, monkeypatch):
    """What PWD says counts only where it is the directory."""
    monkeypatch.chdir(tmp_path)
    request = glidein.request_for(["/usr/bin/env", f"{tmp_path}/in"], {**job(AD), "PWD": "/"})

    assert (("/usr/bin/env", "/srv/in"), str(tmp_path)) == (request.payload.command, request.workdir)


def test_file_system_without_answer(monkeypatch):
    """A path that cannot be resolved in time stays as it is."""
    monkeypatch.setattr(places, "SECONDS", 0.05)
    monkeypatch.setattr(os.path, "realpath", lambda path: time.sleep(5))
    began = time.monotonic()

    assert "/hung/x" == places.Places(outside=["/w"], inside="/srv").rewrite("/hung/x")
    assert time.monotonic() - began < 4


GPUS = [
    ("", 'AssignedGPUs = "GPU-1"', {}, ("nvidia",)),
    ("", "GPUs = 1", {}, ("nvidia",)), ("", "GPUs = 0", {}, None), ("", "", {"GPU_USE": "1"}, ("nvidia",)),
    ("SingularityBindGPULibs = False", "GPUs = 2", {}, None),
]  # fmt: skip


@pytest.mark.serves("glideinwms", "GPUs, GPU_USE, SingularityBindGPULibs")
@pytest.mark.parametrize(("job_ad", "machine_ad", "environ", "expected"), GPUS)
def test_gpus(job, tmp_path, job_ad, machine_ad, environ, expected):
    """A job on a slot with GPUs gets them, unless it does not want to."""
    request = glidein.request_for(["x"], job(AD + job_ad, machine_ad, **environ), workdir=str(tmp_path))

    assert expected == request.settings.get("gpu.use")


@pytest.mark.differs("glideinwms", "GWMS_SINGULARITY_STATUS NEVER", "the job is refused; upstream runs it on the host")
@pytest.mark.parametrize("status", ["NEVER", "DISABLE", "FAIL"])
def test_never(job, tmp_path, status):
    """Nothing runs without isolation."""
    with pytest.raises(PlanError, match="without isolation"):
        glidein.request_for(["x"], job(AD, f'GWMS_SINGULARITY_STATUS = "{status}"'), workdir=str(tmp_path))


def test_without_ads(tmp_path):
    """Without ads the environment alone says it; a missing one is an error."""
    environ = {"SINGULARITY_IMAGES_DICT": f"default:{tmp_path}"}

    assert str(tmp_path) == glidein.request_for(["x"], environ, workdir=os.fspath(tmp_path)).image
    with pytest.raises(RequestError, match="cannot be read"):
        glidein.request_for(["x"], {"_CONDOR_JOB_AD": "/nosuch/ad"}, workdir=os.fspath(tmp_path))

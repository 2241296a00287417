"""
The table over products and versions.
"""

from __future__ import annotations

import pytest
from spython.utils import get_singularity_version

from wlcg_isolate import Policy
from wlcg_isolate.host import cache
from wlcg_isolate.host.runtimes import Asker
from wlcg_isolate.products import container_options, needed_options, parse_banner

#: What real packages print, and the release that it is.
BANNERS = [
    # Singularity 2 gives the bare version (built from its tags).
    ("2.4.6-dist", "singularity", (2, 4, 6)),
    ("2.6.1-dist", "singularity", (2, 6, 1)),
    ("2.6.0-HEAD.02de0c5", "singularity", (2, 6, 0)),
    ("singularity version 3.0.1-1", "singularity", (3, 0, 1)),
    ("singularity version 3.5.2+509-g415020360", "singularity", (3, 5, 2)),
    ("singularity version 3.8.7-1.el7", "singularity", (3, 8, 7)),
    ("singularity version 3.8.0-rc.1", "singularity", (3, 8, 0)),
    ("singularity version 3.2.0-1.el7-dirty", "singularity", (3, 2, 0)),
    ("singularity version v3.7.4", "singularity", (3, 7, 4)),
    ("singularity-ce version 3.10.0", "singularity-ce", (3, 10, 0)),
    ("singularity-ce version 3.11.4-focal", "singularity-ce", (3, 11, 4)),
    ("singularity-ce version 4.1.0-noble", "singularity-ce", (4, 1, 0)),
    ("singularity-ce version 4.1.1+ds2-dev", "singularity-ce", (4, 1, 1)),
    ("SingularityPRO version 3.11-7.el8", "singularitypro", (3, 11, 0)),
    ("SingularityPRO version 4.1.7-1.el9", "singularitypro", (4, 1, 7)),
    ("apptainer version 1.0.0", "apptainer", (1, 0, 0)),
    ("apptainer version 1.1.9-1.el9", "apptainer", (1, 1, 9)),
    ("apptainer version 1.3.6-1.el9", "apptainer", (1, 3, 6)),
    ("apptainer version 1.2.5-1.20240212git1234567.el8", "apptainer", (1, 2, 5)),
    ("apptainer version 1.4.0-rc.1", "apptainer", (1, 4, 0)),
    ("apptainer version 1.4.5", "apptainer", (1, 4, 5)),
    ("apptainer version 1.5.3+1-gabcdef0", "apptainer", (1, 5, 3)),
]


@pytest.mark.parametrize(("banner", "flavour", "numbers"), BANNERS, ids=[banner for banner, _, _ in BANNERS])
def test_parse_banner(banner, flavour, numbers):
    """The banners of real packages are read."""
    product = parse_banner(banner)

    assert (flavour, banner.rpartition(" ")[2].lstrip("v"), numbers) == tuple(product)


@pytest.mark.parametrize(
    "banner",
    [
        "",
        "garbage",
        "apptainer version unknown",
        "ERROR: apptainer version 1.4.5",
        "apptainer version 1.4.5 more words",
        "1",
        "Docker version 27.0.1, build ff1e2c0",
        "usage: apptainer [global options]",
        "\x1b[31mapptainer version 1.4.5",
    ],
)
def test_parse_no_banner(banner):
    """What is no runtime's answer is not read as one."""
    assert None is parse_banner(banner)


@pytest.mark.parametrize(
    ("banner", "lacking"),
    [
        ("2.4.6-dist", ("--no-eval", "--no-home", "--mount")),
        ("2.6.1-dist", ("--no-eval", "--mount")),
        ("singularity version 3.8.7-1.el7", ("--no-eval", "--mount")),
        ("singularity-ce version 3.9.9", ("--no-eval",)),
        ("singularity-ce version 3.10.0", ()),
        ("SingularityPRO version 3.9-9.el8", ("--no-eval",)),
        ("SingularityPRO version 4.1.7-1.el9", ()),
        ("apptainer version 1.0.3", ("--no-eval",)),
        ("apptainer version 1.1.0", ()),
        ("apptainer version 1.5.3", ()),
        ("docker version 27.0.1", needed_options()),
    ],
)
def test_lacks(banner, lacking):
    """Each release says which of the options that a plan uses it does not have."""
    assert lacking == parse_banner(banner).lacks(needed_options())


@pytest.mark.parametrize(
    ("option", "having", "lacking"),
    [
        ("--env-file", ["singularity version 3.6.0", "apptainer version 1.0.0"], ["singularity version 3.5.3"]),
        ("--no-mount", ["singularity version 3.7.0"], ["singularity version 3.6.4", "2.6.1-dist"]),
        ("--mount", ["singularity-ce version 3.9.0"], ["singularity version 3.8.7", "singularity-ce version 3.8.4"]),
        ("--cwd", ["apptainer version 1.3.0", "singularity-ce version 4.0.0"], ["apptainer version 1.2.5"]),
        ("--unsquash", ["apptainer version 1.1.0"], ["singularity-ce version 4.4.1"]),
        ("--sif-fuse", ["singularity-ce version 3.10.0"], ["apptainer version 1.4.5", "singularity-ce version 3.9.8"]),
        ("--nvccli", ["apptainer version 1.0.0", "singularity-ce version 3.9.0"], ["singularity version 3.8.7"]),
        ("--rocm", ["singularity version 3.5.0"], ["singularity version 3.4.2"]),
        ("--no-env", ["apptainer version 1.5.0"], ["apptainer version 1.4.5"]),
    ],
)
def test_option(option, having, lacking):
    """An option is there from the version on that the table names."""
    assert [True] * len(having) == [parse_banner(banner).has(option) for banner in having]
    assert [False] * len(lacking) == [parse_banner(banner).has(option) for banner in lacking]


def test_unknown_option():
    """A question that the table cannot answer is an error, not a no."""
    with pytest.raises(KeyError):
        parse_banner("apptainer version 1.4.5").has("--nosuch")


@pytest.mark.parametrize(
    ("behaviour", "banner", "expected"),
    [
        ("sif", "2.6.1-dist", False),
        ("sif", "singularity version 3.0.0", True),
        ("missing-source-fails", "singularity version 3.4.2", False),
        ("no-mount-paths", "apptainer version 1.0.3", False),
        ("falls-back-to-tree", "singularity-ce version 4.1.0", True),
        ("falls-back-to-tree", "apptainer version 1.4.5", False),
        ("apptainer-variables", "singularity-ce version 4.1.0", False),
        ("sorts-binds", "apptainer version 1.1.9", False),
    ],
)
def test_behaviour(behaviour, banner, expected):
    """What a release does, and not only what it has, is in the table."""
    assert expected == parse_banner(banner).does(behaviour)


@pytest.mark.parametrize(
    ("banner", "risks"),
    [
        ("2.6.0-dist", ["CVE-2018-12021 and CVE-2018-19295"]),
        ("2.6.1-dist", []),
        ("singularity version 3.1.1", ["CVE-2019-11328"]),
        ("singularity version 3.8.7", []),
        ("apptainer version 1.1.7", ["CVE-2023-30549"]),
        ("apptainer version 1.1.8", []),
    ],
)
def test_risks(banner, risks):
    """The known holes of set-uid installations have their versions."""
    assert risks == list(parse_banner(banner).risks_as_setuid())


def test_prefix():
    """SingularityCE reads no variable that begins with APPTAINER_."""
    banners = ("apptainer version 1.4.5", "singularity-ce version 4.1.0", "2.6.1-dist")

    assert ["APPTAINER", "SINGULARITY", "SINGULARITY"] == [parse_banner(banner).prefix for banner in banners]


def test_gpu_options():
    """The options for GPUs are among those that a runtime must have, where payloads get GPUs."""
    assert {"--nv", "--rocm"} == set(needed_options(["nvidia", "amd"])) - set(needed_options())
    assert ("--userns", "--contain", "--pid", "--ipc", "--no-eval", "--no-home", "--nv") == container_options(
        userns=True, gpus=["nvidia"]
    )


@pytest.mark.parametrize(
    ("userns", "pid", "expected"),
    [
        (True, True, ("--userns", "--contain", "--pid", "--ipc", "--no-eval", "--no-home")),
        (False, True, ("--contain", "--pid", "--ipc", "--no-eval", "--no-home")),
        (True, False, ("--userns", "--contain", "--ipc", "--no-eval", "--no-home")),
    ],
)
def test_container_options(userns, pid, expected):
    """Probes and plans start containers with the same options."""
    assert expected == container_options(userns=userns, pid=pid)


def test_spython_agrees(tmp_path, monkeypatch):
    """The helper of spython reads the same banner, where there is a program of that name in PATH."""
    program = tmp_path / "singularity"
    program.write_text("#!/bin/sh\necho singularity-ce version 4.1.0-noble\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("SPYTHON_SINGULARITY_VERSION", raising=False)
    cache.forget()
    ours = Asker(policy=Policy(), machine="x86_64", uid=1000).ask(str(program))

    assert get_singularity_version() == ours.banner


def test_spython_believes_the_environment(monkeypatch):
    """It asks no candidate but the one in PATH, and a variable answers for it: so the library asks itself."""
    monkeypatch.setenv("SPYTHON_SINGULARITY_VERSION", "anything")

    assert "anything" == get_singularity_version()

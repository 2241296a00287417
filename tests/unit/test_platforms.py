"""
How operating systems, architectures and platforms are spelled, read in both directions.
"""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given, strategies as st

from wlcg_isolate.platforms import (
    _ARCHITECTURES,
    _SYSTEMS,
    Platform,
    _grammars,
    _reading,
    canonical_architecture,
    canonical_os,
    parse_platform,
    spell_architecture,
)

SYSTEMS = {
    "el5": "el5 rhel5 centos5 sl5 slc5 SLC5",
    "el6": "el6 rhel6 centos6 sl6 slc6 cc6 SLC6",
    "el7": "el7 rhel7 centos7 sl7 slc7 cc7 RHEL7 EL7 CentOS7 centos-7 el-7 SLC7",
    "el8": "el8 rhel8 centos8 slc8 cc8 cs8 alma8 almalinux8 rocky8 AlmaLinux8 rocky-8",
    "el9": "el9 rhel9 centos9 slc9 cs9 alma9 almalinux9 rocky9 AlmaLinux9 rhel-9",
    "el10": "el10 rhel10 centos10 alma10 almalinux10 rocky10 el-10",
    "suse15": "suse15 sles15 opensuse15",
    "debian10": "debian10 debian-10",
    "debian11": "debian11 Debian11",
    "debian12": "debian12 debian-12",
    "debian13": "debian13",
    "ubuntu1804": "ubuntu1804 ubuntu18.04 ubuntu-18.04",
    "ubuntu2004": "ubuntu2004 ubuntu20.04 ubuntu-20.04",
    "ubuntu2204": "ubuntu2204 ubuntu22.04 Ubuntu-22.04",
    "ubuntu2404": "ubuntu2404 ubuntu24.04",
}

ARCHITECTURES = {
    "x86_64": "x86_64 x86-64 amd64 x64 X86_64 AMD64 x86_64_v2 x86_64_v3 x86_64_v4 x86_64+avx2+fma x86_64_v3+aes "
    "core2 nehalem westmere sandybridge ivybridge haswell broadwell skylake skylake_avx512 cannonlake",
    "aarch64": "aarch64 arm64 arm64v8 arm64:v8 arm64/v8 ARM64 armv8_a armv8.1_a armv8.2_a armv8.3_a",
    "ppc64le": "ppc64le ppc64el",
    "riscv64": "riscv64",
    "i686": "i686 i586 i486 i386 386",
}

#: Architecture, style, spelling.
STYLES = [
    ("x86_64", "uname", "x86_64"),
    ("x86_64", "go", "amd64"),
    ("x86_64", "deb", "amd64"),
    ("x86_64", "lhcb", "amd64"),
    ("aarch64", "uname", "aarch64"),
    ("aarch64", "go", "arm64"),
    ("aarch64", "deb", "arm64"),
    ("aarch64", "lhcb", "arm64v8"),
    ("ppc64le", "uname", "ppc64le"),
    ("ppc64le", "go", "ppc64le"),
    ("ppc64le", "deb", "ppc64el"),
    ("riscv64", "uname", "riscv64"),
    ("riscv64", "go", "riscv64"),
    ("riscv64", "deb", "riscv64"),
    ("i686", "uname", "i686"),
    ("i686", "go", "386"),
    ("i686", "deb", "i386"),
]

#: As experiments write them, below what is read.
PLATFORMS = {
    # ATLAS: cmtConfig of PanDA jobs, image names of ALRB
    "el5/i686": "i686-slc5-gcc43-opt",
    "el5/x86_64": "x86_64-slc5-gcc43-opt slc5_amd64_gcc434",
    "el6/x86_64": "x86_64-slc6 x86_64-slc6-gcc48-opt x86_64-slc6-gcc62-dbg slc6_amd64_gcc530 slc6:amd64 el6-x86_64",
    "el7/x86_64": "x86_64-centos7 x86_64-centos-7 x86_64-centos7-gcc8-opt x86_64-centos7-gcc62-opt "
    # LHCb: binary tags, platforms of LHCbDIRAC
    "x86_64_v2-centos7-gcc11-opt x86_64+avx2+fma-centos7-gcc12-opt x86_64+avx2+fma-centos7-gcc8-opt+g "
    "x86_64-centos7-gcc9-do0 skylake-centos7 "
    # CMS: scram architectures, WMCore, tags of cms-sw/cms-docker
    "slc7_amd64_gcc700 rhel7_x86_64 cc7:amd64 "
    # ALICE: platforms of JAliEn, architectures of aliBuild
    "el7-x86_64 slc7_x86-64",
    "el7/aarch64": "aarch64-centos7-gcc11-opt armv8.1_a-centos7-gcc11-opt slc7_aarch64_gcc700",
    "el7/ppc64le": "slc7_ppc64le_gcc9 rhel7_ppc64le",
    "el8/x86_64": "x86_64_v3-centos8-clang9+cuda123-opt skylake_avx512-centos8-clang9-opt cc8_amd64_gcc9 "
    "cs8_amd64_gcc10 el8_amd64_gcc12 rhel8-x86_64",
    "el8/ppc64le": "el8_ppc64le_gcc12 rhel8-ppc64le",
    "el8": "rhel8-itb",
    "el9/x86_64": "x86_64-almalinux9 x86_64-el9-gcc13-opt x86-64-el9 x86_64_v2-el9-gcc13-opt "
    "x86_64_v3-el9-gcc12+detdesc-opt+g x86_64_v3-el9-gcc13+cuda12_4-opt+g el9_amd64_gcc12 el9:x86_64 slc9_x86-64",
    "el9/aarch64": "aarch64-almalinux9 armv8.1_a-el9-gcc13-opt el9_aarch64_gcc12 rhel9-itb-aarch64 el9:aarch64 "
    "el9-aarch64 slc9_aarch64 el9/aarch64 el9/arm64/v8",
    "el10/x86_64": "el10_amd64_gcc14",
    "el10/aarch64": "rhel10-itb-aarch64",
    "suse15/x86_64": "suse15-x86_64",
    "debian12/x86_64": "debian12/amd64",
    "ubuntu2004/x86_64": "ubuntu2004_x86-64",
    "ubuntu2204/x86_64": "x86_64-ubuntu2204-gcc11-opt ubuntu2204_x86-64",
    "ubuntu2404/x86_64": "x86_64-ubuntu2404-gcc13-opt",
}

UNREADABLE = [
    *"""
    el 9 el99 el1 el9.5 el--9 slc10 cc9 fedora33 any default linux windows10 x86_64 amd64 x86_64- -el9 x86_64-any
    skylake-any x86_64-mac13-clang150-opt osx_x86-64 osx_arm64 slc7_ppc64 ppc64-el7 Linux_x86_64_glibc-2.17
    Linux_aarch64_glibc-2.28 Linux_x86_64_glibc-2.5 x86_64-centos7-gcc8 x86_64-centos7-el9-opt
    x86_64-centos7-gcc8-opt@el9 x86_64-el9-opt x86_64_v5-el9 x86_64+-el9 el9_amd64_ el9_amd64_gcc12_extra
    el9:x86_64-d20260506 el9:latest el9-itb-itb el9-x86_64-itb rhel9,rhel8 htc/rocky:9 cmssw/el9:x86_64
    docker://almalinux:9 /cvmfs/x/el9 el9/ el9/x86_64/x86_64 centos7-devel
    """.split(),
    "",
    " ",
    "el9 ",
    " el9",
    "el9\n",
    "el\u0669",
    "roc\u212ay9",
]

NO_ARCHITECTURE = [
    "",
    "x86",
    "x86_65",
    "arm",
    "arm32",
    "armv7l",
    "ppc64",
    "sparc",
    "amd",
    "x86_64+",
    "x86_64 ",
    "ARM64V9",
]


@pytest.mark.parametrize(("text", "name"), [(word, name) for name, row in SYSTEMS.items() for word in row.split()])
def test_systems(text, name):
    """Each spelling of an operating system has its one canonical name, alone and as a platform."""
    assert name == canonical_os(text)
    assert Platform(os=name) == parse_platform(text)


@pytest.mark.parametrize(
    ("text", "name"), [(word, name) for name, row in ARCHITECTURES.items() for word in row.split()]
)
def test_architectures(text, name):
    """Each spelling of an architecture has its one canonical name, alone and in a platform."""
    assert name == canonical_architecture(text)
    assert Platform(os="el9", architecture=name) == parse_platform(f"{text}-el9")
    assert Platform(os="el9", architecture=name) == parse_platform(f"el9/{text}")


def test_tables_are_covered():
    """The tables here and in the module hold the same spellings, and no spelling is in two rows."""
    folded = [word.lower() for row in SYSTEMS.values() for word in row.split()]
    spelled = [word for row in _SYSTEMS.values() for word in row.split()]
    architectures = [word for row in _ARCHITECTURES.values() for word in row.spellings.split()]

    assert list(SYSTEMS) == list(_SYSTEMS)
    assert list(ARCHITECTURES) == list(_ARCHITECTURES)
    assert set() == set(spelled) - set(folded)
    assert set() == set(architectures) - {word for row in ARCHITECTURES.values() for word in row.split()}
    assert len(spelled) == len(set(spelled))
    assert len(architectures) == len(set(architectures))


@pytest.mark.parametrize(("text", "expected"), [(word, key) for key, row in PLATFORMS.items() for word in row.split()])
@pytest.mark.parametrize("fold", [str, str.lower, str.upper], ids=["as-is", "lower", "upper"])
def test_platforms(text, expected, fold):
    """What experiments write is read, in any case."""
    assert expected == str(parse_platform(fold(text)))


@pytest.mark.parametrize("text", UNREADABLE)
def test_unreadable(text):
    """What is unknown, no platform, or can be read in two ways, is None."""
    assert parse_platform(text) is None


@pytest.mark.parametrize("text", NO_ARCHITECTURE)
def test_no_architecture(text):
    """What is no architecture is None."""
    assert canonical_architecture(text) is None
    assert spell_architecture(text, "go") is None


@pytest.mark.parametrize(("name", "style", "spelling"), STYLES)
def test_styles(name, style, spelling):
    """Each style spells an architecture in its way, and that spelling is read again."""
    assert spelling == spell_architecture(name, style)
    assert spelling == spell_architecture(spelling, style)
    assert name == canonical_architecture(spelling)


@pytest.mark.parametrize("name", ["ppc64le", "riscv64", "i686"])
def test_lhcb_has_two(name):
    """No directory of LHCb's is made up for an architecture that was never seen there."""
    assert spell_architecture(name, "lhcb") is None


@pytest.mark.parametrize("name", list(_ARCHITECTURES))
@pytest.mark.parametrize("system", list(_SYSTEMS))
def test_canonical_is_fixed(system, name):
    """Canonical names and the text of a platform are read as themselves."""
    platform = Platform(os=system, architecture=name)

    assert (system, name) == (canonical_os(system), canonical_architecture(name))
    assert platform == parse_platform(str(platform))
    assert Platform(os=system) == parse_platform(str(Platform(os=system)))


@pytest.mark.parametrize(
    "values", [{"os": "centos7"}, {"os": ""}, {"os": "el9", "architecture": "amd64"}, {"os": "el9", "architecture": ""}]
)
def test_only_canonical_names(values):
    """A platform of any other name cannot be made."""
    with pytest.raises(ValueError, match="must be in"):
        Platform(**values)


def test_frozen():
    """A platform cannot be changed, but hashed."""
    platform = Platform(os="el9")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        platform.os = "el8"

    assert {platform} == {Platform(os="el9")}


_WORDS = [word for row in (*SYSTEMS.values(), *ARCHITECTURES.values()) for word in row.split()]
_PIECES = st.lists(
    st.one_of(
        st.sampled_from(_WORDS),
        st.sampled_from(["-", "_", ":", "/", "+", "@", ".", "itb", "gcc12", "clang9", "opt", "dbg", "v8", "avx2", " "]),
        st.text(max_size=2),
    ),
    max_size=8,
).map("".join)


@given(st.one_of(_PIECES, st.text()))
def test_any_text(text):
    """Any text gives None or canonical names, and one reading at most."""
    platform = parse_platform(text)
    readings = {_reading(found) for found in (grammar.fullmatch(text.lower()) for grammar in _grammars()) if found}

    assert canonical_os(text) in {None, *SYSTEMS}
    assert canonical_architecture(text) in {None, *ARCHITECTURES}
    assert platform is None or (platform.os in SYSTEMS and platform.architecture in {None, *ARCHITECTURES})
    assert len(readings - {None}) <= 1
    assert platform is None or platform == parse_platform(str(platform))

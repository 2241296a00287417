"""
The one table of how operating systems, architectures and platforms are spelled.

Rules:

1. Every spelling is in a table here, with the project that uses it; there is
   no second list elsewhere.
2. What is unknown, or can be read in two ways, is None, never a guess.
   Upper and lower case are the same; nothing but ASCII is read.
3. A platform names an operating system and perhaps an architecture.  Levels
   of an instruction set, compilers and build types are read over: they are
   demands on the processor and the software, not on the image.
4. Nothing here touches the machine.

Not read, on purpose: ``Linux_x86_64_glibc-2.17`` of DIRAC, whose number is
the newest symbol that one program needs and not the system's C library
(``dirac-platform`` says 2.5 on RHEL 6, which has 2.12); ``skylake-any``
(LHCbDIRAC), which names no system; ``slc7_ppc64`` (aliBuild), which means
little endian there and big endian elsewhere.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, Optional

import attrs

#: Canonical name to all of its spellings, without a hyphen before the number.
#:
#: Where the words come from: ``slc sl centos rhel`` are what LHCb's
#: LbPlatformUtils (``parse_system_release``) makes of ``/etc/redhat-release``,
#: and ``rhel centos almalinux rocky debian ubuntu sles opensuse`` with a number
#: what it makes of ID and VERSION_ID in ``/etc/os-release``
#: (``parse_os_release``).  The rest has its source in its row.
_SYSTEMS: Mapping[str, str] = {
    # slc5: CMS scram (WMCore, WMRuntime/Tools/Scram.py) and ATLASLocalRootBase.
    "el5": "el5 rhel5 centos5 sl5 slc5",
    # rhel6: tags of cms-sw/cms-docker, GlideinWMS; cc6: cms-sw.github.io, singularity.md.
    "el6": "el6 rhel6 centos6 sl6 slc6 cc6",
    # cc7, el7: images of cms-sw/cms-docker; centos7, sl7, slc7, rhel7: ATLASLocalRootBase.
    "el7": "el7 rhel7 centos7 sl7 slc7 cc7",
    # cc8, cs8, alma8: WMCore (Scram.py, ARCH_TO_OS); slc8: aliBuild (args.py).
    "el8": "el8 rhel8 centos8 slc8 cc8 cs8 alma8 almalinux8 rocky8",
    # cs9: WMCore; alma9: images of LHCb; almalinux9: images of ATLAS; slc9: aliBuild.
    "el9": "el9 rhel9 centos9 slc9 cs9 alma9 almalinux9 rocky9",
    # rhel10: tags of cms-sw/cms-docker; almalinux10: OSPool pilots (default-image).
    "el10": "el10 rhel10 centos10 alma10 almalinux10 rocky10",
    # cvmfs/cvmfsexec (makedist) has one distribution for all of these.
    "suse15": "suse15 sles15 opensuse15",
    # opensciencegrid/osgvo-debian-10 and htc/debian:12, in the list of cvmfs-singularity-sync.
    "debian10": "debian10",
    "debian11": "debian11",
    "debian12": "debian12",
    "debian13": "debian13",
    # opensciencegrid/osgvo-ubuntu-18.04 and htc/ubuntu:20.04 to 24.04, in the same list;
    # from 20.04 on also aliBuild (args.py) and the LCG releases in sft.cern.ch.
    "ubuntu1804": "ubuntu1804",
    "ubuntu2004": "ubuntu2004",
    "ubuntu2204": "ubuntu2204",
    "ubuntu2404": "ubuntu2404",
}


class _Architecture(NamedTuple):
    """
    How one architecture is spelled.
    """

    go: str
    deb: str
    lhcb: Optional[str]
    spellings: str


#: Name in ``os.uname`` to the other ways.
#:
#: ``go`` are the names of the OCI image specification, which are Go's
#: (``GOARCH``), ``deb`` those of Debian (``dpkg-architecture -L``), and
#: ``lhcb`` those below ``/cvmfs/lhcb.cern.ch/containers/os-base`` (seen for
#: two architectures only).
_ARCHITECTURES: Mapping[str, _Architecture] = {
    "x86_64": _Architecture(
        go="amd64",
        deb="amd64",
        lhcb="amd64",
        # x86-64: aliBuild, and DIRAC's ContainerImageResolver with amd64.
        # x86_64_v2 and up: LHCb nightlies.  Names of processors: platforms of
        # LHCbDIRAC (LbPlatformUtils, compatible_platforms).
        spellings="x86_64 x86-64 amd64 x64 x86_64_v2 x86_64_v3 x86_64_v4 core2 nehalem westmere sandybridge "
        "ivybridge haswell broadwell skylake skylake_avx512 cannonlake",
    ),
    "aarch64": _Architecture(
        go="arm64",
        deb="arm64",
        lhcb="arm64v8",
        # arm64:v8: directories of unpacked.cern.ch/.multiarch (cvmfs_ducc);
        # arm64/v8: platforms of Docker; armv8_a and up: LbPlatformUtils.
        spellings="aarch64 arm64 arm64v8 arm64:v8 arm64/v8 armv8_a armv8.1_a armv8.2_a armv8.3_a",
    ),
    # CMS scram (slc7_ppc64le_gcc9), cms-sw/cms-docker (rhel8-ppc64le).
    "ppc64le": _Architecture(go="ppc64le", deb="ppc64el", lhcb=None, spellings="ppc64le ppc64el"),
    # DIRAC's ContainerImageResolver.
    "riscv64": _Architecture(go="riscv64", deb="riscv64", lhcb=None, spellings="riscv64"),
    # ATLAS and LHCb on SLC5 (i686-slc5-gcc43-opt); the rest: DIRAC's ContainerImageResolver.
    "i686": _Architecture(go="386", deb="i386", lhcb=None, spellings="i686 i586 i486 i386 386"),
}

Style = Literal["uname", "go", "deb", "lhcb"]

_SYSTEM_OF = {spelling: name for name, row in _SYSTEMS.items() for spelling in row.split()}
_ARCHITECTURE_OF = {spelling: name for name, row in _ARCHITECTURES.items() for spelling in row.spellings.split()}

#: Where a hyphen or a point may stand: ``centos-7`` (JAliEn, Containerizer),
#: ``ubuntu-20.04`` (opensciencegrid/osgvo-ubuntu-20.04).
_SYSTEM = re.compile(r"([a-z]+)-?([0-9]+)(?:\.([0-9]{2}))?")

#: LHCb adds single extensions of the instruction set: ``x86_64+avx2+fma``.
_EXTENSIONS = re.compile(r"(?:\+[a-z0-9_.]+)*\Z")

_PARTS = {
    "os": rf"(?P<os>{_SYSTEM.pattern})",
    "arch": "(?P<arch>(?:{})(?:\\+[a-z0-9_.]+)*)".format(
        "|".join(re.escape(s) for s in sorted(_ARCHITECTURE_OF, key=len, reverse=True))
    ),
    "compiler": r"(?:gcc|clang|icc)[0-9][a-z0-9]*(?:\+[a-z0-9_]+)*",
    "type": r"[a-z][a-z0-9]*(?:\+[a-z0-9_]+)*",
}


@functools.lru_cache(maxsize=1)
def _grammars() -> tuple[re.Pattern[str], ...]:
    """
    Compile the grammars, for who asks for a platform.
    """
    return tuple(re.compile(grammar.format(**_PARTS)) for grammar in _GRAMMARS)


_GRAMMARS = (
    # ATLAS and LHCb: x86_64-el9, x86_64_v3-el9-gcc12+detdesc-opt+g.
    r"{arch}-{os}(?:-{compiler}-{type})?",
    # CMS scram: el8_amd64_gcc12; WMCore: rhel7_x86_64; aliBuild: slc9_x86-64.
    r"{os}_{arch}(?:_{compiler})?",
    # Images of cms-sw/cms-docker: el9:x86_64, cc7:amd64.
    r"{os}:{arch}",
    # An operating system alone.  With a hyphen: tags of cms-sw/cms-docker
    # (rhel8-x86_64; rhel10-itb-aarch64 on the integration testbed), JAliEn
    # (el7-x86_64), cvmfsexec (rhel9-x86_64).
    r"{os}(?:-itb)?(?:-{arch})?",
    # This project's own policy files, and what str() of a platform gives.
    r"{os}/{arch}",
)


@attrs.frozen(kw_only=True)
class Platform:
    """
    What a payload asks of an image.

    Attributes:
        os: Canonical name of the operating system, such as ``"el9"``.

        architecture: As `os.uname` spells it, such as ``"x86_64"``; None when
            it is the node's.
    """

    os: str = attrs.field(validator=attrs.validators.in_(_SYSTEMS))
    architecture: Optional[str] = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.in_(_ARCHITECTURES))
    )

    def __str__(self) -> str:
        """
        Spell it as policy files do.
        """
        return self.os if self.architecture is None else f"{self.os}/{self.architecture}"


def canonical_os(text: str) -> Optional[str]:
    """
    Return the canonical name of an operating system, or None.
    """
    found = _SYSTEM.fullmatch(_folded(text))

    return None if found is None else _SYSTEM_OF.get("".join(part or "" for part in found.groups()))


def canonical_architecture(text: str) -> Optional[str]:
    """
    Return an architecture as `os.uname` spells it, or None.
    """
    base, plus, extensions = _folded(text).partition("+")

    return _ARCHITECTURE_OF.get(base) if _EXTENSIONS.match(plus + extensions) else None


def parse_platform(text: str) -> Optional[Platform]:
    """
    Read a platform in any of the ways that experiments write one, or None.
    """
    folded = _folded(text)
    readings = set()
    for grammar in _grammars():
        found = grammar.fullmatch(folded)
        reading = None if found is None else _reading(found)
        if reading is not None:
            readings.add(reading)

    return readings.pop() if len(readings) == 1 else None


def spell_architecture(architecture: str, style: Style) -> Optional[str]:
    """
    Spell an architecture in another way.

    Args:
        architecture: Any spelling.

        style: ``"uname"`` (``x86_64``), ``"go"`` (``amd64``), ``"deb"``
            (``amd64``) or ``"lhcb"`` (``amd64``, but ``arm64v8``).

    Returns:
        The spelling, or None where the architecture is unknown or has none
        in this style.
    """
    name = canonical_architecture(architecture)
    if name is None or style == "uname":
        return name
    row = _ARCHITECTURES[name]

    return {"go": row.go, "deb": row.deb, "lhcb": row.lhcb}[style]


def _folded(text: str) -> str:
    # Folding the case of the Kelvin sign, for one, gives an ASCII letter.
    return text.lower() if text.isascii() else ""


def _reading(found: re.Match[str]) -> Optional[Platform]:
    parts = found.groupdict()
    system = canonical_os(parts["os"])
    if system is None:
        return None
    architecture = parts.get("arch")

    # What the grammars take for an architecture is one.
    return Platform(os=system, architecture=None if architecture is None else canonical_architecture(architecture))

"""
What each runtime knows: a table over product and version.

Rules:

1. An option is used because the table says that this version has it, never
   because trying it gave no error: an unknown option ends the runtime.
2. Versions of different products cannot be compared (Apptainer 1.0 is
   SingularityCE 3.9.5), so every row has one column for each.
3. The table says what a release *has*; what works on a node, a probe says.

Sources: every release tag of Apptainer (1.0.0 to 1.5.3), SingularityCE and
Singularity (2.4 to 4.5.1), their changelogs where marked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Optional

Version = tuple[int, int, int]

#: Columns of the table.
FLAVOURS = ("apptainer", "singularity-ce", "singularity")

#: Products that are built from another's source.
_SAME_AS = {"singularitypro": "singularity-ce", "singularity-pro": "singularity-ce"}

#: Options by the first version that has them; None: no version does.  The
#: column of Singularity ends with 3.8, which SingularityCE 3.9 followed.
_FIRST: Mapping[str, tuple[Optional[Version], Optional[Version], Optional[Version]]] = {
    "--bind": ((1, 0, 0), (3, 8, 0), (2, 4, 0)),
    "--home": ((1, 0, 0), (3, 8, 0), (2, 4, 0)),
    "--contain": ((1, 0, 0), (3, 8, 0), (2, 4, 0)),
    "--containall": ((1, 0, 0), (3, 8, 0), (2, 4, 0)),
    "--cleanenv": ((1, 0, 0), (3, 8, 0), (2, 4, 0)),
    "--pid": ((1, 0, 0), (3, 8, 0), (2, 4, 0)),
    "--ipc": ((1, 0, 0), (3, 8, 0), (2, 4, 0)),
    "--workdir": ((1, 0, 0), (3, 8, 0), (2, 4, 0)),
    "--scratch": ((1, 0, 0), (3, 8, 0), (2, 4, 0)),
    "--pwd": ((1, 0, 0), (3, 8, 0), (2, 4, 0)),
    "--nv": ((1, 0, 0), (3, 8, 0), (2, 4, 0)),
    "--net": ((1, 0, 0), (3, 8, 0), (2, 4, 0)),
    "--no-privs": ((1, 0, 0), (3, 8, 0), (2, 4, 0)),
    "--add-caps": ((1, 0, 0), (3, 8, 0), (2, 4, 0)),
    "--network": ((1, 0, 0), (3, 8, 0), (3, 0, 0)),
    "--userns": ((1, 0, 0), (3, 8, 0), (2, 4, 0)),
    "--no-home": ((1, 0, 0), (3, 8, 0), (2, 6, 0)),
    "--no-init": ((1, 0, 0), (3, 8, 0), (3, 0, 0)),
    "--fakeroot": ((1, 0, 0), (3, 8, 0), (3, 3, 0)),
    "--rocm": ((1, 0, 0), (3, 8, 0), (3, 5, 0)),
    "--env": ((1, 0, 0), (3, 8, 0), (3, 6, 0)),
    "--env-file": ((1, 0, 0), (3, 8, 0), (3, 6, 0)),
    "--no-mount": ((1, 0, 0), (3, 8, 0), (3, 7, 0)),
    "--no-umask": ((1, 0, 0), (3, 8, 0), (3, 7, 0)),
    "--mount": ((1, 0, 0), (3, 9, 0), None),
    "--compat": ((1, 0, 0), (3, 9, 0), None),
    "--nvccli": ((1, 0, 0), (3, 9, 0), None),
    "--no-eval": ((1, 1, 0), (3, 10, 0), None),
    "--sif-fuse": (None, (3, 10, 0), None),
    "--unsquash": ((1, 1, 0), None, None),
    "--tmp-sandbox": (None, (4, 1, 0), None),
    "--no-tmp-sandbox": (None, (4, 0, 0), None),
    "--memory": ((1, 1, 0), (3, 10, 0), None),
    "--cpus": ((1, 1, 0), (3, 10, 0), None),
    "--pids-limit": ((1, 1, 0), (3, 10, 0), None),
    "--underlay": ((1, 2, 0), None, None),
    "--no-pid": ((1, 3, 0), (4, 0, 0), None),
    "--cwd": ((1, 3, 0), (4, 0, 0), None),
    "--sharens": ((1, 3, 0), None, None),
    "--runscript-timeout": ((1, 3, 1), None, None),
    "--netns-path": ((1, 4, 0), (4, 2, 0), None),
    # apptainer#2472, sylabs/singularity#2225
    "--authfile": ((1, 4, 0), (4, 1, 0), None),
    "--oci": (None, (3, 11, 0), None),
    "--device": ((1, 5, 0), (4, 0, 0), None),
    "--no-env": ((1, 5, 0), None, None),
}

#: Behaviours, in the same shape: the first version that shows each.
_BEHAVIOURS: Mapping[str, tuple[Optional[Version], Optional[Version], Optional[Version]]] = {
    # Opens SIF files; Singularity 2 knows squashfs, ext3 and trees.
    "sif": ((1, 0, 0), (3, 8, 0), (3, 0, 0)),
    # A bind whose source is missing ends the container instead of being left out.
    "missing-source-fails": ((1, 0, 0), (3, 8, 0), (3, 5, 0)),
    # The host's LD_LIBRARY_PATH does not reach the payload.
    "no-host-library-path": ((1, 0, 0), (3, 8, 0), (3, 5, 0)),
    # Absolute paths as values of --no-mount.
    "no-mount-paths": ((1, 1, 0), (3, 10, 0), None),
    # Mounts image files by FUSE without set-uid (userns mode) by itself.
    "sif-by-fuse": ((1, 1, 0), (4, 1, 0), None),
    # Takes a temporary tree by itself when FUSE does not work.
    "falls-back-to-tree": (None, (4, 1, 0), None),
    # An overlay by FUSE where the kernel's does not do.
    "fuse-overlay": ((1, 3, 0), (4, 1, 0), None),
    # Sorts binds so that parents come before children.
    "sorts-binds": ((1, 2, 0), None, None),
    # Control variables may begin with APPTAINER_, too.
    "apptainer-variables": ((1, 0, 0), None, None),
    # Ext3 images of users are not given to the kernel (CVE-2023-30549); SingularityCE has no such change.
    "no-kernel-ext3": ((1, 1, 8), None, None),
}

#: What passes the GPUs of a maker on.
GPU_OPTIONS = {"nvidia": "--nv", "amd": "--rocm"}

#: Set-uid installations that let a payload become root or read others' files.
_UNSAFE_SETUID: tuple[tuple[str, Version, Version, str], ...] = (
    ("singularity", (0, 0, 0), (2, 6, 1), "CVE-2018-12021 and CVE-2018-19295"),
    ("singularity", (3, 0, 0), (3, 2, 0), "CVE-2019-11328"),
    ("singularity", (3, 2, 0), (3, 6, 4), "CVE-2020-13845 and CVE-2020-25039"),
    ("apptainer", (1, 0, 0), (1, 1, 8), "CVE-2023-30549"),
)

#: The answers of all products to ``--version``: Singularity 2 gives the bare
#: version, the others name themselves; packagers add what they like.
_BANNER = re.compile(
    r"(?:(?P<name>[A-Za-z][\w.-]*)[ ]version[ ])?v?"
    r"(?P<version>(?P<major>\d+)\.(?P<minor>\d+)(?:\.(?P<patch>\d+))?(?!\d)\S*)\s*\Z"
)


class Product(NamedTuple):
    """
    A release of a runtime.

    Attributes:
        flavour: Its name in lower case: ``"apptainer"``,
            ``"singularity-ce"``, ``"singularitypro"`` or ``"singularity"``.

        version: As it says itself, packaging included.

        numbers: The version as three numbers.
    """

    flavour: str
    version: str
    numbers: Version

    @property
    def prefix(self) -> str:
        """
        What its control variables start with.
        """
        return "APPTAINER" if self.flavour == "apptainer" else "SINGULARITY"

    def has(self, option: str) -> bool:
        """
        Tell whether this release has an option of ``exec``.

        Raises:
            KeyError: The table has no such option.
        """
        return self._since(_FIRST[option])

    def does(self, behaviour: str) -> bool:
        """
        Tell whether this release shows a behaviour of the table.

        Raises:
            KeyError: The table has no such behaviour.
        """
        return self._since(_BEHAVIOURS[behaviour])

    def lacks(self, options: tuple[str, ...]) -> tuple[str, ...]:
        """
        List those of *options* that this release does not have.
        """
        return tuple(option for option in options if not self.has(option))

    def risks_as_setuid(self) -> Iterator[str]:
        """
        List the known holes of this release when it is installed set-uid.
        """
        for flavour, first, mended, name in _UNSAFE_SETUID:
            if flavour == self.flavour and first <= self.numbers < mended:
                yield name

    def _since(self, row: tuple[Optional[Version], ...]) -> bool:
        column = _SAME_AS.get(self.flavour, self.flavour)
        first = row[FLAVOURS.index(column)] if column in FLAVOURS else None

        return first is not None and self.numbers >= first


def parse_banner(banner: str) -> Optional[Product]:
    """
    Read an answer to ``--version``.

    Returns:
        The release; None when it is no runtime's answer.
    """
    match = _BANNER.match(banner)
    if match is None:
        return None
    numbers = (int(match["major"]), int(match["minor"]), int(match["patch"] or 0))

    return Product((match["name"] or "singularity").lower(), match["version"], numbers)


def container_options(*, userns: bool, pid: bool = True, gpus: Iterable[str] = ()) -> tuple[str, ...]:
    """
    List the options without a value that every container is started with.

    Args:
        userns: Whether the runtime uses an unprivileged user namespace.

        pid: Whether the container gets a PID namespace of its own.

        gpus: Makers of the GPUs that it gets: ``"nvidia"``, ``"amd"``.
    """
    return (
        *(["--userns"] if userns else []),
        "--contain",
        *(["--pid"] if pid else []),
        "--ipc",
        "--no-eval",
        "--no-home",
        *(GPU_OPTIONS[gpu] for gpu in gpus),
    )


def needed_options(gpus: Iterable[str] = ()) -> tuple[str, ...]:
    """
    List every option that a plan may use on any node.

    Args:
        gpus: Makers of the GPUs that payloads get.
    """
    return (*container_options(userns=True, gpus=gpus), "--workdir", "--pwd", "--mount")


def known_options() -> tuple[str, ...]:
    """
    List every option of ``exec`` that the table has.
    """
    return tuple(_FIRST)

"""
Which image DIRAC's configuration means on this node.

The order, the names of directories and what is refused are those of DIRAC's
coming ``ContainerImageResolver`` (pull request 8456), whose arguments these
are.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Optional

from wlcg_isolate._deadline import within
from wlcg_isolate.platforms import canonical_architecture, spell_architecture
from wlcg_isolate.policy import Policy

#: DIRACGrid/DIRAC, SingularityComputingElement.py, CONTAINER_DEFROOT.
DEFAULT_ROOT = "/cvmfs/cernvm-prod.cern.ch/cvm4"

#: DIRACGrid/DIRAC, pull request 8456.
DEFAULT_BASE = "/cvmfs/unpacked.cern.ch/.multiarch"

#: For what the images of a ``ContainerRoot`` are built.
_ROOT_ARCHITECTURE = "x86_64"

#: Seconds that a file system has for its answer.
_DEADLINE = 60.0

#: 32-bit ARM, which no other pilot knows.
_ARM32 = {
    "armv7l": ("arm:v7", "arm"),
    "armhf": ("arm:v7", "arm"),
    "armv6l": ("arm:v6", "arm"),
    "armel": ("arm:v6", "arm"),
    "armv5tel": ("arm:v5", "arm"),
    "arm": ("arm",),
}

#: And what DIRAC knows beside it: neither can run images for x86_64.
_FOREIGN = (*_ARM32, "s390x")


def resolve_image(
    imageRef: Optional[str] = None,
    basePath: Optional[str] = None,
    containerRoot: Optional[str] = None,
    arch: Optional[str] = None,
    defaultRoot: Optional[str] = DEFAULT_ROOT,
    log: Any = None,
) -> Optional[Path]:
    """
    Find the image that a payload runs in.

    What is not given is taken from ``/Resources/Computing/Singularity`` of
    DIRAC's configuration, where DIRAC is installed.

    Args:
        imageRef: Name of an image with its registry, looked for below
            *basePath* in a directory per architecture.

        basePath: That place.

        containerRoot: Path of an image for x86_64, for when there is none
            by that name.

        arch: Architecture of the node, in any spelling.

        defaultRoot: Path that stands in for *containerRoot*.

        log: Logger of DIRAC.

    Returns:
        The image's path, or None when nothing is there that this node can
        run; *log* says what was looked at.
    """
    imageRef = imageRef or _configured("ImageReference")
    base = basePath or _configured("ImageBasePath") or DEFAULT_BASE
    root = containerRoot or _configured("ContainerRoot") or defaultRoot
    arch = (arch or platform.machine()).strip()
    looked_at = list(_candidates(imageRef, base, arch, log)) if imageRef else []
    for path in looked_at:
        if _exists(path, log):
            return path
    if imageRef:
        _say(
            log, "warn", "No image by that name on this node", f"{imageRef}: looked at {', '.join(map(str, looked_at))}"
        )
    if not root or not _exists(Path(root), log):
        return None
    if _is_foreign(arch):
        _say(log, "error", "ContainerRoot is for x86_64 and cannot run on this node", f"{root} on {arch}")
        return None

    return Path(root)


def directories_of(arch: str) -> tuple[str, ...]:
    """
    Name the directories of one architecture, as they are published.
    """
    arch = arch.lower()
    name = canonical_architecture(arch) or arch

    return Policy().image_goarch.get(name) or _ARM32.get(name) or (spell_architecture(name, "go") or name,)


def _candidates(reference: str, base: str, arch: str, log: Any) -> Iterator[Path]:
    parts = PurePosixPath(reference)
    # Either would lead out of the directory of the architecture.
    if parts.is_absolute() or ".." in parts.parts:
        _say(log, "error", "ImageReference must be a relative name without '..'", reference)
        return
    if not arch:
        _say(log, "error", "The architecture of this node is not known", reference)
        return
    for directory in directories_of(arch):
        yield Path(base, directory, reference)


def _exists(path: Path, log: Any) -> bool:
    found = within(_DEADLINE, lambda: os.path.exists(path))
    if found is None:
        _say(log, "warn", f"No answer within {_DEADLINE:g} s, taken for missing", str(path))

    return bool(found)


def _is_foreign(arch: str) -> bool:
    """
    Tell whether images for x86_64 surely cannot run there.
    """
    arch = arch.lower()

    return arch in _FOREIGN or (canonical_architecture(arch) or _ROOT_ARCHITECTURE) != _ROOT_ARCHITECTURE


def _configured(option: str) -> Optional[str]:
    try:
        from DIRAC import gConfig
    except ImportError:
        return None

    return gConfig.getValue(f"/Resources/Computing/Singularity/{option}") or None


def _say(log: Any, level: str, message: str, about: str) -> None:
    if log is not None:
        getattr(log, level)(message, about)

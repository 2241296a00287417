"""
Which image a GlideinWMS pilot has for a job.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Callable, NamedTuple, Optional

from wlcg_isolate._deadline import within
from wlcg_isolate._values import is_below
from wlcg_isolate.errors import PlanError, Problem, RequestError
from wlcg_isolate.pilots.classads import Ad
from wlcg_isolate.pilots.places import SECONDS, resolve_cvmfs
from wlcg_isolate.platforms import canonical_os

__all__ = ["Found", "choose_image", "find_image", "intersect", "names_of", "parse_images"]

#: Where no operating system is asked for.  Source: glideinWMS, web_base/singularity_lib.sh.
ANY = ("default", "rhel9", "rhel8", "rhel7", "rhel6")


def parse_images(text: str) -> dict[str, str]:
    """
    Read ``SINGULARITY_IMAGES_DICT``: ``PLATFORM:IMAGE,...``.

    Raises:
        RequestError: A platform is named twice.
    """
    images: dict[str, str] = {}
    twice = []
    for item in text.split(",") if text else ():
        key, _, image = item.partition(":")
        if key in images:
            twice.append(key)
        images[key] = image
    if twice:
        origin = "SINGULARITY_IMAGES_DICT"
        raise RequestError(
            [
                Problem(
                    kind="request-invalid",
                    message=f"{origin} names {key!r} twice",
                    origin=origin,
                    advice="correct the pilot's settings",
                )
                for key in twice
            ]
        )

    return images


def intersect(first: str, second: str) -> list[str]:
    """
    Find the platforms in both lists, in the order of *first*; ``any`` stands
    for all.
    """
    ours, theirs = names_of(first), names_of(second)
    if not ours or not theirs:
        return []
    if "any" in ours:
        return theirs if "any" not in theirs else ["any"]

    return ours if "any" in theirs else [name for name in ours if name in theirs]


class Found(NamedTuple):
    """
    What became of a search for an image.

    Attributes:
        image: The image, also where it cannot be used; empty for none.

        fault: ``none``, ``missing``, ``restricted``, or None.
    """

    image: str
    fault: Optional[str] = None


def find_image(
    images: Mapping[str, str],
    platforms: Iterable[str],
    restrictions: str = "",
    *,
    exists: Callable[[str], bool],
) -> Found:
    """
    Find the first platform that has an image, and see whether it may be used.

    Args:
        images: As `parse_images` gives them.

        platforms: In order of preference; ``any`` takes what the dictionary
            has.

        restrictions: ``cvmfs`` (images on CVMFS only), ``remote`` (those of a
            registry as well, and none is looked for), ``test`` (the image
            ``testimage`` in place of one that cannot be used), ``any`` (any
            platform will do).

        exists: Tells whether an image is there.
    """
    wanted = names_of(restrictions)
    names = [name for platform in platforms for name in (ANY if platform == "any" else (platform,))]
    found = next((images[key] for name in names for key in [_key(images, name)] if key is not None), "")
    if not found and (names[:1] == list(ANY[:1]) or "any" in wanted):
        found = next((image for key, image in images.items() if key != "testimage"), "")
    fault = "none" if not found else _fault(found, wanted, exists)
    if fault and "test" in wanted:
        return Found(images.get("testimage", ""), None if images.get("testimage") else fault)

    return Found(found, fault)


def _key(images: Mapping[str, str], name: str) -> Optional[str]:
    if name in images:
        return name
    system = canonical_os(name)

    return next((key for key in images if system is not None and canonical_os(key) == system), None)


def _fault(image: str, wanted: Sequence[str], exists: Callable[[str], bool]) -> Optional[str]:
    if "://" in image:
        return None if "remote" in wanted or not wanted else "restricted"
    # A job may write /cvmfs/../home/x.
    if "cvmfs" in wanted and not is_below(posixpath.normpath(image), "/cvmfs"):
        return "restricted"

    return None if "remote" in wanted or exists(image) else "missing"


def choose_image(job: Ad, machine: Ad, environ: Mapping[str, str], workdir: Optional[str] = None) -> str:
    """
    Choose the image of a job: its own, or the pilot's for its platform.

    A job's own image is held to the restrictions as well; upstream lets it
    pass.

    Args:
        job: The job's ad.

        machine: The machine's ad.

        environ: The pilot's settings.

        workdir: The scratch directory, where HTCondor puts an image that a
            job transfers (``container_image = my.sif``).

    Raises:
        PlanError: There is none.
    """
    own = _as_path(job.text("ContainerImage") or job.text("SingularityImage"))
    if workdir and own and ":" not in own and os.path.lexists(f"{workdir}/{os.path.basename(own)}"):
        own = own if own.startswith("/") else f"{workdir}/{os.path.basename(own)}"
    restrictions = machine.text("SINGULARITY_IMAGE_RESTRICTIONS") or environ.get("SINGULARITY_IMAGE_RESTRICTIONS", "")
    text = machine.text("SINGULARITY_IMAGES_DICT") or environ.get("SINGULARITY_IMAGES_DICT", "")
    if own:
        found = Found(own, "restricted" if _fault(own, names_of(restrictions), lambda _: True) else None)
    elif not text:
        return next((name for name in names_of(job.text("REQUIRED_OS")) if name != "any"), "default")
    else:
        offered = machine.text("GLIDEIN_REQUIRED_OS") or environ.get("GLIDEIN_REQUIRED_OS", "any")
        platforms = intersect(job.text("REQUIRED_OS", "any"), offered)
        found = find_image(parse_images(text), platforms, restrictions, exists=lambda path: _exists(path, environ))
    if found.fault:
        kind, message = _FAULTS[found.fault]
        message = f"{message}: {found.image or text!r} (restrictions: {restrictions or 'none'})"
        origin = "job ad" if own else "SINGULARITY_IMAGES_DICT"
        raise PlanError([Problem(kind=kind, message=message, origin=origin, advice="see REQUIRED_OS and the images")])

    if found.image.startswith("docker://"):
        return found.image[len("docker://") :]

    return _on_mount(found.image, environ)


def _as_path(image: str) -> str:
    """
    Read ``file:///PATH``, and ``file://PATH``, which mean the same.
    """
    return "/" + image[len("file://") :].lstrip("/") if image.startswith("file://") else image


def _on_mount(path: str, environ: Mapping[str, str]) -> str:
    return resolve_cvmfs(path, environ.get("CVMFS_MOUNT_DIR", ""), _link)


def _link(path: str) -> Optional[str]:
    try:
        return within(SECONDS, lambda: os.readlink(path))
    except OSError:
        return None


def _exists(path: str, environ: Mapping[str, str]) -> bool:
    """
    Tell whether an image is there; one whose file system does not answer is
    left to the plan, which says so.
    """
    return within(SECONDS, lambda: os.path.exists(_on_mount(path, environ))) is not False


_FAULTS = {
    "none": ("image-unknown", "the pilot has no image for the platforms that the job takes"),
    "missing": ("image-missing", "the image is not there"),
    "restricted": ("image-not-allowed", "the pilot's restrictions forbid the image"),
}


def names_of(text: str) -> list[str]:
    """
    Read a list separated by commas.
    """
    return [name.strip() for name in text.split(",") if name.strip()]

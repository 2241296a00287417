"""
What DIRAC's configuration says of a job's container.

Rule: an option is read where DIRAC's own element reads it, and means the
same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from DIRAC import gConfig
from DIRAC.Resources.Storage.StorageElement import StorageElement

from wlcg_isolate.pilots.dirac.images import DEFAULT_ROOT, resolve_image

#: What DIRAC takes for "no".
_NO = ("", "false", "no", "0", "n")


def option(parameters: Mapping[str, Any], name: str) -> Optional[str]:
    """
    Give an option, or None when it is not set.
    """
    return parameters.get(name) or None


def is_set(parameters: Mapping[str, Any], name: str) -> bool:
    """
    Tell whether an option says yes.
    """
    return str(parameters.get(name, "")).lower() not in _NO


def image(parameters: Mapping[str, Any], log: Any) -> str:
    """
    Give the image's path.

    What is not there is refused later, with the reason.
    """
    root = option(parameters, "ContainerRoot")
    found = resolve_image(
        imageRef=option(parameters, "ImageReference"),
        basePath=option(parameters, "ImageBasePath"),
        containerRoot=root,
        log=log,
    )

    return str(found or root or DEFAULT_ROOT)


def runtime(parameters: Mapping[str, Any], log: Any) -> Optional[str]:
    """
    Find the runtime that the configuration names, or that DIRAC brings.
    """
    named = option(parameters, "ContainerBin")
    if named and not os.access(named, os.X_OK):
        # An option of older releases, which they passed over then.
        log.warn("ContainerBin cannot be executed", named)
    own = os.path.join(os.path.dirname(sys.executable), "apptainer")

    return next((path for path in (named, own) if path and os.access(path, os.X_OK)), None)


def binds(parameters: Mapping[str, Any], log: Any) -> Iterator[str]:
    """
    List the binds that element, site and local storage ask for.
    """
    yield from (option(parameters, "ContainerBind") or "").split(",")
    site = gConfig.getValue("/LocalSite/Site", "")
    element = gConfig.getValue("/LocalSite/GridCE", "")
    if site and element:
        section = f"/Resources/Sites/{site.split('.')[0]}/{site}"
        for place in (section, f"{section}/CEs/{element}"):
            yield from gConfig.getValue(f"{place}/ContainerBind", [])
    for name in gConfig.getValue("/LocalSite/LocalSE", []):
        yield from _storage(name, log)


def _storage(name: str, log: Any) -> Iterator[str]:
    """
    Give the bind of a storage element that is mounted on the node.
    """
    element = StorageElement(name)
    if not element.valid:
        log.warn("Storage Element not valid", name)
        return
    found = element.getStorageParameters(protocol="file")
    if not found["OK"] or "Path" not in found["Value"]:
        return
    path, mode = found["Value"]["Path"], found["Value"].get("MountOptions", "ro")
    if mode in ("ro", "rw"):
        yield f"{path}:{path}:{mode}"
    else:
        log.warn("Unknown mount mode", f"{mode} of {name}")


def limits(parameters: Mapping[str, Any], most: int) -> dict[str, Any]:
    """
    Give the options that DIRAC's cgroups read.

    Args:
        parameters: The element's options.

        most: ``MaxRAM`` as the element was made with it, or 0.
    """
    if not most:
        return dict(parameters)
    memory = parameters.get("MemoryLimitMB")

    return {**parameters, "MemoryLimitMB": min(most, int(memory)) if memory else most}

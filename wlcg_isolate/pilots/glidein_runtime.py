"""
Which runtime a GlideinWMS pilot names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Callable, Optional

from wlcg_isolate._deadline import within
from wlcg_isolate.pilots.places import SECONDS

__all__ = ["find_runtime"]

#: Source: glideinWMS, web_base/singularity_lib.sh, singularity_locate_bin.
OSG = "/cvmfs/oasis.opensciencegrid.org/mis/singularity/bin/singularity"


def usable(path: str) -> bool:
    """
    Tell whether a program is there; one that does not answer in time is not.
    """
    return bool(within(SECONDS, lambda: os.path.isfile(path) and os.access(path, os.X_OK)))


def find_runtime(environ: Mapping[str, str], is_usable: Callable[[str], bool] = usable) -> Optional[str]:
    """
    Find the runtime that ``GLIDEIN_SINGULARITY_BINARY_OVERRIDE`` or
    ``SINGULARITY_BIN`` means.

    Returns:
        Its path; None when nothing usable is named, and the library looks for
        a runtime as for every payload.
    """
    return next((path for path in _candidates(environ) if path.startswith("/") and is_usable(path)), None)


def _candidates(environ: Mapping[str, str]) -> Iterable[str]:
    override = environ.get("GLIDEIN_SINGULARITY_BINARY_OVERRIDE", "")
    yield override
    yield from (f"{place}/{name}" for place in override.split(":") for name in ("singularity", "apptainer"))
    place = environ.get("SINGULARITY_BIN", "") or "OSG"
    if place == "OSG":
        yield environ.get("OSG_SINGULARITY_BINARY") or OSG
    elif place == "CONDOR":
        yield f"{environ.get('CONDOR_DIR', '')}/usr/libexec/apptainer"
    else:
        yield from (f"{place}/{name}" for name in ("apptainer", "singularity"))

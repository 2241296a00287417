"""
Paths of the host that a container shows elsewhere.

Rules:

1. A word is rewritten where it is a path, as a whole: at its start and up to
   a boundary.
2. Sites start jobs through links and bind mounts: all spellings of the
   working directory count.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from typing import Callable, Optional

import attrs

from wlcg_isolate._deadline import within
from wlcg_isolate._values import as_tuple, is_below

__all__ = ["Places", "outside_places", "real_path", "resolve_cvmfs"]

#: For one look at a file system that may not answer.
SECONDS = 10.0


def real_path(path: str) -> str:
    """
    Resolve links, of a file that need not exist; a file system that does not
    answer in time leaves the path as it is.
    """
    return within(SECONDS, lambda: os.path.realpath(path)) or path


@attrs.frozen(kw_only=True)
class Places:
    """
    One directory: its spellings outside, and its place inside.

    Attributes:
        outside: Absolute paths; that of the inside may be among them.

        inside: Absolute path in the container.

        real: Resolves links, of a file that need not exist.
    """

    outside: tuple[str, ...] = attrs.field(converter=as_tuple)
    inside: str
    real: Callable[[str], str] = real_path

    def rewrite(self, word: str) -> str:
        """
        Give the path inside for one that lies in the directory; other words
        as they are.
        """
        if not word.startswith("/") or ".." in word.split("/"):
            return word
        for place in self.outside:
            if place and is_below(word, place):
                return self.inside + word[len(place.rstrip("/")) :]
        if self._is_spelled_otherwise(word):
            return self.rewrite(self.real(word))

        return word

    def rewrite_list(self, text: str) -> str:
        """
        Rewrite a path, or each of a list separated by colons.
        """
        return ":".join(self.rewrite(word) for word in text.split(":")) if text.startswith("/") else text

    def _is_spelled_otherwise(self, word: str) -> bool:
        real = self.real(word)

        return real != word and any(place and is_below(real, place) for place in self.outside)


def outside_places(
    environ: Mapping[str, str], workdir: Optional[str] = None, real: Callable[[str], str] = real_path
) -> list[str]:
    """
    List the spellings of the working directory that a job may have been told.
    """
    here = workdir or environ.get("PWD") or os.getcwd()
    place = real(here)
    told = [environ.get(name) for name in ("PWD", "_CONDOR_SCRATCH_DIR", "_CONDOR_JOB_IWD")]

    return list(dict.fromkeys([here, place, *(path for path in told if path and real(path) == place)]))


def resolve_cvmfs(path: str, mount: str, link: Callable[[str], Optional[str]]) -> str:
    """
    Give the path of something in CVMFS where that is mounted elsewhere.

    Args:
        path: Under ``/cvmfs``, or any other path, which stays.

        mount: Where CVMFS is, or empty.

        link: Gives the target of a link, None for what is none.  One whose
            target is a path under ``/cvmfs`` is followed, once.
    """
    mount = mount.rstrip("/")
    if not mount or not is_below(path, "/cvmfs"):
        return path
    found = mount + path[len("/cvmfs") :]
    target = link(found)
    if target is not None and is_below(target, "/cvmfs"):
        return posixpath.normpath(mount + target[len("/cvmfs") :])

    return found

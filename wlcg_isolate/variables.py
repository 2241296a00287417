"""
What variables are, by their names, and which paths their values hold.

Nothing here decides whether a variable passes: that needs policy, request and
the image, and is `wlcg_isolate.environment`'s.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Optional

from wlcg_isolate._families import FAMILIES, Family
from wlcg_isolate._values import normal_path
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Credential, Request

#: Kinds of families that pass unasked, as far as their paths can be seen.
CHECKED = ("path", "output")

#: What a name that no row knows is.
OTHER = Family("default", "drop", "", "no rule and no request asks for it", "")

#: A cache of Kerberos names its type; one that is no file lives in a daemon
#: or keyring of the host (MIT Kerberos, ccache types).
_CACHE_TYPE = re.compile(r"([A-Z]+):(.*)\Z", re.DOTALL)

#: More paths than these in all variables together are not looked at: each
#: costs a round trip where it lies on a network file system.
MOST_PATHS = 500


class Names:
    """
    A set of names, of which some are patterns with ``*``.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        words = tuple(patterns)
        self._exact = frozenset(words)
        # Nearly all patterns are a beginning and a star: no expression is compiled for them.
        self._beginnings = tuple(word[:-1] for word in words if word.endswith("*") and word.count("*") == 1)
        self._starred = [word for word in words if "*" in word[:-1]]

    def __contains__(self, name: str) -> bool:
        """
        Tell whether *name* is one of them.
        """
        if name in self._exact or name.startswith(self._beginnings):
            return True

        return bool(self._starred) and self._pattern.fullmatch(name) is not None

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        # The library's own form of a star is matched without going back, in time that no pattern makes grow.
        return re.compile("|".join(fnmatch.translate(word) for word in self._starred))


_ROWS = tuple((family, Names(family.names.split())) for family in FAMILIES)


@functools.lru_cache(maxsize=8192)
def family_of(name: str) -> Family:
    """
    Return the first family that *name* belongs to.
    """
    return next((family for family, names in _ROWS if name in names), OTHER)


@functools.lru_cache(maxsize=64)
def names_of(patterns: tuple[str, ...]) -> Names:
    """
    Return a set of names, made once for each list of policy.
    """
    return Names(patterns)


def may_pass(name: str, request: Request, policy: Policy) -> bool:
    """
    Tell whether a host variable may pass, before its value is looked at.
    """
    family = family_of(name)
    if family.kind in ("never", "secret"):
        return False
    if name in names_of(policy.environment_drop) or name in names_of(policy.environment_secret):
        return False
    if name in request.keep_env or name in names_of(policy.environment_keep):
        return True

    return family.kind in CHECKED


def paths_in(value: str) -> tuple[str, ...]:
    """
    List the absolute paths in a value that is a path or a list with ``:``.

    Returns:
        Each in its normal form; none when an element is something else, as in
        ``https://host/path``.
    """
    if not value.startswith("/") and ":/" not in value:
        return ()
    elements = value.split(":")
    if any(element and not element.startswith("/") for element in elements):
        return ()

    return tuple(normal_path(element) for element in elements if element)


def paths_of_interest(environ: Mapping[str, str], request: Request, policy: Policy) -> Iterator[str]:
    """
    List the paths in host variables that may pass, at most `MOST_PATHS`.
    """
    seen: dict[str, None] = {}
    for name, value in environ.items():
        for path in paths_in(value) if may_pass(name, request, policy) else ():
            if len(seen) == MOST_PATHS:
                return
            if path not in seen:
                seen[path] = None
                yield path


def file_of(credential: Credential, environ: Mapping[str, str]) -> tuple[Optional[str], str, str]:
    """
    Find the file of a credential.

    Returns:
        Its path or None, what comes before it in the variable, and why there
        is none.
    """
    value = credential.source if credential.source is not None else environ.get(credential.variable)
    if not value:
        return None, "", "the host has no such variable" if value is None else "the host's variable is empty"
    prefix = ""
    typed = _CACHE_TYPE.match(value) if credential.variable == "KRB5CCNAME" else None
    if typed is not None:
        if typed.group(1) != "FILE":
            return None, "", f"a cache of type {typed.group(1)} cannot be copied; only files can"
        prefix, value = "FILE:", typed.group(2)
    if not value.startswith("/"):
        return None, "", "it names no absolute path"

    return normal_path(value), prefix, ""


def credential_files(request: Request, environ: Mapping[str, str]) -> tuple[str, ...]:
    """
    List the files that the request's credentials are in.
    """
    found = (file_of(credential, environ)[0] for credential in request.credentials)

    return tuple(path for path in found if path is not None)

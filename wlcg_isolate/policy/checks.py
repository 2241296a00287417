"""
What a value of policy must be.

Each function yields what is wrong with a value, which may be anything: it
comes from a file, a request, or a caller in Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from wlcg_isolate._values import IDENTIFIER, SYSTEM_DIRECTORIES, normal_path, path_fault, seconds_fault, text_fault
from wlcg_isolate.request import Bind

#: What a path of an image may hold for the node's architecture.
PLACEHOLDERS = ("{arch}", "{goarch}")

#: A variable's name, or a pattern in which ``*`` stands for any part of one.
#: ``*`` alone would be no rule.
PATTERN = re.compile(r"(?=\**[A-Za-z0-9_])[A-Za-z_*][A-Za-z0-9_*]*\Z")

#: Labels of a domain name (RFC 1123), at least two of them, as CVMFS has them.
_REPOSITORY = re.compile(r"(?!-)[a-z0-9-]{1,63}(\.(?!-)[a-z0-9-]{1,63})+\Z")

_GPUS = ("nvidia", "amd")
_LAYERS = ("overlay", "underlay")
_PROFILES = ("mpi",)
_IDENTITY_MODES = ("clear", "hashed", "sealed")


def seconds(value: Any) -> Iterator[str]:
    """
    A time in seconds.
    """
    fault = seconds_fault(value)
    if fault:
        yield fault


def seconds_or_none(value: Any) -> Iterator[str]:
    """
    A time in seconds, or no limit.
    """
    if value is not None:
        yield from seconds(value)


def truth(value: Any) -> Iterator[str]:
    """
    True or false.
    """
    if not isinstance(value, bool):
        yield "must be true or false"


def texts(value: Any) -> Iterator[str]:
    """
    A list of text.
    """
    if not isinstance(value, tuple):
        yield "must be a list of text"
    else:
        yield from (fault for fault in map(text_fault, value) if fault)


def names(value: Any) -> Iterator[str]:
    """
    A list of names of variables, ``*`` standing for any part of one.
    """
    if not isinstance(value, tuple):
        yield "must be a list of names"
        return
    for name in value:
        if not isinstance(name, str) or not PATTERN.match(name):
            yield f"holds {name!r}, which is no name of a variable"


def variables(value: Any) -> Iterator[str]:
    """
    Variables and their values.
    """
    if not isinstance(value, Mapping):
        yield "must map names to text"
        return
    for name, text in value.items():
        if not isinstance(name, str) or not IDENTIFIER.match(name):
            yield f"holds {name!r}, which is no name of a variable"
        elif text_fault(text, empty=True):
            yield f"{name}: {text_fault(text, empty=True)}"


def paths(value: Any) -> Iterator[str]:
    """
    A list of absolute paths in their normal form.
    """
    if not isinstance(value, tuple):
        yield "must be a list of paths"
        return
    for path in value:
        fault = path_fault(path)
        if fault:
            yield f"holds {path!r}, which {fault}"
        elif path != normal_path(path):
            yield f"holds {path!r}, which must be written as {normal_path(path)}"


def path(value: Any) -> Iterator[str]:
    """
    An absolute path in its normal form.
    """
    yield from paths((value,))


def path_or_none(value: Any) -> Iterator[str]:
    """
    An absolute path, or nothing.
    """
    fault = None if value is None else path_fault(value)
    if fault:
        yield fault


def deadlines(value: Any) -> Iterator[str]:
    """
    Directories and the seconds that one look there may take.
    """
    if not isinstance(value, Mapping):
        yield "must map directories to seconds"
        return
    yield from paths(tuple(value))
    yield from (f"{directory}: {fault}" for directory, fault in zip(value, map(seconds_fault, value.values())) if fault)


def images(value: Any) -> Iterator[str]:
    """
    Names, and the path of an image for each, or one for each architecture.
    """
    if not isinstance(value, Mapping):
        yield "must map names to paths"
        return
    for name, path in value.items():
        fault = text_fault(name)
        if fault:
            yield f"{name!r}: {fault}"
            continue
        entries = path.items() if isinstance(path, Mapping) else ((None, path),)
        for architecture, one in entries:
            if architecture is not None and not _is_architecture(str(architecture)):
                yield f"{name!r}: {architecture!r} is no architecture as 'uname -m' spells it"
            fault = path_fault(one)
            for odd in () if fault else re.findall(r"\{[^}]*\}?|\}", one):
                if odd not in PLACEHOLDERS:
                    fault = f"holds {odd}, which is none of {', '.join(PLACEHOLDERS)}"
            if fault:
                yield f"{name!r}: {fault}"


def _is_architecture(word: str) -> bool:
    from wlcg_isolate.platforms import canonical_architecture

    return canonical_architecture(word) == word


def platforms(value: Any) -> Iterator[str]:
    """
    Names of platforms, and what each means: OS or OS/ARCH.
    """
    if not isinstance(value, Mapping):
        yield "must map names to OS or OS/ARCH"
        return
    for name, meaning in value.items():
        fault = text_fault(name) or text_fault(meaning)
        if not fault:
            _, slash, architecture = meaning.partition("/")
            if slash and not _is_architecture(architecture):
                fault = f"{architecture!r} is no architecture as 'uname -m' spells it"
        if fault:
            yield f"{name!r}: {fault}"


def binds(value: Any) -> Iterator[str]:
    """
    A list of binds, whose sources do not depend on a working directory.
    """
    if not isinstance(value, tuple) or not all(isinstance(bind, Bind) for bind in value):
        yield "must be a list of Bind"
        return
    for bind in value:
        if not bind.source.startswith("/"):
            yield f"holds source {bind.source!r}, which must be an absolute path"


def workdir(value: Any) -> Iterator[str]:
    """
    A directory right below the root, and none of the system's.
    """
    fault = path_fault(value)
    if fault or value != normal_path(value) or value.count("/") != 1 or value == "/":
        yield fault or "must be a directory right below /"
    elif value in SYSTEM_DIRECTORIES:
        yield "must not be a directory of the image's system"


def _places(value: Any, begin: str) -> Iterator[str]:
    """
    Check a list of absolute paths, with *begin* or ``{uid}`` in them.
    """
    faults = tuple(texts(value))
    yield from faults
    for place in () if faults else value:
        if not re.match(rf"(/|{re.escape(begin)})([^{{}}]|\{{uid\}})*\Z", place):
            yield f"holds {place!r}, which is no absolute path with {begin} at its begin or {{uid}}"


def directories(value: Any) -> Iterator[str]:
    """
    A list of absolute paths that may depend on the user.
    """
    yield from _places(value, "{state}")


def programs(value: Any) -> Iterator[str]:
    """
    A list of programs, by name or absolute path.
    """
    faults = tuple(texts(value))
    yield from faults
    for program in () if faults else value:
        if "/" in program and not program.startswith(("/", "{condor}/")):
            yield f"holds {program!r}, which is neither a name nor an absolute path"


def caches(value: Any) -> Iterator[str]:
    """
    A list of absolute paths that may depend on the user's cache directory.
    """
    yield from _places(value, "{cache}")


def repositories(value: Any) -> Iterator[str]:
    """
    A list of CVMFS repositories by their full names.
    """
    if not isinstance(value, tuple):
        yield "must be a list of repositories"
        return
    for name in value:
        if not isinstance(name, str) or not _REPOSITORY.match(name):
            yield f"holds {name!r}, which is no full name of a repository"


def _some_of(value: Any, known: tuple[str, ...]) -> Iterator[str]:
    if not isinstance(value, tuple):
        yield f"must be a list of some of {', '.join(known)}"
        return
    for item in value:
        if item not in known:
            yield f"holds {item!r}, which is none of {', '.join(known)}"


def gpus(value: Any) -> Iterator[str]:
    """
    A list of makers of GPUs.
    """
    yield from _some_of(value, _GPUS)


def layers(value: Any) -> Iterator[str]:
    """
    A list of what lets a runtime create a missing target.
    """
    yield from _some_of(value, _LAYERS)


def profiles(value: Any) -> Iterator[str]:
    """
    A list of kinds of payloads.
    """
    yield from _some_of(value, _PROFILES)


def identity_mode(value: Any) -> Iterator[str]:
    """
    A way to record users.
    """
    if value not in _IDENTITY_MODES:
        yield f"must be one of {', '.join(_IDENTITY_MODES)}"


def text_or_none(value: Any) -> Iterator[str]:
    """
    A text, or nothing.
    """
    fault = None if value is None else text_fault(value)
    if fault:
        yield fault

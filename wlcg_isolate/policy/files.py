"""
Find and read policy files.

Rules:

1. Nothing here decides: files become layers, and all that is wrong in all of
   them becomes one error.
2. A file that somebody else than its owner could have written is refused: it
   says what payloads may see.
3. A file system that hangs is a fault like any other.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional, Union

import attrs

from wlcg_isolate._deadline import within
from wlcg_isolate.errors import PolicyError, Problem
from wlcg_isolate.policy.layers import Layer
from wlcg_isolate.policy.parse import layer_from_dict, layer_from_keys, nearest
from wlcg_isolate.policy.places import EXPERIMENT_VARIABLE, SITE_FILE, SITE_VARIABLE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Source = Union[str, "os.PathLike[str]"]

_PROFILES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "profiles")

#: Policy may lie on a shared file system; how long that may take is not known
#: before it is read.
_READ_SECONDS = 60.0

#: More than any policy has; what is larger is something else.
_MOST_BYTES = 1_000_000


@attrs.frozen(kw_only=True)
class Found:
    """
    The files that make up a policy.

    Attributes:
        files: Pairs of layer and path, lowest first.

        problems: What could not be found.
    """

    files: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...] = ()


def profiles() -> list[str]:
    """
    List the names of the profiles that are shipped.
    """
    return sorted(name.removesuffix(".toml") for name in os.listdir(_PROFILES) if name.endswith(".toml"))


def find(
    site: Optional[Source], experiments: Optional[Union[Source, Sequence[Source]]], environ: Mapping[str, str]
) -> Found:
    """
    Find the files that are meant.

    Args:
        site: The site's file; None for the one that the environment names or
            that lies at the usual place.

        experiments: Names of profiles or files; the first is the
            experiment's profile, all others are its files for this site.
            None for those that the environment names, separated by ``:``.

        environ: The environment to look in.
    """
    main = _site_file(site, environ)
    files = [("site", main), *(("site", path) for path in _drop_ins(main))] if main else []
    problems = [] if main or site is None else [_problem("no file is named", "--site", "name a file, or none at all")]
    home = os.path.dirname(main or SITE_FILE)
    for i, wanted in enumerate(_experiments(experiments, environ)):
        layer = "experiment" if i == 0 else "experiment-site"
        if os.sep in wanted or wanted.endswith(".toml"):
            files.append((layer, wanted))
        elif wanted in profiles():
            files.append((layer, os.path.join(_PROFILES, f"{wanted}.toml")))
            local = os.path.join(home, "experiments", f"{wanted}.toml")
            if _exists(local):
                files.append(("experiment-site", local))
        else:
            problems.append(
                _problem(
                    f"there is no profile {wanted!r}{nearest(wanted, profiles())}",
                    "--experiment",
                    f"name one of {', '.join(profiles())}, or a file",
                )
            )

    return Found(files=tuple(files), problems=tuple(problems))


def _site_file(site: Optional[Source], environ: Mapping[str, str]) -> Optional[str]:
    if site is not None:
        return os.fspath(site)
    named = environ.get(SITE_VARIABLE)
    if named is not None:
        return named or None

    return SITE_FILE if _exists(SITE_FILE) else None


def _experiments(experiments: Optional[Union[Source, Sequence[Source]]], environ: Mapping[str, str]) -> list[str]:
    if experiments is None:
        return [word for word in environ.get(EXPERIMENT_VARIABLE, "").split(":") if word]
    if isinstance(experiments, (str, os.PathLike)):
        return [os.fspath(experiments)]

    return [os.fspath(one) for one in experiments]


def _exists(path: str) -> bool:
    return bool(within(_READ_SECONDS, lambda: os.path.lexists(path)))


def _drop_ins(main: str) -> list[str]:
    """
    List ``site.d/*.toml`` for ``site.toml``, sorted.
    """
    directory = main.removesuffix(".toml") + ".d"

    def names() -> list[str]:
        try:
            return sorted(name for name in os.listdir(directory) if name.endswith(".toml"))
        except (FileNotFoundError, NotADirectoryError):
            return []

    found = within(_READ_SECONDS, names)

    return [os.path.join(directory, name) for name in found or ()]


def read(found: Found, operator: Iterable[str] = ()) -> list[Layer]:
    """
    Read files, and what an operator sets.

    Args:
        found: The files.

        operator: ``KEY=VALUE`` words, the value in TOML or plain text.

    Returns:
        The layers, lowest first.

    Raises:
        PolicyError: With every problem of every file.
    """
    layers: list[Layer] = []
    problems = list(found.problems)
    for name, path in found.files:
        try:
            data = tomllib.loads(_text(path))
        except (OSError, ValueError, RecursionError) as e:
            reason = (e.strerror or str(e)) if isinstance(e, OSError) else f"it is not TOML: {e}"
            problems.append(_problem(f"{name} policy {path} cannot be read: {reason}", path, "check the file"))
            continue
        layer, faults = layer_from_dict(data, name, path)
        layers.append(layer)
        problems += faults
    values, faults = _operator_values(operator)
    problems += faults
    if values:
        layer, faults = layer_from_keys(values, "operator", "--set")
        layers.append(layer)
        problems += faults
    if problems:
        raise PolicyError(problems)

    return layers


def _text(path: str) -> str:
    content = within(_READ_SECONDS, lambda: _content(path))
    if content is None:
        raise OSError(None, f"no answer within {_READ_SECONDS:g} s")

    return content.decode("utf-8")


def _content(path: str) -> bytes:
    """
    Read a file that only its owner can have written.

    Raises:
        OSError: It cannot be read, or others could have written it.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as f:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(None, "it is no plain file")
        for fault in _untrusted(found, read_only=bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY)):
            raise OSError(None, fault)
        if found.st_size > _MOST_BYTES:
            raise OSError(None, f"it has {found.st_size} bytes, more than {_MOST_BYTES}")
        return f.read(_MOST_BYTES + 1)


def _untrusted(found: os.stat_result, *, read_only: bool) -> Iterator[str]:
    # On a read-only file system (CVMFS) nobody here can have written it.
    if read_only:
        return
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield f"others than its owner may write it (mode {stat.S_IMODE(found.st_mode):04o})"
    if found.st_uid not in (0, os.geteuid()):
        yield f"it belongs to user {found.st_uid}, who is neither root nor this user"


def _operator_values(words: Iterable[str]) -> tuple[dict[str, Any], list[Problem]]:
    values: dict[str, Any] = {}
    problems = []
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            problems.append(
                _problem(f"--set {word!r} is not KEY=VALUE", "--set", "write --set container.workdir=/work")
            )
            continue
        values[key.strip()] = _operator_value(text)

    return values, problems


def _operator_value(text: str) -> Any:
    """
    Read a value in TOML; what is none is text, so that a path needs no quotes.
    """
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text

    return table["value"] if len(table) == 1 else text


def _problem(message: str, origin: str, advice: str) -> Problem:
    return Problem(kind="policy-invalid", message=message, origin=origin, advice=advice)

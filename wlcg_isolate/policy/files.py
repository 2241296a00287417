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
from collections.abc import Iterable, Mapping, Sequence
from typing import Callable, Optional, TypeVar, Union

import attrs

from wlcg_isolate._deadline import within
from wlcg_isolate.errors import PolicyError, Problem
from wlcg_isolate.policy.layers import Layer
from wlcg_isolate.policy.parse import layer_from_dict, layer_from_keys, nearest
from wlcg_isolate.policy.places import EXPERIMENT_VARIABLE, SITE_FILE, SITE_VARIABLE
from wlcg_isolate.policy.toml import table_of, value_of

T = TypeVar("T")

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
    problems: list[Problem] = []
    main = _site_file(site, environ, problems)
    files = [("site", main), *(("site", path) for path in _drop_ins(main, problems))] if main else []
    home = os.path.dirname(main or SITE_FILE)
    for i, wanted in enumerate(_experiments(experiments, environ)):
        layer = "experiment" if i == 0 else "experiment-site"
        if os.sep in wanted or wanted.endswith(".toml"):
            files.append((layer, wanted))
        elif wanted in profiles():
            files.append((layer, os.path.join(_PROFILES, f"{wanted}.toml")))
            local = os.path.join(home, "experiments", f"{wanted}.toml")
            if _exists(local, problems):
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


def _site_file(site: Optional[Source], environ: Mapping[str, str], problems: list[Problem]) -> Optional[str]:
    if site is not None:
        named = os.fspath(site)
        if not named:
            problems.append(_problem("no file is named", "--site", "name a file, or none at all"))
        return named or None
    if SITE_VARIABLE in environ:
        return environ[SITE_VARIABLE] or None

    return SITE_FILE if _exists(SITE_FILE, problems) else None


def _experiments(experiments: Optional[Union[Source, Sequence[Source]]], environ: Mapping[str, str]) -> list[str]:
    if experiments is None:
        return [word for word in environ.get(EXPERIMENT_VARIABLE, "").split(":") if word]
    if isinstance(experiments, (str, os.PathLike)):
        return [os.fspath(experiments)]

    return [os.fspath(one) for one in experiments]


def _exists(path: str, problems: list[Problem]) -> bool:
    return bool(_asked(path, lambda: os.lstat(path), problems))


def _drop_ins(main: str, problems: list[Problem]) -> list[str]:
    """
    List ``site.d/*.toml`` for ``site.toml``, sorted.
    """
    directory = main.removesuffix(".toml") + ".d"
    names = _asked(directory, lambda: _names_in(directory), problems) or ()

    return [os.path.join(directory, name) for name in sorted(names) if name.endswith(".toml")]


def _names_in(directory: str) -> list[str]:
    """
    List a directory, from which nobody else may have taken anything away.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _must_be_trusted(fd)
        return os.listdir(fd)
    finally:
        os.close(fd)


def _asked(path: str, question: Callable[[], T], problems: list[Problem]) -> Optional[T]:
    """
    Ask for what may be missing; where nobody can tell, that is a problem.
    """
    fault = f"no answer within {_READ_SECONDS:g} s"
    try:
        answer = within(_READ_SECONDS, question)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as e:
        answer, fault = None, getattr(e, "strerror", None) or str(e)
    if answer is None:
        problems.append(
            _problem(f"policy in {path} cannot be read: {fault}", path, "check owner, mode and file system")
        )

    return answer


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
            data = table_of(_text(path))
        except (OSError, ValueError, RecursionError) as e:
            reason = (e.strerror or str(e)) if isinstance(e, OSError) else f"it is not TOML: {e}"
            problems.append(_problem(f"{name} policy {path} cannot be read: {reason}", path, "check the file"))
            continue
        layer, faults = layer_from_dict(data, name, path)
        layers.append(layer)
        problems += faults
    # Each word is a layer, so that what is said twice is merged as anything else is.
    for word in operator:
        key, equals, text = (part.strip() for part in word.partition("="))
        if not equals or not key:
            advice = "write --set container.workdir=/work"
            problems.append(_problem(f"--set {word!r} is not KEY=VALUE", "--set", advice))
            continue
        layer, faults = layer_from_keys({key: value_of(text)}, "operator", "--set")
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
        _must_be_trusted(fd)
        if found.st_size > _MOST_BYTES:
            raise OSError(None, f"it has {found.st_size} bytes, more than {_MOST_BYTES}")
        return f.read(_MOST_BYTES + 1)


def _must_be_trusted(fd: int) -> None:
    # On a read-only file system (CVMFS) nobody here can have written it.
    if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
        return
    found = os.fstat(fd)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(None, f"others than its owner may write it (mode {stat.S_IMODE(found.st_mode):04o})")
    if found.st_uid not in (0, os.geteuid()):
        raise OSError(None, f"it belongs to user {found.st_uid}, who is neither root nor this user")


def _problem(message: str, origin: str, advice: str) -> Problem:
    return Problem(kind="policy-invalid", message=message, origin=origin, advice=advice)

"""
Small converters and checks that the value classes share.
"""

from __future__ import annotations

import os
import re
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Set as AbstractSet
from typing import Any, Optional, TypeVar

K = TypeVar("K")
V = TypeVar("V")

#: Directories without which an image's own programs do not run, or that the
#: runtime fills itself: nothing may hide one as a whole.
SYSTEM_DIRECTORIES = frozenset(
    "/ /bin /boot /dev /etc /lib /lib32 /lib64 /libx32 /proc /root /run /sbin /sys /tmp /usr /usr/bin /usr/lib "
    "/usr/lib64 /usr/sbin /var /var/tmp /.singularity.d".split()
)

#: Longer than anything runs; a number that no clock can add up is refused.
_MAX_SECONDS = 1_000_000_000

#: POSIX.1-2017, XBD 3.235: a name in the shell command language.
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}\Z")


class FrozenMapping(Mapping[K, V]):
    """
    A mapping that cannot be changed, but hashed, copied and pickled.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[K, V]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> ItemsView[K, V]:
        """
        Return a view, which is much faster than the one of `Mapping`.
        """
        return self._items.items()

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


def as_tuple(value: Any) -> Any:
    """
    Turn a list, or what comes in an order, into a tuple.

    Text, mappings, sets and what is no iterable stay as they are, for a check
    to complain about: a command given as one string must not become its
    letters.
    """
    if isinstance(value, (str, bytes, Mapping, AbstractSet)) or not isinstance(value, Iterable):
        return value

    return tuple(value)


def as_mapping(value: Any) -> Any:
    """
    Turn a mapping into a read-only copy; leave anything else for a check.
    """
    if not isinstance(value, Mapping):
        return value

    return FrozenMapping(value)


def as_frozen(value: Any) -> Any:
    """
    Turn plain types, as JSON has them, into ones that cannot be changed.
    """
    if isinstance(value, Mapping):
        return FrozenMapping({key: as_frozen(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(as_frozen(item) for item in value)

    return value


def as_path_text(value: Any) -> Any:
    """
    Turn path objects into text; leave anything else for a check.
    """
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def text_fault(value: Any, *, empty: bool = False) -> Optional[str]:
    """
    Say why *value* is no usable text, or None when it is.
    """
    if not isinstance(value, str):
        return f"must be text, not {type(value).__name__}"
    if not value and not empty:
        return "must not be empty"
    if "\0" in value:
        return "must not hold a NUL byte"
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        # JSON can say \ud800; PEP 383 gives bytes to \udc80 and above only.
        return "must not hold a character that no bytes stand for here, such as a lone surrogate"

    return None


def printable(text: str) -> str:
    """
    Escape what is not printable: a name that somebody chose must not forge
    lines or move a cursor.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def name_fault(value: Any) -> Optional[str]:
    """
    Say why *value* is no name of a variable, or None when it is: it need not
    be one that a shell knows.
    """
    fault = text_fault(value)
    if fault is None and "=" in value:
        fault = "must not hold ="

    return fault


def seconds_fault(value: Any) -> Optional[str]:
    """
    Say why *value* is no usable time, or None when it is.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value < _MAX_SECONDS:
        return "must be a number of seconds above 0"

    return None


def path_fault(value: Any, *, absolute: bool = True) -> Optional[str]:
    """
    Say why *value* is no usable path, or None when it is.
    """
    fault = text_fault(value)
    if fault is None and absolute and not value.startswith("/"):
        fault = "must be an absolute path"
    if fault is None and "\r" in value:
        # Go's CSV reader, with which the runtime reads --mount, drops it before a newline.
        fault = "must not hold a carriage return"

    return fault


def normal_path(path: str) -> str:
    """
    Remove ``//``, ``.`` and a trailing slash; ``..`` is taken literally.

    `os.path.normpath` keeps a leading ``//``, which POSIX leaves to the
    system and Linux takes as ``/``.
    """
    return "/" + os.path.normpath(path).lstrip("/")


def absolute_path(path: str) -> str:
    """
    Complete a path with the current directory; where that is gone, leave it
    for the check that wants an absolute one.
    """
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        return path


def is_below(path: str, parent: str) -> bool:
    """
    Tell whether *path* is *parent* or lies below it, by their text (both
    normal, but that *parent* may end with a slash).
    """
    place = parent.rstrip("/")

    return path == (place or "/") or path.startswith(place + "/")


def is_checksum(value: Any) -> bool:
    """
    Tell whether *value* is the checksum of a file, with its method.
    """
    return isinstance(value, str) and bool(_CHECKSUM.match(value))


def utf8_fault(value: str) -> Optional[str]:
    """
    Say why *value* cannot be written as UTF-8, or None when it can.

    Bytes of the host that are not UTF-8 arrive in Python as lone surrogates
    (PEP 383).
    """
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return "holds bytes that are not UTF-8"

    return None


def named_pairs(text: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """
    Split ``NAME=VALUE`` words.

    Returns:
        The pairs, the last of a name winning, and the words without ``=``.
    """
    pairs: dict[str, str] = {}
    bad: list[str] = []
    for word in text:
        name, equals, value = word.partition("=")
        if equals:
            pairs[name] = value
        else:
            bad.append(word)

    return pairs, bad

"""
Keep what a probe found out, for this process and for the next ones.

Rules:

1. A verdict is valid as long as nothing changed that could change it: the
   key and the watched files say what that is.  Time is only the last resort.
2. A file that is not whole, not ours, open to others, from the future, or of
   another form is as good as none; it is never an error.
3. A file is written beside and moved into place, so that any number of pilots
   may do so at once; the last one wins, and all are right.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
import time
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Optional

#: Changes when the meaning of what is kept does.
FORMAT = 1

_SUFFIX = ".probe.json"

#: A fact is some kilobytes, its configuration file the most of it.
_MAX_BYTES = 1 << 20

#: Files of nodes and runtimes that no longer are; nobody looks at them again.
_STALE_SECONDS = 30 * 86400

Identity = tuple[int, ...]


class Entry(NamedTuple):
    """
    What is kept.

    Attributes:
        made: When it was found out, in seconds since the epoch.

        watched: Files that must not have changed, and what they were.

        fact: The fact in plain types.
    """

    made: float
    watched: Mapping[str, Optional[Identity]]
    fact: Any


_known: dict[str, Entry] = {}
_lock = threading.Lock()


def identity(path: str) -> Optional[Identity]:
    """
    Return what changes when a file is replaced or written; None when there is
    no such file.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None

    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode, found.st_uid


def key_of(parts: Mapping[str, Any]) -> str:
    """
    Return the text that stands for *parts*.
    """
    return json.dumps({"format": FORMAT, **parts}, sort_keys=True, default=str)


def _name_of(key: str) -> str:
    """
    Return the name of a key's file.

    Two keys may share one: the file holds the whole key, so the last one
    written wins and the other is found out anew.
    """
    text = key.encode("utf-8", "surrogateescape")

    return f"{zlib.crc32(text):08x}{zlib.crc32(text, 1):08x}{_SUFFIX}"


def recall(key: str) -> Optional[Entry]:
    """
    Return what this process knows under *key*, if nothing watched has changed.
    """
    with _lock:
        entry = _known.get(key)

    return entry if entry is not None and _unchanged(entry) else None


def read(key: str, directories: Iterable[str]) -> Optional[Entry]:
    """
    Return what an earlier process has kept under *key*, likewise.
    """
    entry = next((e for e in (_read(place, key) for place in directories) if e), None)
    if entry is None or not _unchanged(entry):
        return None
    keep(key, entry)

    return entry


def keep(key: str, entry: Entry) -> None:
    """
    Keep *entry* for this process.
    """
    with _lock:
        _known[key] = entry


def write(key: str, entry: Entry, directories: Iterable[str]) -> bool:
    """
    Keep *entry* for others, in the first directory that can be written; where
    none can, this process alone knows.

    Returns:
        True, when it comes back at all.
    """
    text = json.dumps({"format": FORMAT, "key": key, **entry._asdict()}).encode()
    for place in directories:
        with contextlib.suppress(OSError):
            _write(place, key, text)
            break

    return True


def _unchanged(entry: Entry) -> bool:
    return all(identity(path) == known for path, known in entry.watched.items())


def forget() -> None:
    """
    Drop what this process knows.
    """
    with _lock:
        _known.clear()


def age(entry: Entry) -> float:
    """
    Return how old an entry is; below 0 when the clock was set back.
    """
    return time.time() - entry.made


def _read(directory: str, key: str) -> Optional[Entry]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(os.path.join(directory, _name_of(key)), flags)
        with open(fd, "rb") as f:
            if not _is_ours(os.fstat(f.fileno())):
                return None
            return _entry_of(json.loads(f.read(_MAX_BYTES)), key)
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _is_ours(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _entry_of(data: Any, key: str) -> Optional[Entry]:
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("key") != key:
        return None
    made, watched = data.get("made"), data.get("watched")
    if not isinstance(made, (int, float)) or not isinstance(watched, dict) or made > time.time():
        return None

    return Entry(made, {path: None if was is None else tuple(was) for path, was in watched.items()}, data.get("fact"))


def _write(directory: str, key: str, text: bytes) -> None:
    _make(directory)
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.fstat(place)
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise PermissionError(directory)
        temporary = f".{_name_of(key)}.{os.getpid()}.{threading.get_ident()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with open(os.open(temporary, flags, 0o600, dir_fd=place), "wb") as f:
                os.fchmod(f.fileno(), 0o600)
                f.write(text)
            os.rename(temporary, _name_of(key), src_dir_fd=place, dst_dir_fd=place)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=place)
            raise
        _remove_stale(place)
    finally:
        os.close(place)


def _make(directory: str) -> None:
    """
    Make a directory and those above it for the user alone, whatever the umask
    is.
    """
    if os.path.isdir(directory):
        return
    parent = os.path.dirname(directory)
    if parent != directory:
        _make(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory)
        os.chmod(directory, 0o700)


def _remove_stale(place: int) -> None:
    for name in os.listdir(place):
        with contextlib.suppress(OSError):
            old = time.time() - os.stat(name, dir_fd=place, follow_symlinks=False).st_mtime > _STALE_SECONDS
            if old and (name.endswith(_SUFFIX) or name.startswith(".")):
                os.unlink(name, dir_fd=place)

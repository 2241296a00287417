"""
Notes of which pilot's process a payload's private directories belong to.

Rules:

1. A note is there before the first directory is made, and goes after the last
   one, the directory of the notes with the last of them.  A pilot that is
   killed leaves it.
2. Notes lie in a directory of this user's inside the trace directory, which
   the plan has made sure that no payload sees.
3. Who made a note is named for ever by boot, PID namespace, process id and
   the time of its start.
4. Its writer holds a lock on it for life, where the kernel keeps locks for
   this node alone: boot ids differ also between containers of one node that
   have been given ids of their own.
5. Without a note a payload runs all the same: what a crash would leave of it
   then stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional

from wlcg_isolate import _events
from wlcg_isolate.host import procfs
from wlcg_isolate.launch import mounts

#: Its name in the trace directory.
DIRECTORY = ".trees"

#: Number and start of the process that made it, and its private directory's name.
_NAME = re.compile(r"\d+-\d+-\.wlcg-isolate-")

#: File systems of one node alone.
_LOCAL = frozenset("ext2 ext3 ext4 xfs btrfs zfs f2fs jfs reiserfs tmpfs overlay".split())

#: How often the directory may go between its making and its use.
_TRIES = 100

#: Longer than any note.
_MOST_BYTES = 1 << 20


class Note(NamedTuple):
    """
    What a note says.

    Attributes:
        boot: Boot id of its writer's kernel.

        pid_namespace: Inode number of its writer's PID namespace.

        workdir: The working directory, without links.

        device: Its device.

        inode: Its inode number.

        name: Name of the private directory in it.

        made: Mount points that were not there before, relative to it, each
            after those above it.
    """

    boot: str
    pid_namespace: int
    workdir: str
    device: int
    inode: int
    name: str
    made: tuple[str, ...]


class Claim:
    """
    A note that was made, to be released.
    """

    def __init__(self, path: str, lock: int) -> None:
        self._path = path
        self._lock = lock

    def release(self) -> None:
        """
        Take it away.
        """
        with contextlib.suppress(OSError):
            os.unlink(self._path)
            # The last one shuts the door.
            os.rmdir(os.path.dirname(self._path))
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def claim(directories: Iterable[str], work: int, name: str, points: Iterable[str]) -> Optional[Claim]:
    """
    Note that this process is about to make directories.

    Args:
        directories: The payload's trace directories, best first.

        work: Descriptor of the working directory.

        name: Name of the private directory in it.

        points: Mount points in it that may have to be made.

    Returns:
        None where no note can be made.
    """
    found = os.fstat(work)
    note = Note(
        boot=procfs.boot_id() or "",
        pid_namespace=procfs.namespaces().get("pid", 0),
        workdir=os.readlink(f"/proc/self/fd/{work}"),
        device=found.st_dev,
        inode=found.st_ino,
        name=name,
        made=tuple(dict.fromkeys(p for point in points for p in _prefixes(point) if not _is_there(work, p))),
    )
    text = json.dumps(note._asdict()).encode()
    reason = "no trace directory"
    for directory in directories:
        try:
            return _write(directory, text, name)
        except OSError as e:
            reason = e.strerror or str(e)
    _events.emit("claim.lost", directory=note.name, reason=reason)

    return None


class Found(NamedTuple):
    """
    A note that was found.

    Attributes:
        directory: Path of the directory that it lies in.

        name: Its name there.

        living: Whether its writer's process, by number and start, is there.

        note: What it says.
    """

    directory: str
    name: str
    living: bool
    note: Note


def notes_in(directory: str) -> list[Found]:
    """
    Read the notes in a trace directory.
    """
    try:
        place = _open(directory)
    except OSError:
        return []
    try:
        path = os.path.join(directory, DIRECTORY)
        notes = [(name, _read(place, name)) for name in os.listdir(place)]
    finally:
        os.close(place)

    return [Found(path, name, _is_living(name), note) for name, note in notes if note is not None]


def _is_living(name: str) -> bool:
    pid, ticks, *_ = name.split("-")

    # One that was killed stays in the list of processes until its parent asks for it.
    return procfs.start_ticks(int(pid)) == int(ticks) and not procfs.is_zombie(int(pid))


def _open(directory: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    place = os.open(os.path.join(directory, DIRECTORY), flags)
    found = os.fstat(place)
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        os.close(place)
        raise PermissionError(directory)

    return place


def _write(directory: str, text: bytes, name: str) -> Claim:
    made = f"{os.getpid()}-{procfs.start_ticks(os.getpid())}-{name}"
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for _ in range(_TRIES):
        # Whoever releases the last note takes the directory away.
        with contextlib.suppress(FileNotFoundError):
            return _write_once(directory, text, made)

    return _write_once(directory, text, made)


def _write_once(directory: str, text: bytes, made: str) -> Claim:
    with contextlib.suppress(FileExistsError):
        os.mkdir(os.path.join(directory, DIRECTORY), 0o700)
    place = _open(directory)
    try:
        fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=place)
        try:
            if is_local(os.path.join(directory, DIRECTORY)):
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            os.write(fd, text)
        except BaseException:
            os.close(fd)
            os.unlink(made, dir_fd=place)
            raise
    finally:
        os.close(place)

    return Claim(os.path.join(directory, DIRECTORY, made), fd)


def is_local(directory: str) -> bool:
    """
    Tell whether a directory is on a disk that no other node has.
    """
    mount = mounts.mounts_of().at(os.path.realpath(directory))

    return mount is not None and mount.fs_type in _LOCAL


def _read(place: int, name: str) -> Optional[Note]:
    if not _NAME.match(name):
        return None
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
        with open(fd, "rb") as f:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                return None
            note = Note(**json.loads(f.read(_MOST_BYTES)))
    except (OSError, ValueError, TypeError):
        return None

    return note if _is_sane(note) else None


def _is_sane(note: Note) -> bool:
    texts = (note.boot, note.workdir, note.name)
    numbers = (note.pid_namespace, note.device, note.inode)
    made = note.made if isinstance(note.made, list) else [None]

    return (
        all(isinstance(text, str) for text in (*texts, *made))
        and all(isinstance(number, int) for number in numbers)
        and note.name.startswith(".wlcg-isolate-")
        and "/" not in note.name
    )


def _prefixes(path: str) -> Iterator[str]:
    parts = path.split("/")
    for i in range(len(parts)):
        yield "/".join(parts[: i + 1])


def _is_there(directory: int, path: str) -> bool:
    try:
        os.lstat(path, dir_fd=directory)
    except OSError:
        return False

    return True

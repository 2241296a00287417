"""
Descriptors that a launch needs.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import time
from typing import Any, BinaryIO, Union, cast

from wlcg_isolate.launch import process

#: A descriptor, or an object with one.
Stream = Union[int, Any]

#: More than a runtime says with all its words for debugging.
_MOST_WORDS = 1_048_576

#: linux/memfd.h and linux/fcntl.h.
_CLOEXEC, _ALLOW_SEALING, _ADD_SEALS, _NEVER_GROW = 1, 2, 1033, 4


def parked(stream: Stream, stack: contextlib.ExitStack) -> int:
    """
    Duplicate a caller's stream out of the way; a closed one becomes the null
    device, since its number could be taken by a descriptor of ours.

    Raises:
        TypeError: It is neither a descriptor nor a file that has one, such as
            ``subprocess.PIPE`` or an `io.BytesIO`.
    """
    try:
        fd = stream if isinstance(stream, int) else stream.fileno()
    except (AttributeError, io.UnsupportedOperation):
        fd = -1
    if fd < 0:
        msg = f"a stream must be a descriptor or a file that has one, not {stream!r}"
        raise TypeError(msg)
    try:
        copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, process.FIRST_FREE)
    except OSError:
        copy = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    stack.callback(os.close, copy)

    return copy


def pipe(stack: contextlib.ExitStack) -> tuple[BinaryIO, BinaryIO]:
    """
    Make a pipe whose ends are closed with the stack, if not before.
    """
    read, write = os.pipe()

    return (
        stack.enter_context(open(read, "rb", buffering=0)),
        stack.enter_context(open(write, "wb", buffering=0)),
    )


def write_within(fd: int, text: bytes, seconds: float) -> None:
    """
    Write all of *text* into a pipe.

    Raises:
        TimeoutError: Nobody reads it.

        BrokenPipeError: Nobody can read it any more.
    """
    os.set_blocking(fd, False)
    deadline = time.monotonic() + seconds
    left = memoryview(text)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError from None
            time.sleep(0.001)


def own_file() -> BinaryIO:
    """
    Open a file without a name for the runtime's own output.

    It is as large as it will ever be: the image's scripts, which print there
    as well, cannot fill the node's memory.
    """
    try:
        fd = os.memfd_create("wlcg-isolate-runtime", _CLOEXEC | _ALLOW_SEALING)
        file = open(fd, "w+b", buffering=0)  # noqa: SIM115 - its caller closes it
    except (AttributeError, OSError):
        import tempfile

        file = cast("Any", tempfile.TemporaryFile(buffering=0))  # noqa: SIM115
    file.truncate(_MOST_WORDS)
    with contextlib.suppress(OSError):
        fcntl.fcntl(file, _ADD_SEALS, _NEVER_GROW)

    return cast("BinaryIO", file)


def words_in(file: BinaryIO) -> bytes:
    """
    Read what was written into a file of `own_file`.
    """
    return os.pread(file.fileno(), _MOST_WORDS, 0).rstrip(b"\0")

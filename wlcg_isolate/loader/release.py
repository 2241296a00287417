"""
What the program reads: all that the payload starts with, laid out in memory.

The first eight bytes are the size of the rest, which begins with a table of
eight-byte words and holds addresses: the program maps it at `ADDRESS` and
uses it as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Optional

#: Where the program maps it: free in every layout of a static program, and a
#: multiple of the largest page.
ADDRESS = 0x20000000

#: Offsets in the table.  The first four point to lists of addresses that end
#: with a zero: paths to try, arguments, variables as ``NAME=VALUE``, and the
#: arguments for a script, whose second is the script's path and filled in by
#: the program.
CANDIDATES, ARGUMENTS, ENVIRONMENT, SCRIPT_ARGUMENTS = 0, 8, 16, 24
#: The address of the payload's directory, and the last descriptor to close.
DIRECTORY, LAST_FD = 32, 40
#: What to say when no candidate is there, and when none can be executed:
#: a text's address, its size, and an exit status.
NOT_FOUND, NOT_EXECUTABLE = 48, 72
TEXT, TEXT_SIZE, STATUS = 0, 8, 16
#: The address of what seccomp(2) takes, or zero.
FILTER = 96
_TABLE_SIZE = 104

_SHELL = b"/bin/sh"

#: The kernel's own limits (limits.h), the NUL byte of a path included.
_NAME_MAX, _PATH_MAX = 255, 4096

#: Where execvp(3) looks without a PATH.
_DEFAULT_PATH = b"/bin:/usr/bin"


class _Memory:
    """
    Grows from the end of the table, and knows addresses.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._end = ADDRESS + _TABLE_SIZE

    def put(self, data: bytes) -> int:
        """
        Append *data* and return its address.
        """
        address = self._end
        self._parts.append(data)
        self._end += len(data)

        return address

    def words(self, words: Iterable[bytes]) -> list[int]:
        """
        Append texts, each with its NUL byte, and return their addresses.
        """
        return [self.put(word + b"\0") for word in words]

    def table(self, addresses: Sequence[int]) -> int:
        """
        Append a list of addresses, ended by a zero, and return its own.
        """
        self.put(bytes(-self._end % 8))

        return self.put(struct.pack(f"<{len(addresses) + 1}Q", *addresses, 0))

    def filter(self, instructions: bytes) -> int:
        """
        Append a program for the kernel, and return the address of its
        ``struct sock_fprog``.
        """
        self.put(bytes(-self._end % 8))
        start = self.put(instructions)

        return self.put(struct.pack("<QQ", len(instructions) // 8, start))

    def finish(self, table: Sequence[int]) -> bytes:
        """
        Return size, table and all that was appended.
        """
        body = struct.pack(f"<{_TABLE_SIZE // 8}Q", *table) + b"".join(self._parts)

        return struct.pack("<Q", len(body)) + body


def candidates(program: bytes, path: Optional[bytes]) -> list[bytes]:
    """
    List the paths at which a program may be, as execvp(3) tries them.

    Args:
        program: The command's first word.

        path: The value of PATH, or None when there is none.
    """
    if b"/" in program or not program:
        return [program]
    if len(program) > _NAME_MAX:
        return []
    places = dict.fromkeys((_DEFAULT_PATH if path is None else path).split(b":"))
    paths = [place + b"/" + program if place else program for place in places]

    return [path for path in paths if len(path) < _PATH_MAX]


def lay_out(
    command: Sequence[bytes],
    environ: Iterable[bytes],
    *,
    paths: Sequence[bytes],
    directory: bytes,
    last_fd: int,
    restrictions: Optional[bytes] = None,
) -> bytes:
    """
    Write a release.

    Args:
        command: The payload's arguments, its name included.

        environ: Its variables as ``NAME=VALUE``.

        paths: Where its program may be, in the order of trying.

        directory: Its current directory.

        last_fd: The last descriptor that may be open.

        restrictions: What `filter.restrictions` gives.
    """
    memory = _Memory()
    arguments = memory.words(command)
    # Its path is written to the second place, whichever candidate it is.
    shell = [*memory.words([_SHELL]), 0, *arguments[1:]]
    texts = []
    for reason, status in ((b"not found", 127), (b"cannot be executed", 126)):
        text = b"wlcg-isolate: " + command[0][:_PATH_MAX] + b": " + reason + b"\n"
        texts += [memory.put(text), len(text), status]

    return memory.finish(
        [
            memory.table(memory.words(paths)),
            memory.table(arguments),
            memory.table(memory.words(environ)),
            memory.table(shell),
            *memory.words([directory]),
            last_fd,
            *texts,
            memory.filter(restrictions) if restrictions else 0,
        ]
    )

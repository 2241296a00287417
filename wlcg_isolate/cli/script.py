"""
The payload's script, where the command line is a script's first line.

The kernel puts the path of the script behind the words of that line; a batch
system's copy of it lies in a directory of its own, which no payload sees.

Rule: the payload gets the file that the kernel has started, also where links
lead to it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Optional

from wlcg_isolate._values import is_below

#: Where a payload finds a script from outside its working directory.
DIRECTORY = "/script"


def script_of(command: Sequence[str], workdir: Optional[str]) -> tuple[list[str], list[dict[str, Any]]]:
    """
    Name a payload's script as the payload sees it.

    Args:
        command: An interpreter, the script, and arguments.

        workdir: The working directory, or None for the current one.

    Returns:
        The command for the container, and the binds that it needs.

    Raises:
        ValueError: There is no script.
    """
    if len(command) < 2 or not command[1]:
        raise ValueError("--script needs an interpreter and a script behind --")
    if command[1].startswith("-"):
        raise ValueError(f"--script needs the script as second word behind --, and {command[1]!r} is an option")
    path, beside = _real(command[1]), _real(workdir or ".")
    if is_below(path, beside):
        return [command[0], f"./{os.path.relpath(path, beside)}", *command[2:]], []
    target = f"{DIRECTORY}/{os.path.basename(command[1])}"

    return [command[0], target, *command[2:]], [{"source": path, "target": target, "origin": "--script"}]


def _real(path: str) -> str:
    """
    Follow all links; where the current directory is gone, leave the path for
    the check that wants an absolute one.
    """
    try:
        return os.path.realpath(path)
    except FileNotFoundError:
        return path

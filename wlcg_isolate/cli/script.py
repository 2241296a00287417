"""
The payload's script, where the command line is a script's first line.

The kernel puts the path of the script behind the words of that line; a batch
system's copy of it lies in a directory of its own, which no payload sees.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Optional

from wlcg_isolate._values import absolute_path

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
    path = os.path.normpath(absolute_path(command[1]))
    beside = os.path.relpath(path, absolute_path(workdir or "."))
    if not beside.startswith("../"):
        return [command[0], f"./{beside}", *command[2:]], []
    target = f"{DIRECTORY}/{os.path.basename(path)}"

    return [command[0], target, *command[2:]], [{"source": path, "target": target, "origin": "--script"}]

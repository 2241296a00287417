"""
The command line once more, for a program that is not this one to start.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

#: Where these are, is all that the command line needs.
_NEEDED = ("attrs", "cattrs", "spython", "structlog", "wlcg_isolate")

_MAIN = "import sys; sys.path[:0] = {}; import wlcg_isolate.__main__"


def command_line(*words: str) -> list[str]:
    """
    Give the words that start the command line with this Python.

    Without ``-I``, Python would look for modules in the payload's directory,
    which pilots have in PYTHONPATH, too.
    """
    places = {os.path.dirname(os.path.dirname(import_module(name).__file__ or "")) for name in _NEEDED}

    return [sys.executable, "-I", "-c", _MAIN.format(sorted(places)), *words]

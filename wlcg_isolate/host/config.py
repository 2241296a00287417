"""
Read the configuration file of a runtime.

Its administrator writes there what holds for every container on the node:
binds that all get, rights that nobody gets.  Apptainer, SingularityCE and
Singularity share the form: ``directive = value`` on a line of its own, ``#``
at the begin of a line for remarks, commas between values, a directive that
comes again adds to itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Optional

#: A directive's name holds no sign but these, so a remark never is one.
_LINE = re.compile(r"^[ \t]*([A-Za-z _-]+?)[ \t]*=[ \t]*(.*)$", re.MULTILINE)

#: What ``buildcfg`` calls the file's path.
_CONF_FILE = re.compile(r"^(?:APPTAINER|SINGULARITY)_CONF_FILE=(/.*)$", re.MULTILINE)

#: Longer than any that was ever shipped (50 kB); more is not a configuration.
_MAX_BYTES = 1 << 20


def parse_config(text: str) -> dict[str, tuple[str, ...]]:
    """
    Read directives and their values.

    Returns:
        Directive to its values in the order of the file; one without a value
        is left out, as the runtimes do.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, line in _LINE.findall(text):
        values = tuple(value for value in (part.strip() for part in line.split(",")) if value)
        if values:
            found[name] = (*found.get(name, ()), *values)

    return found


def config_file_of(program: str, buildcfg: str) -> Optional[str]:
    """
    Find the configuration file of a runtime.

    Args:
        program: Absolute path of the runtime.

        buildcfg: Its answer to ``buildcfg``, or "" where it knows no such
            command (Singularity 2).

    Returns:
        The path that it names itself; else the usual place under the same
        prefix; None when there is none.
    """
    named = _CONF_FILE.search(buildcfg)
    if named:
        return named.group(1)

    return next((path for path in _usual(program) if os.path.isfile(path)), None)


def read_config(path: str) -> Optional[Mapping[str, tuple[str, ...]]]:
    """
    Read a configuration file; None when that is not possible.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return parse_config(f.read(_MAX_BYTES))
    except OSError:
        return None


def _usual(program: str) -> Iterator[str]:
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(program)))
    for base in dict.fromkeys((os.path.join(prefix, "etc"), "/etc")):
        for name in ("apptainer", "singularity"):
            yield os.path.join(base, name, f"{name}.conf")

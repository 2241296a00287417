"""
Find the candidates for the runtime and ask each what it is.

That a program exists, or that it exits with 0, proves little; one that does
not answer ``--version`` as a runtime does is reported as broken.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping
from typing import Optional

import attrs

from wlcg_isolate.host.config import config_file_of, read_config
from wlcg_isolate.host.facts import RuntimeFact
from wlcg_isolate.host.touch import within

#: What a runtime gets to see: nothing of the pilot's environment, in which
#: any APPTAINER_* or SINGULARITY_* variable acts as an option.  Every call,
#: even for the version, would make a configuration directory in the user's
#: home; nothing can be made in /proc, and the runtime goes on without.
RUNTIME_ENVIRON: Mapping[str, str] = {
    "APPTAINER_CONFIGDIR": "/proc/wlcg_isolate",
    "SINGULARITY_CONFIGDIR": "/proc/wlcg_isolate",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
}

_BANNER = re.compile(r"(?:[\w.-]+ version )?v?\d+\.\d+")
_SETUID = re.compile(r"^(?:APPTAINER|SINGULARITY)_SUID_INSTALL=1$", re.MULTILINE)

#: The runtime colours its messages also when they go to a file.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

_Identity = tuple[int, ...]
_known: dict[str, tuple[_Identity, RuntimeFact]] = {}
_known_lock = threading.Lock()


def candidates(search: Iterable[str], path: str) -> Iterable[str]:
    """
    List the absolute paths to try, each once.

    Args:
        search: Names or paths, in order of preference.

        path: Directories to look names up in, as in PATH.
    """
    seen: dict[str, None] = {}
    for wanted in search:
        if "/" in wanted:
            seen.setdefault(os.path.abspath(wanted))
            continue
        # An empty or relative directory there would mean the payload's own.
        found = shutil.which(wanted, path=":".join(place for place in path.split(":") if place.startswith("/")))
        if found:
            seen.setdefault(os.path.abspath(found))

    return seen


def ask_all(paths: Iterable[str], seconds: float) -> tuple[RuntimeFact, ...]:
    """
    Ask candidates in order until one works.

    Returns:
        A fact for each that was asked; the ones behind the first that works
        are not started.
    """
    facts: list[RuntimeFact] = []
    for path in paths:
        facts.append(ask(path, seconds))
        if facts[-1].verdict == "works":
            break

    return tuple(facts)


def ask(path: str, seconds: float) -> RuntimeFact:
    """
    Ask one candidate what it is.

    The answer of one that works is kept for the life of this process, as
    long as the file stays the same one.
    """
    identity = _identity(path)
    if identity is None:
        return RuntimeFact(path=path, verdict="missing", reason="no such file")
    with _known_lock:
        known = _known.get(path)
    if known is not None and known[0] == identity:
        return known[1]

    fact = _ask(path, seconds)
    if fact.verdict == "works":
        with _known_lock:
            _known[path] = (identity, fact)

    return fact


def _identity(path: str) -> Optional[_Identity]:
    try:
        found = os.stat(path)
    except OSError:
        return None

    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def _ask(path: str, seconds: float) -> RuntimeFact:
    banner, fault = _run((path, "--version"), seconds)
    first_line = banner.strip().partition("\n")[0]
    if not fault and not _BANNER.match(first_line):
        fault = f"its answer to --version is not a runtime's: {first_line[:60]!r}"
    fact = RuntimeFact(path=path, verdict="broken" if fault else "works", reason=fault, banner=first_line)
    if fault:
        return fact

    # Singularity 2 has no such command; it then is too old for us anyway.
    built, _ = _run((path, "buildcfg"), seconds)
    config_file = config_file_of(path, built)

    return attrs.evolve(
        fact,
        setuid=bool(_SETUID.search(built)),
        config_file=config_file,
        config=None if config_file is None else within(seconds, lambda: read_config(config_file)),
    )


def _run(argv: tuple[str, ...], seconds: float) -> tuple[str, str]:
    """
    Run a program without input.

    Returns:
        Its standard output, and what went wrong or "".
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - the program is the pilot's own choice
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(RUNTIME_ENVIRON),
            start_new_session=True,
        )
    except OSError as e:
        return "", f"cannot be executed: {e.strerror}"
    with process:
        try:
            stdout, stderr = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            # Its children hold the pipes, too.
            os.killpg(process.pid, signal.SIGKILL)
            return "", f"no answer to {argv[1]} within {seconds:g} s"
    if process.returncode:
        words = _COLOUR.sub("", stderr.decode("utf-8", "replace")).strip().partition("\n")[0]
        return "", f"{argv[1]} ended with status {process.returncode}: {words[:200]}"

    return stdout.decode("utf-8", "replace"), ""

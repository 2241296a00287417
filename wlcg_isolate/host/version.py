"""
Ask a program whether it is a runtime, which one, and how it is set up.
"""

from __future__ import annotations

from typing import Any, Optional

from wlcg_isolate._messages import plain
from wlcg_isolate.host.config import config_file_of, read_config
from wlcg_isolate.host.facts import RuntimeFact
from wlcg_isolate.host.start import RUNTIME_ENVIRON, end
from wlcg_isolate.host.starter import acts_setuid, starters_of
from wlcg_isolate.host.touch import within
from wlcg_isolate.products import parse_banner


def ask_version(path: str, seconds: float) -> tuple[RuntimeFact, tuple[str, ...]]:
    """
    Ask a candidate what it is.

    Args:
        path: Absolute path of the program.

        seconds: Deadline for each answer.

    Returns:
        The fact, and the files that it depends on.
    """
    answer, fault, silent = _run((path, "--version"), seconds)
    first_line = answer.strip().partition("\n")[0]
    if silent:
        return RuntimeFact(path=path, verdict="no-answer", reason=fault), ()
    if not fault and parse_banner(first_line) is None:
        fault = f"its answer to --version is not a runtime's: {first_line[:60]!r}"
    if fault:
        return RuntimeFact(path=path, verdict="broken", reason=fault, banner=first_line), ()

    # Singularity 2 has no such command; it then is too old for us anyway.
    built, _, _ = _run((path, "buildcfg"), seconds)
    setuid, starters, config_file, config = within(seconds, lambda: _files(path, built)) or (False, (), None, None)
    fact = RuntimeFact(
        path=path, verdict="works", banner=first_line, setuid=setuid, config_file=config_file, config=config
    )

    return fact, (*starters, *([config_file] if config_file else []))


def _files(path: str, built: str) -> tuple[bool, tuple[str, ...], Optional[str], Any]:
    config_file = config_file_of(path, built)

    return acts_setuid(built), starters_of(built), config_file, read_config(config_file) if config_file else None


def _run(argv: tuple[str, ...], seconds: float) -> tuple[str, str, bool]:
    """
    Run a program without input.

    Returns:
        Its standard output, what went wrong or "", and whether that was
        silence.
    """
    import subprocess

    try:
        process = subprocess.Popen(  # noqa: S603 - the program is the pilot's own choice
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(RUNTIME_ENVIRON),
            cwd="/",
            start_new_session=True,
        )
    except OSError as e:
        return "", f"cannot be executed: {e.strerror}", False
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return "", f"no answer to {argv[1]} within {seconds:g} s", True
    finally:
        end(process)
    if process.returncode:
        words = plain(stderr).strip().partition("\n")[0]
        return "", f"{argv[1]} ended with status {process.returncode}: {words[:200]}", False

    return stdout.decode("utf-8", "replace"), "", False

"""
What a command asks of ATLASLocalRootBase, which starts containers of its own.

Its set-up of software (``asetup``, ``lsetup``) runs inside as it is.  What
would start a second container in this one is refused, option by option, and
what these say for the runtime is read as a queue's options are.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping

from wlcg_isolate.errors import IsolateError, Problem
from wlcg_isolate.pilots.options import parse_options
from wlcg_isolate.pilots.shell_words import commands

__all__ = ["alrb_problems"]

#: Start a container, as a script that is sourced or as the alias that users have for it.
_SCRIPTS = ("atlasLocalSetup.sh", "setupATLAS")

#: With a value.  Source: PanDAWMS/pilot3, pilot/user/atlas/container.py, add_asetup and
#: create_middleware_container_command; ATLASLocalRootBase, utilities/startContainer.sh.
_WITH_VALUE = ("-c", "--container", "-s", "-r", "-e", "-m")
_FLAGS = ("-d",)

#: Hold options for the runtime.  Source: ATLASLocalRootBase, utilities/startContainer.sh.
_OPTIONS = ("ALRB_CONT_CMDOPTS", "ALRB_CONT_OPTS")

_ASSIGNED = re.compile(r"(ALRB_CONT_\w+)=(.*)", re.DOTALL)


def alrb_problems(executable: str) -> Iterator[Problem]:
    """
    List what a command asks of ATLASLocalRootBase that starts a container.
    """
    if not any(word in executable for word in ("ALRB_CONT_", *_SCRIPTS)):
        return
    try:
        found = list(commands(executable))
    except ValueError:
        # A quote in a here-document, say.
        found = [part.split() for part in re.split(r"[;&|()\n]", executable)]
    set_: dict[str, str] = {}
    for words in found:
        set_.update({match[1]: match[2] for match in map(_ASSIGNED.fullmatch, words) if match})
    for name, value in sorted(set_.items()):
        yield _invalid(f"sets {name}, which is for containers of ATLASLocalRootBase")
        if name in _OPTIONS:
            yield from _unsupported(value, name)
    for words in found:
        for at, word in enumerate(words):
            if posixpath.basename(word) in _SCRIPTS:
                yield from _asked(_options(words[at + 1 :]))


def _options(words: list[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        short = word[:2]
        if name in _WITH_VALUE:
            found.setdefault(name, value if equals else next(rest, ""))
        elif short in _WITH_VALUE and word[2:]:
            found.setdefault(short, word[2:])
        elif word in _FLAGS:
            found.setdefault(word, "")

    return found


def _asked(options: Mapping[str, str]) -> Iterator[Problem]:
    if not {"-c", "--container"} & set(options):
        return
    for name, value in options.items():
        yield _invalid(
            f"has option {name} {value!r} of atlasLocalSetup.sh, which starts a container".replace(" ''", "")
        )
        if name == "-e":
            yield from _unsupported(value, "-e of atlasLocalSetup.sh")


def _unsupported(text: str, origin: str) -> Iterator[Problem]:
    """
    Name what would be refused in a queue's options, too.
    """
    try:
        parse_options(text, origin, {"workdir": "/srv"})
    except IsolateError as e:
        yield from e.problems


def _invalid(message: str) -> Problem:
    return Problem(
        kind="request-invalid",
        message=f"the command {message}",
        origin="the command",
        advice="leave the container to the pilot: image in the job, options in container_options of the queue",
    )

"""
The arguments of ``spython.main.Client.execute``, read as a request.

Rule: what a container has here anyway is accepted; what it does not have, or
what would undo its isolation, is refused by name, all at once.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional, Union

import attrs

from wlcg_isolate.errors import Problem, RequestError, gather
from wlcg_isolate.pilots.options import ExecOptions, parse_bind, parse_options
from wlcg_isolate.request import Bind, Payload, Request

#: Options before ``exec`` that change nothing but what the runtime prints.
_QUIETER = ("-q", "--quiet", "-s", "--silent", "--nocolor")

#: By these a relative path is told from a name that policy knows.
_FILES = (".sif", ".simg", ".img", ".sqfs", ".squashfs")

#: Of the runtime's own environment these never reach a container (apptainer
#: internal/pkg/util/env/create.go, alwaysOmitKeys); they are for the runtime.
_OMITTED = ("HOME", "PATH", "LD_LIBRARY_PATH")

#: What the runtime passes on to the container.
_PREFIXES = ("APPTAINERENV_", "SINGULARITYENV_")

_INSTEAD = {
    "app": "name the program of the app itself",
    "writable": "write into the working directory",
    "sudo": "run as the user who owns the payload; fakeroot and root are the site's to allow",
    "sudo_options": "leave it out",
    "instance": "start one payload for each command",
}


def request_of(  # noqa: PLR0913 - the arguments of another library
    image: Any = None,
    command: Union[str, Sequence[str], None] = None,
    *,
    app: Optional[str] = None,
    writable: bool = False,
    contain: bool = False,  # noqa: ARG001 - it always is
    bind: Union[str, Iterable[str], None] = None,
    nv: bool = False,
    options: Optional[Sequence[str]] = None,
    singularity_options: Optional[Sequence[str]] = None,
    sudo: bool = False,
    sudo_options: Union[str, Sequence[str], None] = None,
    environ: Optional[Mapping[str, str]] = None,
    **fields: Any,
) -> Request:
    """
    Make a request from the arguments of ``Client.execute``.

    Args:
        image: A path, a URI, a name that policy knows, or what
            ``Client.load`` and ``Client.build`` give.  A list is taken for
            the command.

        command: Program and arguments; a text is split at blanks.

        app: Refused.

        writable: Refused.

        contain: Means nothing: every container is.

        bind: ``SOURCE[:TARGET[:ro|rw]]``, one or several; without a word
            it can be written, as there.

        nv: Whether the payload gets NVIDIA's GPUs.

        options: Options of the runtime's ``exec``.

        singularity_options: Options before that word.

        sudo: Refused.

        sudo_options: Refused.

        environ: Environment of the runtime.  What differs in it from the
            pilot's own is a variable of the payload, with or without the
            runtime's prefix; ``PATH`` and ``LD_LIBRARY_PATH`` need the
            prefix, and ``HOME`` is always the library's.

        fields: Other fields of `Request`, such as *workdir* and *identity*.

    Raises:
        RequestError: With everything that cannot be had here.
    """
    if isinstance(image, list):
        image, command = None, image
    refused = {"app": app, "writable": writable, "sudo": sudo, "sudo_options": sudo_options}
    problems = [_refused(name) for name, value in refused.items() if value]
    found, faults = _options(singularity_options, options)
    problems += faults
    reference, faults = _image(image)
    problems += faults
    variables, faults = _variables(environ or {})
    problems += faults
    binds, faults = _binds(bind.split() if isinstance(bind, str) else bind)
    problems += faults
    if command is None:
        problems.append(problem("command is missing", "give a list of words"))
    if problems:
        raise RequestError(problems)
    words = command.split() if isinstance(command, str) else command or ()
    gpus = list(dict.fromkeys([*(["nvidia"] if nv else []), *found.gpus]))
    settings = {**({"gpu.use": gpus} if gpus else {}), **fields.pop("settings", {})}

    return Request(
        payload=Payload(command=tuple(words)),
        image=reference,
        binds=(*binds, *(_needed(one) for one in found.binds), *fields.pop("binds", ())),
        env={**variables, **found.env, **fields.pop("env", {})},
        settings=settings,
        **fields,
    )


def _options(before: Any, words: Any) -> tuple[ExecOptions, list[Problem]]:
    """
    Read options of the runtime, those before ``exec`` and those after it.

    Returns:
        What they ask, and what is wrong with them.
    """
    first, problems = _listed("singularity_options", before)
    second, faults = _listed("options", words)
    problems += faults
    problems += [problem(f"option {word} cannot be given", "leave it out") for word in first if word not in _QUIETER]
    try:
        return parse_options(shlex.join(second), "options"), problems
    except RequestError as e:
        return ExecOptions(), [*problems, *e.problems]


def _image(image: Any) -> tuple[Optional[str], list[Problem]]:
    """
    Read an image: what the client takes, or one of its objects.
    """
    text = None if image is None else str(image)
    if text is not None and text.startswith("instance://"):
        return None, [_refused("instance")]
    # What the client has loaded from a path names itself by it.
    if text is None or "://" in text or text.startswith("/"):
        return text, []
    is_path = text.endswith(_FILES) or text.startswith(("./", "../"))

    return os.path.abspath(text) if is_path else text, []


def _listed(name: str, value: Any) -> tuple[list[str], list[Problem]]:
    """
    Read a list of words: of a text, or of a mapping, other parts would be
    taken for them.
    """
    words = [] if value is None else value if isinstance(value, (str, bytes, Mapping)) else list(value)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return [], [problem(f"{name} is no list of words", "give a list")]

    return [word for word in words if word], []


def _binds(given: Any) -> tuple[list[Bind], list[Problem]]:
    texts, problems = _listed("bind", given)
    binds, bad = gather((part for word in texts for part in word.split(",")), _bind)

    return binds, [*problems, *bad]


def _bind(text: str) -> Bind:
    source, colon, rest = text.partition(":")
    # Paths of the client begin where the pilot is.
    path = os.path.abspath(source) if source else ""

    return _needed(parse_bind(f"{path}{colon}{rest}", "bind", {}))


def _needed(bind: Bind) -> Bind:
    """
    Have a missing source refuse the payload, as the client does.
    """
    return attrs.evolve(bind, source=os.path.abspath(bind.source), required=True)


def _variables(environ: Mapping[str, str]) -> tuple[dict[str, str], list[Problem]]:
    variables: dict[str, str] = {}
    problems: list[Problem] = []
    for name, value in environ.items():
        plain = next((name[len(prefix) :] for prefix in _PREFIXES if name.startswith(prefix)), None)
        if plain is not None:
            variables[plain] = value
        elif name in _OMITTED or os.environ.get(name) == value:
            # The others are the pilot's own, of which policy keeps what payloads need.
            continue
        elif name.startswith(("APPTAINER_", "SINGULARITY_")):
            problems.append(problem(f"environ holds {name}, which steers the runtime", "say it in policy"))
        else:
            variables[name] = value
    return variables, problems


def _refused(name: str) -> Problem:
    return problem(f"{name} cannot be had here", _INSTEAD[name])


def problem(message: str, advice: str) -> Problem:
    """
    Say what cannot be had.
    """
    return Problem(kind="request-invalid", message=message, origin="spython", advice=advice)

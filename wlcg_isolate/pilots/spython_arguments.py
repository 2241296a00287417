"""
The arguments of ``spython.main.Client.execute``, read as a request.

Rule: what a container has here anyway is accepted; what it does not have, or
what would undo its isolation, is refused by name, all at once.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, Optional, Union

from wlcg_isolate.errors import Problem, RequestError
from wlcg_isolate.request import Bind, Payload, Request

#: Options that ask for what every container has.
_ALWAYS = (
    "-c", "--contain", "-C", "--containall", "-e", "--cleanenv", "-p", "--pid", "-i", "--ipc", "-u", "--userns",
    "--no-home", "--no-privs", "--no-init", "--no-eval", "-q", "--quiet", "-s", "--silent", "--nocolor",
)  # fmt: skip

#: By these a relative path is told from a name that policy knows.
_FILES = (".sif", ".simg", ".img", ".sqfs", ".squashfs")

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
            runtime's prefix.

        fields: Other fields of `Request`, such as *workdir* and *identity*.

    Raises:
        RequestError: With everything that cannot be had here.
    """
    if isinstance(image, list):
        image, command = None, image
    refused = {"app": app, "writable": writable, "sudo": sudo, "sudo_options": sudo_options}
    problems = [_refused(name) for name, value in refused.items() if value]
    found, faults = _options((*(singularity_options or ()), *(options or ())))
    problems += faults
    reference, faults = _image(image)
    problems += faults
    variables, faults = _variables(environ or {}, found.env)
    problems += faults
    binds, faults = _binds([*_listed(bind), *found.bind])
    problems += faults
    if command is None:
        problems.append(problem("command is missing", "give a list of words"))
    if problems:
        raise RequestError(problems)
    words = command.split() if isinstance(command, str) else command or ()
    gpus = [name for name, wanted in (("nvidia", nv or found.nv), ("amd", found.rocm)) if wanted]
    settings = {**({"gpu.use": gpus} if gpus else {}), **fields.pop("settings", {})}

    return Request(
        payload=Payload(command=tuple(words)),
        image=reference,
        binds=(*binds, *fields.pop("binds", ())),
        env={**variables, **fields.pop("env", {})},
        settings=settings,
        **fields,
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RequestError([problem(f"options: {message}", "give each option as one word, its value as the next")])


def _parser() -> _Parser:
    parser = _Parser(add_help=False, allow_abbrev=False, prog="options")
    for option in _ALWAYS:
        parser.add_argument(option, dest="always", action="store_true")
    parser.add_argument("--nv", action="store_true")
    parser.add_argument("--rocm", action="store_true")
    parser.add_argument("-B", "--bind", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])

    return parser


def _options(words: Sequence[str]) -> tuple[argparse.Namespace, list[Problem]]:
    """
    Read options of the runtime.

    Returns:
        Those that say something, and a problem for each other one.
    """
    try:
        found, unknown = _parser().parse_known_args(list(words))
    except RequestError as e:
        return argparse.Namespace(nv=False, rocm=False, bind=[], env=[]), list(e.problems)

    # What stands behind an unknown option may be its value.
    names = [word for word in unknown if word.startswith("-")] or unknown
    advice = "say it in policy or in the request, or leave it out"

    return found, [problem(f"option {name} cannot be given", advice) for name in names]


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


def _listed(bind: Union[str, Iterable[str], None]) -> list[str]:
    return [] if not bind else bind.split() if isinstance(bind, str) else [word for word in bind if word]


def _binds(texts: Iterable[str]) -> tuple[list[Bind], list[Problem]]:
    binds: list[Bind] = []
    problems: list[Problem] = []
    for text in (part for word in texts for part in word.split(",")):
        source, target, access, *rest = (*text.split(":"), "", "")
        if any(rest) or access not in ("", "ro", "rw") or not source:
            problems.append(problem(f"bind {text!r} is not SOURCE[:TARGET[:ro|rw]]", "correct it"))
        else:
            place = os.path.abspath(source)
            binds.append(Bind(source=place, target=target or place, writable=access != "ro", origin="bind"))

    return binds, problems


def _variables(environ: Mapping[str, str], words: Iterable[str]) -> tuple[dict[str, str], list[Problem]]:
    variables: dict[str, str] = {}
    problems: list[Problem] = []
    for name, value in environ.items():
        plain = next((name[len(prefix) :] for prefix in _PREFIXES if name.startswith(prefix)), None)
        if plain is not None:
            variables[plain] = value
        elif os.environ.get(name) == value:
            # The pilot's own, of which policy keeps what payloads need.
            continue
        elif name.startswith(("APPTAINER_", "SINGULARITY_")):
            problems.append(problem(f"environ holds {name}, which steers the runtime", "say it in policy"))
        else:
            variables[name] = value
    for word in words:
        for pair in word.split(","):
            name, equals, value = pair.partition("=")
            if not equals:
                problems.append(problem(f"option --env {pair!r} is not NAME=VALUE", "correct it"))
            variables[name] = value

    return variables, problems


def _refused(name: str) -> Problem:
    return problem(f"{name} cannot be had here", _INSTEAD[name])


def problem(message: str, advice: str) -> Problem:
    """
    Say what cannot be had.
    """
    return Problem(kind="request-invalid", message=message, origin="spython", advice=advice)

"""
The arguments and results of ``spython.main.Client.execute``.

Rules:

1. What a container has here anyway is accepted; what it does not have, or
   what would undo its isolation, is refused by name, all at once.
2. Nothing is printed and nothing exits: what went wrong is raised, or is in
   the result.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Optional, Union

from wlcg_isolate.errors import LaunchError, Problem, RequestError
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.plan import make_plan
from wlcg_isolate.policy import Policy, load_policy
from wlcg_isolate.request import Bind, Payload, Request
from wlcg_isolate.run import run_isolated
from wlcg_isolate.running import start_plan

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
        problems.append(_problem("command is missing", "give a list of words"))
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


def execute(
    image: Any = None,
    command: Union[str, Sequence[str], None] = None,
    *,
    policy: Optional[Policy] = None,
    stream: bool = False,
    stream_type: str = "stdout",
    return_result: bool = False,
    quiet: bool = True,  # noqa: ARG001 - a library prints nothing
    **more: Any,
) -> Any:
    """
    Run a payload as ``Client.execute`` does.

    Args:
        image: As for `request_of`.

        command: As for `request_of`.

        policy: What holds; what `load_policy` finds, when None.

        stream: Whether to return an iterator over lines as they come.

        stream_type: Of which of the payload's streams: ``"stdout"``,
            ``"stderr"`` or ``"both"``.

        return_result: Whether to return the whole result also of success.

        quiet: Means nothing: a library prints nothing.

        more: As for `request_of`.

    Returns:
        Of success what the payload printed: one text, or a list of output
        and errors when there are both, empty when there is neither.  Of
        failure, and with *return_result*, a dictionary: ``message`` (the
        same), ``return_code`` and ``outcome`` (in plain types).  A payload
        that was never started has 125 as its code, and the cause as its
        message.

    Raises:
        RequestError: As for `request_of`, at once.

        LaunchError: By the iterator, at its end: the payload failed.
    """
    if stream_type not in ("stdout", "stderr", "both"):
        raise RequestError([_problem(f"stream_type holds {stream_type!r}", "use stdout, stderr or both")])
    request = request_of(image, command, **more)
    policy = load_policy() if policy is None else policy
    if stream:
        return _stream(request, policy, stream_type)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        outcome = run_isolated(request, policy, stdout=out, stderr=err)
        texts = [_text(file) for file in (out, err)] if outcome.started else [outcome.message]
    message = [text for text in texts if text]
    result = _result(message[0] if len(message) == 1 else message, outcome)

    return result if return_result or outcome.status else result["message"]


def _stream(request: Request, policy: Policy, stream_type: str) -> Iterator[str]:
    plan = make_plan(request, policy)
    reader, writer = os.pipe()
    with (
        open(reader, encoding="utf-8", errors="replace") as lines,
        open(writer, "wb") as to,
        open(os.devnull, "wb") as no,
    ):
        stdout, stderr = (to if stream_type in (name, "both") else no for name in ("stdout", "stderr"))
        with start_plan(plan, stdout=stdout, stderr=stderr) as running:
            to.close()
            yield from lines
            outcome = running.wait()
    if outcome.status:
        raise LaunchError([Problem(kind=outcome.kind, message=outcome.message, origin="payload")])


def _result(message: Any, outcome: Outcome) -> dict[str, Any]:
    # As `subprocess` has it, which the client passes on.
    code = outcome.status if outcome.signal is None else -outcome.signal

    return {"message": message, "return_code": code, "outcome": outcome.to_dict()}


def _text(file: Any) -> str:
    file.seek(0)

    return str(file.read().decode("utf-8", "replace"))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RequestError([_problem(f"options: {message}", "give each option as one word, its value as the next")])


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

    return found, [_problem(f"option {name} cannot be given", advice) for name in names]


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
            problems.append(_problem(f"bind {text!r} is not SOURCE[:TARGET[:ro|rw]]", "correct it"))
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
            problems.append(_problem(f"environ holds {name}, which steers the runtime", "say it in policy"))
        else:
            variables[name] = value
    for word in words:
        for pair in word.split(","):
            name, equals, value = pair.partition("=")
            if not equals:
                problems.append(_problem(f"option --env {pair!r} is not NAME=VALUE", "correct it"))
            variables[name] = value

    return variables, problems


def _refused(name: str) -> Problem:
    return _problem(f"{name} cannot be had here", _INSTEAD[name])


def _problem(message: str, advice: str) -> Problem:
    return Problem(kind="request-invalid", message=message, origin="spython", advice=advice)

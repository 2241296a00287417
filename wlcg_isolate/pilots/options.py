"""
The options of ``apptainer exec`` that sites have written for their queues,
read for what they ask.

Rules:

1. An option means what it means to the runtime, or it is a problem; none is
   passed on as text.
2. What isolates is done anyway, and what lessens it is refused.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, Optional

import attrs

from wlcg_isolate._values import as_tuple
from wlcg_isolate.errors import Problem, RequestError, gather
from wlcg_isolate.request import Bind

__all__ = ["ExecOptions", "parse_options"]

#: Done anyway, for every payload.  Source: apptainer 1.4.5, cmd/internal/cli/action_flags.go, as all options here.
_ALREADY = (
    ("-c", "--contain"),
    ("-C", "--containall"),
    ("-e", "--cleanenv"),
    ("-i", "--ipc"),
    ("-p", "--pid"),
    ("-u", "--userns"),
    ("--no-home",),
    ("--no-privs",),
    ("--no-init",),
    ("--no-umask",),
    ("--underlay",),
)
_GPUS = {"--nv": "nvidia", "--rocm": "amd"}

#: Known, and not for a queue to say.
_REFUSED: Mapping[tuple[str, ...], str] = {
    ("-H", "--home"): "no home of the host is shown; the payload's is its working directory",
    ("-W", "--workdir"): "/tmp and /var/tmp are private directories already",
    ("-S", "--scratch"): "bind a directory of the node instead, or use /tmp",
    ("--pwd", "--cwd"): "the payload starts in its working directory",
    ("-o", "--overlay"): "a layer over the image is the site's to say in its own file",
    ("--security",): "what surrounds a payload is the site's to say: isolation",
    ("--add-caps",): "payloads get no capabilities",
    ("--apply-cgroups",): "limits are the site's to say: limits",
    ("--network",): "the network is the site's to say: isolation.network",
    ("--dns",): "the network is the site's to say: isolation.network",
    ("--hostname",): "payloads see the node's name",
    ("--env-file",): "name the variables with --env",
    ("--mount",): "write it as --bind",
}
_REFUSED_FLAGS: Mapping[tuple[str, ...], str] = {
    ("-w", "--writable"): "images are read-only",
    ("--writable-tmpfs",): "images are read-only; /tmp can be written",
    ("-f", "--fakeroot"): "payloads run as the pilot's user",
    ("--keep-privs",): "payloads get no capabilities",
    ("--allow-setuid",): "payloads get no capabilities",
    ("-n", "--net"): "the network is the site's to say: isolation.network",
    ("--uts",): "payloads see the node's name",
    ("--no-eval",): "values are delivered as they are already",
}


@attrs.frozen(kw_only=True)
class ExecOptions:
    """
    What the options of one queue ask.

    Attributes:
        binds: In their order.

        env: Variables for the payload.

        gpus: ``nvidia``, ``amd``.

        already: Options that ask for what is done anyway.
    """

    binds: tuple[Bind, ...] = attrs.field(default=(), converter=as_tuple)
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    gpus: tuple[str, ...] = attrs.field(default=(), converter=as_tuple)
    already: tuple[str, ...] = attrs.field(default=(), converter=as_tuple)


class _Unreadable(Exception):
    """
    The parser does not know a word.
    """


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Unreadable(message)


def _parser() -> _Parser:
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-B", "--bind", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--no-mount", action="append", default=[])
    for names in (*_ALREADY, *((name,) for name in _GPUS), *_REFUSED_FLAGS):
        parser.add_argument(*names, action="store_true", default=False, dest=names[-1])
    for names in _REFUSED:
        parser.add_argument(*names, action="append", default=[], dest=names[-1])

    return parser


def parse_options(text: str, origin: str, places: Optional[Mapping[str, str]] = None) -> ExecOptions:
    """
    Read a line of options.

    Args:
        text: As a site wrote it, in the shell's quoting.

        origin: Where it stands, for problems and binds.

        places: Paths for ``${NAME}`` in sources and targets of binds.

    Raises:
        RequestError: With every word that is unknown, refused or wrong.
    """
    try:
        words = shlex.split(text)
        given, unknown = _parser().parse_known_args(words)
    except (ValueError, _Unreadable) as e:
        raise RequestError([_problem(f"cannot be read: {e}", origin)]) from None
    asked = vars(given)
    problems = [_problem(f"holds {word!r}, which is no option that is known here", origin) for word in unknown]
    problems += [_problem(why, origin) for why in _refusals(asked)]
    texts = (one for line in asked["bind"] for one in line.split(",") if one)
    binds, faults = gather(texts, lambda item: parse_bind(item, origin, places or {}))
    problems += faults
    env: dict[str, str] = {}
    # The runtime takes several in one word.
    for item in (one for line in asked["env"] for one in line.split(",")):
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier():
            problems.append(_problem(f"holds --env {item!r}, which must be NAME=VALUE", origin))
        env[name] = value
    if problems:
        raise RequestError(problems)

    return ExecOptions(
        binds=binds,
        env=env,
        gpus=[gpu for option, gpu in _GPUS.items() if asked[option]],
        already=[names[-1] for names in _ALREADY if asked[names[-1]]] + ["--no-mount"] * bool(asked["no_mount"]),
    )


def parse_bind(text: str, origin: str, places: Mapping[str, str], *, separator: str = ":") -> Bind:
    """
    Read one bind: ``SOURCE[:TARGET[:OPTIONS]]``.

    Writable unless it says ``ro``, as the runtime has it.  A source that is
    missing leaves the bind out: a queue's options serve all its nodes.

    Raises:
        RequestError: It has more parts, an unknown option, or no valid path.
    """
    for name, path in places.items():
        text = text.replace(f"${{{name}}}", path)
    source, target, options, *more = *text.split(separator), *[""] * 2
    words = [word for word in options.split(",") if word]
    if any(more) or not source or "$" in text or set(words) - {"ro", "rw"}:
        raise RequestError([_problem(f"holds the bind {text!r}, which must be SOURCE[:TARGET[:ro|rw]]", origin)])

    return Bind(source=source, target=target or source, writable="ro" not in words, required=False, origin=origin)


def _refusals(asked: Mapping[str, Any]) -> Iterator[str]:
    for names, why in (*_REFUSED.items(), *_REFUSED_FLAGS.items()):
        if asked[names[-1]]:
            yield f"holds {names[-1]}: {why}"


def _problem(message: str, origin: str) -> Problem:
    return Problem(kind="request-invalid", message=f"{origin} {message}", origin=origin, advice="correct the settings")

"""
The options that ``plan`` and ``run`` share.

Rule: a command line is read as far as it can be, so that one call shows all
that is wrong with it, and a refusal still reaches its outcome file and trace
directory.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Optional

import attrs

from wlcg_isolate._values import absolute_path, named_pairs
from wlcg_isolate.errors import IsolateError, Problem, RequestError
from wlcg_isolate.policy import Policy, load_policy
from wlcg_isolate.request import Bind, Credential, Identity, Payload, Request

_BIND_FORM = "SRC[:DST[:ro|rw]]"
_IDENTITY = ("vo", "job_id", "user_dn", "user_sub", "user_iss", "pilot_id", "user_proxy", "user_token")

_EPILOG = """\
A bind is read-only unless it says rw.  Paths that hold a colon are given in a
request file.
"""


class _UsageError(Exception):
    """
    What argparse cannot go on from.
    """


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise _UsageError(message)


@attrs.frozen(kw_only=True)
class Parsed:
    """
    A command line, as far as it could be read.

    Attributes:
        options: The options of the subcommand itself.

        request: What is asked; None when it is not valid.

        policy: What holds here; the built-in one when it is not valid.

        outcome: File for the outcome, or None.

        trace_dir: Directory for trace records, or None.

        problems: Everything that is wrong.
    """

    options: argparse.Namespace
    request: Optional[Request]
    policy: Policy
    outcome: Optional[str]
    trace_dir: Optional[str]
    problems: tuple[Problem, ...]


def parser_for(prog: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """
    Make a parser that knows the shared options.
    """
    parser = _Parser(
        prog=f"wlcg-isolate {prog}",
        usage=f"wlcg-isolate {prog} [OPTION...] -- COMMAND [ARG...]",
        description=description,
        epilog=epilog + _EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to run")
    what.add_argument("--image", metavar="REF", help="image: path, or a name or operating system that policy knows")
    what.add_argument("--platform", metavar="NAME", help="platform, when no image is named")
    what.add_argument(
        "--workdir", metavar="DIR", help="working directory, at /srv in the container (default: this one)"
    )
    what.add_argument("--timeout", metavar="SECONDS", help="stop the payload after so much wall time")
    what.add_argument("--request", metavar="FILE|-", help="request in JSON; options override it")
    what.add_argument(
        "--script",
        action="store_true",
        help="the second word of COMMAND is a script of this node: show it to the payload",
    )
    view = parser.add_argument_group("what it sees")
    view.add_argument("--bind", metavar=_BIND_FORM, action="append", default=[], help="bind; a missing source refuses")
    view.add_argument(
        "--bind-if-present", metavar=_BIND_FORM, action="append", default=[], help="bind, left out if missing"
    )
    view.add_argument("--env", metavar="NAME=VALUE", action="append", default=[], help="set a variable")
    view.add_argument("--keep-env", metavar="NAME", action="append", default=[], help="let a host variable pass")
    view.add_argument(
        "--credential",
        metavar="NAME[=FILE]",
        action="append",
        default=[],
        help="give the payload a private copy of its own credential; FILE as the host's variable NAME says by default",
    )
    who = parser.add_argument_group("for whom (recorded)")
    who.add_argument("--vo", metavar="NAME", help="experiment")
    who.add_argument("--job-id", metavar="ID", help="the experiment's id of this payload")
    who.add_argument("--user-dn", metavar="DN", help="distinguished name of the user")
    who.add_argument("--user-sub", metavar="SUB", help="subject of the user's token")
    who.add_argument("--user-iss", metavar="URL", help="issuer of that token")
    who.add_argument("--pilot-id", metavar="ID", help="the experiment's id of this pilot")
    who.add_argument("--user-proxy", metavar="FILE", help="the user's proxy, which tells who it is")
    who.add_argument("--user-token", metavar="FILE", help="the user's token, the same way")
    where = parser.add_argument_group("policy and results")
    add_policy(where)
    where.add_argument("--runtime", metavar="PATH", help="runtime to use, instead of a search")
    where.add_argument("--outcome", metavar="FILE", help="write the outcome there, in JSON")
    where.add_argument("--trace-dir", metavar="DIR", help="write trace records there")

    return parser


def add_policy(group: argparse._ActionsContainer) -> None:
    """
    Add the options that say which policy holds.
    """
    group.add_argument("--site", metavar="FILE", help="site policy (default: $WLCG_ISOLATE_SITE, /etc/wlcg_isolate)")
    group.add_argument(
        "--experiment",
        metavar="NAME|FILE",
        action="append",
        help="experiment's profile, then its files for this site (default: $WLCG_ISOLATE_EXPERIMENT)",
    )
    group.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="set a key of policy, whatever the files say"
    )


def policy_of(options: argparse.Namespace) -> Policy:
    """
    Load the policy that the options of `add_policy` name.

    Raises:
        PolicyError: As for `load_policy`.
    """
    return load_policy(options.site, options.experiment, operator=options.set)


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> Parsed:
    """
    Read a command line.
    """
    words = list(argv)
    end = words.index("--") if "--" in words else len(words)
    before, command = words[:end], words[end + 1 :]
    problems: list[Problem] = []
    try:
        options, unknown = parser.parse_known_args(before)
    except _UsageError as e:
        problems.append(_usage(str(e)))
        options, unknown = _salvage(before), []
    problems += [_usage(f"unknown option or word {word!r} before --") for word in unknown]

    request = _collect(problems, lambda: _request(options, command))
    policy = _collect(problems, lambda: policy_of(options))

    return Parsed(
        options=options,
        request=request,
        policy=policy or Policy(),
        outcome=options.outcome,
        trace_dir=options.trace_dir,
        problems=tuple(problems),
    )


def _collect(problems: list[Problem], function: Any) -> Any:
    """
    Call *function*; keep its problems for later when it raises some.
    """
    try:
        return function()
    except IsolateError as e:
        problems += e.problems
        return None


def _usage(message: str) -> Problem:
    return Problem(kind="usage", message=message, origin="command line", advice="see wlcg-isolate --help")


def _salvage(words: Sequence[str]) -> argparse.Namespace:
    """
    Find where a refusal goes to in a command line that cannot be read.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    for name in ("--outcome", "--trace-dir"):
        parser.add_argument(name)
    add_policy(parser)
    found = argparse.Namespace(outcome=None, trace_dir=None, site=None, experiment=None, set=[])
    for i in range(len(words)):
        try:
            parser.parse_known_args(words[i : i + 2], found)
        except _UsageError:
            continue

    return found


def _request(options: argparse.Namespace, command: Sequence[str]) -> Optional[Request]:
    """
    Put request file and options together.

    Raises:
        RequestError: With all problems of both.
    """
    if not hasattr(options, "image"):
        return None
    problems: list[Problem] = []
    given = _from_options(options, command, problems)
    if options.request is not None:
        request = _collect(problems, lambda: _merged(options.request, given))
    else:
        if not command:
            problems.append(_usage("there is no payload: put its command behind --"))
            given["payload"] = {"command": ["-"]}
        request = _collect(problems, lambda: _built(given))
    if problems:
        raise RequestError(problems)

    return request if isinstance(request, Request) else None


def _merged(file: str, given: dict[str, Any]) -> Request:
    """
    Let options override what a request file says; lists add up.

    A field of the file that has the wrong type is kept, for the error to name.
    """
    from wlcg_isolate.structure import read_request_json, request_from_dict

    data = read_request_json(file)
    for name, ours in given.items():
        theirs = data.get(name)
        if isinstance(ours, dict) and name != "payload" and isinstance(theirs, dict):
            data[name] = {**theirs, **ours}
        elif isinstance(ours, list) and isinstance(theirs, list):
            data[name] = [*ours, *theirs]
        elif ours or theirs is None:
            data[name] = ours

    return request_from_dict(data)


def _built(given: dict[str, Any]) -> Request:
    """
    Make the request directly: the way through plain types would cost a plain
    command line the import of a library.
    """
    problems: list[Problem] = []
    parts = {
        "payload": _collect(problems, lambda: Payload(**given["payload"])),
        "identity": _collect(problems, lambda: Identity(**given["identity"])),
        "binds": tuple(_collect(problems, lambda bind=bind: Bind(**bind)) for bind in given["binds"]),
        "credentials": tuple(_collect(problems, lambda one=one: Credential(**one)) for one in given["credentials"]),
    }
    # What could not be made was reported: the rest is still to be checked.
    stand_ins = {"payload": Payload(command=("-",)), "identity": Identity()}
    good = {name: parts[name] or stand_in for name, stand_in in stand_ins.items()}
    good.update({name: tuple(filter(None, parts[name])) for name in ("binds", "credentials")})
    request = _collect(problems, lambda: Request(**{**given, **good}))
    if problems or not isinstance(request, Request):
        raise RequestError(problems)

    return request


def _from_options(options: argparse.Namespace, command: Sequence[str], problems: list[Problem]) -> dict[str, Any]:
    given: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("image", "platform", "workdir", "runtime", "trace_dir")
        if getattr(options, name) is not None
    }
    for name in ("workdir", "runtime", "trace_dir"):
        if name in given:
            given[name] = _absolute(given[name])
    if given.get("image", "").startswith("."):
        # A name never begins with a dot: this is a path.
        given["image"] = _absolute(given["image"])
    command, script = _script(options, command, problems)
    if command:
        given["payload"] = {"command": list(command)}
    if options.timeout is not None:
        given["timeout"] = _seconds(options.timeout, problems)
    given["env"], bad = named_pairs(options.env)
    problems += [_usage(f"--env {word!r} is not NAME=VALUE") for word in bad]
    given["keep_env"] = list(options.keep_env)
    given["credentials"] = [_credential(text) for text in options.credential]
    given["identity"] = {n: getattr(options, n) for n in _IDENTITY if getattr(options, n) is not None}
    for name in ("user_proxy", "user_token"):
        if name in given["identity"]:
            given["identity"][name] = _absolute(given["identity"][name])
    given["binds"] = [_bind(text, "--bind", problems) for text in options.bind]
    given["binds"] += [_bind(text, "--bind-if-present", problems) for text in options.bind_if_present]
    given["binds"] = [bind for bind in (*script, *given["binds"]) if bind]

    return given


def _script(
    options: argparse.Namespace, command: Sequence[str], problems: list[Problem]
) -> tuple[Sequence[str], list[dict[str, Any]]]:
    if not options.script:
        return command, []
    from wlcg_isolate.cli.script import script_of

    try:
        return script_of(command, options.workdir)
    except ValueError as e:
        problems.append(_usage(str(e)))
        return command, []


def _credential(text: str) -> dict[str, Any]:
    name, equals, path = text.partition("=")

    return {"variable": name, "source": _absolute(path)} if equals else {"variable": name}


def _absolute(path: str) -> str:
    return absolute_path(path) if path else path


def _seconds(text: str, problems: list[Problem]) -> Optional[float]:
    try:
        return float(text)
    except ValueError:
        problems.append(_usage(f"--timeout {text!r} is no number of seconds"))
        return None


def _bind(text: str, option: str, problems: list[Problem]) -> Optional[dict[str, Any]]:
    source, _, rest = text.partition(":")
    target, _, access = rest.partition(":")
    if access not in ("", "ro", "rw") or not source:
        problems.append(_usage(f"{option} {text!r} is not {_BIND_FORM}"))
        return None

    return {
        "source": _absolute(source),
        "target": target or _absolute(source),
        "writable": access == "rw",
        "required": option == "--bind",
        "origin": option,
    }

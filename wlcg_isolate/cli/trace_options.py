"""
Options of the subcommands that ask over records.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from typing import Any, Callable

from wlcg_isolate.errors import Problem, RequestError, TraceError

#: Option to what it asks for: the field of a question and the option's help.
_LISTS = {
    "--host": ("hosts", "HOST", "name of the node"),
    "--address": ("addresses", "IP", "address of the node, or its name"),
    "--boot": ("boots", "ID", "boot of the node"),
    "--cgroup": ("cgroups", "PATH", "control group, or one below the payload's"),
    "--trace-id": ("trace_ids", "ID", "the payload"),
    "--job-id": ("jobs", "ID", "the experiment's job"),
    "--task-id": ("tasks", "ID", "the experiment's task"),
    "--pilot-id": ("pilots", "ID", "the pilot"),
    "--batch-id": ("batch_jobs", "ID", "the batch system's job"),
    "--image": ("images", "X", "image by name, path or digest"),
    "--cvmfs": ("cvmfs", "X", "CVMFS repository: NAME, NAME@REVISION or a root hash"),
    "--path": ("paths", "PATH", "a file on the node: in whose working directory or bind it lies"),
    "--token-id": ("tokens", "JTI", "the token"),
    "--executable": ("executables", "X", "program that was started, or digest of its arguments"),
    "--vo": ("vos", "VO", "the experiment"),
    "--at-site": ("sites", "SITE", "the site"),
}

_NAMESPACE = re.compile(r"(?:(pid|mnt|user|net|ipc):)?\[?(\d{1,18})\]?\Z", re.ASCII)
_PAIR = re.compile(r"(\d{1,18}):(\d{1,18})\Z", re.ASCII)
_BURST = re.compile(r"(\d{1,9})/(\d{1,9})\Z", re.ASCII)


def ask_parser(name: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """
    Make a parser with what says which payloads are meant.
    """
    parser = argparse.ArgumentParser(
        prog=f"wlcg-isolate trace {name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_sources(parser)
    time = parser.add_argument_group("when")
    time.add_argument("--at", metavar="TIME", type=_typed(_moment), help="payloads that were there at this time")
    time.add_argument(
        "--since", metavar="TIME", type=_typed(_moment), help="payloads that were there at this time or later"
    )
    time.add_argument(
        "--until", metavar="TIME", type=_typed(_moment), help="payloads that were there at this time or before"
    )
    time.add_argument(
        "--started-after",
        metavar="TIME",
        type=_typed(_moment),
        help="payloads that started after this time, such as a ban's",
    )
    time.add_argument(
        "--skew", metavar="SECONDS", type=_typed(_seconds), default=0, help="by how much clocks may differ (default: 0)"
    )
    time.add_argument(
        "--lookback",
        metavar="DAYS",
        type=_typed(_seconds),
        default=10,
        help="the longest life of a payload (default: 10)",
    )
    which = parser.add_argument_group("which")
    for option, (field, value, text) in _LISTS.items():
        which.add_argument(option, dest=field, metavar=value, action="append", default=[], help=text)
    which.add_argument(
        "--pid",
        dest="pids",
        metavar="N",
        type=int,
        action="append",
        default=[],
        help="the payload's process, as recorded",
    )
    which.add_argument(
        "--namespace",
        dest="namespaces",
        metavar="[KIND:]INODE",
        type=_typed(_namespace),
        action="append",
        default=[],
        help="a namespace, as pid:[4026532001]",
    )
    which.add_argument(
        "--inode",
        dest="inodes",
        metavar="DEV:INODE",
        type=_typed(_pair),
        action="append",
        default=[],
        help="the working directory",
    )
    which.add_argument("--refused", action="store_true", help="only what was not started")
    user = parser.add_argument_group("whose")
    user.add_argument("--user-dn", metavar="DN", help="the user's name, in any notation")
    user.add_argument("--user-sub", metavar="SUB", help="subject of the user's token")
    user.add_argument("--user-iss", metavar="ISS", help="its issuer")
    user.add_argument(
        "--user-hash",
        metavar="HASH",
        action="append",
        default=[],
        help="the user, as records in the mode hashed have it",
    )
    user.add_argument(
        "--user-key",
        metavar="FILE",
        action="append",
        default=[],
        help="the site's key of those hashes, to find a user in them",
    )

    return parser


def add_sources(parser: argparse.ArgumentParser) -> None:
    """
    Add what says where records are.
    """
    parser.add_argument(
        "--trace-dir",
        metavar="DIR",
        # A shell makes several words of a pattern that nobody quoted.
        action="extend",
        nargs="+",
        default=[],
        help="directories, files or patterns of records (repeatable; default: as for run)",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "plain", "duckdb", "spark"),
        default="auto",
        help="what searches (default: DuckDB where it is installed)",
    )


def question_of(options: argparse.Namespace) -> Any:
    """
    Put together what is asked.

    Raises:
        TraceError: A key cannot be read, or options contradict each other.
    """
    from wlcg_isolate.trace.query.question import Question
    from wlcg_isolate.trace.query.times import DAY, SECOND

    if options.at is not None and not (options.since is None and options.until is None):
        raise _usage("--at", "--at stands for --since and --until of one time", "name either")
    lists = {field: getattr(options, field) for field, _, _ in _LISTS.values()}

    return Question(
        since=options.since if options.at is None else options.at,
        until=options.until if options.at is None else options.at,
        skew=options.skew * SECOND,
        lookback=options.lookback * DAY,
        started_after=options.started_after,
        pids=options.pids,
        namespaces=options.namespaces,
        inodes=options.inodes,
        refused=options.refused or getattr(options, "bursts", None) is not None,
        users=_users(options),
        **lists,
    )


def _users(options: argparse.Namespace) -> Sequence[Any]:
    named = (options.user_dn, options.user_sub, options.user_iss)
    if all(value is None for value in named) and not options.user_hash:
        if options.user_key:
            raise _usage(
                "--user-key", "a key alone names no user", "name one with --user-dn, or --user-sub and --user-iss"
            )
        return ()
    from wlcg_isolate.trace.query.users import user_of

    return (user_of(*named, keys=[_key(file) for file in options.user_key], hashes=options.user_hash),)


def _key(file: str) -> bytes:
    """
    Read a key as records are made with it.
    """
    try:
        with open(file, "rb") as f:
            return f.read(1 << 20)
    except OSError as e:
        raise _usage("--user-key", f"the key {file} cannot be read: {e.strerror or e}", "check the path") from e


def default_places() -> list[str]:
    """
    Find where records are when nothing is said.
    """
    from wlcg_isolate.host import trace_candidates
    from wlcg_isolate.policy import load_policy

    places = list(trace_candidates(load_policy(), os.environ, os.geteuid()))

    return [place for place in places if os.path.isdir(place)][:1] or places[-1:]


def save(file: str, text: str) -> None:
    """
    Write a new file, or in place of a plain one.

    Raises:
        RequestError: That cannot be done.
    """
    beside = f"{file}.new"
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as f:
            f.write(text)
        os.rename(beside, file)
    except OSError as e:
        problem = Problem(
            kind="request-invalid",
            message=f"the page cannot be written to {file}: {e.strerror or e}",
            origin="--timeline",
            advice="name a file in a directory that can be written",
        )
        raise RequestError([problem]) from e


def _usage(origin: str, message: str, advice: str) -> TraceError:
    return TraceError([Problem(kind="usage", message=message, origin=origin, advice=advice)])


def _typed(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """
    Tell argparse what was wrong, in the words of who found it.
    """

    def typed(text: str) -> Any:
        try:
            return read(text)
        except ValueError as e:
            raise argparse.ArgumentTypeError(f"{text!r}: {e}") from e

    return typed


def _moment(text: str) -> int:
    from wlcg_isolate.trace.query.times import given

    return given(text)


def _seconds(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 10_000_000:
        msg = "must be a whole number that is not negative"
        raise ValueError(msg)

    return number


def _matched(pattern: re.Pattern[str], text: str, form: str) -> re.Match[str]:
    match = pattern.match(text)
    if match is None:
        msg = f"must be {form}"
        raise ValueError(msg)

    return match


def _namespace(text: str) -> tuple[Any, int]:
    match = _matched(_NAMESPACE, text, "an inode, as 4026532001 or pid:[4026532001]")

    return match[1], int(match[2])


def _pair(text: str) -> tuple[int, int]:
    match = _matched(_PAIR, text, "device and inode in decimal, as stat -c %d:%i shows them")

    return int(match[1]), int(match[2])


def burst(text: str) -> tuple[int, int]:
    """
    Read how many refusals in how many seconds make a burst.
    """
    match = _matched(_BURST, text, "a number and seconds, as 20/60")

    return int(match[1]), int(match[2])

"""
``wlcg-isolate trace keygen``: make all keys that records are protected with.

Rule: what is there is never written over: records that were sealed to a key
are lost with it.
"""

from __future__ import annotations

import argparse
import base64
import os
from collections.abc import Mapping, Sequence

from wlcg_isolate.cli.output import report, report_error
from wlcg_isolate.errors import Problem, TraceError
from wlcg_isolate.trace.sealing import key_pair

_EPILOG = """\
DIR gets
  private.pem  opens what was sealed; stays with the security team, off all nodes
  seal.pem     its public half, to which users are sealed; goes to the nodes
  hash.key     secret of the hashes by which a user is found; goes to the nodes
               (mode 0600, or 0640 for a group of pilots), and stays with the
               security team

What is printed belongs into the site's file."""

_HASH_BYTES = 32


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = argparse.ArgumentParser(
        prog="wlcg-isolate trace keygen",
        description="Make the keys that users and files of records are sealed and hashed with.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", help="where; made when it is not there")
    parser.add_argument("--nodes", metavar="DIR", help="where the nodes will have their two files (default: DIR)")
    options = parser.parse_args(argv)
    try:
        public = _make(options.directory)
    except TraceError as error:
        report_error(error)
        return 1
    print(_policy(os.path.abspath(options.nodes or options.directory), public))
    report(f"keep {os.path.join(options.directory, 'private.pem')} off the nodes: it opens everything")

    return 0


def _make(directory: str) -> bytes:
    """
    Write the files.

    Returns:
        The public key as it is.

    Raises:
        TraceError: They cannot be made, or are there.
    """
    try:
        pair = key_pair()
        _write(directory, {"private.pem": pair.private, "seal.pem": pair.public, "hash.key": os.urandom(_HASH_BYTES)})
    except (OSError, ValueError) as e:
        message = f"no keys are made in {directory}: {getattr(e, 'strerror', None) or e}"
        advice = "name a new directory, and install the extra [crypto]"
        raise TraceError([Problem(kind="trace-unwritable", message=message, origin="DIR", advice=advice)]) from e

    return pair.raw


def _write(directory: str, contents: Mapping[str, bytes]) -> None:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    there = [name for name in contents if os.path.lexists(os.path.join(directory, name))]
    if there:
        raise OSError(None, f"{', '.join(there)} is there already")
    for name, content in contents.items():
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(os.path.join(directory, name), flags, 0o600), "wb") as f:
            os.fchmod(f.fileno(), 0o644 if name == "seal.pem" else 0o600)
            f.write(content)


def _policy(nodes: str, public: bytes) -> str:
    return "\n".join(
        (
            "[trace]",
            'identity_mode = "sealed"',
            f'identity_key_file = "{nodes}/hash.key"',
            f'identity_seal_file = "{nodes}/seal.pem"',
            f'seal_public_key = "{base64.b64encode(public).decode()}"',
        )
    )

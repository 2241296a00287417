"""
Payloads that a test runs, under the fake or under the real runtime.

Rules:

1. The pilot's environment is what the test says, whoever runs the test.  It
   is this process's meanwhile, so payloads of several threads take turns.
2. What a payload was given is read in its container, not taken from the plan.
3. What a payload reads is what the test says, never the tester's terminal.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Optional, Union
from unittest import mock

import attrs

from wlcg_isolate._values import as_mapping, as_tuple
from wlcg_isolate.outcome import Outcome
from wlcg_isolate.policy import Policy, load_policy
from wlcg_isolate.request import Payload, Request
from wlcg_isolate.run import run_isolated
from wlcg_isolate.testing.program import BANNER, Program, write_fake, write_recorder

#: Runs before the payload in its container: notes what there is, and becomes the payload.
_LOOK = (
    'cat /proc/$$/environ >"$HOME/.seen-environ" && cat /proc/$$/mountinfo >"$HOME/.seen-mounts" || exit 125\nexec "$@"'
)

_OCTAL = re.compile(r"\\([0-7]{3})")

_turn = threading.Lock()

#: What an image must have for any plan.
_IMAGE = ("bin", "srv", "tmp", "var/tmp", "cvmfs")


@attrs.frozen(kw_only=True)
class Ran:
    """
    What became of a payload.

    Attributes:
        outcome: What the library says of it.

        environ: Its whole environment, as it was in the container; None when
            that is not known, as of one that was never started.

        mounts: What was mounted in its container: target to whether it could
            be written; None when that is not known.

        stdout: What it printed.

        stderr: What it printed as errors.

        workdir: Its working directory, with what it left.

        calls: Arguments of each call of the runtime that started a
            container.

        records: Its trace records, in order.
    """

    outcome: Outcome
    environ: Optional[Mapping[str, str]] = attrs.field(default=None, converter=as_mapping, repr=False)
    mounts: Optional[Mapping[str, bool]] = attrs.field(default=None, converter=as_mapping, repr=False)
    stdout: str = ""
    stderr: str = ""
    workdir: Path
    calls: tuple[tuple[str, ...], ...] = attrs.field(default=(), converter=as_tuple, repr=False)
    records: tuple[Mapping[str, Any], ...] = attrs.field(default=(), converter=as_tuple, repr=False)


class Harness:
    """
    Runs payloads of one test.

    Attributes:
        is_real: Whether the runtime is a real one.

        image: The image of payloads that name none.

        program: The runtime.
    """

    def __init__(
        self, place: Union[str, os.PathLike[str]], *, real: Optional[str] = None, image: Optional[str] = None
    ) -> None:
        """
        Make a place for payloads.

        Args:
            place: An empty directory.

            real: Path of a real runtime; None for the fake.

            image: An image for it; None for one that the fake can use.

        Raises:
            ValueError: A real runtime needs a real image.

            HostError: This machine lacks what the fake is made of.
        """
        if real is not None and image is None:
            msg = "a real runtime needs an image: --isolate-image"
            raise ValueError(msg)
        self._place = Path(place)
        self._real = real
        self.is_real = real is not None
        self.image = image or self._make_image()
        self.program = self._program(BANNER)

    def use(self, banner: str) -> None:
        """
        Have a runtime of another release from now on; skip the test where
        the runtime is real.

        Args:
            banner: What it answers to ``--version``, such as
                ``"singularity-ce version 4.1.2"``.

        Raises:
            HostError: No runtime answers so.
        """
        if self._real is not None:
            import pytest

            pytest.skip(f"wants to be run with {banner}, and the runtime is real")
        self.program = self._program(banner)

    def run(
        self,
        policy: Policy,
        *command: str,
        environ: Optional[Mapping[str, str]] = None,
        stdin: Union[str, bytes] = b"",
        look: bool = True,
        **request: Any,
    ) -> Ran:
        """
        Run a payload.

        Args:
            policy: What holds.

            command: Program and arguments; nothing but a look when empty.

            environ: The pilot's environment, beside ``PATH`` and ``HOME``.

            stdin: What it can read.

            look: Whether the image's shell runs first, which sees what the
                payload is given; without it, *environ* and *mounts* are not
                known.

            request: Other fields of `Request`.
        """
        place = Path(tempfile.mkdtemp(dir=self._place, prefix="payload-"))
        workdir, trace = place / "work", place / "trace"
        workdir.mkdir()
        words = command or ("true",)
        fields = {
            "payload": Payload(command=("/bin/sh", "-c", _LOOK, "sh", *words) if look else words),
            "image": self.image,
            "workdir": workdir,
            "trace_dir": trace,
            "runtime": self.program.path,
            **request,
        }
        asked, seen = Request(**fields), Path(fields["workdir"])
        (place / "in").write_bytes(stdin.encode() if isinstance(stdin, str) else stdin)
        streams = {"stdin": (place / "in", "rb"), "stdout": (place / "out", "wb"), "stderr": (place / "err", "wb")}
        with ExitStack() as stack:
            files: dict[str, Any] = {name: stack.enter_context(open(*what)) for name, what in streams.items()}
            stack.enter_context(_pilot(place, environ or {}))
            before = len(self.program.argvs())
            outcome = run_isolated(asked, policy, **files)
            calls = self.program.argvs()[before:]

        return Ran(
            outcome=outcome,
            environ=_environ(seen) if look and outcome.started else None,
            mounts=_mounts(seen) if look and outcome.started else None,
            stdout=(place / "out").read_text(errors="replace"),
            stderr=(place / "err").read_text(errors="replace"),
            workdir=seen,
            calls=tuple(calls),
            records=tuple(_records(Path(fields["trace_dir"]))),
        )

    def _program(self, banner: str) -> Program:
        place = tempfile.mkdtemp(dir=self._place, prefix="runtime-")

        return write_fake(place, banner) if self._real is None else write_recorder(place, self._real)

    def _make_image(self) -> str:
        image = self._place / "image"
        for name in _IMAGE:
            (image / name).mkdir(parents=True)
        (image / "bin/sh").write_text("#!/bin/sh\n")

        return str(image)


@contextmanager
def _pilot(place: Path, environ: Mapping[str, str]) -> Iterator[None]:
    given = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(place),
        "XDG_CACHE_HOME": str(place.parent / "cache"),
        "WLCG_ISOLATE_SITE": "",
        **environ,
    }
    with _turn, mock.patch.dict(os.environ, given, clear=True):
        yield


def _seen(workdir: Path, name: str) -> Optional[str]:
    """
    Take what the look noted; a payload may have removed it.
    """
    try:
        text = os.fsdecode((workdir / name).read_bytes())
        (workdir / name).unlink()
    except FileNotFoundError:
        return None

    return text


def _environ(workdir: Path) -> Optional[dict[str, str]]:
    text = _seen(workdir, ".seen-environ")
    if text is None:
        return None

    return {name: value for name, _, value in (word.partition("=") for word in text.split("\0") if word)}


def _mounts(workdir: Path) -> Optional[dict[str, bool]]:
    text = _seen(workdir, ".seen-mounts")
    if text is None:
        return None
    lines = [line.split() for line in text.splitlines()]

    # The kernel writes blanks in octal.
    return {_OCTAL.sub(lambda found: chr(int(found[1], 8)), words[4]): "rw" in words[5].split(",") for words in lines}


def _records(trace: Path) -> Iterator[Mapping[str, Any]]:
    for file in sorted(trace.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record["event.action"].startswith("payload."):
                yield record


def policy_of(
    experiment: Union[str, os.PathLike[str], None] = None, site: Union[str, os.PathLike[str], None] = None
) -> Policy:
    """
    Load a policy that does not depend on the machine of the test.

    Args:
        experiment: Name of a shipped profile, or a file; None for none.

        site: The site's file; None for none, also where this machine has one.

    Raises:
        PolicyError: With every problem of every file.
    """
    named = {"WLCG_ISOLATE_SITE": "", "WLCG_ISOLATE_EXPERIMENT": ""}
    with mock.patch.dict(os.environ, named):
        return load_policy(site, experiment)

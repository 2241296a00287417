"""
An attribute of the HTCondor job in which the pilot runs, through
``condor_chirp set_job_attr_delayed``.

The schedd keeps it in the job's history, which belongs to the site and not to
the pilot: it takes the place of what gLExec's ``glexec_*`` attributes were.
Attributes whose names begin with ``Chirp`` may be set by default
(CHIRP_DELAYED_UPDATE_PREFIX).  There is one for each kind of event, such as
``ChirpWlcgIsolatePayloadStart``, and it holds the core of the last record.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from wlcg_isolate.policy.address import Address
from wlcg_isolate.trace.export.core import core_of
from wlcg_isolate.trace.export.receiver import Answered, ReceiverError, Refusal, fields_of

#: Attributes travel in the updates of a starter.
_MOST = 2000

#: What condor_chirp reads to find its starter.
_NEEDED = ("_CONDOR_CHIRP_CONFIG", "_CONDOR_SCRATCH_DIR", "_CONDOR_SLOT", "PATH", "LD_LIBRARY_PATH", "CONDOR_CONFIG")


def attribute_of(prefix: str, action: str) -> str:
    """
    Name the attribute of an event.
    """
    return prefix + "".join(word.capitalize() for word in action.replace("_", ".").split(".") if word.isalnum())


def literal(text: str) -> str:
    """
    Write a string of the ClassAd language.
    """
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Chirp(Answered):
    """
    The job's own starter.
    """

    def __init__(self, address: Address) -> None:
        self._prefix = address.path.strip("/")
        self._program = address.options.get("program")

    def send(self, lines: Sequence[bytes], seconds: float) -> Sequence[Refusal]:
        """
        Set an attribute for the last record of each kind.

        Raises:
            ReceiverError: condor_chirp cannot set it.
        """
        last = {str(fields_of(line).get("event.action", "unknown")): line for line in lines}
        for action, line in last.items():
            value = literal(core_of(line, _MOST).decode())
            self._run(("set_job_attr_delayed", attribute_of(self._prefix, action), value), seconds)

        return ()

    def _run(self, words: tuple[str, ...], seconds: float) -> None:
        import shutil
        import subprocess

        program = self._program or shutil.which("condor_chirp")
        if program is None:
            raise ReceiverError("condor_chirp is not on PATH")
        environ: Mapping[str, str] = {name: os.environ[name] for name in _NEEDED if name in os.environ}
        try:
            done = subprocess.run(  # noqa: S603 - the batch system's own program
                (program, *words),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                check=False,
                env=dict(environ),
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            raise ReceiverError(f"condor_chirp: {e}") from e
        if done.returncode:
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
            raise ReceiverError(f"condor_chirp: status {done.returncode}: {said[:200]}")

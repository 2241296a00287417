"""
Sessions into a job that runs (``condor_ssh_to_job``).

HTCondor hands its ``sshd`` to the job wrapper as if it were another job.  It
has to run on the node: it is the node's, and in an image there is none.

Rules:

1. The node's ``sshd`` gets nothing that a job could have written: not the
   configuration that HTCondor left in the scratch directory, no options of
   its keys, no variable, no file of a home directory.
2. All that it starts is a container like the job's own: with the request that
   the job began with, kept where no payload sees it, and another command.
3. A job that calls itself ``sshd`` gains nothing: it gets that same server,
   and what it would have to say to it.

Source: HTCondor 23.9, condor_ssh_to_job_sshd_setup and starter.cpp,
startSSHD; sshd_config(5).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Optional

import attrs

from wlcg_isolate.errors import Problem, RequestError
from wlcg_isolate.pilots.starters import Starter
from wlcg_isolate.request import Payload, Request

__all__ = ["Session", "begin", "keep", "kept", "preload", "session_directory"]

_FILE = "request.json"
_DIRECTORY = re.compile(r"\.condor_ssh_to_job_[0-9]+$")

#: A key and no more: what stands before its type are options.
_KEY = re.compile(r"(?:^|\s)((?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[\w@.-]+ [A-Za-z0-9+/=]+)")
_MOST = 65536

_TERM = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}")

#: The image's own shell, and the better one where there is one.
_SHELL = ("/bin/sh", "-c", "if command -v bash >/dev/null; then exec bash -l; else exec /bin/sh -l; fi")

#: Where the server looks for programs; the starter's PATH may be the job's.
_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"

_CONFIG = """\
HostKey {place}/host_key
AuthorizedKeysFile {place}/authorized_keys
ForceCommand exec {command}
AuthenticationMethods publickey
PasswordAuthentication no
PermitRootLogin no
PermitUserEnvironment no
PermitUserRC no
DisableForwarding yes
StrictModes no
PrintMotd no
UseDNS no
LogLevel INFO
"""


@attrs.frozen(kw_only=True)
class Session:
    """
    What a session into a job needs.

    Attributes:
        request: What the job asked for.

        environ: The environment that the library went by.

        preload: The job's own LD_PRELOAD.

        dummy: Process id and start of the wrapper of an interactive job,
            which ends when its session begins; None for other jobs.
            Source: HTCondor, condor_ssh_to_job_shell_setup.
    """

    request: Request
    environ: Mapping[str, str] = attrs.field(repr=False)
    preload: Optional[str] = None
    dummy: Optional[tuple[int, int]] = None

    def request_for(self, line: Optional[str], term: Optional[str]) -> Request:
        """
        Make the request for one session.

        Args:
            line: What the user wants to run, for the image's shell; None for
                a shell to talk to.

            term: The user's kind of terminal.
        """
        command = ("/bin/sh", "-c", line) if line else _SHELL
        env = dict(self.request.env)
        if term and _TERM.fullmatch(term):
            env["TERM"] = term

        return attrs.evolve(self.request, payload=Payload(command=command), env=env)


def keep(starter: Starter, session: Session) -> None:
    """
    Keep what the sessions of a job need.

    Raises:
        OSError: That is not possible.
    """
    data = {"environ": dict(session.environ), "preload": session.preload, "dummy": session.dummy}
    starter.keep(_FILE, json.dumps({"request": session.request.to_dict(), **data}) + "\n")


def kept(starter: Starter) -> Session:
    """
    Read what was kept of the job that runs.

    Raises:
        RequestError: There is no such job, or it cannot be read.
    """
    from wlcg_isolate.structure import request_from_dict

    try:
        text = starter.kept(_FILE)
    except OSError as e:
        raise RequestError([_problem(f"{starter.path} cannot be read: {e.strerror or e}")]) from e
    if text is None:
        raise RequestError([_problem("the job wrapper runs no job of the same starter, or cannot keep its request")])
    data = json.loads(text)

    return Session(
        request=request_from_dict(data["request"]),
        environ=data["environ"],
        preload=data["preload"],
        dummy=tuple(data["dummy"]) if data["dummy"] else None,
    )


def session_directory(words: Sequence[str], sshd: str) -> Optional[str]:
    """
    Tell whether a command is the server of a session, and where HTCondor left
    its keys; None for a job.

    Args:
        words: What HTCondor handed to its wrapper.

        sshd: The node's server (``SSH_TO_JOB_SSHD``).
    """
    if list(words[:1]) != [sshd] or "-f" not in words[:-1]:
        return None
    directory = os.path.dirname(words[list(words).index("-f") + 1])

    return directory if _DIRECTORY.search(directory) else None


def begin(starter: Starter, directory: str, command: Sequence[str]) -> tuple[str, dict[str, str]]:
    """
    Make all that the server of one session needs.

    Args:
        starter: Where the job's request is kept.

        directory: Where HTCondor left the keys; the job may write there.

        command: What a session runs on the node; the place where it finds its
            job is added.

    Returns:
        The configuration file, and the server's environment.

    Raises:
        RequestError: With what is wrong with the keys.
    """
    host_key, authorized = (_read(directory, name) for name in ("sshkey", "authorized_keys"))
    keys = [found[1] for found in map(_KEY.search, authorized.splitlines()) if found]
    if not keys:
        raise RequestError([_problem(f"{directory}/authorized_keys has no key")])
    place = f"ssh.{os.getpid()}"
    words = shlex.join([*command, starter.path])
    try:
        inner = Starter(path=f"{starter.path}/{place}")
        inner.keep("host_key", host_key)
        inner.keep("authorized_keys", "\n".join(keys) + "\n")
        config = inner.keep("sshd_config", _CONFIG.format(place=inner.path, command=words))
    except OSError as e:
        raise RequestError([_problem(f"{starter.path} cannot be written: {e.strerror or e}")]) from e

    # HTCondor's library gives these as the user's home and shell; sshd takes HOME away before it asks.
    return config, {
        "PATH": _PATH,
        "HOME": inner.path,
        "_CONDOR_SCRATCH_DIR": inner.path,
        "_CONDOR_SHELL": "/bin/sh",
    }


def preload(environ: Mapping[str, str], jobs: Optional[str]) -> dict[str, str]:
    """
    Give HTCondor's library by which its ``sshd`` knows a user without a
    shell, or whom the node does not know at all.

    None that the job asked for, and none that it could have put there.

    Args:
        environ: The wrapper's environment.

        jobs: The job's own LD_PRELOAD, which HTCondor replaces where it has
            that library.
    """
    path = environ.get("LD_PRELOAD", "")
    if path == jobs or not path.startswith("/") or os.path.basename(path) != "libgetpwnam.so":
        return {}

    return {} if any(os.access(place, os.W_OK) for place in _up(path)) else {"LD_PRELOAD": path}


def _up(path: str) -> Iterator[str]:
    path = os.path.realpath(path)
    while path != "/":
        yield path
        path = os.path.dirname(path)


def _read(directory: str, name: str) -> str:
    """
    Read a file that the job may have exchanged: no link, and nothing that
    waits or never ends.
    """
    path = f"{directory}/{name}"
    try:
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
        finally:
            os.close(place)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise RequestError([_problem(f"{path} is no plain file")])
            return file.read(_MOST).decode("ascii", "replace")
    except OSError as e:
        raise RequestError([_problem(f"{path} cannot be read: {e.strerror}")]) from e


def _problem(message: str) -> Problem:
    return Problem(
        kind="request-invalid",
        message=message,
        origin="condor_ssh_to_job",
        advice="see docs/how-to/htcondor.md",
    )

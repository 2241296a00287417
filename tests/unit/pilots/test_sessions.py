"""
What is kept of a job between the programs of one starter, and what a session into a job is made of.
"""

from __future__ import annotations

import os
import stat

import pytest

from wlcg_isolate import Bind, Identity, Payload, Request, RequestError
from wlcg_isolate.host.procfs import start_ticks
from wlcg_isolate.pilots import sessions, starters
from wlcg_isolate.pilots.sessions import Session
from wlcg_isolate.pilots.starters import Starter
from wlcg_isolate.structure import request_from_dict

REQUEST = Request(
    payload=Payload(command=("job", "\udcff")),
    image="el9",
    workdir="/scratch",
    binds=(Bind(source="/a", target="/b", writable=True),),
    env={"A": "x\ny", "B": ""},
    identity=Identity(job_id="schedd#1"),
    timeout=2.5,
    settings={"bind.forbidden_sources": ("/x",), "gpu.use": ("nvidia",)},
)


@pytest.fixture
def starter(tmp_path):
    """The place of a starter, which is not there yet."""
    return Starter(path=str(tmp_path / "starters" / "1.2.3"))


def test_kept(starter):
    """What is kept is read again, by this user alone."""
    assert starter.kept("job.ad") is None
    starter.keep("job.ad", "first")
    starter.keep("job.ad", "second \udcff")

    assert "second \udcff" == starter.kept("job.ad")
    assert ["job.ad"] == os.listdir(starter.path)
    assert {0o700, 0o600} == {stat.S_IMODE(os.stat(p).st_mode) for p in (starter.path, f"{starter.path}/job.ad")}


def test_links_are_not_followed(starter, tmp_path):
    """What stands under a name of ours and is a link is neither read nor written through."""
    (tmp_path / "victim").write_text("kept")
    starter.keep("other", "")
    os.symlink(tmp_path / "victim", f"{starter.path}/job.ad")
    with pytest.raises(OSError, match="symbolic"):
        starter.kept("job.ad")
    starter.keep("job.ad", "mine")

    assert ("kept", "mine") == ((tmp_path / "victim").read_text(), starter.kept("job.ad"))


def test_place_of_others(tmp_path):
    """A directory that everybody may exchange files in is refused."""
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)

    with pytest.raises(OSError, match="exchange"):
        Starter(path=str(open_to_all)).keep("a", "")


def test_forgotten(tmp_path):
    """With a starter goes what those before it left, and nothing of those that live."""
    mine = starters.parent(str(tmp_path))
    space = os.stat("/proc/self/ns/pid").st_ino
    living = f"{space}.{os.getpid()}.{start_ticks(os.getpid())}"
    others = {living: False, f"{space}.{os.getpid()}.1": True, f"{space}.4194305.5": True, "1.4194305.5": False}
    others[f"{space}.4194305.None"] = False
    for name in [*others, "no.starter"]:
        Starter(path=str(tmp_path / name)).keep("a", "")
    for name in ("1.2.3", f"{space}.7.None"):
        Starter(path=str(tmp_path / name)).keep("a", "")
        os.utime(tmp_path / name, (0, 0))
    mine.keep("a", "")
    mine.forget()

    assert sorted([*(name for name, gone in others.items() if not gone), "no.starter"]) == sorted(os.listdir(tmp_path))


def test_parent():
    """The place is the parent's, and of this user."""
    path = starters.parent().path

    assert path.startswith(f"/var/tmp/wlcg_isolate.{os.geteuid()}/starters/")
    assert path.endswith(f".{os.getppid()}.{start_ticks(os.getppid())}")


def test_request_in_plain_types():
    """A request comes through plain types as it was."""
    assert REQUEST == request_from_dict(REQUEST.to_dict())


def test_session_is_kept(starter):
    """What a session needs is kept whole."""
    session = Session(request=REQUEST, environ={"P": "\udcff"}, preload="/x", dummy=(1, 2))
    sessions.keep(starter, session)

    assert session == sessions.kept(starter)


def test_no_session(starter):
    """Without a job there is none, and with what nobody could have kept there is none either."""
    with pytest.raises(RequestError, match="runs no job"):
        sessions.kept(starter)
    starter.keep("other", "")
    os.symlink("/etc/passwd", f"{starter.path}/request.json")
    with pytest.raises(RequestError, match="cannot be read"):
        sessions.kept(starter)


@pytest.mark.parametrize(
    ("term", "expected"), [("xterm-256color", "xterm-256color"), ("x\n", None), ("() { :;}", None), (None, None)]
)
def test_request_of_a_session(term, expected):
    """It is the job's but for its command and terminal."""
    request = Session(request=REQUEST, environ={}).request_for("ls", term)

    assert (("/bin/sh", "-c", "ls"), expected) == (request.payload.command, request.env.get("TERM"))
    assert (REQUEST.image, REQUEST.binds, REQUEST.identity) == (request.image, request.binds, request.identity)
    assert "bash -l" in Session(request=REQUEST, environ={}).request_for(None, None).payload.command[2]


SSHD = "/usr/sbin/sshd"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([SSHD, "-i", "-e", "-f", "/s/.condor_ssh_to_job_1/sshd_config"], "/s/.condor_ssh_to_job_1"),
        (["/s/sshd", "-i", "-f", "/s/.condor_ssh_to_job_1/sshd_config"], None),
        ([SSHD, "-f", "/s/mine/sshd_config"], None),
        ([SSHD, "-f"], None),
        ([SSHD], None),
        ([], None),
    ],
)
def test_server_or_job(words, expected):
    """Only the node's server, with a configuration where HTCondor leaves it, is one of a session."""
    assert expected == sessions.session_directory(words, SSHD)


@pytest.fixture
def keys(tmp_path):
    """What HTCondor leaves in a scratch directory."""
    place = tmp_path / ".condor_ssh_to_job_1"
    place.mkdir()
    (place / "sshkey").write_text("PRIVATE\n")
    (place / "authorized_keys").write_text(
        'command="/x/condor_ssh_to_job_shell_setup /s/env.sh",environment="LD_PRELOAD=/srv/x" ssh-rsa AAAA+/= me\n'
        "cert-authority ssh-ed25519 BBBB\n# a remark\nno key\n"
    )
    (place / "sshd_config").write_text("ForceCommand touch /escaped\n")
    return place


def test_server_of_a_session(starter, keys):
    """Its configuration and keys are ours: nothing of the job's is in them but the keys themselves."""
    config, environ = sessions.begin(starter, str(keys), ["python", "-c", "it's"])
    place = os.path.dirname(config)
    written = {name: Starter(path=place).kept(name) for name in os.listdir(place)}

    assert {"sshd_config", "host_key", "authorized_keys"} == set(written)
    assert "ssh-rsa AAAA+/=\nssh-ed25519 BBBB\n" == written["authorized_keys"]
    assert "PRIVATE\n" == written["host_key"]
    assert f"ForceCommand exec python -c 'it'\"'\"'s' {starter.path}" in written["sshd_config"].splitlines()
    assert "escaped" not in written["sshd_config"]
    assert {"DisableForwarding yes", "PermitUserRC no", "PermitUserEnvironment no"} <= set(
        written["sshd_config"].splitlines()
    )
    assert "/bin/sh" == environ["_CONDOR_SHELL"]
    assert {place} == {environ["HOME"], environ["_CONDOR_SCRATCH_DIR"]}


@pytest.mark.parametrize("name", ["sshkey", "authorized_keys", ""])
@pytest.mark.parametrize("kind", ["link", "pipe", "gone", "directory"])
def test_exchanged_keys(starter, keys, tmp_path, name, kind):
    """Keys that the job exchanged for something else are refused, at once."""
    path = keys / name
    os.rename(path, tmp_path / "moved")
    if kind == "link":
        os.symlink(tmp_path / "moved", path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()

    with pytest.raises(RequestError, match=r"cannot be read|no plain file"):
        sessions.begin(starter, str(keys), ["x"])


def test_no_keys(starter, keys):
    """Where no key is, nobody gets in."""
    (keys / "authorized_keys").write_text('command="x"\n')

    with pytest.raises(RequestError, match="no key"):
        sessions.begin(starter, str(keys), ["x"])


def test_preload(tmp_path, mocker):
    """Only a library of HTCondor's name, which neither the job asked for nor anybody here could have written."""
    mine = tmp_path / "libgetpwnam.so"
    mine.touch()
    mocker.patch("os.access", lambda path, _mode: path.startswith(str(tmp_path)))
    path = "/usr/lib/libgetpwnam.so"

    assert {"LD_PRELOAD": path} == sessions.preload({"LD_PRELOAD": path}, None)
    assert {"LD_PRELOAD": path} == sessions.preload({"LD_PRELOAD": path}, "/other")
    for value, jobs in [(path, path), ("/usr/lib/libc.so", None), ("libgetpwnam.so", None), (str(mine), None)]:
        assert {} == sessions.preload({"LD_PRELOAD": value}, jobs)
    assert {} == sessions.preload({}, None)

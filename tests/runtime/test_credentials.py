"""
The payload's own credentials in real containers, and nobody else's.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TOKEN = "eyJhbGciOi.c2VjcmV0LXRva2Vu.c2lnbmF0dXJl"


@pytest.fixture
def pilot(tmp_path):
    """Make the pilot's environment with a proxy and a token."""
    proxy = tmp_path / "pilot" / "x509up"
    proxy.parent.mkdir(mode=0o700)
    proxy.write_text(f"-----BEGIN {TOKEN}\n")
    proxy.chmod(0o600)

    return {"X509_USER_PROXY": str(proxy), "BEARER_TOKEN": TOKEN, "PANDA_AUTH_TOKEN": TOKEN}


SHOW = 'cat "$X509_USER_PROXY"; stat -c %a "$X509_USER_PROXY"; echo x >> "$X509_USER_PROXY"'


def test_private_copy(cli, image, pilot):
    """The payload reads its proxy from a copy of mode 0600, which is all that it can spoil, and which goes."""
    ran = cli.run(
        "--image", image("debian11"), "--credential", "X509_USER_PROXY", command=("sh", "-c", SHOW), environ=pilot
    )

    assert (0, f"-----BEGIN {TOKEN}\n600\n".encode()) == (ran.status, ran.stdout), ran.stderr
    assert f"-----BEGIN {TOKEN}\n" == Path(pilot["X509_USER_PROXY"]).read_text()
    assert [] == os.listdir(cli.workdir)


def test_token_file(cli, image, pilot):
    """A token reaches the payload in a file, and is in nobody's environment or arguments."""
    script = (
        'cat "$BEARER_TOKEN_FILE"; echo; tr "\\0" "\\n" </proc/self/environ | grep -c eyJ; cat /proc/[0-9]*/cmdline'
    )
    ran = cli.run("--image", image("tiny"), "--credential", "BEARER_TOKEN", command=("sh", "-c", script), environ=pilot)
    first, count, rest = ran.stdout.split(b"\n", 2)

    assert (TOKEN.encode(), b"0") == (first, count), ran.stderr
    assert TOKEN.encode() not in rest


def test_nothing_in_evidence(cli, image, pilot):
    """No credential shows in records, outcome or messages."""
    ran = cli.run("--image", image("tiny"), "--credential", "BEARER_TOKEN", command=("false",), environ=pilot)
    left = [file.read_text() for file in (*cli.trace_dir.iterdir(), cli.outcome)]

    assert 1 == ran.status
    assert not any(TOKEN in text for text in [*left, ran.stderr])


def test_pilots_own(cli, image, pilot):
    """What is not named does not pass, by value or by path."""
    ran = cli.run("--image", image("tiny"), command=("sh", "-c", "env; ls -a /srv/.wlcg*"), environ=pilot)

    assert TOKEN.encode() not in ran.stdout
    assert b"x509" not in ran.stdout.lower()


@pytest.mark.parametrize("planted", ["link", "directory"])
def test_planted(cli, image, pilot, planted):
    """A credential in the working directory that leads elsewhere refuses the payload."""
    path = cli.workdir / "proxy"
    if planted == "link":
        path.symlink_to(pilot["X509_USER_PROXY"])
    else:
        path.mkdir()
    ran = cli.run("--image", image("tiny"), "--credential", f"X509_USER_PROXY={path}", environ=pilot)

    assert (125, "credential-missing", "policy") == (ran.status, ran.outcome["kind"], ran.outcome["failed_by"])


def test_shared_directory_mode(cli, image, pilot):
    """While the payload runs no other user may read its credentials."""
    command = ("sh", "-c", 'stat -c %a "$(dirname "$X509_USER_PROXY")"')
    ran = cli.run("--image", image("debian11"), "--credential", "X509_USER_PROXY", command=command, environ=pilot)

    assert b"700\n" == ran.stdout

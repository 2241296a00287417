"""
A payload reaches for another one of the same user that runs beside it.
"""

from __future__ import annotations

import subprocess

import pytest


@pytest.mark.parametrize("way", ["victim_tmp", "victim_var_tmp", "victim_dev_shm", "victim_work"])
def test_read_files_of_another_payload(duel, way):
    """Read another payload's files in /tmp, /var/tmp, /dev/shm and its working directory."""
    assert (duel.secret("VICTIM-OUTSIDE"), None) == duel.of(way)


def test_read_the_credentials_of_another_payload(duel):
    """Read the copies of another payload's credentials."""
    assert (duel.secret("VICTIM-OUTSIDE"), None) == duel.of("victim_credentials")


def test_read_the_shared_memory_of_another_payload(duel):
    """Attach to another payload's System V shared memory."""
    assert (duel.secret("VICTIM-OUTSIDE"), None) == duel.of("victim_shared_memory")


def test_read_the_environment_of_another_payload(duel):
    """Find another payload's processes and read their environment."""
    assert (duel.secret("VICTIM-OUTSIDE"), None) == duel.of("victim_environment")


def test_read_the_memory_of_another_payload(duel):
    """Find another payload's processes and read their memory."""
    assert (duel.secret("VICTIM-OUTSIDE"), None) == duel.of("victim_memory")


def test_send_another_payload_a_signal(duel):
    """Send another payload a signal."""
    assert ("sent", None) == duel.of("signal_victim")
    # Two that come at once may be told as one.
    assert (True, False) == tuple(duel.result["victim"][where]["signals"] > 0 for where in ("outside", "inside"))


def test_debug_another_payload(duel):
    """Attach to another payload as a debugger does."""
    assert ("attached", None) == duel.of("debug_victim")


def test_read_tmp_of_another_payload_in_the_same_working_directory(cli, image, tmp_path):
    """Look into another payload's /tmp where both share a working directory: this works, as the documentation says."""
    command = ("sh", "-c", "echo secret >/tmp/file; echo ready; read -r end")
    first = cli.start("--image", image("tiny"), command=command, stdin=subprocess.PIPE)
    assert b"ready\n" == first.stdout.readline()
    second = ("--image", image("tiny"), "--outcome", tmp_path / "second.json")
    own = cli.run(*second, command=("cat", "/tmp/file"))
    way = cli.run(*second, command=("sh", "-c", "cat /srv/.wlcg-isolate-*/tmp/file"))
    first.communicate(b"end\n", timeout=60)

    assert (1, b"") == (own.status, own.stdout)
    assert (0, b"secret\n") == (way.status, way.stdout)


def test_the_other_payload_ends_well(duel):
    """Harm another payload in any way: it ends as if it had been alone."""
    assert "success" == duel.result["victim"]["outcome"]["kind"]

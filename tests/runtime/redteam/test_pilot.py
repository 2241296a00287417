"""
A payload reaches for what is the pilot's: to read it, to talk to it, to harm it.

Each attempt is made twice: as any program of the same user on the node, where it has its way, and as a payload.
"""

from __future__ import annotations

import os

import pytest

from .conftest import CONFINED


def test_read_the_environment_of_the_pilot(duel):
    """Read /proc/PID/environ of the pilot, and of every process in sight."""
    assert (duel.secret("ENVIRONMENT"), None) == duel.of("pilot_environment")


def test_read_the_arguments_of_the_pilot(duel):
    """Read /proc/PID/cmdline of the pilot, and of every process in sight."""
    assert (duel.secret("ARGUMENT"), None) == duel.of("pilot_arguments")


@pytest.mark.parametrize("way", ["pilot_memory_file", "pilot_memory_call", "pilot_debugger"])
def test_read_the_memory_of_the_pilot(duel, way):
    """Read the pilot's memory through /proc/PID/mem, by process_vm_readv(2), and as a debugger by ptrace(2)."""
    assert (duel.secret("MEMORY"), None) == duel.of(way)


def test_copy_a_descriptor_of_the_pilot(duel):
    """Take a copy of a file that the pilot has open, by pidfd_getfd(2)."""
    assert (duel.secret("DESCRIPTOR"), None) == duel.of("pilot_descriptor_call")


def test_open_a_descriptor_of_the_pilot_again(duel):
    """Open a file that the pilot has open again, through /proc/PID/fd."""
    assert (duel.secret("DESCRIPTOR"), None) == duel.of("pilot_descriptor_file")


def test_read_inherited_descriptors(duel):
    """Read every descriptor that the pilot left inheritable."""
    assert (duel.secret("DESCRIPTOR"), None) == duel.of("inherited_descriptors")


def test_go_through_the_root_of_the_pilot(duel):
    """Go through /proc/PID/root and /proc/PID/cwd into the file system that the pilot sees."""
    assert (duel.secret("PROXY"), None) == duel.of("pilot_root")


@pytest.mark.parametrize(
    "way", ["proxy_by_path", "proxy_by_dots", "proxy_by_descriptor_of_directory", "proxy_by_link", "proxy_by_hard_link"]
)
def test_read_the_proxy(duel, way):
    """Read the pilot's proxy by its name, by ``..``, from an open directory, by a symbolic link and by a hard link."""
    assert (duel.secret("PROXY"), None) == duel.of(way)


def test_read_the_token(duel):
    """Read the token that the pilot keeps in /tmp."""
    assert (duel.secret("TOKEN"), None) == duel.of("token_in_tmp")


def test_list_the_directory_of_the_pilot(duel):
    """List the directory in which the pilot keeps its files."""
    assert ("credential,open,proxy,socket", None) == duel.of("pilot_directory")


def test_list_the_home_directory(duel):
    """List the user's home directory of the node."""
    outside, inside = duel.of("home_directory")

    assert (True, None) == ("file" in outside, inside)


def test_read_the_trace_records(duel):
    """Read the records about payloads."""
    assert ("read", None) == duel.of("trace_records")


def test_write_a_trace_record(duel):
    """Put a file of one's own among the trace records."""
    assert ("written", None) == duel.of("forged_trace_record")


def test_talk_to_the_socket_of_the_pilot(duel):
    """Connect to the pilot's Unix socket and ask."""
    assert (duel.secret("SOCKET"), None) == duel.of("pilot_socket")


def test_get_a_descriptor_through_the_socket_of_the_pilot(duel):
    """Have the pilot's Unix socket pass an open file (SCM_RIGHTS)."""
    assert (duel.secret("DESCRIPTOR"), None) == duel.of("pilot_descriptor_by_socket")


def test_talk_to_the_abstract_socket_of_the_pilot(duel):
    """Connect to the pilot's abstract Unix socket: the network is shared, so this works, as the documentation says."""
    assert (duel.secret("SOCKET"), duel.secret("SOCKET")) == duel.of("pilot_abstract_socket")


@pytest.mark.parametrize("way", ["pilot_shared_memory", "pilot_shared_memory_by_number"])
def test_read_the_shared_memory_of_the_pilot(duel, way):
    """Attach to the pilot's System V shared memory, by its key and by its number."""
    assert (duel.secret("SHARED"), None) == duel.of(way)


def test_take_a_message_of_the_pilot(duel):
    """Take a message from the pilot's System V queue."""
    assert (duel.secret("MESSAGE"), None) == duel.of("pilot_message_queue")


def test_take_a_message_of_the_pilot_from_a_posix_queue(duel):
    """Take a message from the pilot's POSIX queue."""
    assert (duel.secret("QUEUE"), None) == duel.of("pilot_posix_queue")


def test_change_the_semaphores_of_the_pilot(duel):
    """Change the pilot's System V semaphores."""
    assert ("changed", None) == duel.of("pilot_semaphores")
    assert duel.result["before"]["semaphore"] == duel.result["after"]["semaphore"]


def test_read_what_the_pilot_has_in_dev_shm(duel):
    """Read a file of the pilot in /dev/shm."""
    assert (duel.secret("DEVSHM"), None) == duel.of("pilot_dev_shm")


@pytest.mark.parametrize(
    "way", ["session_keyring", "session_keyring_by_number", "user_keyring", "user_keyring_by_number"]
)
def test_read_the_keys_of_the_pilot(duel, way):
    """Read the pilot's keys in the kernel's session and user keyrings, by their names and by their numbers."""
    open_ways = () if CONFINED else ("session_keyring", "session_keyring_by_number", "user_keyring_by_number")

    assert (duel.secret("KEY"), duel.secret("KEY") if way in open_ways else None) == duel.of(way)


@pytest.mark.parametrize("way", ["signal_pilot", "signal_group"])
def test_send_the_pilot_a_signal(duel, way):
    """Send a signal to the pilot, and to its process group."""
    assert ("sent", None) == duel.of(way)
    # Two that come at once may be told as one.
    assert (True, 0) == (duel.result["before"]["signals"] > 0, duel.result["after"]["signals"])


def test_send_everybody_a_signal(duel):
    """Send a signal to all processes of the user at once: nobody outside of the container gets it."""
    assert None is duel.inside("signal_everybody")
    assert (0, 0) == (duel.result["after"]["signals"], duel.result["victim"]["inside"]["signals"])


def test_lower_the_priority_of_the_pilot(duel):
    """Lower the pilot's priority, and that of all processes of the user."""
    assert ("lowered", None) == duel.of("renice_pilot")
    assert None is duel.inside("renice_user")
    # On the node it went down by one; in the container by no more.
    own = os.getpriority(os.PRIO_PROCESS, 0)
    lowered = min(own + 1, 19)
    assert (lowered, lowered) == (duel.result["before"]["nice"], duel.result["after"]["nice"])
    assert own == duel.result["victim"]["inside"]["nice"]


def test_set_a_limit_of_the_pilot(duel):
    """Set a resource limit of the pilot by prlimit(2)."""
    assert ("set", None) == duel.of("limit_pilot")


@pytest.mark.parametrize("way", ["kill_process_1", "stop_process_1", "words_through_process_1"])
def test_break_what_holds_the_container(duel, way):
    """Kill and stop process 1, and write forged words to all that it has open: the end is seen as it is."""
    assert None is duel.inside(way)
    assert ("success", 0) == (duel.result["outcome"]["kind"], duel.result["outcome"]["exit_code"])

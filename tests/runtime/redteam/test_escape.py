"""
A payload tries to leave its container: to see, to write or to run something outside of it.
"""

from __future__ import annotations

import pytest

from .conftest import CONFINED, POWER, ROOT

#: Root has its capabilities in the container's own user namespace, unless policy confines it.
OPEN_TO_ROOT = ROOT and not CONFINED


@pytest.mark.parametrize("way", ["chroot_escape", "chroot_escape_in_own_namespace"])
def test_climb_out_of_a_changed_root(duel, way):
    """Change the root below an open directory and climb up from there, as root of a namespace of one's own, too."""
    assert (duel.secret("PROXY"), None) == duel.of(way)


def test_uncover_the_old_root(duel):
    """Unmount the container's root to see what it covers."""
    assert (duel.secret("PROXY"), None) == duel.of("uncover_root")


def test_pivot_the_root(duel):
    """Exchange the root by pivot_root(2) and look at what is below the old one."""
    assert (duel.secret("PROXY"), None) == duel.of("pivot_root")


def test_join_the_namespaces_of_the_pilot(duel):
    """Join the mount namespace of the pilot, or of any process in sight, by setns(2)."""
    assert (duel.roots("join_namespaces", duel.secret("PROXY")), None) == duel.of("join_namespaces")


def test_climb_from_leaked_directories(duel):
    """Climb from every directory that process 1 has open, as CVE-2024-21626 did."""
    assert None is duel.inside("leaked_directories")


def test_overwrite_the_runtime(duel):
    """Open the runtime's program for writing through /proc/1/exe, as CVE-2019-5736 did."""
    assert ("opened", None) == duel.of("runtime_program")


def test_write_to_a_read_only_bind(duel):
    """Write to a bind that the plan shows for reading only."""
    assert ("written", None) == duel.of("write_to_read_only_bind")


def test_remount_a_read_only_bind(duel):
    """Remount a read-only bind for writing."""
    assert ("written", "written" if OPEN_TO_ROOT else None) == duel.of("write_through_read_only_bind")


def test_remount_a_read_only_bind_in_a_namespace_of_its_own(duel):
    """Remount a read-only bind for writing as root of a user namespace of one's own."""
    way = "write_through_read_only_bind_in_own_namespace"

    # On the node there is no bind to remount.
    assert (None, "written" if OPEN_TO_ROOT else None) == duel.of(way)


def test_copy_a_read_only_bind(duel):
    """Bind a read-only bind once more, for writing, in a namespace of one's own."""
    assert ("written", "written" if OPEN_TO_ROOT else None) == duel.of("copy_of_read_only_bind")


def test_nothing_was_written(duel):
    """Write outside of the binds in any way: the pilot's directory is as it was."""
    assert duel.result["before"]["pilot"] == duel.result["after"]["pilot"]


def test_rename_out_of_the_working_directory(duel):
    """Rename a file into a directory of the node, by way of a link."""
    assert ("moved", None) == duel.of("rename_out_of_bind")


def test_open_by_handle(duel):
    """Open the pilot's file by a handle, without a name (as "shocker" did)."""
    # Not every file system has handles.
    outside = duel.roots("open_by_handle", duel.secret("PROXY")) if duel.result["handles"] else None

    assert (outside, None) == duel.of("open_by_handle")


def test_open_by_handle_in_a_namespace_of_its_own(duel):
    """Open it by a handle as root of a user namespace of one's own."""
    assert None is duel.of("open_by_handle_in_own_namespace")[1]


def test_make_a_device_file(duel):
    """Make a device file and read the device."""
    assert (duel.roots("device_file", "read"), None) == duel.of("device_file")


def test_get_a_loop_device(duel):
    """Ask for a loop device, to mount a file system of one's own making."""
    outside, inside = duel.of("loop_device")

    assert (POWER, None) == (outside is not None and POWER, inside)


def test_name_the_handler_of_core_dumps(duel):
    """Open for writing the setting that names the program which the kernel starts on the node for a core dump."""
    inside = duel.roots("core_pattern", "opened") if OPEN_TO_ROOT else None

    assert (duel.roots("core_pattern", "opened"), inside) == duel.of("core_pattern")


@pytest.mark.parametrize("way", ["kernel_settings", "sys_files"])
def test_change_the_kernel(duel, way):
    """Open settings of the kernel in /proc/sys and /sys for writing."""
    outside, inside = duel.of(way)

    assert (POWER, POWER and OPEN_TO_ROOT) == (outside is not None and POWER, inside is not None and POWER)
    assert OPEN_TO_ROOT or inside is None


def test_name_a_release_agent(duel):
    """Open for writing the file that names the program which the kernel starts when a cgroup (version 1) is empty."""
    assert duel.of("release_agent") in _of_cgroups(duel, inside="opened")


def test_name_a_release_agent_in_a_mount_of_its_own(duel):
    """Mount a cgroup file system (version 1) anew and open its release agent for writing."""
    assert duel.of("release_agent_of_own_mount") in _of_cgroups(duel, inside=None)


def test_name_a_release_agent_in_namespaces_of_its_own(duel):
    """Do that as root of user and cgroup namespaces of one's own, as CVE-2022-0492 did."""
    assert duel.of("release_agent_in_own_namespace")[1] in ((None, "opened") if OPEN_TO_ROOT else (None,))


def test_move_to_another_cgroup(duel):
    """Make a cgroup of one's own and move there, out of the limits of the slot."""
    assert duel.of("other_cgroup") in _of_cgroups(duel, outside="moved", inside="moved")


def _of_cgroups(duel, *, outside="opened", inside):
    """List what may be had: nodes with version 2 alone have nothing of version 1."""
    found = {(outside if ROOT else None, inside if OPEN_TO_ROOT else None)}

    return found if POWER and duel.of("release_agent")[0] else {*found, (None, None)}


def test_set_the_name_of_the_node(duel):
    """Set the node's name."""
    assert (duel.roots("host_name", "set"), None) == duel.of("host_name")


def test_set_the_clock(duel):
    """Set the node's clock."""
    assert (duel.roots("clock", "set"), None) == duel.of("clock")

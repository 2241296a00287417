"""
Places of a node that matter for what surrounds a payload.
"""

from __future__ import annotations

#: Where root's own rights, without any capability, reach out of a container
#: (seen with Apptainer 1.4.5: a program named in ``core_pattern`` is started
#: by the kernel as root of the node).
ROOTS_OWN = ("/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger")

#: Who was delegated a cgroup could lift limits, freeze or kill the pilot here.
CGROUP_ROOT = "/sys/fs/cgroup"

#: Only there where cgroups are of version 2, and of no other.
CGROUP_SIGN = f"{CGROUP_ROOT}/cgroup.controllers"

#: What containers in containers need for image files.
FUSE = "/dev/fuse"

PATHS = (*ROOTS_OWN, CGROUP_SIGN, FUSE)

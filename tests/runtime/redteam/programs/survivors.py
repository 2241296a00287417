"""
Leave processes behind, each in another way, and end.

    python3 survivors.py MARK [WAY...]

Each has its way and the mark in its arguments.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

NEWUSER, NEWPID = 0x10000000, 0x20000000


def stay(way):
    """Become a process that ignores every signal and does not end by itself."""
    for number in range(1, 65):
        if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
            signal.signal(number, signal.SIG_IGN)
    os.execvp(sys.executable, [sys.executable, "-c", "import time; time.sleep(300)", sys.argv[1], way])


def child():
    """Just be a child."""
    stay("child")


def double_fork():
    """Lose the parent and the session, as daemons do."""
    os.setsid()
    if os.fork():
        os._exit(0)
    os.setsid()
    stay("double_fork")


def without_anything():
    """Close all descriptors and leave the working directory."""
    os.setsid()
    os.closerange(0, 1024)
    os.chdir("/")
    stay("without_anything")


def stopped():
    """Be stopped, so that no signal but KILL is delivered."""
    pid = os.fork()
    if not pid:
        stay("stopped")
    time.sleep(0.05)
    os.kill(pid, signal.SIGSTOP)
    os._exit(0)


def traced():
    """Be held by a debugger that has ended without letting go."""
    libc = ctypes.CDLL(None)
    pid = os.fork()
    if not pid:
        libc.ptrace(0, 0, None, None)
        os.setsid()
        stay("traced")
    os.waitpid(pid, 0)
    stay("tracer")


def own_namespaces():
    """Go to user and PID namespaces of one's own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEWUSER | NEWPID):
        os._exit(1)
    if os.fork():
        os._exit(0)
    os.setsid()
    stay("own_namespaces")


def family():
    """Be many, each of which starts another."""
    for _ in range(20):
        if os.fork():
            stay("family")
        os.setsid()
    stay("family")


WAYS = {way.__name__: way for way in (child, double_fork, without_anything, stopped, traced, own_namespaces, family)}

for name in sys.argv[2:] or WAYS:
    if not os.fork():
        WAYS[name]()
time.sleep(0.6)
print("left", flush=True)

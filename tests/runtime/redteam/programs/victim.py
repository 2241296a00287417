"""
Another payload, or another program of the same user: it has secrets, and counts what is done to it.

    python3 victim.py FILE.json

It says on standard output when it is ready, waits for the end of its standard input, and then writes what happened to
it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

signals = []
signal.signal(signal.SIGURG, lambda number, _frame: signals.append(number))

with open(sys.argv[1]) as f:
    victim = json.load(f)
secret = os.environ["VICTIM_SECRET"]
for name, mark in (("tmp", "TMP"), ("var_tmp", "VARTMP"), ("dev_shm", "DEVSHM"), ("work", "WORK")):
    with open(victim[name], "w") as f:
        f.write(f"VICTIM-{mark}={secret}")
memory = ctypes.create_string_buffer(f"VICTIM-MEMORY={secret}".encode())
libc = ctypes.CDLL(None, use_errno=True)
shared = libc.shmget(victim["key"], 64, 0o1600)
libc.shmat.restype = ctypes.c_void_p
ctypes.memmove(libc.shmat(shared, None, 0), f"VICTIM-SHARED={secret}".encode(), 46)
if victim["credential"]:
    with open(victim["credential"], "w") as f:
        f.write(f"VICTIM-CREDENTIAL={secret}")

print(json.dumps({"pid": os.getpid(), "address": ctypes.addressof(memory)}), flush=True)
sys.stdin.read()
libc.shmctl(shared, 0, None)
print(json.dumps({"signals": len(signals), "nice": os.getpriority(os.PRIO_PROCESS, 0)}), flush=True)

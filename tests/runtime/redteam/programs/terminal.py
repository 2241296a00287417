"""
Run a command on a terminal of its own, and tell what is in the terminal's input afterwards.

    python3 terminal.py COMMAND [ARGUMENT...]

It prints one object of JSON: the command's exit status, what it wrote to the terminal, and what a shell would read
next.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
import tty


def child() -> None:
    """Be the session's leader, as a login shell is."""
    tty.setraw(0)
    status = subprocess.run(sys.argv[1:], check=False).returncode
    os.set_blocking(0, False)
    typed = b""
    with contextlib.suppress(BlockingIOError):
        typed = os.read(0, 4096)
    with open(os.environ["TYPED"], "w") as f:
        json.dump({"status": status, "typed": typed.decode()}, f)


pid, terminal = pty.fork()
if not pid:
    child()
    os._exit(0)
shown = b""
while select.select([terminal], [], [], 60)[0]:
    try:
        data = os.read(terminal, 4096)
    except OSError:
        break
    shown += data
os.waitpid(pid, 0)
with open(os.environ["TYPED"]) as f:
    print(json.dumps({**json.load(f), "shown": shown.decode(errors="replace")}))

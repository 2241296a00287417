"""
Run the command line: ``python -m wlcg_isolate``.
"""

from __future__ import annotations

import signal
import sys

from wlcg_isolate.cli import main

status = main()
# The payload has ended; a signal that comes during Python's own end must not
# change the exit status that tells of it.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)
sys.exit(status)

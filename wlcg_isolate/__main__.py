"""
Run the command line: ``python -m wlcg_isolate``.
"""

from __future__ import annotations

import os
import signal
import sys

from wlcg_isolate.cli import main

status = main()
# The payload has ended; a signal that comes during Python's own end must not
# change the exit status that tells of it.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)
if sys.argv[1:2] in (["run"], ["plan"], ["job-wrapper"]):
    # They start no helpers that Python would have to end.  Taking its modules
    # apart again takes it a tenth of the time of a whole run, and nobody
    # waits for what a dead file system still holds in a thread.
    try:
        for stream in (sys.stdout, sys.stderr):
            # None where the caller had closed it.
            if stream is not None:
                stream.flush()
    except OSError:
        # As Python says it of itself (Py_FinalizeEx).
        status = status or 120
    os._exit(status)
sys.exit(status)

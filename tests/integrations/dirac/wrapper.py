"""
A job that stands in for DIRAC's job wrapper, which needs its services; DIRAC makes everything around it.
"""

import json
import os
import pathlib
import sys
import time

job = json.loads(pathlib.Path(__file__ + ".json").read_text())["Job"]
seen = {
    "environ": dict(os.environ),
    "arguments": sys.argv[1:],
    "cwd": os.getcwd(),
    "config": pathlib.Path(os.environ["DIRACSYSCONFIG"]).read_text(),
    "proxy": pathlib.Path(os.environ["X509_USER_PROXY"]).exists(),
    "mounts": pathlib.Path("/proc/self/mountinfo").read_text(),
}
print("SEEN " + json.dumps(seen))
if job.get("Store"):
    pathlib.Path(job["Store"], "result").write_text("stored")
if job.get("Link"):
    # Only what DIRAC's script writes last.
    pathlib.Path("/srv/retcode").symlink_to("/etc/hostname")
sys.stdout.flush()
if job.get("Sleep"):
    time.sleep(job["Sleep"])
    print("PROXY " + pathlib.Path(os.environ["X509_USER_PROXY"]).read_text())
sys.exit(int(job.get("Status", 0)))

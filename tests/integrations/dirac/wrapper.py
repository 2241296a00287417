"""
A job that stands in for DIRAC's job wrapper, which needs its services; DIRAC makes everything around it.
"""

import json
import os
import pathlib
import subprocess
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
if job.get("Locked"):
    # What its owner alone cannot remove without changing modes first.
    place = pathlib.Path("/srv/locked/below")
    place.mkdir(parents=True)
    (place / "file").touch()
    for path in (place, place.parent):
        path.chmod(0)
if job.get("Memory"):
    filled = bytearray(job["Memory"] * 2**20)
if job.get("Forge"):
    pathlib.Path("/srv/proxy").unlink()
    if job["Forge"] == "pipe":
        os.mkfifo("/srv/proxy")
    elif job["Forge"] == "link":
        pathlib.Path("/srv/proxy").symlink_to("/etc/hostname")
    else:
        pathlib.Path("/srv/proxy").write_text("FORGED")
if job.get("Endless"):
    # One line that is longer than DIRAC takes.
    for _ in range(3):
        os.write(1, b"x" * 2**20)
sys.stdout.flush()
if job.get("Stay"):
    # It heeds no signal but KILL, and has left its parent and its session.
    subprocess.Popen(["setsid", "sh", "-c", f"trap '' HUP INT TERM; touch /srv/stays; sleep {job['Stay']}; exit 0"])
    time.sleep(300)
if job.get("Sleep"):
    time.sleep(job["Sleep"])
    print("PROXY " + pathlib.Path(os.environ["X509_USER_PROXY"]).read_text())
sys.exit(int(job.get("Status", 0)))

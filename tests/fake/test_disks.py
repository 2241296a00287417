"""
Disks that are full, that become read-only: real file systems, in a mount namespace of a child process.
"""

from __future__ import annotations

import json
import subprocess
import sys

SETUP = """
import json, os, subprocess, sys
from wlcg_isolate import TraceError, TraceRecord
from wlcg_isolate.trace import Journal, iter_records
from wlcg_isolate.trace.verify import verify

place = sys.argv[1]
said = []

def mount(*words):
    subprocess.run(["mount", *words], check=True)

def write(journal, number, size=10):
    try:
        journal.write(TraceRecord(action="payload.end", trace_id="t", fields={"n": number, "fill": "x" * size}))
        said.append(number)
    except TraceError as e:
        said.append(str(e).partition(".jsonl: ")[2].partition(" (from")[0])
        return False
    return True

def end():
    report = verify(place)
    print(json.dumps([said, [r["n"] for r in iter_records(place)], report.status, len(report.files)]))
"""

FULL = """
mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", place)
journal = Journal(place)
number = 0
while write(journal, number, 5000):
    number += 1
# Small ones may still fit into the last page; what is acknowledged then counts.
while write(journal, number, 10):
    number += 1
# What the kernel shows of it names the user as the node does, which means nothing in here.
mount("--options-source", "disable", "-o", "remount,size=512k", place)
write(journal, number + 1)
journal.close()
end()
"""

READ_ONLY = """
mount("-t", "tmpfs", "tmpfs", place)
journal = Journal(place)
write(journal, 1)
# A file that is open for writing keeps a whole file system from becoming read-only, so it is the mount.
mount("--bind", place, place)
os.chdir("/")
mount("-o", "remount,bind,ro", place)
other = None
try:
    other = Journal(place)
except TraceError as e:
    said.append(str(e).partition(": Read-only")[1].strip(": "))
os.system(f"umount {place}")
write(journal, 2)
journal.close()
end()
"""


def run(tmp_path, script):
    """Run a script in a mount namespace of its own; give what was said, what is there, status and files."""
    (tmp_path / "place").mkdir()
    program = [sys.executable, "-c", SETUP + script, str(tmp_path / "place")]
    argv = ["unshare", "--user", "--map-root-user", "--mount", *program]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert "" == done.stderr

    return json.loads(done.stdout)


def test_full_file_system(tmp_path):
    """On a disk that fills up every record is either there or refused, and the file goes on when there is room."""
    said, there, status, files = run(tmp_path, FULL)
    refused = [word for word in said if isinstance(word, str)]

    assert ["No space left on device"] * 2 == refused
    assert [word for word in said if not isinstance(word, str)] == there
    assert 20 < len(there)
    assert (0, 1) == (status, files)


def test_file_system_that_becomes_read_only(tmp_path):
    """A directory that cannot be written any more gives an error to who begins, and takes records again after."""
    said, there, status, files = run(tmp_path, READ_ONLY)

    assert [1, "Read-only", 2] == said
    assert [1, 2] == there
    assert (0, 1) == (status, files)

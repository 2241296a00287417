"""
What the journal costs: to write a record, and to verify a file.

Each figure stands beside its floor, measured in the same run: a write of as
many bytes with `fdatasync`, and one SHA-256 over the file.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import sys
import tempfile
import time
from typing import Callable

from wlcg_isolate import TraceRecord
from wlcg_isolate.policy.journal import JournalSettings
from wlcg_isolate.trace import Journal, export_keys, iter_records
from wlcg_isolate.trace.seal import Keys
from wlcg_isolate.trace.verify import verify

#: About what a record of a start takes.
BYTES = 2000

WRITES = 1000
RECORDS = 50_000


def _record(number: int) -> TraceRecord:
    binds = [
        {"source": f"/cvmfs/repository{i}", "target": f"/cvmfs/repository{i}", "writable": False} for i in range(15)
    ]

    return TraceRecord(
        action="payload.start", trace_id=str(number), fields={"wlcg.isolation.binds": binds, "n": number}
    )


def _seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()

    return time.perf_counter() - begin


def _cpu_seconds(function: Callable[[], object]) -> float:
    # Per core: what else the machine does must not count.
    begin = time.process_time()
    function()

    return time.process_time() - begin


def _writing(place: str) -> None:
    journal = Journal(os.path.join(place, "writing"))
    bare = os.open(os.path.join(place, "bare"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    line = b"x" * BYTES

    def floor() -> None:
        os.write(bare, line)
        os.fdatasync(bare)

    taken: dict[str, list[float]] = {"write + fdatasync": [], "Journal.write": []}
    for number in range(WRITES):
        record = _record(number)
        taken["write + fdatasync"].append(_seconds(floor) * 1000)
        taken["Journal.write"].append(_seconds(lambda record=record: journal.write(record)) * 1000)  # type: ignore[misc]
    journal.close()
    os.close(bare)
    floors = statistics.quantiles(taken["write + fdatasync"], n=100)
    for name, values in taken.items():
        hundredths = statistics.quantiles(values, n=100)
        ratios = f"ratio {hundredths[49] / floors[49]:.2f}, {hundredths[98] / floors[98]:.2f}"
        print(f"  {name:20} median {hundredths[49]:.3f} ms, 99 % {hundredths[98]:.3f} ms, {ratios}")


def _verifying(place: str, *, sealed: bool) -> None:
    keys = os.path.join(place, "keys")
    directory = os.path.join(place, f"verifying-{sealed}")

    def take(_: str, kid: str, key: bytes) -> None:
        with open(keys, "w", encoding="ascii") as f:
            f.write(f'{{"kid": "{kid}", "key": "{key.hex()}"}}\n')

    export_keys(take if sealed else None)
    # What is measured is reading: nothing needs to be on disk.
    sync, os.fdatasync = os.fdatasync, lambda _: None  # type: ignore[assignment]
    journal = Journal(directory, JournalSettings(rotate_bytes=1 << 40))
    for number in range(RECORDS):
        journal.write(_record(number))
    journal.close()
    os.fdatasync = sync
    export_keys(None)

    def floor() -> None:
        with open(journal.path, "rb") as f:
            digest = hashlib.sha256()
            while block := f.read(1 << 20):
                digest.update(block)

    known = Keys(keys) if sealed else None
    rounds = [(_cpu_seconds(floor), _cpu_seconds(lambda: verify(journal.path, keys=known))) for _ in range(5)]
    times = [taken for _, taken in rounds]
    size = os.path.getsize(journal.path) / RECORDS
    what = "chain and keyed digests" if sealed else "chain alone"
    print(
        f"  verify, {what:24} {RECORDS / statistics.median(times):7.0f} records/s of {size:.0f} bytes, "
        f"{statistics.median(t / f for f, t in rounds):.1f} times SHA-256 of the file"
    )
    if not sealed:
        taken = _cpu_seconds(lambda: sum(1 for _ in iter_records(directory)))
        print(f"  {'iter_records':32} {RECORDS / taken:7.0f} records/s")


def main() -> int:
    """
    Print the figures and their ratios.
    """
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as place:
        _writing(place)
        for sealed in (False, True):
            _verifying(place, sealed=sealed)

    return 0


if __name__ == "__main__":
    sys.exit(main())

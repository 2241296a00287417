#!/usr/bin/env python3
"""
What it costs to know the node.

Prints the median of each in milliseconds, and its ratio to one bare start of
a container with the same runtime and image, measured in the same run.  With
``--check`` it ends with status 1 when a promise is broken.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from wlcg_isolate import Payload, Policy, Request, make_plan, probe_host
from wlcg_isolate.host import cache, examine_host

#: What is promised, in milliseconds.
CACHED_LIMIT = 1.0

_REPEAT = 200


def timed(function: Callable[[], object], repeat: int) -> float:
    """
    Return the median time of one call in milliseconds.
    """
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - begin))

    return statistics.median(times)


def import_time() -> float:
    """
    Return the time that a new process needs to import what a plan uses.
    """
    code = (
        "import time; t = time.perf_counter(); from wlcg_isolate import Policy, Request, make_plan, probe_host; "
        "print(1000 * (time.perf_counter() - t))"
    )

    argv = [sys.executable, "-c", code]
    times = [subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout for _ in range(11)]  # noqa: S603 - ourselves

    return statistics.median(map(float, times))


def main() -> int:
    """
    Measure and print.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime", help="default: what tools/get-apptainer prints")
    parser.add_argument("--image", help="default: what tools/get-image tiny prints")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    options.runtime = options.runtime or _tool("get-apptainer")
    options.image = options.image or _tool("get-image", "tiny")
    with tempfile.TemporaryDirectory() as place:
        for name in ("work", "cache"):
            os.mkdir(os.path.join(place, name), 0o700)
        request = Request(
            payload=Payload(command=("true",)),
            image=options.image,
            runtime=options.runtime,
            workdir=os.path.join(place, "work"),
            trace_dir=os.path.join(place, "trace"),
        )
        policy = Policy(host_cache_directories=(os.path.join(place, "cache"),))
        nowhere = Policy(host_cache_directories=())

        def cold() -> None:
            cache.forget()
            probe_host(request, nowhere)

        def from_file() -> None:
            cache.forget()
            probe_host(request, policy)

        def without() -> None:
            make_plan(request, policy, facts)

        facts = probe_host(request, policy)
        bare = [options.runtime, "exec", "--userns", "--contain", "--pid", "--ipc", options.image, "/bin/true"]
        figures = {
            "bare start of a container": timed(lambda: _run(bare), 11),
            "cold, one container started": timed(cold, 11),
            "cold, doctor: trees and files": timed(lambda: examine_host(request, policy), 5),
            "all facts, verdict in memory": timed(lambda: probe_host(request, policy), _REPEAT),
            "all facts, verdict in a file": timed(from_file, _REPEAT),
            "verdict alone, in memory": _verdict(options.runtime, policy, fresh_process=False),
            "verdict alone, in a file": _verdict(options.runtime, policy, fresh_process=True),
            "plan from given facts": timed(without, _REPEAT),
            "import of all that a plan needs": import_time(),
        }
    unit = figures["bare start of a container"]
    for name, value in figures.items():
        print(f"{name:34} {value:8.2f} ms {value / unit:8.3f}")
    broken = [name for name in figures if name.startswith("verdict alone") and figures[name] >= CACHED_LIMIT]
    for name in broken:
        print(f"too slow: {name} is not below {CACHED_LIMIT:g} ms", file=sys.stderr)

    return 1 if broken and options.check else 0


def _tool(*words: str) -> str:
    program = str(Path(__file__).resolve().parent.parent / "tools" / words[0])

    return _run([program, *words[1:]]).strip()


def _run(argv: list[str]) -> str:
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True).stdout  # noqa: S603


def _verdict(runtime: str, policy: Policy, *, fresh_process: bool) -> float:
    """
    Measure what the verdict on a runtime adds to a plan.
    """
    from wlcg_isolate.host.runtimes import Asker

    asker = Asker(
        policy=policy,
        machine=os.uname().machine,
        uid=os.geteuid(),
        forms=("tree",),
        directories=policy.host_cache_directories,
    )

    def ask() -> None:
        if fresh_process:
            cache.forget()
        list(asker.ask_until_good([runtime]))

    ask()

    return timed(ask, _REPEAT)


if __name__ == "__main__":
    sys.exit(main())

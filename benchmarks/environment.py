"""
What it costs to decide on every variable of a host with 1,000 of them.

The floor is a plain dict comprehension with a set of names in the same run.
The variables are those of the hosts in ``tests/hosts``.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable

from wlcg_isolate import Payload, Request, load_policy
from wlcg_isolate.environment import Place, Surroundings, decide_environment
from wlcg_isolate.host import HostFacts
from wlcg_isolate.variables import family_of

HOSTS = Path(__file__).resolve().parent.parent / "tests" / "hosts"

COUNT = 1000
ROUNDS = 300
MOST_MS = 1.0


def _environ() -> dict[str, str]:
    hosts = [json.loads(file.read_text(encoding="utf-8"))["environ"] for file in sorted(HOSTS.glob("*.json"))]
    found = {name: value for host in hosts for name, value in host.items()}
    more = ((f"{name}_{i}", value) for i in itertools.count() for name, value in list(found.items()))
    found.update(list(itertools.islice(more, max(0, COUNT - len(found)))))

    return dict(itertools.islice(found.items(), COUNT))


def _milliseconds(function: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    function()

    return (time.perf_counter() - begin) * 1000


def main() -> int:
    """
    Print the medians and their ratio.
    """
    environ, policy = _environ(), load_policy(None, "atlas")
    request = Request(
        payload=Payload(command=("true",)), image="/image", workdir="/scratch/job", keep_env=("SITE_NAME",)
    )
    facts = HostFacts(
        hostname="node", machine="x86_64", kernel="", uid=1000, gid=1000, cwd="/", environ=environ, runtimes=()
    )
    around = Surroundings(facts=facts, places=(Place("/scratch/job", "/srv"), Place("/cvmfs", "/cvmfs")), trace_id="x")
    kept = frozenset(policy.environment_keep)

    def decide() -> None:
        decide_environment(request, policy, around)

    def pick() -> dict[str, str]:
        return {name: value for name, value in environ.items() if name in kept}

    family_of.cache_clear()
    cold = _milliseconds(decide)
    times = [(_milliseconds(pick), _milliseconds(decide)) for _ in range(ROUNDS)]
    floor, warm = (statistics.median(column) for column in zip(*times))
    print(f"{len(environ)} variables, a dict comprehension: {floor:.3f} ms")
    print(f"decide_environment, warm:              {warm:.3f} ms, ratio {warm / floor:.1f}")
    print(f"decide_environment, first call:        {cold:.3f} ms")

    return int(warm >= MOST_MS)


if __name__ == "__main__":
    sys.exit(main())

"""
What it costs to load policy: a site's file, a profile and its file for the site.

The floor is the bare TOML parser on the same files in the same run.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable

from wlcg_isolate import load_policy
from wlcg_isolate.policy import files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SITE = EXAMPLES / "sites" / "el9-grid.toml"
LOCAL = EXAMPLES / "experiments" / "atlas-at-el9-grid.toml"
PROFILE = Path(files.__file__).parent / "profiles" / "atlas.toml"

ROUNDS = 200


def _parse() -> None:
    for path in (SITE, PROFILE, LOCAL):
        tomllib.loads(path.read_text(encoding="utf-8"))


def _load() -> None:
    load_policy(SITE, ["atlas", LOCAL])


def _milliseconds(function: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    function()

    return (time.perf_counter() - begin) * 1000


def main() -> int:
    """
    Print the medians and their ratio.
    """
    cold = _milliseconds(_load)
    times = [(_milliseconds(_parse), _milliseconds(_load)) for _ in range(ROUNDS)]
    floor, load = (statistics.median(column) for column in zip(*times))
    print(f"parse the files with {tomllib.__name__}: {floor:.2f} ms")
    print(f"load_policy, warm:                  {load:.2f} ms, ratio {load / floor:.2f}")
    print(f"load_policy, first call:            {cold:.2f} ms")

    return int(load >= 10)


if __name__ == "__main__":
    sys.exit(main())

"""
What it costs to start a payload, as a ratio to the bare runtime.

The floor is ``apptainer exec`` of the same image with the same flags, in the
same run: one round measures everything once, in turn.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import attrs

from wlcg_isolate import Payload, Plan, Request, _render as render, launch_plan, load_policy, make_plan

TOOLS = Path(__file__).resolve().parent.parent / "tools"

ROUNDS = 40


def _tool(*words: str) -> str:
    done = subprocess.run([str(TOOLS / words[0]), *words[1:]], stdout=subprocess.PIPE, check=True, text=True)  # noqa: S603

    return done.stdout.strip()


def _bare(plan: Plan, scratch: str) -> None:
    argv = [*render.runtime_argv(plan, scratch), *plan.request.payload.command]
    subprocess.run(argv, env=dict(plan.runtime_environ), stderr=subprocess.DEVNULL, check=True)  # noqa: S603


def _launch(plan: Plan, starter: str) -> None:
    # Each has an identity, and so a private directory, of its own.
    outcome = launch_plan(attrs.evolve(plan, trace_id=f"{plan.trace_id}-{starter}", starter=starter))
    if outcome.kind != "success":
        sys.exit(outcome.message)


def _milliseconds(function: Callable[..., object], *arguments: Any) -> float:
    begin = time.perf_counter()
    function(*arguments)

    return (time.perf_counter() - begin) * 1000


def _measure(image: str, runtime: str, place: str) -> None:
    workdir, scratch = os.path.join(place, "work"), os.path.join(place, "bare")
    for path in (workdir, f"{scratch}/tmp", f"{scratch}/var_tmp"):
        os.makedirs(path, exist_ok=True)
    request = Request(
        payload=Payload(command=("true",)),
        image=image,
        runtime=runtime,
        workdir=workdir,
        trace_dir=os.path.join(place, "trace"),
    )
    policy = load_policy()
    plan = make_plan(request, policy)
    ways: dict[str, tuple[Callable[..., None], Any]] = {
        "bare exec": (_bare, scratch),
        "launch_plan, loader": (_launch, "loader"),
        "launch_plan, shell": (_launch, "shell"),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 2):
        for name, (function, argument) in ways.items():
            took = _milliseconds(function, plan, argument)
            # The first two rounds warm the caches up.
            if number > 1:
                times[name].append(took)
    floors = times["bare exec"]
    print(f"{Path(image).name}, medians of {ROUNDS}")
    for name, values in times.items():
        # What else the machine does changes from round to round.
        ratio = statistics.median(value / floor for value, floor in zip(values, floors))
        print(f"  {name:20} {statistics.median(values):6.1f} ms, ratio {ratio:.2f}")
    planned = statistics.median(_milliseconds(make_plan, request, policy) for _ in range(ROUNDS))
    print(f"  {'make_plan, warm':20} {planned:6.1f} ms")


def main() -> int:
    """
    Print the medians and their ratios.
    """
    runtime = _tool("get-apptainer")
    for name in sys.argv[1:] or ("tiny", "debian13"):
        with tempfile.TemporaryDirectory() as place:
            _measure(_tool("get-image", name), runtime, place)

    return 0


if __name__ == "__main__":
    sys.exit(main())

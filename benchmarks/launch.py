"""
What it costs to start a payload, as a ratio to the bare runtime.

The floor is ``apptainer exec`` of the same image with the same flags, in the
same run: one round measures everything once, in turn, since what else the
machine does changes from round to round.  Processor time is that of this
process and of all that it started.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, NamedTuple

import attrs

from wlcg_isolate import Payload, Plan, Request, _render as render, launch_plan, load_policy, make_plan
from wlcg_isolate.launch import container, handshake, process
from wlcg_isolate.launch.limits import Limiter
from wlcg_isolate.launch.standing import Standing
from wlcg_isolate.trace.guard import GuardedJournal

TOOLS = Path(__file__).resolve().parent.parent / "tools"

BARE = "bare exec"

#: What a launch is made of, and where; the rest is "prepare".
PHASES: dict[str, tuple[tuple[Any, str], ...]] = {
    "records": ((GuardedJournal, "write"), (GuardedJournal, "deliver"), (GuardedJournal, "write_after")),
    "spawn": ((process, "spawn"),),
    "ready": ((Standing, "_marker"),),
    "verify": (
        (handshake, "find_payload"),
        (handshake, "replaced_image"),
        (Standing, "release_for"),
        (container, "check_confinement"),
        (container, "check_promises"),
        (Limiter, "apply"),
    ),
    "release": ((Standing, "let_go"),),
    "exit": ((container, "bring_about"),),
    "clean-up": ((container.Container, "_close"),),
}

#: Statements for a fresh interpreter, which as in the command line takes no
#: modules from the current directory.
FRESH = {
    "nothing": "pass",
    "import attrs": "import attrs",
    "import wlcg_isolate": "import wlcg_isolate",
    "all that run needs": "import wlcg_isolate.cli.run",
    "first plan": "import sys; from wlcg_isolate import *; make_plan(Request("
    "payload=Payload(command=('true',)), image=sys.argv[1], runtime=sys.argv[2], workdir=sys.argv[3],"
    "trace_dir=sys.argv[4]), load_policy())",
}


class Cost(NamedTuple):
    """
    What something took, in milliseconds.
    """

    wall: float
    processor: float


Costs = dict[str, list[Cost]]


class Place(NamedTuple):
    """
    What is measured on.

    Attributes:
        image: Path of the image.

        runtime: Path of the runtime.

        work: Directory of the payload.

        trace: Directory of the records.

        bare: The bare runtime's private directories.
    """

    image: str
    runtime: str
    work: str
    trace: str
    bare: str


def place_in(directory: str, image: str, runtime: str) -> Place:
    """
    Make what is measured on.
    """
    place = Place(image, runtime, *(os.path.join(directory, name) for name in ("work", "trace", "bare")))
    for path in (place.work, f"{place.bare}/tmp", f"{place.bare}/var_tmp"):
        os.makedirs(path, exist_ok=True)

    return place


def plan_for(place: Place) -> Plan:
    """
    Decide on one payload; the probe is warm afterwards.
    """
    request = Request(
        payload=Payload(command=("true",)),
        image=place.image,
        runtime=place.runtime,
        workdir=place.work,
        trace_dir=place.trace,
    )

    return make_plan(request, load_policy())


def _processor() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]

    return sum(one.ru_utime + one.ru_stime for one in both) * 1000


def cost_of(function: Callable[[], object]) -> Cost:
    """
    Do it and say what it took.
    """
    before, begin = _processor(), time.perf_counter()
    function()

    return Cost((time.perf_counter() - begin) * 1000, _processor() - before)


def _quiet(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    subprocess.run(argv, env=dict(environ), stderr=subprocess.DEVNULL, check=True)  # noqa: S603


def _bare(plan: Plan, place: Place) -> bool:
    _quiet([*render.runtime_argv(plan, place.bare), *plan.request.payload.command], plan.runtime_environ)

    return True


def _launch(plan: Plan, number: object, **more: Any) -> None:
    # Each has an identity, and so a private directory, of its own.
    outcome = launch_plan(attrs.evolve(plan, trace_id=f"{plan.trace_id}-{number}", **more))
    if outcome.kind != "success":
        sys.exit(outcome.message)


def _whole(place: Place) -> None:
    program = Path(sys.executable).with_name("wlcg-isolate")
    options = {
        "--image": place.image,
        "--runtime": place.runtime,
        "--workdir": place.work,
        "--trace-dir": place.trace,
    }
    _quiet([str(program), "run", *(word for pair in options.items() for word in pair), "--", "true"], os.environ)


def measure_one(place: Place, rounds: int) -> Costs:
    """
    Measure payloads one at a time.
    """
    plan = plan_for(place)
    ways: dict[str, Callable[[], object]] = {
        BARE: lambda: _bare(plan, place),
        "launch_plan, loader": lambda: _launch(plan, "loader", starter="loader"),
        "launch_plan, shell": lambda: _launch(plan, "shell", starter="shell"),
        "wlcg-isolate run": lambda: _whole(place),
        "bare, test start first": lambda: [start(plan, place) for start in (_bare, _bare)],
        "make_plan, warm": lambda: plan_for(place),
    }

    return _in_turn(ways, rounds)


def measure_fresh(place: Place, rounds: int) -> Costs:
    """
    Measure fresh interpreters.
    """
    ways: dict[str, Callable[[], object]] = {
        name: functools.partial(
            _quiet, [sys.executable, "-I", "-c", code, place.image, place.runtime, place.work, place.trace], os.environ
        )
        for name, code in FRESH.items()
    }

    return _in_turn(ways, rounds)


def measure_many(place: Place, payloads: int, threads: int, rounds: int) -> Costs:
    """
    Measure payloads at once, all of them together.
    """
    plan = plan_for(place)

    def with_threads(function: Callable[[int], object]) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(function, range(payloads)))

    ways: dict[str, Callable[[], object]] = {
        BARE: lambda: with_threads(lambda _: _bare(plan, place)),
        "launch_plan": lambda: with_threads(lambda number: _launch(plan, number)),
    }

    return _in_turn(ways, rounds)


def _in_turn(ways: Mapping[str, Callable[[], object]], rounds: int) -> Costs:
    for function in ways.values():
        # Warms the caches up.
        function()
    found: Costs = {name: [] for name in ways}
    for _ in range(rounds):
        for name, function in ways.items():
            found[name].append(cost_of(function))

    return found


@contextlib.contextmanager
def _timed() -> Iterator[dict[str, float]]:
    spent: dict[str, float] = collections.defaultdict(float)

    def timing(phase: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(plain)
        def timed(*arguments: Any, **more: Any) -> Any:
            begin = time.perf_counter()
            try:
                return plain(*arguments, **more)
            finally:
                spent[phase] += (time.perf_counter() - begin) * 1000

        return timed

    replaced = [
        (phase, owner, name, getattr(owner, name)) for phase, all_of in PHASES.items() for owner, name in all_of
    ]
    try:
        for phase, owner, name, plain in replaced:
            setattr(owner, name, timing(phase, plain))
        yield spent
    finally:
        for _, owner, name, plain in replaced:
            setattr(owner, name, plain)


def measure_phases(place: Place, rounds: int) -> dict[str, list[float]]:
    """
    Measure what a launch is made of, in milliseconds for each phase.
    """
    plan = plan_for(place)
    found: dict[str, list[float]] = {name: [] for name in ("prepare", *PHASES)}
    for number in range(rounds):
        with _timed() as spent:
            whole = cost_of(functools.partial(_launch, plan, number)).wall
        for phase in PHASES:
            found[phase].append(spent[phase])
        found["prepare"].append(whole - sum(spent.values()))

    return found


def _print(title: str, costs: Costs) -> None:
    print(title)
    floors = next(iter(costs.values()))
    for name, found in costs.items():
        wall, processor = (statistics.median(cost[i] for cost in found) for i in (0, 1))
        ratios = [statistics.median(c[i] / f[i] for c, f in zip(found, floors) if f[i]) for i in (0, 1)]
        print(f"  {name:24}{wall:9.1f} ms, ratio {ratios[0]:.2f}; processor {processor:9.1f} ms, ratio {ratios[1]:.2f}")


def main() -> int:
    """
    Print medians, and medians of the ratios within each round.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="*", default=["tiny", "debian13"])
    for name, number in {"--rounds": 40, "--payloads": 256, "--threads": 32, "--rounds-at-once": 3}.items():
        parser.add_argument(name, type=int, default=number)
    asked = parser.parse_args()
    runtime, *paths = (
        subprocess.run([TOOLS / words[0], *words[1:]], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()  # noqa: S603
        for words in (("get-apptainer",), *(("get-image", image) for image in asked.images))
    )
    for image in paths:
        with tempfile.TemporaryDirectory() as directory:
            place = place_in(directory, image, runtime)
            _print(f"{Path(image).name}, one at a time, {asked.rounds} rounds", measure_one(place, asked.rounds))
            print("what launch_plan is made of")
            for phase, found in measure_phases(place, asked.rounds).items():
                print(f"  {phase:24}{statistics.median(found):9.1f} ms")
            _print("a fresh interpreter", measure_fresh(place, asked.rounds))
            title = f"{asked.payloads} payloads from {asked.threads} threads, {asked.rounds_at_once} rounds"
            _print(title, measure_many(place, asked.payloads, asked.threads, asked.rounds_at_once))

    return 0


if __name__ == "__main__":
    sys.exit(main())

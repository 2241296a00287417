"""
The benchmark of starts measures what it says.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "launch.py"


@pytest.fixture(scope="module")
def bench():
    """Load the benchmark."""
    spec = importlib.util.spec_from_file_location("benchmark_launch", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    return module


def test_benchmark_of_starts(bench, runtime, image, tmp_path):
    """Every way of starting works and is measured, and each phase of a launch takes its time."""
    place = bench.place_in(str(tmp_path), image("tiny"), str(runtime))
    costs = {**bench.measure_one(place, 1), **bench.measure_fresh(place, 1), **bench.measure_many(place, 4, 2, 1)}
    phases = bench.measure_phases(place, 1)

    assert {bench.BARE, "launch_plan", "wlcg-isolate run", *bench.FRESH} <= set(costs)
    assert [] == [name for name, (cost,) in costs.items() if cost.wall <= 0]
    assert ["prepare", *bench.PHASES] == list(phases)
    assert [] == [name for name, (took,) in phases.items() if took <= 0]

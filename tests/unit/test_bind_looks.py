"""
No component of a path is looked at twice: each look may cost a round trip on a network file system.
"""

from __future__ import annotations

import collections
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wlcg_isolate import Policy
from wlcg_isolate.host.touch import look_at
from wlcg_isolate.host.walk import Walker

ROOT = Path(__file__).resolve().parents[2]


def benchmark():
    """Load the benchmark, which makes 60 binds and plans them."""
    spec = importlib.util.spec_from_file_location("benchmark_binds", ROOT / "benchmarks" / "binds.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    return module


@pytest.fixture
def looks(monkeypatch):
    """Count, by path, every call of the system that looks at one."""
    counted = collections.Counter()

    def counting(name, plain):
        def look(path, *args, **more):
            counted[os.fspath(path) if not isinstance(path, int) else path, name] += 1
            return plain(path, *args, **more)

        return look

    for name in ("stat", "lstat", "readlink", "access", "open", "scandir", "listdir"):
        monkeypatch.setattr(os, name, counting(name, getattr(os, name)))

    return counted


def test_one_look_for_each_component(tmp_path, looks):
    """Sixty binds cost one lstat for each component of all sources and targets, and nothing else."""
    bench = benchmark()
    request, image = bench._make(str(tmp_path))
    looks.clear()

    assert bench.BINDS + 1 == bench.plan_binds(request, Policy(bind_default=()), image, f"{tmp_path}/work")
    assert {"lstat"} == {name for _, name in looks}
    assert {1} == set(looks.values())
    assert len(looks) <= len(bench.components(request, image)) + len(("/work", "/srv", "/tmp", "/var", "/", image))


def test_links_cost_one_look_more(tmp_path, looks):
    """A link is read once, however many paths lead through it."""
    (tmp_path / "real" / "in").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    walker = Walker()
    looks.clear()
    found = [look_at(f"{tmp_path}/link/{name}", walker, light=True) for name in ("in", "in", "no", ".")]

    assert [f"{tmp_path}/real/in"] * 2 == [fact.resolved for fact in found[:2]]
    assert 1 == sum(n for (_, name), n in looks.items() if name == "readlink")
    assert {1} == {n for (_, name), n in looks.items() if name == "lstat"}


# tools/test installs it for root; others may have none, and the count above is theirs.
if shutil.which("strace") or os.geteuid() == 0:

    def test_system_calls(tmp_path):
        """The kernel counts no more looks at paths of the binds than they have components."""
        script = tmp_path / "plan.py"
        script.write_text(
            f"import sys; sys.path[:0] = {sys.path!r} + [{str(ROOT / 'benchmarks')!r}]\n"
            "import os, binds\nfrom wlcg_isolate import Policy\n"
            f"request, image = binds._make({str(tmp_path / 'place')!r})\n"
            "binds.plan_binds(request, Policy(bind_default=()), image, request.workdir)\n"
            "os.access('/begin', 0)\n"
            "binds.plan_binds(request, Policy(bind_default=()), image, request.workdir)\n"
            "os.access('/end', 0)\n"
            "print(len(binds.components(request, image)))\n"
        )
        log = tmp_path / "log"
        done = subprocess.run(
            ["strace", "-f", "-e", "trace=%file", "-o", log, sys.executable, script],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert 0 == done.returncode, done.stderr
        text = log.read_text(errors="replace")
        calls = text[text.index('"/begin"') : text.index('"/end"')].splitlines()[1:-1]
        calls = [line for line in calls if str(tmp_path) in line]

        assert 0 < len(calls) <= int(done.stdout) + len(("/work", "/srv", "/tmp", "/var", "/var/tmp"))

"""
What all rings of tests share.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import wlcg_isolate

ROOT = Path(__file__).resolve().parent.parent

# A shell starts its background jobs with SIGINT ignored, which every process under test would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


#: Environments of hosts, each with the whole environment that its payload gets.
HOSTS = {file.stem: json.loads(file.read_text()) for file in sorted((ROOT / "tests" / "hosts").glob("*.json"))}


def pytest_generate_tests(metafunc):
    """Run what wants a *batch_host* on each of them."""
    if "batch_host" in metafunc.fixturenames:
        metafunc.parametrize("batch_host", HOSTS.values(), ids=HOSTS)


@pytest.fixture
def all_hosts():
    """Environments of all hosts, by their names."""
    return HOSTS


def pytest_collection_modifyitems(config, items):
    """Leave out what takes long, unless it is asked for."""
    for mark in ("soak", "spark"):
        if mark not in config.option.markexpr:
            long = [item for item in items if item.get_closest_marker(mark)]
            config.hook.pytest_deselected(items=long)
            items[:] = [item for item in items if item not in long]


@attrs.frozen(kw_only=True)
class Ran:
    """What one call of the command line gave."""

    status: int
    stdout: bytes
    stderr: str
    outcome: dict | None
    records: list[dict]

    def actions(self):
        """List the records' events in order."""
        return [record["event.action"] for record in self.records]


class CommandLine:
    """The installed command line, in a working directory of its own."""

    def __init__(self, place: Path, runtime: str | None = None) -> None:
        self.workdir = place / "work"
        self.trace_dir = place / "trace"
        self.outcome = place / "outcome.json"
        self.started = []
        self.workdir.mkdir()
        self.program = command_line_program()
        self.environ = {"PATH": "/usr/bin:/bin", "HOME": str(place)}
        # Lines that only a child process runs count, too.
        self.environ.update((k, v) for k, v in os.environ.items() if k.startswith("COVERAGE_"))
        if runtime:
            self.environ["PATH"] = f"{Path(runtime).parent}:{self.environ['PATH']}"

    def argv(self, *options, command=()):
        """Make the arguments of a call of ``run``."""
        words = [*self.program, "run", "--workdir", str(self.workdir), "--trace-dir", str(self.trace_dir)]
        words += ["--outcome", str(self.outcome), *map(str, options)]

        return [*words, "--", *command] if command else words

    def run(self, *options, command=("true",), environ=None, **more):
        """Run a payload and read back all that it left."""
        self.outcome.unlink(missing_ok=True)
        done = subprocess.run(
            self.argv(*options, command=command),
            env={**self.environ, **(environ or {})},
            capture_output=True,
            timeout=120,
            check=False,
            **{"stdin": subprocess.DEVNULL, "cwd": self.workdir, **more},
        )
        return self.read(done.returncode, done.stdout, done.stderr)

    def start(self, *options, command=("true",), **more):
        """Start a payload without waiting for it."""
        process = subprocess.Popen(
            self.argv(*options, command=command),
            env=self.environ,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "cwd": self.workdir, **more},
        )
        self.started.append(process)

        return process

    def end(self):
        """End what a failed test has left running."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()

    def read(self, status, stdout=b"", stderr=b""):
        """Read the outcome and the records."""
        outcome = json.loads(self.outcome.read_text()) if self.outcome.exists() else None

        return Ran(
            status=status,
            stdout=stdout,
            stderr=stderr.decode(),
            outcome=outcome,
            records=self.records(),
        )

    def records(self):
        """Read all trace records in order, but for those about the journal itself."""
        lines = [line for file in sorted(self.trace_dir.glob("*.jsonl")) for line in file.read_text().splitlines()]
        records = [json.loads(line) for line in lines]

        return [record for record in records if not record["event.action"].startswith("log.")]


def command_line_program():
    """Find the command line that belongs to the package under test."""
    if Path(wlcg_isolate.__file__).parent.parent != ROOT:
        return [str(Path(sys.executable).parent / "wlcg-isolate")]
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from wlcg_isolate.cli import main; sys.exit(main())"

    return [sys.executable, "-c", start]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Turn a skipped test into a failed one: what a machine lacks, the project's own scripts provide."""
    return _no_skip((yield), item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Turn a module that skips itself into a failed one."""
    return _no_skip((yield), collector.nodeid)


def _no_skip(report, what):
    if report.skipped:
        report.outcome = "failed"
        # With it, a failure would not count.
        vars(report).pop("wasxfail", None)
        report.longrepr = f"{what}: a test may not be skipped"

    return report


@pytest.fixture
def command_line(tmp_path):
    """Make a command line with a runtime in PATH."""
    made = []

    def make(runtime=None):
        made.append(CommandLine(tmp_path, runtime))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture(scope="session")
def verdicts(tmp_path_factory):
    """A directory for what is found out about runtimes, away from the tester's own."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _as_on_a_node(monkeypatch, verdicts):
    """Keep the tester's own environment out, where it would change an answer."""
    for name in os.environ:
        if name.startswith(("APPTAINER", "SINGULARITY")) or name in ("XDG_STATE_HOME", "LC_ALL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", verdicts)
    monkeypatch.setenv("WLCG_ISOLATE_SITE", "")
    monkeypatch.delenv("WLCG_ISOLATE_EXPERIMENT", raising=False)

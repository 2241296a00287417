"""
What all rings of tests share.
"""

from __future__ import annotations

import base64
import functools
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
from importlib import resources
from pathlib import Path

import attrs
import jsonschema
import pytest

import wlcg_isolate
from wlcg_isolate.trace import Journal

ROOT = Path(__file__).resolve().parent.parent

# A shell starts its background jobs with these ignored, which every process under test would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


#: Environments of hosts, each with the whole environment that its payload gets.
HOSTS = {file.stem: json.loads(file.read_text()) for file in sorted((ROOT / "tests" / "hosts").glob("*.json"))}


def _noise(count, seed):
    """Make text that nothing else holds, the same in all processes."""
    return base64.urlsafe_b64encode(random.Random(seed).randbytes(count)).decode()


#: A token and a proxy of the pilot, in the environment of everything that is tested.  No part of either may come out.
CANARY_TOKEN = f"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiI{_noise(60, 1)}.{_noise(192, 2)}"
CANARY_PROXY = f"-----BEGIN RSA PRIVATE KEY-----\n{_noise(48, 3)}\n{_noise(48, 4)}\n-----END RSA PRIVATE KEY-----\n"
_SECRETS = (_noise(60, 1), _noise(192, 2), _noise(48, 3), _noise(48, 4))
_PARTS = tuple(secret[i : i + 16].encode() for secret in _SECRETS for i in range(0, len(secret) - 15, 8))

#: What tests leave behind and somebody may keep.
_KEPT = (".jsonl", ".json", ".log", ".txt", ".out", ".err", "stdout", "stderr")


def leaks(data: bytes) -> bool:
    """Tell whether data holds a part of the pilot's credentials."""
    return any(part in data for part in _PARTS)


@pytest.fixture(scope="session")
def canaries(tmp_path_factory):
    """Variables of a pilot with credentials, which are good for nothing."""
    proxy = tmp_path_factory.mktemp("pilot") / "proxy"
    proxy.write_text(CANARY_PROXY)
    proxy.chmod(0o600)

    return {"BEARER_TOKEN": CANARY_TOKEN, "X509_USER_PROXY": str(proxy), "SITE_API_TOKEN": CANARY_TOKEN}


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    """Look through all that the tests left for parts of the pilot's credentials."""
    factory = getattr(session.config, "_tmp_path_factory", None)
    place = None if factory is None else factory._basetemp
    found = [] if place is None else [p for p in place.rglob("*") if p.name.endswith(_KEPT) and _leaky(p)]
    session.config.stash[_LEAKS] = found
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    """Name the files with parts of the pilot's credentials."""
    for path in config.stash.get(_LEAKS, ()):
        terminalreporter.line(f"ERROR {path} holds a part of the pilot's credentials")


_LEAKS = pytest.StashKey()


def _leaky(path):
    try:
        return path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 22 and leaks(path.read_bytes())
    except OSError:
        return False


@functools.lru_cache(maxsize=1)
def _schema():
    text = resources.files(wlcg_isolate).joinpath("schemas/trace.schema.json").read_text()

    return jsonschema.Draft202012Validator(json.loads(text))


def must_be_record(record: dict):
    """Check a record against the published schema."""
    faults = [f"{record.get('event.action')}: {error.message[:300]}" for error in _schema().iter_errors(record)]

    assert [] == faults


@pytest.fixture
def check_record():
    """The check of a record against the published schema."""
    return must_be_record


@pytest.fixture(autouse=True)
def _records_keep_the_schema(monkeypatch):
    """Check every record that the library writes in this process; tests of the journal make small ones of their own."""
    write = Journal.write

    def checked(journal, record, **more):
        if "wlcg.pilot.id" in record.fields:
            must_be_record(record.to_dict())
        return write(journal, record, **more)

    monkeypatch.setattr(Journal, "write", checked)


def pytest_generate_tests(metafunc):
    """Run what wants a *batch_host* on each of them."""
    if "batch_host" in metafunc.fixturenames:
        metafunc.parametrize("batch_host", HOSTS.values(), ids=HOSTS)


@pytest.fixture
def bulk():
    """Start a server that takes documents, and first does what a script says."""
    spec = importlib.util.spec_from_file_location("bulk", ROOT / "tests" / "bulk.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ends = []

    def start(*script):
        kind, address, end = module.start(*script)
        ends.append(end)
        return kind, address

    yield start
    for end in ends:
        end()


@pytest.fixture
def all_hosts():
    """Environments of all hosts, by their names."""
    return HOSTS


def pytest_ignore_collect(collection_path, config):
    """Do not even look at tests that import what only tools/test-integrations provides, unless they are asked for."""
    if collection_path == Path(__file__).parent / "integrations" and "integration" not in config.option.markexpr:
        return True

    return None


def pytest_collection_modifyitems(config, items):
    """Leave out what takes long, unless it is asked for."""
    for mark in ("soak", "spark", "integration"):
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
        """List the events of payloads in order."""
        return [record["event.action"] for record in self.records]


class CommandLine:
    """The installed command line, in a working directory of its own."""

    def __init__(self, place: Path, runtime: str | None = None, environ: dict | None = None) -> None:
        self.workdir = place / "work"
        self.trace_dir = place / "trace"
        self.outcome = place / "outcome.json"
        self.started = []
        self.workdir.mkdir()
        self.program = command_line_program()
        self.environ = {"PATH": "/usr/bin:/bin", "HOME": str(place), **(environ or {})}
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
        assert not leaks(stdout + stderr)

        return Ran(
            status=status,
            stdout=stdout,
            stderr=stderr.decode(),
            outcome=outcome,
            records=self.records(),
        )

    def records(self):
        """Read in order what became of payloads; that they were allowed is not much."""
        actions = ("payload.authorised", "log.", "pilot.")

        return [record for record in self.all_records() if not record["event.action"].startswith(actions)]

    def all_records(self):
        """Read all trace records in order, each as the published schema has it."""
        lines = [line for file in sorted(self.trace_dir.glob("*.jsonl")) for line in file.read_text().splitlines()]
        found = [json.loads(line) for line in lines]
        for record in found:
            must_be_record(record)

        return found


def command_line_program():
    """Find the command line that belongs to the package under test."""
    if Path(wlcg_isolate.__file__).parent.parent != ROOT:
        return [str(Path(sys.executable).parent / "wlcg-isolate")]
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from wlcg_isolate.cli import main; sys.exit(main())"

    return [sys.executable, "-c", start]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Turn a skipped test into a failed one: what a machine lacks, the project's own scripts provide."""
    report = _no_skip((yield), item.nodeid)
    if any(leaks(text.encode(errors="replace")) for _, text in report.sections):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: it printed a part of the pilot's credentials"

    return report


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
def command_line(tmp_path, canaries):
    """Make a command line with a runtime in PATH, and the pilot's credentials in its environment."""
    made = []

    def make(runtime=None):
        made.append(CommandLine(tmp_path, runtime, canaries))
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
    monkeypatch.setenv("SITE_API_TOKEN", CANARY_TOKEN)
    monkeypatch.setenv("WLCG_ISOLATE_SITE", "")
    monkeypatch.delenv("WLCG_ISOLATE_EXPERIMENT", raising=False)

"""
Each candidate for the runtime is asked what it is, and the first good one is taken.
"""

from __future__ import annotations

import time

import pytest

from wlcg_isolate import Policy
from wlcg_isolate.host import RuntimeFact
from wlcg_isolate.host.runtimes import ask, ask_all, candidates
from wlcg_isolate.runtime import Runtime, choose_runtime, parse_banner

BANNER = "apptainer version 1.4.5"
RED = r"printf '\033[31mFATAL:  \033[0m no\n' >&2; exit 255"
ASKED = '#!/bin/sh\necho "$1" >>"${{0%/*}}/calls"\n[ "$1" = buildcfg ] && {{ {config}; exit; }}\n{version}\n'


@pytest.fixture
def script(tmp_path):
    """Write a program that answers as a runtime would, or not; it notes each call."""

    def make(version=f"echo {BANNER}", config=":", *, name="apptainer", mode=0o755):
        program = tmp_path / name
        program.write_text(ASKED.format(version=version, config=config))
        program.chmod(mode)
        return str(program)

    return make


def test_candidates(script, tmp_path, monkeypatch):
    """Names are looked up in PATH, but not in the payload's directory; paths stay as they are; each counts once."""
    program = script(name="singularity")
    script(name="apptainer", mode=0o644)
    monkeypatch.chdir(tmp_path)
    search = ("apptainer", "singularity", "/opt/apptainer", program, "/opt/apptainer")

    assert [program, "/opt/apptainer"] == list(candidates(search, f"/nowhere:{tmp_path}"))
    assert [] == list(candidates(["singularity"], ".::bin:"))


@pytest.mark.parametrize(
    ("version", "banner"),
    [
        (f"echo {BANNER}", BANNER),
        ("echo 2.6.1-dist", "2.6.1-dist"),
        (f"echo; echo {BANNER}; echo more", BANNER),
    ],
)
def test_ask(script, version, banner):
    """What answers as a runtime works, with its first line."""
    program = script(version)

    assert RuntimeFact(path=program, verdict="works", banner=banner) == ask(program, 10)


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        pytest.param("echo no lib >&2; echo more >&2; exit 1", "--version ended with status 1: no lib", id="exits"),
        pytest.param(RED, "--version ended with status 255: FATAL:   no", id="exits in colour"),
        pytest.param(f"echo {BANNER}; exit 3", "--version ended with status 3: ", id="exits after answering"),
        pytest.param("kill -9 $$", "--version ended with status -9: ", id="killed"),
        pytest.param("echo no such module", "its answer to --version is not a runtime's: 'no such module'", id="words"),
        pytest.param(":", "its answer to --version is not a runtime's: ''", id="silence"),
        pytest.param(f"echo {BANNER} >&2", "its answer to --version is not a runtime's: ''", id="wrong stream"),
        pytest.param(r"printf '\377\n'", "its answer to --version is not a runtime's: '\ufffd'", id="no text"),
    ],
)
def test_ask_broken(script, version, reason):
    """What answers in another way is broken, with the reason."""
    actual = ask(script(version), 10)

    assert ("broken", reason) == (actual.verdict, actual.reason)


def test_ask_hangs(script):
    """One that never answers is given up."""
    before = time.monotonic()

    actual = ask(script("exec sleep 60"), 0.3)

    assert ("broken", "no answer to --version within 0.3 s") == (actual.verdict, actual.reason)
    assert time.monotonic() - before < 10


def test_ask_not_executable(script, tmp_path):
    """A file that cannot be executed is broken, no file is missing."""
    program, none = script(mode=0o644), f"{tmp_path}/none"
    broken = RuntimeFact(path=program, verdict="broken", reason="cannot be executed: Permission denied")

    assert broken == ask(program, 10)
    assert RuntimeFact(path=none, verdict="missing", reason="no such file") == ask(none, 10)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("echo APPTAINER_SUID_INSTALL=1", True),
        ("echo SINGULARITY_SUID_INSTALL=1", True),
        ("echo PACKAGE=apptainer; echo APPTAINER_SUID_INSTALL=1; echo MORE=1", True),
        ("echo APPTAINER_SUID_INSTALL=0", False),
        ("echo MY_APPTAINER_SUID_INSTALL=1", False),
        ("echo APPTAINER_SUID_INSTALL=1; exit 1", False),
    ],
)
def test_ask_setuid(script, config, expected):
    """Whether there is a set-uid starter is what the build configuration says."""
    assert expected == ask(script(config=config), 10).setuid


@pytest.mark.parametrize(
    ("version", "calls"),
    [(f"echo {BANNER}", "--version\nbuildcfg\n"), ("exit 1", "--version\n--version\n")],
)
def test_ask_once(script, tmp_path, version, calls):
    """What works is asked once in the life of a process; what does not may do so later."""
    program = script(version)
    first = ask(program, 10)

    assert first == ask(program, 10)
    assert calls == (tmp_path / "calls").read_text()


def test_ask_again_when_replaced(script):
    """An update on a running node is seen."""
    program = script()
    ask(program, 10)
    script("echo apptainer version 1.5.0")

    assert "apptainer version 1.5.0" == ask(program, 10).banner


def test_ask_environment(script, tmp_path, monkeypatch):
    """A runtime sees nothing of the pilot's environment, in which some variables are options."""
    for name in ("APPTAINER_BIND", "SINGULARITY_BIND", "APPTAINER_CONFIGDIR", "SECRET"):
        monkeypatch.setenv(name, "pilot")
    ask(script(f"env -u PWD -u _ >{tmp_path}/seen; echo {BANNER}"), 10)

    assert [
        "APPTAINER_CONFIGDIR=/proc/wlcg_isolate",
        "LC_ALL=C",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SINGULARITY_CONFIGDIR=/proc/wlcg_isolate",
    ] == sorted(line for line in (tmp_path / "seen").read_text().splitlines() if not line.startswith("SHLVL="))


def test_ask_all(script, tmp_path):
    """Candidates are asked in order, and none after the first that works."""
    broken, good = script("exit 1", name="broken"), script(name="good")
    facts = ask_all([f"{tmp_path}/none", broken, good, script(name="late")], 10)

    assert [(f"{tmp_path}/none", "missing"), (broken, "broken"), (good, "works")] == [
        (fact.path, fact.verdict) for fact in facts
    ]


@pytest.mark.parametrize(
    ("banner", "expected"),
    [
        ("2.6.1-dist", ("singularity", "2.6.1-dist", (2, 6, 1))),
        ("singularity version 3.8.7-1.el7", ("singularity", "3.8.7-1.el7", (3, 8, 7))),
        ("singularity version 3.5.2+509-g415020360", ("singularity", "3.5.2+509-g415020360", (3, 5, 2))),
        ("singularity-ce version 4.1.0-noble", ("singularity-ce", "4.1.0-noble", (4, 1, 0))),
        ("apptainer version 1.4.5", ("apptainer", "1.4.5", (1, 4, 5))),
        ("apptainer version 1.3.6-1.el9", ("apptainer", "1.3.6-1.el9", (1, 3, 6))),
        *((banner, None) for banner in ("garbage", "", "apptainer version unknown", "ERROR: apptainer version 1.4.5")),
    ],
)
def test_parse_banner(banner, expected):
    """The banners of real runtimes are read."""
    assert expected == parse_banner(banner)


MISSING = RuntimeFact(path="/a", verdict="missing", reason="no such file")
BROKEN = RuntimeFact(path="/b", verdict="broken", reason="words")


def working(banner=BANNER, *, setuid=False):
    """Make the fact of a candidate that answers."""
    return RuntimeFact(path="/c", verdict="works", banner=banner, setuid=setuid)


@pytest.mark.parametrize(
    ("uid", "setuid", "mode", "reason"),
    [
        (1000, False, "userns", "it has no set-uid starter"),
        (1000, True, "setuid", "it has a set-uid starter"),
        (0, False, "userns", "it has no set-uid starter"),
        (0, True, "userns", "root needs no set-uid starter"),
    ],
)
def test_choose_runtime(facts, uid, setuid, mode, reason):
    """The first that works is taken, whatever is wrong with the ones before."""
    runtimes = [MISSING, BROKEN, working("2.6.1-dist"), working(setuid=setuid), working("apptainer version 9.9.9")]
    expected = Runtime(
        path="/c", flavour="apptainer", version="1.4.5", mode=mode, reason=f"first candidate that works; {reason}"
    )

    assert (expected, []) == choose_runtime(facts(uid=uid, runtimes=runtimes), Policy())


@pytest.mark.parametrize(
    ("runtimes", "expected"),
    [
        ([], ["runtime-missing: no container runtime found"]),
        ([MISSING], ["runtime-missing: no container runtime at /a"]),
        (
            [MISSING, BROKEN, working("2.6.1-dist")],
            [
                "runtime-broken: /b does not work: words",
                "runtime-too-old: /c is singularity 2.6.1-dist, which lacks options that isolation needs",
            ],
        ),
        ([working("garbage")], ["runtime-broken: /c does not work: its version is not readable"]),
    ],
)
def test_choose_no_runtime(facts, runtimes, expected):
    """Where none can be used, each that is there has its reason."""
    runtime, problems = choose_runtime(facts(runtimes=runtimes), Policy())

    assert None is runtime
    assert expected == [f"{problem.kind}: {problem.message}" for problem in problems]


@pytest.mark.parametrize(
    ("banner", "expected"),
    [
        ("apptainer version 1.1.0", True),
        ("apptainer version 1.0.3", False),
        ("singularity-ce version 3.10.0", True),
        ("singularity-ce version 3.9.9", False),
        ("singularity version 3.8.7-1.el7", False),
        ("SingularityPRO version 3.11-7.el8", True),
        ("SingularityPRO version 4.1.7-1.el9", True),
        ("SingularityPRO version 3.9-9.el8", False),
        ("docker version 27.0.1", False),
    ],
)
def test_choose_runtime_by_age(facts, banner, expected):
    """A runtime without the options that a plan uses is not taken."""
    runtime, _ = choose_runtime(facts(runtimes=[working(banner)]), Policy())

    assert expected == (runtime is not None)

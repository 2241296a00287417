"""
Each candidate for the runtime is asked what it is, and the first good one is taken.
"""

from __future__ import annotations

import json
import os
import threading
import time

import attrs
import pytest

from wlcg_isolate import Policy
from wlcg_isolate.host import ProbeFact, RuntimeFact, cache
from wlcg_isolate.host.dump import to_plain
from wlcg_isolate.host.nodefacts import NodeFacts
from wlcg_isolate.host.runtimes import Asker, candidates, fact_from
from wlcg_isolate.runtime import Runtime, choose_runtime

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


@pytest.fixture(autouse=True)
def _nothing_known():
    """Let no test know what another has found out."""
    cache.forget()


def ask(path, seconds=10.0, **more):
    """Ask one candidate for its version."""
    return Asker(policy=Policy(runtime_probe_seconds=seconds), machine="x86_64", uid=1000, **more).ask(path)


def test_candidates(script, tmp_path, monkeypatch):
    """Names are looked up in PATH, but not in the payload's directory; paths stay as they are; each counts once."""
    program = script(name="singularity")
    script(name="apptainer", mode=0o644)
    monkeypatch.chdir(tmp_path)
    search = ("apptainer", "singularity", "/opt/apptainer", program, "/opt/apptainer")

    assert [program, "/opt/apptainer"] == list(
        candidates(search, {"PATH": f"/nowhere:{tmp_path}"}, "x86_64", lambda path: 5)
    )
    assert [] == list(candidates(["singularity"], {"PATH": ".::bin:"}, "x86_64", lambda path: 5))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ["/sw/aarch64-el9/apptainer"]),
        ({"CONDOR_DIR": "/pilot/condor"}, ["/pilot/condor/usr/libexec/apptainer", "/sw/aarch64-el9/apptainer"]),
        ({"CONDOR_DIR": "condor"}, ["/sw/aarch64-el9/apptainer"]),
    ],
)
def test_candidates_by_place(environ, expected):
    """The copies of CVMFS are chosen by architecture, HTCondor's where a glidein says that it is."""
    search = ("{condor}/usr/libexec/apptainer", "/sw/{arch}-el9/apptainer")

    assert expected == list(candidates(search, environ, "aarch64", lambda path: 5))


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

    actual = ask(program)

    assert ("works", "", banner, False) == (actual.verdict, actual.reason, actual.banner, actual.setuid)


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
    actual = ask(script(version))

    assert ("broken", reason) == (actual.verdict, actual.reason)


def test_ask_hangs(script):
    """One that never answers is given up."""
    before = time.monotonic()

    actual = ask(script("exec sleep 60"), 0.3)

    assert ("no-answer", "no answer to --version within 0.3 s") == (actual.verdict, actual.reason)
    assert time.monotonic() - before < 10


def test_ask_not_executable(script, tmp_path):
    """A file that cannot be executed is broken, no file is missing."""
    program, none = script(mode=0o644), f"{tmp_path}/none"
    broken = RuntimeFact(path=program, verdict="broken", reason="cannot be executed: Permission denied")

    assert broken == ask(program)
    assert RuntimeFact(path=none, verdict="missing", reason="no such file") == ask(none)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("echo APPTAINER_SUID_INSTALL=1", True),
        ("echo SINGULARITY_SUID_INSTALL=1", True),
        ("echo PACKAGE=apptainer; echo APPTAINER_SUID_INSTALL=1; echo MORE=1", True),
        ("echo APPTAINER_SUID_INSTALL=0", False),
        ("echo MY_APPTAINER_SUID_INSTALL=1", False),
        ("echo APPTAINER_SUID_INSTALL=1; exit 1", False),
        # SingularityCE says what it was built for; the starter is what counts.
        ("echo SINGULARITY_SUID_INSTALL=1; echo LIBEXECDIR=/nosuch", False),
    ],
)
def test_ask_setuid(script, config, expected):
    """Whether there is a set-uid starter is what the build configuration and the starter say."""
    assert expected == ask(script(config=config)).setuid


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0o4755, os.geteuid() == 0), (0o755, False)],
    ids=["mode bit, and root's", "no mode bit"],
)
def test_ask_setuid_starter(script, tmp_path, mode, expected):
    """A starter without the mode bit, or of somebody else, gives no rights."""
    starter = tmp_path / "libexec" / "apptainer" / "bin" / "starter-suid"
    starter.parent.mkdir(parents=True)
    starter.write_text("")
    starter.chmod(mode)
    config = f"echo APPTAINER_SUID_INSTALL=1; echo LIBEXECDIR={tmp_path}/libexec"

    assert expected == ask(script(config=config)).setuid


@pytest.mark.parametrize(
    ("version", "calls"),
    [(f"echo {BANNER}", "--version\nbuildcfg\n"), ("exit 1", "--version\n")],
)
def test_ask_once(script, tmp_path, version, calls):
    """A candidate is asked once as long as nothing changes."""
    program = script(version)
    first = ask(program)

    assert first == ask(program)
    assert calls == (tmp_path / "calls").read_text()


def test_ask_again_when_silent(script, tmp_path):
    """No answer is not kept: the next look may get one."""
    program = script("exec sleep 60")
    for _ in range(2):
        ask(program, 0.2)

    assert "--version\n--version\n" == (tmp_path / "calls").read_text()


@pytest.mark.parametrize(("version", "seconds"), [("exit 1", 61), (f"echo {BANNER}", 21601)])
def test_ask_again_when_old(script, tmp_path, monkeypatch, version, seconds):
    """What policy says ends the life of every verdict; one against a candidate does not hold for long."""
    program = script(version)
    ask(program)
    calls = (tmp_path / "calls").read_text()
    monkeypatch.setattr(cache, "age", lambda entry: seconds)
    ask(program)

    assert calls * 2 == (tmp_path / "calls").read_text()


def test_next_process_knows(script, tmp_path):
    """What one pilot found out, the next one reads from the file; it belongs to the user alone."""
    program, place = script(), tmp_path / "cache"
    first = ask(program, directories=(str(place),))
    cache.forget()

    assert first == ask(program, directories=(str(place),))
    assert "--version\nbuildcfg\n" == (tmp_path / "calls").read_text()
    assert [0o600] == [path.stat().st_mode & 0o777 for path in place.iterdir()]


def _foreign(path):
    path.chmod(0o644)


def _link(path):
    target = path.with_name("elsewhere")
    path.rename(target)
    path.symlink_to(target)


def _rewritten(change):
    def spoil(path):
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return spoil


SPOILT = {
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(b"\0" * 100),
    "deep": lambda path: path.write_text("[" * 100000),
    "cut off": lambda path: path.write_text(path.read_text()[:-20]),
    "old format": _rewritten(lambda data: data.update(format=0)),
    "other key": _rewritten(lambda data: data.update(key="another")),
    "no time": _rewritten(lambda data: data.update(made="now")),
    "from the future": _rewritten(lambda data: data.update(made=time.time() + 3600)),
    "nothing watched": _rewritten(lambda data: data.update(watched=None)),
    "strange watch": _rewritten(lambda data: data.update(watched={"/etc": 1})),
    "watched file gone": _rewritten(lambda data: data.update(watched={"/nosuch": [1, 2, 3, 4, 5, 6]})),
    "no fact": _rewritten(lambda data: data.update(fact=None)),
    "other fact": _rewritten(lambda data: data.update(fact={"path": "/x"})),
    "half a probe": _rewritten(lambda data: data["fact"].update(tree={"mode": "userns"})),
    "newer fact": _rewritten(lambda data: data["fact"].update(more=1)),
    "open to others": _foreign,
    "a link": _link,
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_spoilt_file_is_as_good_as_none(script, tmp_path, spoil):
    """A cache file that is not what this library writes is passed over, and replaced."""
    program, place = script(), tmp_path / "cache"
    first = ask(program, directories=(str(place),))
    spoil(next(place.iterdir()))
    cache.forget()

    assert first == ask(program, directories=(str(place),))
    assert "--version\nbuildcfg\n" * 2 == (tmp_path / "calls").read_text()


def test_directory_of_others_is_not_used(script, tmp_path):
    """Where others can write, nothing is kept."""
    place = tmp_path / "cache"
    place.mkdir()
    place.chmod(0o777)
    ask(script(), directories=(str(place), str(tmp_path / "second")))

    assert ([], 1) == (list(place.iterdir()), len(list((tmp_path / "second").iterdir())))


def test_directory_that_cannot_be_written(script, tmp_path):
    """Without a place for the file, this process alone knows."""
    (tmp_path / "file").write_text("")
    program = script()
    for _ in range(2):
        assert "works" == ask(program, directories=(str(tmp_path / "file" / "cache"),)).verdict

    assert "--version\nbuildcfg\n" == (tmp_path / "calls").read_text()


def test_old_files_are_removed(script, tmp_path):
    """Files of nodes that no longer are do not pile up; what is not ours stays."""
    place = tmp_path / "cache"
    place.mkdir(mode=0o700)
    for name in ("a.probe.json", ".a.temporary", "trace.jsonl"):
        (place / name).write_text("")
        os.utime(place / name, (1, 1))
    ask(script(), directories=(str(place),))

    left = sorted(path.name for path in place.iterdir())
    assert (2, "trace.jsonl") == (len(left), left[-1])


def test_many_pilots_at_once(script, tmp_path):
    """Any number may find out and write at the same time; each gets a whole answer."""
    program, place = script(), str(tmp_path / "cache")
    found = []

    def pilot():
        found.append(ask(program, directories=(place,), fresh=True))

    threads = [threading.Thread(target=pilot) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ["works"] * 12 == [fact.verdict for fact in found]
    assert 1 == len(os.listdir(place))


def test_changed_configuration_asks_again(script, tmp_path):
    """An edit of the runtime's configuration file makes what was known worthless."""
    conf = tmp_path / "apptainer.conf"
    conf.write_text("enable overlay = yes\n")
    program = script(config=f"echo APPTAINER_CONF_FILE={conf}")
    before = ask(program).config
    conf.write_text("enable overlay = no\nenable underlay = no\n")

    assert ({"enable overlay": ("yes",)}, ("no",)) == (before, ask(program).config["enable overlay"])


def test_facts_survive_json():
    """A fact is the same after a way through JSON."""
    probe = ProbeFact(mode="userns", start="yes", layer="overlay", pid_namespace=True, nested=False, starts=1)
    fact = RuntimeFact(path="/a", verdict="works", config={"bind path": ("/a", "/b")}, tree=probe)

    assert fact == fact_from(json.loads(json.dumps(to_plain(fact))))


def test_ask_again_when_replaced(script):
    """An update on a running node is seen."""
    program = script()
    ask(program)
    script("echo apptainer version 1.5.0")

    assert "apptainer version 1.5.0" == ask(program).banner


def test_ask_environment(script, tmp_path, monkeypatch):
    """A runtime sees nothing of the pilot's environment, in which some variables are options."""
    for name in ("APPTAINER_BIND", "SINGULARITY_BIND", "APPTAINER_CONFIGDIR", "SECRET"):
        monkeypatch.setenv(name, "pilot")
    ask(script(f"env -u PWD -u _ >{tmp_path}/seen; echo {BANNER}"))

    assert [
        "APPTAINER_CONFIGDIR=/proc/wlcg_isolate",
        "LC_ALL=C",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SINGULARITY_CONFIGDIR=/proc/wlcg_isolate",
    ] == sorted(line for line in (tmp_path / "seen").read_text().splitlines() if not line.startswith("SHLVL="))


def test_ask_until_good(script, tmp_path):
    """Candidates are asked in order; behind the first that will do, they are only listed."""
    broken, old, good = script("exit 1", name="broken"), script("echo 2.6.1-dist", name="old"), script(name="good")
    asker = Asker(policy=Policy(), machine="x86_64", uid=1000)
    facts = asker.ask_until_good([f"{tmp_path}/none", broken, old, good, script("exec sleep 60", name="late")])

    assert [
        (f"{tmp_path}/none", "missing"),
        (broken, "broken"),
        (old, "works"),
        (good, "works"),
        (f"{tmp_path}/late", "unasked"),
    ] == [(fact.path, fact.verdict) for fact in facts]


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


def probed(start="yes", **more):
    """Make the fact of a candidate that was started."""
    return attrs.evolve(working(), tree=ProbeFact(**{"mode": "userns", "start": start, "starts": 1, **more}))


@pytest.mark.parametrize(
    ("node", "config", "policy", "mode", "reason"),
    [
        (NodeFacts(), {}, Policy(), "setuid", "it has a set-uid starter"),
        (NodeFacts(user_namespace=True), {}, Policy(), "userns", "inside a user namespace"),
        (NodeFacts(no_new_privs=True), {}, Policy(), "userns", "no_new_privs"),
        (NodeFacts(), {"allow setuid": ("no",)}, Policy(), "userns", "'allow setuid = no'"),
        (NodeFacts(), {}, Policy(runtime_allow_setuid=False), "userns", "policy does not allow"),
    ],
)
def test_mode(facts, node, config, policy, mode, reason):
    """A set-uid starter is passed over where it would get no rights, or nobody wants it."""
    runtime = attrs.evolve(working(setuid=True), config=config)
    actual, problems = choose_runtime(facts(runtimes=[runtime], node=node), policy)

    assert (mode, []) == (actual.mode, problems)
    assert reason in actual.reason


@pytest.mark.parametrize(
    ("probe", "layer", "pid", "warnings"),
    [
        (probed(layer="overlay", pid_namespace=True), "overlay", True, 0),
        (probed(layer="none", pid_namespace=True), "none", True, 0),
        (probed(layer=None, pid_namespace=False), None, False, 1),
        # What was found out in another mode says nothing of this one.
        (probed("no", mode="setuid", kind="runtime-broken"), None, True, 0),
        # No program for this architecture: the start itself will tell.
        (probed("no-answer", kind="runtime-no-answer", starts=0), None, True, 0),
    ],
)
def test_probe_reaches_the_plan(facts, probe, layer, pid, warnings):
    """What the probe saw is what the plan uses."""
    actual, _ = choose_runtime(facts(runtimes=[probe]), Policy())

    assert (layer, pid, warnings) == (actual.layer, actual.pid, len(actual.warnings))


def test_one_that_starts_nothing_is_not_taken(facts):
    """A candidate that starts no container makes room for the next; alone, it refuses with the cause."""
    bad = probed("no", kind="user-namespaces-disabled", reason="the kernel", advice="sysctl")
    good = attrs.evolve(working(), path="/d")

    assert "/d" == choose_runtime(facts(runtimes=[bad, good]), Policy())[0].path
    assert ["user-namespaces-disabled"] == [p.kind for p in choose_runtime(facts(runtimes=[bad]), Policy())[1]]


def test_silent_probe_is_told_from_no(facts):
    """A start that gave no answer in time has a word of its own."""
    silent = probed("no-answer", kind="runtime-no-answer", reason="no start")

    assert ["runtime-no-answer"] == [p.kind for p in choose_runtime(facts(runtimes=[silent]), Policy())[1]]


def test_required_pid_namespace(facts):
    """A site that will not do without PID namespaces has its way."""
    runtime, problems = choose_runtime(
        facts(runtimes=[probed(pid_namespace=False)]), Policy(runtime_allow_shared_pids=False)
    )

    assert (None, ["pid-namespace-unavailable"]) == (runtime, [problem.kind for problem in problems])


def test_known_hole_is_told(facts):
    """An old set-uid release is used with a warning that names the hole."""
    old = attrs.evolve(working("apptainer version 1.1.7"), setuid=True)

    assert "CVE-2023-30549" in choose_runtime(facts(runtimes=[old]), Policy())[0].warnings[0]


@pytest.mark.parametrize(
    ("runtimes", "expected"),
    [
        ([], ["runtime-missing: no container runtime found"]),
        ([MISSING], ["runtime-missing: no container runtime at /a"]),
        (
            [MISSING, BROKEN, working("2.6.1-dist")],
            [
                "runtime-broken: /b does not work: words",
                (
                    "runtime-too-old: /c is singularity 2.6.1-dist, which lacks options that isolation needs: "
                    "--no-eval --mount"
                ),
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


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_any_umask(script, tmp_path, umask):
    """The cache is the user's alone, and readable for the user, whatever the pilot's umask is."""
    program, place = script(), tmp_path / "some" / "cache"
    # What the program itself makes under such a umask only root could open again.
    (tmp_path / "calls").touch()
    before = os.umask(umask)
    try:
        first = ask(program, directories=(str(place),))
    finally:
        os.umask(before)
    cache.forget()

    assert first == ask(program, directories=(str(place),))
    assert "--version\nbuildcfg\n" == (tmp_path / "calls").read_text()
    assert [0o700, 0o700, 0o600] == [path.stat().st_mode & 0o777 for path in (place.parent, place, *place.iterdir())]

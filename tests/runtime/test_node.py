"""
Nodes that are broken for real, in namespaces that the test makes itself.
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from wlcg_isolate import Payload, Policy, Request, launch_plan, load_policy, make_plan, probe_host
from wlcg_isolate.host import cache, examine_host, probe
from wlcg_isolate.host.probe import MAX_STARTS
from wlcg_isolate.runtime import parse_banner

FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)

#: What makes a node of this kind, run by root of a new user namespace in a new mount namespace.
BREAK = {
    "namespaces forbidden": "echo 0 >/proc/sys/user/max_user_namespaces",
    "no fuse": (
        "mkdir {place}/dev; mount -t tmpfs dev {place}/dev; mkdir {place}/dev/pts {place}/dev/shm; "
        "for name in null zero full random urandom tty; do "
        ": >{place}/dev/$name; mount --bind /dev/$name {place}/dev/$name; done; "
        "ln -s /proc/self/fd {place}/dev/fd; ln -s /proc/self/fd/0 {place}/dev/stdin; "
        "ln -s /proc/self/fd/1 {place}/dev/stdout; ln -s /proc/self/fd/2 {place}/dev/stderr; "
        "mount --rbind /dev/pts {place}/dev/pts; mount --rbind {place}/dev /dev"
    ),
    "masked /proc": "mount -t tmpfs mask /proc/bus",
    "no layer": (
        "sed 's/^enable overlay.*/enable overlay = no/; s/^enable underlay.*/enable underlay = no/' {conf} "
        ">{place}/conf; mount --bind {place}/conf {conf}"
    ),
    "underlay": "sed 's/^enable overlay.*/enable overlay = no/' {conf} >{place}/conf; mount --bind {place}/conf {conf}",
    "no pid namespaces": (
        "sed 's/^allow pid ns.*/allow pid ns = no/' {conf} >{place}/conf; mount --bind {place}/conf {conf}"
    ),
    "read-only cache": "mkdir -p {place}/.cache; mount -t tmpfs -o ro cache {place}/.cache",
    "nothing": ":",
}


@pytest.fixture
def broken(cli, runtime, tmp_path):
    """Call the command line on a node that is broken in one way."""
    built = subprocess.run([runtime, "buildcfg"], stdout=subprocess.PIPE, check=True, text=True).stdout
    conf = next(line.partition("=")[2] for line in built.splitlines() if "_CONF_FILE=" in line)

    def call(how, *words, **more):
        # Root of a user namespace owns no directory above the test's own; trace records want one.
        setup = f'set -e; mount -t tmpfs trace /mnt; {BREAK[how].format(place=tmp_path, conf=conf)}; exec "$@"'
        argv = [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            setup,
            "sh",
            *cli.program,
            *map(str, words),
        ]
        environ = {**cli.environ, "XDG_CACHE_HOME": str(tmp_path / ".cache")}
        return subprocess.run(argv, env=environ, cwd=cli.workdir, capture_output=True, text=True, check=False, **more)

    return call


TRACE = ("--trace-dir", "/mnt/trace")


def _doctor(broken, how):
    done = broken(how, "doctor", "--json")
    assert done.stdout, done.stderr

    return done.returncode, json.loads(done.stdout)


def _probe(report, form):
    return next(fact[form] for fact in report["facts"]["runtimes"] if fact[form])


def test_good_node(runtime, image, tmp_path):
    """One start tells everything of a good node, for trees and for files."""
    request = Request(payload=Payload(command=("true",)), image=image("tiny"), runtime=runtime, workdir=tmp_path)
    fact = examine_host(request, load_policy()).runtimes[0]

    assert "apptainer" == parse_banner(fact.banner).flavour
    assert ("yes", "userns", True, True, 1) == (
        fact.tree.start,
        fact.tree.mode,
        fact.tree.pid_namespace,
        fact.tree.nested,
        fact.tree.starts,
    )
    assert fact.tree.layer in ("overlay", "underlay")
    assert ("yes", "fuse" if FUSE else "unpacked") == (fact.file.start, fact.file.method)


def test_probe_leaves_nothing(runtime, image, tmp_path, monkeypatch):
    """The test image is gone afterwards, and so is every process that was started."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "work").mkdir()
    request = Request(
        payload=Payload(command=("true",)), image=image("tiny"), runtime=runtime, workdir=tmp_path / "work"
    )
    examine_host(request, load_policy())

    assert ["work"] == os.listdir(tmp_path)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_known_node_starts_nothing(request_for, policy, tmp_path, monkeypatch, mocker):
    """The second plan starts no container, in this process or in the next."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache.forget()
    first = probe_host(request_for("true"), policy).runtimes
    started = mocker.patch("wlcg_isolate.host.probe.run")
    again = probe_host(request_for("true"), policy).runtimes
    cache.forget()
    from_file = probe_host(request_for("true"), policy).runtimes

    assert (first, first, 0) == (again, from_file, started.call_count)


def test_tree_needs_no_probe_of_files(request_for, policy):
    """Only what a plan will use is tried."""
    cache.forget()
    fact = probe_host(request_for("true"), Policy(host_cache_directories=())).runtimes[0]

    assert ("yes", None) == (fact.tree.start, fact.file)


def test_asking_is_enough(request_for):
    """Where policy says so, no container is started on trial."""
    cache.forget()
    fact = probe_host(request_for("true"), Policy(runtime_probe_starts=False, host_cache_directories=())).runtimes[0]

    assert ("works", None, None) == (fact.verdict, fact.tree, fact.file)


def test_probe_has_the_options_of_the_policy(request_for, mocker):
    """What a policy adds to every payload's container is tried as well, and known apart."""
    run = mocker.spy(probe, "run")
    plain, with_gpus = Policy(host_cache_directories=()), Policy(gpu_use=["nvidia"], host_cache_directories=())
    cache.forget()
    facts = [
        probe_host(request_for("true"), policy).runtimes[0].tree for policy in (plain, with_gpus, plain, with_gpus)
    ]

    assert ["yes"] * 4 == [fact.start for fact in facts]
    assert [False, True] == ["--nv" in call.args[0] for call in run.call_args_list]


def test_namespaces_forbidden(broken):
    """A limit of 0 is named as such, and not as a full disk; the doctor tells the command that mends it."""
    status, report = _doctor(broken, "namespaces forbidden")
    mends = [finding["mend"] for finding in report["findings"] if finding["verdict"] == "no"]

    assert (1, False) == (status, report["able"])
    assert ("no", "user-namespaces-disabled") == tuple(_probe(report, "tree")[k] for k in ("start", "kind"))
    assert any("user.max_user_namespaces=15000" in mend for mend in mends)
    assert "0" == report["facts"]["sysctl"]["user.max_user_namespaces"]


def test_namespaces_forbidden_refuses(broken, image):
    """A payload on such a node is refused with the cause, before anything is started."""
    done = broken("namespaces forbidden", "plan", "--image", image("tiny"), *TRACE, "--", "true")

    assert 125 == done.returncode
    assert done.stderr.startswith("wlcg-isolate: user-namespaces-disabled: ")


def test_no_fuse(broken):
    """Without /dev/fuse trees run, and files after they were unpacked."""
    status, report = _doctor(broken, "no fuse")

    assert (0, "yes") == (status, _probe(report, "tree")["start"])
    assert ("yes", "unpacked") == tuple(_probe(report, "file")[k] for k in ("start", "method"))


@pytest.mark.parametrize("how", ["masked /proc", "no pid namespaces"])
def test_no_pid_namespace(broken, how):
    """Where no PID namespace can be had, that is seen from outside; the runtime itself says nothing or ends."""
    status, report = _doctor(broken, how)
    tree = _probe(report, "tree")

    assert (0, "yes", False) == (status, tree["start"], tree["pid_namespace"])
    assert tree["starts"] <= MAX_STARTS
    assert (how == "masked /proc") == report["facts"]["node"]["proc_masked"]
    assert report["runtime"]["warnings"]


@pytest.mark.parametrize("how", ["masked /proc", "no pid namespaces"])
def test_payload_without_pid_namespace(broken, image, tmp_path, how):
    """There the payload runs all the same, with a warning; what it leaves behind is ended."""
    outcome = tmp_path / "outcome.json"
    words = ["run", "--image", image("tiny"), "--outcome", outcome, *TRACE]
    done = broken(how, *words, "--", "sh", "-c", "setsid sleep 4711 & echo $! >/srv/left; exit 7")
    left = int((tmp_path / "work" / "left").read_text())

    assert (7, "exit-nonzero") == (done.returncode, json.loads(outcome.read_text())["kind"])
    assert "" == _command(left)


def _command(pid):
    """Read a process's arguments; one that has ended has none, reaped or not."""
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as f:
            return f.read()
    except OSError:
        return ""


@pytest.mark.parametrize(("how", "layer"), [("no layer", "none"), ("underlay", "underlay")])
def test_layer(broken, how, layer):
    """What creates missing targets is seen, not believed."""
    status, report = _doctor(broken, how)

    assert (0, layer) == (status, _probe(report, "tree")["layer"])
    assert layer == report["runtime"]["layer"]


@pytest.mark.parametrize(
    ("option", "status", "words"),
    [("--bind", 125, "bind-target-no-layer: /nosuch is not in the image"), ("--bind-if-present", 0, "")],
)
def test_missing_target_without_layer(broken, image, option, status, words):
    """A required bind that nothing can make room for refuses; another is left out, and the payload runs."""
    options = ["run", "--image", image("tiny"), option, "/usr:/nosuch", *TRACE]
    done = broken("no layer", *options, "--", "sh", "-c", "test ! -e /nosuch")

    assert status == done.returncode, done.stderr
    assert words in done.stderr


def test_read_only_cache(broken, image):
    """Where nothing can be kept, every pilot finds out for itself, and payloads run."""
    for _ in range(2):
        done = broken("read-only cache", "run", "--image", image("tiny"), *TRACE, "--", "true")
        assert 0 == done.returncode, done.stderr


def test_dump_plans_elsewhere(broken, cli, image, tmp_path):
    """What the doctor dumped of a broken node gives the refusal of that node on a good one."""
    status, report = _doctor(broken, "namespaces forbidden")
    dump = tmp_path / "node.json"
    dump.write_text(json.dumps(report))
    words = ["plan", "--facts", str(dump), "--image", image("tiny"), "--", "true"]
    done = subprocess.run([*cli.program, *words], env=cli.environ, capture_output=True, text=True, check=False)

    assert (1, 125) == (status, done.returncode)
    assert "wlcg-isolate: user-namespaces-disabled: " in done.stderr


def test_replaced_between_plan_and_launch(request_for, policy, runtime, tmp_path):
    """A runtime that became another program after the plan is caught before the payload runs."""
    program = tmp_path / "bin" / "apptainer"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{runtime}" "$@"\n')
    program.chmod(0o755)
    plan = make_plan(request_for("touch", "/srv/started", runtime=str(program)), policy)
    program.write_text('#!/bin/sh\nwhile [ "$1" != /bin/sh ]; do shift; done\nexec "$@"\n')
    outcome = launch_plan(plan)

    assert (False, "runtime", "isolation-incomplete") == (outcome.started, outcome.failed_by, outcome.kind)
    assert not (tmp_path / "work" / "started").exists()

"""
What was decided is what arrives: the whole environment, every name and every byte, in every image.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import attrs
import pytest

from wlcg_isolate import PlanError, launch_plan, load_policy, make_plan, probe_host, run_isolated
from wlcg_isolate.host import loader as host_loader

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Names that no shell passes on as they are.
ODD_NAMES = (
    *"UID EUID PPID GROUPS SHELLOPTS BASHOPTS OPTIND LINENO RANDOM SECONDS FUNCNAME IFS PS4 BASH_ENV ENV".split(),
    *("a.b", "1A", "-", " ", "x y", "ä", "\udcff", "new\nline", "$(id)", "BASH_FUNC_which%%", "LS_COLORS()"),
)


@pytest.fixture
def started(tmp_path):
    """Run a plan or a request; give outcome, output and the start record, if there is one."""

    def make(what, policy, **more):
        with open(tmp_path / "out", "w+b") as out:
            run = launch_plan(what, stdout=out, stderr=out) if policy is None else run_isolated(
                what, policy, stdout=out, stderr=out, **more
            )  # fmt: skip
            out.seek(0)
            said = out.read()
        records = [
            json.loads(line) for file in (tmp_path / "trace").iterdir() for line in file.read_text().splitlines()
        ]
        mine = [r for r in records if r.get("container.id") == run.trace_id and r["event.action"] == "payload.start"]

        return run, said, (mine or [None])[-1]

    return make


def entries(raw):
    """Split an environment, in no order."""
    return sorted(raw[:-1].split(b"\0"))


def expected(trace_id, **more):
    """Make the environment of a payload for which nothing else was decided."""
    own = {"HOME": "/srv", "PWD": "/srv", "TMPDIR": "/tmp", "LC_ALL": "C", "PATH": PATH, "WLCG_ISOLATE_ID": trace_id}

    return sorted(os.fsencode(f"{name}={value}") for name, value in {**own, **more}.items())


@pytest.fixture
def policy():
    """Let requests set variables of any name."""
    return attrs.evolve(load_policy(), environment_any_names=True)


@pytest.fixture
def bare_host(monkeypatch):
    """Take away what the tester's own environment would add."""
    for name in set(os.environ) - {"PATH", "HOME"}:
        if not name.startswith("WLCG_ISOLATE_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("name", ["tiny", "tiny-bare", "debian11", "debian13", "tiny.sif", "tiny.sqfs", "debian11.sif"])
def test_whole_environment(request_for, policy, started, bare_host, name):
    """Nothing arrives that was not decided, and nothing is missing."""
    odd = {name: f"value of {name}\n" for name in ODD_NAMES}
    policy = attrs.evolve(policy, environment_settable=("SHELLOPTS", "BASH*", "PS4", "ENV", "LS_COLORS*", "IFS"))
    outcome, said, record = started(request_for("cat", "/proc/self/environ", name=name, env=odd), policy)

    assert ("success", expected(outcome.trace_id, **odd)) == (outcome.kind, entries(said)), outcome.message
    assert ("loader", None) == (record["wlcg.isolation.starter"], record.get("wlcg.isolation.starter_reason"))


def test_host_names_that_no_shell_knows(request_for, policy, started, bare_host, monkeypatch):
    """A host's variable that a shell owns passes when it is asked for; one whose name no shell can hold never does."""
    monkeypatch.setenv("UID", "host's")
    monkeypatch.setenv("job.id", "4711")
    outcome, said, _ = started(request_for("cat", "/proc/self/environ", keep_env=("UID",)), policy)
    with pytest.raises(PlanError) as refused:
        make_plan(request_for("cat", keep_env=("job.id",)), policy)

    assert expected(outcome.trace_id, UID="host's") == entries(said)
    assert ["variable-forbidden"] == [problem.kind for problem in refused.value.problems]


@pytest.mark.parametrize("name", ["debian11", "debian13", "debian11.sif"])
def test_both_starters_agree(request_for, policy, started, bare_host, name):
    """Where the image's shell has to start the payload, it gets the same."""
    environ = {"A": bytes(range(1, 256)).decode("utf-8", "surrogateescape"), "E": "", "NL": "\n\n"}
    plan = make_plan(request_for("cat", "/proc/self/environ", name=name, env=environ), policy)
    assert "loader" == plan.starter
    seen = []
    for starter, reason in (("loader", ""), ("shell", "for this test")):
        outcome, said, record = started(attrs.evolve(plan, starter=starter, starter_reason=reason), None)
        assert (starter, reason or None) == tuple(
            record.get(f"wlcg.isolation.{key}") for key in ("starter", "starter_reason")
        )
        seen.append(entries(said))

    assert [expected(outcome.trace_id, **environ)] * 2 == seen


# --- images of our own --------------------------------------------------------------------------------------------


@pytest.fixture
def busybox(image):
    """Path of a static program with many names."""
    return Path(image("tiny")) / "usr/bin/busybox"


@pytest.fixture
def tree(tmp_path, busybox):
    """Make an image that holds a static program under some names, and no more."""

    def make(*names, scripts=None):
        root = tmp_path / "image"
        for directory in ("bin", "dev", "proc", "sys", "etc", "tmp", "var/tmp", "srv", ".singularity.d/env"):
            (root / directory).mkdir(parents=True)
        for name in names:
            shutil.copy(busybox, root / "bin" / name)
        for name, text in (scripts or {}).items():
            (root / name).write_text(text)
            (root / name).chmod(0o755)

        return str(root)

    return make


def test_image_without_a_shell(request_for, policy, started, bare_host, tree):
    """An image with one static program and nothing else serves."""
    request = attrs.evolve(request_for("cat", "/proc/self/environ", env={"A": "1"}), image=tree("cat"))
    outcome, said, _ = started(request, policy)

    assert ("success", expected(outcome.trace_id, A="1")) == (outcome.kind, entries(said))


def test_image_without_a_shell_cannot_be_a_command(request_for, policy, tree):
    """Without a shell in the image there is no command for others to start, and without the loader no plan."""
    request = attrs.evolve(request_for("cat"), image=tree("cat"))
    facts = probe_host(request, policy)
    with pytest.raises(PlanError) as unrenderable:
        _ = make_plan(request, policy, facts).argv
    with pytest.raises(PlanError) as refused:
        make_plan(request, policy, attrs.evolve(facts, loader_fault="not on this node"))

    # It has a directory for scripts of the runtime, too, and none in it.
    assert ["image-no-shell", "variable-undeliverable"] == [p.kind for p in unrenderable.value.problems]
    assert ["image-no-shell"] == [p.kind for p in refused.value.problems]


def test_names_that_no_shell_knows_cannot_be_in_a_command(request_for, policy):
    """What only the loader can deliver is refused in argv, and where there is no loader."""
    request = request_for("true", env={"UID": "1", "a.b": "2"})
    facts = probe_host(request, policy)
    with pytest.raises(PlanError) as unrenderable:
        make_plan(request, policy, facts).shell()
    with pytest.raises(PlanError) as refused:
        make_plan(request, policy, attrs.evolve(facts, loader_fault="not on this node"))

    assert ["variable-undeliverable"] * 2 == [p.kind for p in unrenderable.value.problems]
    assert ["variable-undeliverable"] * 2 == [p.kind for p in refused.value.problems]


def test_variables_of_the_image(request_for, policy, started, bare_host, tree):
    """What the image sets stays, but for what was decided otherwise, and without what the runtime adds to it."""
    script = (
        "export IMAGE_OWN='a  b' PATH=/bin:/opt/image LD_LIBRARY_PATH=/opt/lib TMPDIR=/image EMPTY=\n"
        "export LC_ALL=en_US.UTF-8 OLDPWD=/x SHLVL=7\n"
    )
    image = tree("cat", scripts={".singularity.d/env/90-environment.sh": script})
    request = attrs.evolve(request_for("cat", "/proc/self/environ", env={"IMAGE_OWN": "decided"}), image=image)
    outcome, said, _ = started(request, policy)
    image_says = {"PATH": "/bin:/opt/image", "LD_LIBRARY_PATH": "/opt/lib", "EMPTY": ""}

    assert expected(outcome.trace_id, IMAGE_OWN="decided", **image_says) == entries(said)


def test_without_the_variables_of_the_image(request_for, policy, started, bare_host, tree):
    """Where policy keeps the image's variables out, its PATH is all that is left of them."""
    image = tree("cat", scripts={".singularity.d/env/90-environment.sh": "export IMAGE_OWN=1 PATH=/bin:/opt/image\n"})
    request = attrs.evolve(request_for("cat", "/proc/self/environ"), image=image)
    outcome, said, _ = started(request, attrs.evolve(policy, environment_image=False))

    assert expected(outcome.trace_id, PATH="/bin:/opt/image") == entries(said)


def test_path_that_was_decided(request_for, policy, started, tree):
    """A program is looked up in the PATH that the payload gets."""
    image = tree("cat", scripts={"srv/cat": "", "etc/env": ""})
    shutil.move(f"{image}/bin/cat", f"{image}/etc/only-here")
    (Path(image) / "etc/cat").symlink_to("only-here")
    request = attrs.evolve(request_for("cat", "/proc/self/comm", env={"PATH": "/nosuch:/etc"}), image=image)
    found, said, _ = started(request, policy)
    missed, words, _ = started(attrs.evolve(request, env={"PATH": "/bin"}), policy)

    assert ((0, b"cat\n"), (127, b"wlcg-isolate: cat: not found\n")) == ((found.status, said), (missed.status, words))


HOSTILE = "#!/bin/busybox sh\nfor i in 1 2 3; do echo $i >&4; done 2>/dev/null; echo hostile >/srv/hostile; exit 0\n"


def test_hostile_shell(request_for, policy, started, tmp_path, tree):
    """An image whose shell forges start markers is not asked: its shell never runs."""
    request = attrs.evolve(
        request_for("cat", "/proc/self/comm"), image=tree("cat", "busybox", scripts={"bin/sh": HOSTILE})
    )
    outcome, said, record = started(request, policy)

    assert ("success", b"cat\n", "loader") == (outcome.kind, said, record["wlcg.isolation.starter"])
    assert [] == os.listdir(tmp_path / "work")


@pytest.mark.parametrize("number", ["1", "$PPID", "$$"])
def test_marker_of_the_image(request_for, policy, started, tmp_path, tree, number):
    """A program of the image that says to be the loader is found out, and the payload does not run."""
    forge = f"/bin/busybox sh -c 'echo {number} >&4; sleep 5' >/dev/null\n"
    image = tree("touch", "busybox", scripts={".singularity.d/env/90-environment.sh": forge})
    outcome, _, record = started(attrs.evolve(request_for("touch", "/srv/started"), image=image), policy)

    assert (False, "start-forged", "runtime", "never") == (
        outcome.started, outcome.kind, outcome.failed_by, outcome.retry,
    )  # fmt: skip
    assert (None, []) == (record, os.listdir(tmp_path / "work"))


# --- what cannot be executed --------------------------------------------------------------------------------------


SCRIPTS = {
    "plain": (0o644, "echo no\n", 126, b"wlcg-isolate: /srv/plain: cannot be executed\n"),
    "script": (0o755, "echo run by a shell: $*; exit 5\n", 5, b"run by a shell: a b\n"),
    "interpreter": (0o755, "#!/nosuch/interpreter\n", 126, b"wlcg-isolate: /srv/interpreter: cannot be executed\n"),
    "absent": (None, "", 127, b"wlcg-isolate: /srv/absent: not found\n"),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_command(request_for, policy, started, tmp_path, name):
    """What is no program is the payload's failure, with the words and statuses of a shell."""
    mode, text, status, said = SCRIPTS[name]
    request = request_for(f"/srv/{name}", "a", "b")
    if mode is not None:
        (tmp_path / "work" / name).write_text(text)
        (tmp_path / "work" / name).chmod(mode)
    outcome, words, _ = started(request, policy)

    assert (True, status, "payload", said) == (outcome.started, outcome.exit_code, outcome.failed_by, words)


def test_script_in_an_image_without_a_shell(request_for, policy, started, tmp_path, tree):
    """A script that only a shell could run cannot be executed where there is none."""
    request = attrs.evolve(request_for("/srv/script"), image=tree("cat"))
    (tmp_path / "work/script").write_text("exit 0\n")
    (tmp_path / "work/script").chmod(0o755)
    outcome, words, _ = started(request, policy)

    assert (126, b"wlcg-isolate: /srv/script: cannot be executed\n") == (outcome.exit_code, words)


# --- where there is no loader -------------------------------------------------------------------------------------


def _not_executable(mocker):
    change = os.fchmod
    mocker.patch.object(host_loader.os, "fchmod", lambda fd, _: change(fd, 0))


def test_runtime_that_does_not_execute_the_loader(request_for, policy, started, mocker):
    """When the runtime cannot execute the loader, the image's shell takes its place, and the record says why."""
    _not_executable(mocker)
    outcome, said, record = started(request_for("sh", "-c", "echo $A; exit 3", env={"A": "1"}), policy)

    assert (True, 3, b"1\n") == (outcome.started, outcome.exit_code, said)
    assert "shell" == record["wlcg.isolation.starter"]
    assert "permission denied" in record["wlcg.isolation.starter_reason"]


def test_runtime_that_does_not_execute_the_loader_for_what_no_shell_can(request_for, policy, started, tmp_path, mocker):
    """What only the loader can deliver is not started without it."""
    _not_executable(mocker)
    outcome, _, record = started(request_for("touch", "/srv/x", env={"UID": "1"}), policy)

    assert (False, "loader-refused", "other-node") == (outcome.started, outcome.kind, outcome.retry)
    assert "no shell can deliver UID" in outcome.message
    assert (None, []) == (record, os.listdir(tmp_path / "work"))


def test_runtime_that_does_not_execute_the_loader_nor_a_shell(request_for, policy, started, mocker, tree):
    """When nothing can start the payload, both reasons are told."""
    _not_executable(mocker)
    outcome, _, _ = started(attrs.evolve(request_for("cat"), image=tree("cat")), policy)

    assert (False, "runtime") == (outcome.started, outcome.failed_by)
    assert "/bin/sh" in outcome.message
    assert "permission denied" in outcome.message


#: A PID namespace has a setting of its own (Linux 6.3); an older kernel has none, and always executes the loader.
NOEXEC = Path("/proc/sys/vm/memfd_noexec")


def test_node_that_executes_nothing_from_memory(cli, image):
    """A node that is set to execute no file in memory uses the image's shell, and plan and record say so."""
    # Root alone may set it; for a plain user the node is as it is.
    forbid = f'[ ! -e {NOEXEC} ] || echo 2 >{NOEXEC}; exec "$@"'
    inside = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "sh", "-c", forbid, "sh"]
    inside = [] if os.geteuid() else inside
    argv = cli.argv("--image", image("debian11"), command=("sh", "-c", "exit 3"))
    plan = [*cli.program, "plan", "--image", image("debian11"), "--workdir", str(cli.workdir), "--json", "--", "true"]
    done = cli.read(subprocess.run([*inside, *argv], env=cli.environ, check=False, timeout=120).returncode)
    shown = json.loads(subprocess.run([*inside, *plan], env=cli.environ, check=True, capture_output=True).stdout)
    is_set = NOEXEC.exists() and os.geteuid() == 0
    starter = "shell" if is_set else "loader"

    assert (3, starter) == (done.status, done.records[0]["wlcg.isolation.starter"])
    assert starter == shown["starter"]["name"]
    assert ("Permission denied" in shown["starter"]["reason"]) == is_set


# --- properties ---------------------------------------------------------------------------------------------------


ODD_BYTES = b"\n\t '\"\\$`;&|*?[]{}()<>#!~=%^\x01\x7f\x80\xff"


def _any_bytes(chance, most, *, without=b"\0"):
    size = chance.randrange(most)
    raw = bytes(chance.choice(ODD_BYTES) if chance.random() < 0.5 else chance.randrange(1, 256) for _ in range(size))

    return bytes(byte for byte in raw if byte not in without)


def _variables(chance, count):
    """Make random variables, as text; together they fit into what the kernel passes on."""
    made = {}
    while len(made) < count:
        name = os.fsdecode(_any_bytes(chance, 40, without=b"\0="))
        reserved = name.startswith(("APPTAINER", "SINGULARITY")) or name in ("", "_", "HOME", "PWD", "OLDPWD", "SHLVL")
        if not reserved:
            made[name] = os.fsdecode(_any_bytes(chance, 2000 if chance.random() < 0.02 else 60))
    made["LONG"] = "y" * 100_000

    return made


def _differences(request_for, policy, started, seed, name, count):
    variables = _variables(random.Random(seed), count)
    outcome, said, _ = started(request_for("cat", "/proc/self/environ", name=name, env=variables), policy)

    assert "success" == outcome.kind, outcome.message
    return set(expected(outcome.trace_id, **variables)) ^ set(entries(said))


@pytest.mark.parametrize(("seed", "name"), [(1, "tiny"), (2, "debian11"), (3, "debian13"), (4, "tiny.sif")])
def test_random_variables(request_for, policy, started, bare_host, seed, name):
    """Thousands of random names and values: no difference."""
    assert set() == _differences(request_for, policy, started, seed, name, 2000)


@pytest.mark.soak
def test_many_random_variables(request_for, policy, started, bare_host):
    """A hundred thousand random names and values: no difference."""
    for seed in range(50):
        name = ("tiny", "debian11", "debian13", "tiny.sif", "tiny.sqfs")[seed % 5]

        assert set() == _differences(request_for, policy, started, 1000 + seed, name, 2000), f"seed {seed}"


def test_two_megabytes(request_for, policy, started, bare_host):
    """Nearly all that the kernel passes on arrives; more is refused before the start."""
    big = {f"V{i}": "z" * 100_000 for i in range(20)}
    outcome, said, _ = started(request_for("cat", "/proc/self/environ", env=big), policy)
    refused, _, _ = started(request_for("true", env={**big, "MORE": "z" * 100_000}), policy)

    assert expected(outcome.trace_id, **big) == entries(said)
    assert (False, "argument-undeliverable") == (refused.started, refused.kind)


def _status(request_for, policy, status):
    outcome = run_isolated(request_for("sh", "-c", f"exit {status}"), policy)

    return outcome.status, outcome.started, outcome.failed_by


@pytest.mark.parametrize("status", [*range(0, 256, 51), 125, 126, 127, 129])
def test_exit_status(request_for, policy, status):
    """An exit status is the payload's."""
    assert (status, True, "payload" if status else None) == _status(request_for, policy, status)


@pytest.mark.soak
def test_every_exit_status(request_for, policy):
    """Each of the 256 is the payload's."""
    for status in range(256):
        assert (status, True, "payload" if status else None) == _status(request_for, policy, status)


def test_loader_cannot_be_changed_from_inside(request_for, policy, started):
    """What is left of the loader, in the container's process 1, cannot be written."""
    script = (
        "for f in /proc/[0-9]*/fd/*; do case $(readlink $f) in *wlcg-isolate-loader*) echo found;"
        " (echo x >>$f) 2>/dev/null && echo appended; (echo x >$f) 2>/dev/null && echo emptied; esac; done"
    )
    _, said, _ = started(request_for("sh", "-c", script), policy)

    assert set() == set(said.split()) - {b"found"}

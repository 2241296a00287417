"""
Cases in which other ways of isolation lose: the bare runtime on the same cases in the same run, and no case lost here.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from wlcg_isolate import classify
from wlcg_isolate.variables import family_of

#: Rows of the table, by what the cases count.
SOFTWARE = ("loader", "python", "perl", "r", "other-languages", "java-options", "modules", "shell-start", "toolchain")
SECRETS = ("credential", "pilot-secret", "secret-name")

#: What the host's variables of the runtime would do.
CONTROL = {
    "APPTAINERENV_EVIL": "injected",
    "SINGULARITYENV_EVIL2": "injected",
    "APPTAINERENV_LD_PRELOAD": "/nosuch/evil.so",
    "SINGULARITY_BIND": "/etc/hosts:/evil",
}

#: Twenty values, of which the bare runtime changes some and executes some.
HARD = (
    *("plain", "", " ", "two  blanks", "tab\there", "new\nline", "ends in newline\n", "it's", '"quoted"', "$HOME"),
    *("$(touch e1)", "`touch e2`", '"; touch e3; "', 'x\\"; touch e4; echo \\"y', "back\\slash", "ends in \\"),
    *("a=b,c:d;e&f|g", "\\u000A", "ä€🙂", os.fsdecode(bytes(range(128, 256)))),
)  # fmt: skip


@pytest.fixture
def hostile(all_hosts):
    """The variables of all hosts at once, with those of the runtime that take effect anywhere."""
    found = {name: value for host in all_hosts.values() for name, value in host["environ"].items()}

    return {name: value for name, value in found.items() if not name.startswith(("APPTAINER", "SINGULARITY"))}


@pytest.fixture
def bare(cli, image, runtime):
    """Run a command with the bare runtime."""

    def run(environ, *options, name="debian11", command=("cat", "/proc/self/environ")):
        argv = [runtime, "exec", "--userns", *options, image(name), *command]
        done = subprocess.run(
            argv, env={**environ, **cli.environ}, cwd=cli.workdir, capture_output=True, check=False, timeout=60
        )
        return done.stdout

    return run


def entries(raw):
    """Split an environment."""
    return dict(os.fsdecode(entry).split("=", 1) for entry in raw.split(b"\0") if b"=" in entry)


def leaked(environ, raw):
    """Count what arrived as the host has it: software, secrets, functions, and what the runtime was made to add."""
    found = entries(raw)
    rows = [family_of(name).rule for name, value in environ.items() if found.get(name) == value]

    return (
        sum(rule in SOFTWARE for rule in rows),
        sum(rule in SECRETS for rule in rows),
        rows.count("shell-function"),
        sum(value in ("injected", "/nosuch/evil.so") for value in found.values()),
    )


def test_host_variables(cli, image, bare, hostile):
    """Case A: of some nine hundred variables no harmful one arrives, and none of the runtime's takes effect."""
    environ = {**hostile, **CONTROL}
    ran = cli.run(
        "--image", image("debian11"), command=("cat", "/proc/self/environ"), environ={**environ, **cli.environ}
    )
    plain, contained = bare(environ), bare(environ, "-C")

    assert len(environ) > 850
    assert (0, 0, 0, 0) == leaked(environ, ran.stdout)
    assert all(found >= most for found, most in zip(leaked(environ, plain), (200, 30, 5, 2)))
    # Contained, the host's own are gone, but those of the runtime still act.
    assert (0, 0, 0) == leaked(environ, contained)[:3]
    assert 3 == leaked(environ, contained)[3]
    assert b"/evil\n" == bare(environ, "-C", command=("ls", "-d", "/evil"))


def test_host_bind_that_the_site_forbids(cli, image):
    """Case A: a bind that a variable of the host asks for takes effect only where the site allows it."""
    forbid = ("--set", 'bind.forbidden_sources=["/etc"]')
    ran = cli.run("--image", image("debian11"), *forbid, command=("ls", "-d", "/evil"), environ=CONTROL)

    assert b"" == ran.stdout


def executed(directory):
    """List what values made a shell do, and take it away."""
    found = sorted(file.name for file in directory.iterdir() if file.name.startswith("e"))
    for name in found:
        (directory / name).unlink()

    return found


@pytest.mark.parametrize("name", ["debian11", "tiny"])
def test_hard_values(cli, image, bare, name):
    """Case B: twenty of twenty values arrive, all in one run, and none is executed."""
    values = {f"V{i}": value for i, value in enumerate(HARD)}
    words = [word for item in values.items() for word in ("--env", "=".join(item))]
    ran = cli.run("--image", image(name), *words, command=("cat", "/proc/self/environ"))
    found = entries(ran.stdout)

    assert 20 == len(values)
    assert values == {variable: found.get(variable) for variable in values}
    assert [] == executed(cli.workdir)


def test_hard_values_of_the_bare_runtime(cli, bare):
    """Case B: the bare runtime loses some of the same values, all of them in one run, and executes three."""
    values = {f"APPTAINERENV_V{i}": value for i, value in enumerate(HARD)}
    exact = sum(
        entries(bare({variable: value})).get(variable[len("APPTAINERENV_") :]) == value
        for variable, value in values.items()
    )
    at_once = entries(bare(values))

    assert exact < 20
    assert ["e1", "e2", "e4"] == executed(cli.workdir)
    assert sum(at_once.get(f"V{i}") == value for i, value in enumerate(HARD)) < exact


# --- who failed ----------------------------------------------------------------------------------------------------

FATAL = "FATAL:   container creation failed: mount hook function failure: mount source /x doesn't exist"
EPERM = "mount: Operation not permitted"

#: Case D: the truth, and what makes it.  R: the runtime or the node; P: the payload; ok: nobody.
BLAME = {
    "image missing": "R",
    "image cut short": "R",
    "bind source missing": "R",
    "bind target impossible": "R",
    "command not found": "P",
    "not executable": "P",
    "payload says FATAL and exits 255": "P",
    "payload says EPERM and exits 0": "ok",
    "no user namespaces": "R",
    "runtime missing": "R",
    "runtime killed before the start": "R",
    "payload exits 255": "P",
}


@pytest.fixture
def situations(cli, image, runtime, tmp_path):
    """Make each case for the bare runtime and for the library: what goes before, arguments of both, and the command."""
    short = tmp_path / "short.sif"
    with open(image("tiny.sif"), "rb") as f:
        short.write_bytes(f.read()[:300_000])
    tree = image("tiny")
    no_namespaces = "echo 0 >/proc/sys/user/max_user_namespaces; "
    killing = tmp_path / "kill"
    killing.mkdir()
    # Once armed, it is ended in the moment it is started; the trial start before is not the one that counts.
    (killing / "apptainer").write_text(f'#!/bin/sh\n[ ! -e {tmp_path}/armed ] || kill -9 $$\nexec {runtime} "$@"\n')
    (killing / "apptainer").chmod(0o755)

    return {
        "image missing": ("", runtime, "/nosuch.sif", (), ("true",)),
        "image cut short": ("", runtime, short, (), ("true",)),
        "bind source missing": ("", runtime, tree, ("--bind", "/nosuch:/mnt"), ("true",)),
        "bind target impossible": ("", runtime, tree, ("--bind", f"{tmp_path}:/sys/nosuch"), ("true",)),
        "command not found": ("", runtime, tree, (), ("nosuch",)),
        "not executable": ("", runtime, tree, (), ("/etc/os-release",)),
        "payload says FATAL and exits 255": ("", runtime, tree, (), ("sh", "-c", f'echo "{FATAL}" >&2; exit 255')),
        "payload says EPERM and exits 0": ("", runtime, tree, (), ("sh", "-c", f'echo "{EPERM}" >&2; exit 0')),
        "no user namespaces": (no_namespaces, runtime, tree, (), ("true",)),
        "runtime missing": ("", "/nosuch/apptainer", tree, (), ("true",)),
        "runtime killed before the start": ("", killing / "apptainer", tree, (), ("true",)),
        "payload exits 255": ("", runtime, tree, (), ("sh", "-c", "exit 255")),
    }


def in_shell(setup, argv, environ, directory):
    """Run a command, on a node that was changed before."""
    before = (
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{setup} exec "$@"', "sh"] if setup else []
    )

    return subprocess.run(
        [*before, *map(str, argv)], env=environ, cwd=directory, capture_output=True, check=False, timeout=120
    )


def blamed(outcome):
    """Reduce an outcome to R, P or ok."""
    return {None: "ok", "payload": "P", "runtime": "R", "policy": "R"}[outcome["failed_by"]]


#: What rules over exit status and text say, which is all that a caller of the bare runtime has.
RULES = {
    "not 0 is the payload": lambda status, _: "P" if status else "ok",
    "255 is the runtime": lambda status, _: "R" if status == 255 else "P" if status else "ok",
    "text of a FATAL": lambda status, text: "R" if b"FATAL" in text else "P" if status else "ok",
    "Operation not permitted": lambda status, text: (
        "R" if b"Operation not permitted" in text else "P" if status else "ok"
    ),
}


def test_blame(cli, situations, tmp_path):
    """Case D: twelve of twelve, where no rule over exit status and text gets more than six."""
    ours, bare, guessed = {}, {}, {}
    for name, (setup, program, path, binds, command) in situations.items():
        trace = tmp_path / f"trace-{len(ours)}"
        (tmp_path / "armed").unlink(missing_ok=True)
        words = ("--image", path, "--runtime", program, "--trace-dir", "/mnt" if setup else trace, *binds)
        if "killed" in name:
            cli.run(*words, command=command)
            (tmp_path / "armed").touch()
        cli.outcome.unlink(missing_ok=True)
        mounted = f"mount -t tmpfs trace /mnt; {setup}" if setup else ""
        ran = in_shell(mounted, cli.argv(*words, command=command), cli.environ, cli.workdir)
        ours[name] = blamed(cli.read(ran.returncode).outcome)
        try:
            argv = [program, "exec", "--userns", *binds, path, *command]
            done = in_shell(setup, argv, cli.environ, cli.workdir)
            status, text = done.returncode, done.stderr
        except FileNotFoundError:
            status, text = 127, b""
        bare[name] = {rule: verdict(status, text) for rule, verdict in RULES.items()}
        guessed[name] = blamed(classify(status, text).to_dict())

    right = {rule: sum(bare[name][rule] == truth for name, truth in BLAME.items()) for rule in RULES}

    assert BLAME == ours
    # Without a marker nothing tells a killed or missing runtime from a payload, nor a payload that says its words.
    assert {"payload says FATAL and exits 255", "runtime missing", "runtime killed before the start"} == {
        name for name in BLAME if guessed[name] != BLAME[name]
    }
    assert {
        "not 0 is the payload": 5,
        "255 is the runtime": 5,
        "text of a FATAL": 6,
        "Operation not permitted": 4,
    } == right

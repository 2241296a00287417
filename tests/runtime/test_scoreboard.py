"""
Cases in which other ways of isolation lose: the bare runtime on the same cases in the same run, and no case lost here.
"""

from __future__ import annotations

import os
import subprocess

import pytest

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

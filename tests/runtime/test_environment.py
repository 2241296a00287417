"""
What the decision on variables depends on, in real containers: the image's own variables and locales, and sizes.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from pathlib import Path

import attrs
import pytest

from wlcg_isolate import PlanError, make_plan, run_isolated

IMAGE_SAYS = (
    "export IMAGE_OWN='a\\nLC_ALL=x\\nB=c' OTHER=1 PATH=/opt/image:/usr/bin:/bin LD_LIBRARY_PATH=/opt/lib LC_ALL=xx\n"
)


@pytest.fixture
def image_with_variables(image, tmp_path):
    """Copy an image, and let it set variables of its own in scripts of these names."""

    def make(*scripts):
        root = tmp_path / "image"
        shutil.copytree(image("tiny"), root, symlinks=True)
        for name in scripts:
            script = root / ".singularity.d" / "env" / name
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text(IMAGE_SAYS)
            script.chmod(0o755)

        return str(root)

    return make


def entries(raw):
    """Split an environment."""
    return dict(os.fsdecode(entry).split("=", 1) for entry in raw.split(b"\0") if b"=" in entry)


@pytest.mark.parametrize("keeps", [True, False])
def test_variables_of_the_image_in_a_command(request_for, policy, image_with_variables, monkeypatch, keeps):
    """Argv and the shell line keep what the image sets, or its PATH alone, as policy says."""
    for name in set(os.environ) - {"PATH", "HOME"}:
        monkeypatch.delenv(name)
    request = attrs.evolve(
        request_for("cat", "/proc/self/environ", env={"MINE": "$(id) '\n\"", "EMPTY": ""}),
        image=image_with_variables("90-environment.sh", "99-base.sh"),
    )
    plan = make_plan(request, attrs.evolve(policy, environment_image=keeps))
    own = {"IMAGE_OWN": "a\\nLC_ALL=x\\nB=c", "OTHER": "1", "LD_LIBRARY_PATH": "/opt/lib"} if keeps else {}
    decided = {**plan.payload_environ, **own, "PATH": "/opt/image:/usr/bin:/bin"}
    found = [
        entries(subprocess.run(plan.argv, env=plan.environ, capture_output=True, check=True).stdout),
        entries(subprocess.run(["sh", "-c", plan.shell()], capture_output=True, check=True).stdout),
    ]

    assert [decided, decided] == [{n: v for n, v in one.items() if n not in ("SHLVL", "_")} for one in found]


def test_image_that_takes_no_variables(request_for, policy, image_with_variables, tmp_path):
    """An image in which the runtime delivers no variable is refused for a command, and started by the library."""
    request = attrs.evolve(
        request_for("sh", "-c", "echo $MINE", env={"MINE": "1"}), image=image_with_variables("90-environment.sh")
    )
    with pytest.raises(PlanError) as caught:
        _ = make_plan(request, policy).argv
    with open(tmp_path / "out", "wb") as out:
        outcome = run_isolated(request, policy, stdout=out)

    assert "success" == outcome.kind, outcome.message
    assert ["variable-undeliverable"] == [problem.kind for problem in caught.value.problems]
    assert b"1\n" == (tmp_path / "out").read_bytes()


@pytest.mark.parametrize(
    ("host", "keep", "expected"),
    [
        ({"LC_ALL": "C.UTF-8"}, ["LC_ALL"], {"LC_ALL": "C.UTF-8"}),
        ({"LC_ALL": "en_US.UTF-8"}, ["LC_ALL"], {"LC_ALL": "C"}),
        ({"LC_ALL": "POSIX"}, ["LC_ALL"], {"LC_ALL": "POSIX"}),
        ({"LANG": "C.UTF-8", "LC_TIME": "de_DE.UTF-8"}, ["LANG", "LC_TIME"], {"LANG": "C.UTF-8"}),
        # The C library of this image does not find its C.UTF-8 by this name.
        ({"LANG": "C.utf8"}, ["LANG"], {"LC_ALL": "C"}),
        ({"LANG": "en_US.UTF-8"}, ["LANG"], {"LC_ALL": "C"}),
    ],
)
def test_locale_of_the_image(cli, image, host, keep, expected):
    """A locale that is asked for passes where this very image has it, and programs can set it."""
    program = (
        "import locale, os; locale.setlocale(locale.LC_ALL, '')\n"
        "print({n: v for n, v in os.environ.items() if n in ('LANG', 'LC_ALL', 'LC_TIME')})"
    )
    asked = [word for name in keep for word in ("--keep-env", name)]
    ran = cli.run("--image", image("debian11"), *asked, command=("python3", "-c", program), environ=host)

    assert (0, expected) == (ran.status, ast.literal_eval(ran.stdout.decode())), ran.stderr


def test_locale_in_a_command(request_for, policy, monkeypatch):
    """A locale that the request sets is not silenced by the runtime's own."""
    monkeypatch.delenv("LANG", raising=False)
    plan = make_plan(request_for("cat", "/proc/self/environ", env={"LANG": "C.UTF-8"}), policy)
    found = entries(subprocess.run(plan.argv, env=plan.environ, capture_output=True, check=True).stdout)

    assert ("C.UTF-8", None) == (found.get("LANG"), found.get("LC_ALL"))


def test_thousands_of_variables(request_for, policy, tmp_path):
    """Five thousand variables arrive, each as it is."""
    values = {f"V{i}": f"{i} " * (i % 30) for i in range(5000)}
    with open(tmp_path / "out", "wb") as out:
        run_isolated(request_for("cat", "/proc/self/environ", env=values), policy, stdout=out)
    found = entries((tmp_path / "out").read_bytes())

    assert values == {name: found.get(name) for name in values}


def test_the_longest_variable(request_for, policy, tmp_path):
    """A string of 128 KiB less its end arrives; the kernel passes no longer one on."""
    longest = "x" * (131_071 - len("LONG="))
    with open(tmp_path / "out", "wb") as out:
        outcome = run_isolated(request_for("cat", "/proc/self/environ", env={"LONG": longest}), policy, stdout=out)

    assert "success" == outcome.kind, outcome.message
    assert longest == entries((tmp_path / "out").read_bytes()).get("LONG")


@pytest.mark.parametrize(
    ("count", "size", "kind"),
    [(1, 131_072, "variable-undeliverable"), (30, 100_000, "argument-undeliverable")],
    ids=["one string", "all together"],
)
def test_too_much(cli, image, count, size, kind):
    """What the kernel does not pass on is refused with the reason before the payload starts."""
    file = cli.workdir.parent / "request.json"
    variables = ", ".join(f'"V{i}": "{"x" * size}"' for i in range(count))
    file.write_text(f'{{"env": {{{variables}}}}}')
    ran = cli.run("--image", image("tiny"), "--request", file, command=("touch", "/srv/started"))

    assert (125, False, kind) == (ran.status, ran.outcome["started"], ran.outcome["kind"]), ran.stderr
    assert "the kernel passes on" in ran.stderr
    assert not (Path(cli.workdir) / "started").exists()

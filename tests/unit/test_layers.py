"""
Which module may know which, and which may touch the machine.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wlcg_isolate

PACKAGE = Path(wlcg_isolate.__file__).resolve().parent

#: Lowest first; a module may import its own group and the groups before it.
GROUPS = (
    ("_kinds", "_codes", "_values", "_events", "_deadline", "_shelter", "_scrub"),
    ("errors", "loader"),
    ("platforms", "_wordings", "_messages", "products"),
    ("request",),
    ("structure",),
    ("policy",),
    ("_families", "variables"),
    ("images",),
    ("host",),
    ("runtime", "fitness", "environment", "binds", "credentials", "isolation"),
    ("_decisions", "_render", "_supervisor", "_checks", "_static", "plan"),
    ("outcome", "mappings"),
    ("launch",),
    ("trace",),
    ("run", "remains"),
    ("running",),
    ("pilots", "testing"),
    # The package itself loads everything on first use, so it counts as the top.
    ("cli", "__main__", "__init__"),
)
RANK = {name: rank for rank, names in enumerate(GROUPS) for name in names}

#: The members of this group may not import each other.
STRANGERS = ("runtime", "fitness", "environment", "binds", "credentials", "isolation")

STARTS = ("posix_spawn", "posix_spawnp", "fork", "forkpty", "system", "popen")

FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).replace(".__init__", ""): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
#: All but the package's own file, whose imports are for type checkers only.
MODULES = sorted(set(FILES) - {"__init__"})


def read(name):
    """Parse the source of a module of the package."""
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def imported(tree):
    """List the absolute names of all that is imported, at any depth."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names]

    return names


def homes(tree):
    """List the groups' members of the package that are imported."""
    words = [name.split(".") for name in imported(tree)]

    return {w[1] if len(w) > 1 and w[1] in RANK else "__init__" for w in words if w[0] in ("wlcg_isolate", "")}


def astray(name, tree):
    """List what the module *name* imports and must not."""
    own = name.split(".")[0]

    return sorted(
        home
        for home in homes(tree)
        if home != own and (RANK[home] > RANK[own] or (own in STRANGERS and home in STRANGERS))
    )


def calls(tree):
    """List the dotted names of all functions that are called."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def starters(tree):
    """List the ways to start a process that a module knows."""
    named = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | set(imported(tree))
    words = [name.split(".") for name in named]

    return sorted(
        ".".join(w)
        for w in words
        if w[0] in ("subprocess", "multiprocessing", "pty")
        or (w[0] == "os" and len(w) > 1 and (w[1] in STARTS or w[1].startswith(("exec", "spawn"))))
    )


def test_every_module_has_a_layer():
    """Each file of the package belongs to exactly one group."""
    found = {name.split(".")[0] for name in FILES}

    assert set(RANK) == found


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downwards(name):
    """A module knows its own group and lower ones only."""
    assert [] == astray(name, read(name))


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("request", "import wlcg_isolate.host", ["host"]),
        ("request", "from wlcg_isolate import host", ["host"]),
        ("request", "from wlcg_isolate import Plan", ["__init__"]),
        ("request", "import wlcg_isolate", ["__init__"]),
        # The package writes no relative imports; one counts as an import of the top.
        ("request", "from . import errors", ["__init__"]),
        ("request", "def f():\n    from wlcg_isolate.plan import Plan", ["plan"]),
        ("policy.model", "if TYPE_CHECKING:\n    from wlcg_isolate.run import x", ["run"]),
        ("binds", "from wlcg_isolate.fitness import Image", ["fitness"]),
        ("outcome", "from wlcg_isolate.launch.verdict import x", ["launch"]),
        ("launch.verdict", "from wlcg_isolate.outcome import x", []),
        ("launch.verdict", "from wlcg_isolate.launch import x", []),
        ("_checks", "from wlcg_isolate.plan import Plan", []),
        ("_kinds", "from wlcg_isolate._values import x", []),
    ],
    ids=[
        "module",
        "from-root",
        "public-name",
        "root",
        "relative",
        "in-function",
        "type-checking",
        "stranger",
        "later",
        "earlier",
        "own-package",
        "own-group",
        "lowest-group",
    ],
)
def test_rule_sees(name, source, expected):
    """The rule itself refuses what it should, however it is written."""
    assert expected == astray(name, ast.parse(source))


#: Who may start a process: besides host and launch what talks to the batch system through its own program, and
#: the job wrapper, which becomes the node's sshd.
STARTERS = ("host", "launch", "trace.export.chirp", "cli.job_wrapper")


@pytest.mark.parametrize("name", [n for n in MODULES if not {n, n.split(".")[0]} & set(STARTERS)])
def test_starts_no_process(name):
    """Only host, launch and what deals with HTCondor can start a process."""
    assert [] == starters(read(name))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import subprocess", ["subprocess"]),
        ("def f():\n    from subprocess import run", ["subprocess.run"]),
        ("os.fork()", ["os.fork"]),
        ("os.posix_spawn(a, b, c)", ["os.posix_spawn"]),
        ("start = os.execve", ["os.execve"]),
        ("from os import execvp", ["os.execvp"]),
        ("os.path.join(a)", []),
    ],
    ids=["import", "from", "fork", "posix_spawn", "reference", "from-os", "other"],
)
def test_starters_seen(source, expected):
    """The search for ways to start a process finds each spelling."""
    assert expected == starters(ast.parse(source))


@pytest.mark.parametrize("name", [name for name in FILES if name.split(".")[0] not in ("cli", "__main__")])
def test_neither_prints_nor_exits(name):
    """Only the command line prints and ends the process."""
    forbidden = {"print", "sys.exit", "exit", "quit", "os._exit", "sys.stdout.write", "sys.stderr.write"}

    assert set() == calls(read(name)) & forbidden


@pytest.mark.parametrize("name", list(FILES))
def test_no_foreign_framework(name):
    """No module needs what only other projects of the author use."""
    tops = {word.split(".")[0] for word in imported(read(name))}

    allowed = {"trace.query.duck": {"duckdb"}, "trace.query.spark": {"pyspark"}}

    assert allowed.get(name, set()) == tops & {"click", "duckdb", "pyspark"}


def test_import_is_cheap():
    """Importing the package loads none of the heavy libraries."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys, wlcg_isolate; print(*sorted(sys.modules), sep='\\n')"],
        cwd=PACKAGE.parent,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())

    assert "wlcg_isolate" in loaded
    assert set() == loaded & {"structlog", "spython", "cattrs", "attr", "attrs", "subprocess"}


@pytest.mark.parametrize("environ", [{}, {"SINGULARITY_BIND": "/usr:/x", "APPTAINER_TMPDIR": "/tmp/x"}], ids=str)
def test_plain_plan_is_cheap(tmp_path, environ):
    """A plan without a policy file pays for no reader of files, whatever variables the host has."""
    code = (
        "import sys; from wlcg_isolate.cli import main; "
        "main(['plan', '--image', '/none', '--runtime', '/none', '--', 'true']); print(*sys.modules, sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "WLCG_ISOLATE_SITE": "", "PYTHONPATH": str(PACKAGE.parent), **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())

    assert {"wlcg_isolate.plan", *(["wlcg_isolate.policy.merge"] if environ else [])} <= loaded
    assert set() == loaded & {"structlog", "spython", "cattrs", "tomllib", "tomli", "wlcg_isolate.platforms"}
    assert set() == loaded & {"cryptography", "csv", "duckdb", "http", "socket", "ssl", "urllib.parse"}

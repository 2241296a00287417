"""
The documentation is complete, and agrees with the code.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import wlcg_isolate
from wlcg_isolate.cli.options import parser_for

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def _generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    return module


@pytest.mark.parametrize("name", sorted(path.name for path in _generator().PAGES))
def test_generated_pages(name):
    """What is made from the code is not stale (else: docs/generate.py)."""
    (path,) = [path for path in _generator().PAGES if path.name == name]

    assert _generator().PAGES[path]() == path.read_text()


def test_all_attempts_are_told():
    """The page of attempts knows every file of them."""
    files = {path.stem[len("test_") :] for path in (ROOT / "tests/runtime/redteam").glob("test_*.py")}

    assert files == set(_generator()._ATTEMPT_FILES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page):
    """Every link to a file of the project leads somewhere."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())

    assert [] == [link for link in links if "://" not in link and not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks(page):
    """Every block of Python is Python."""
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        compile(block, str(page), "exec")


def test_options():
    """The reference names the options that there are, and no others."""
    parser = parser_for("run", "")
    known = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
    section = (ROOT / "docs/reference/cli.md").read_text().split("## Options of run and plan")[1].split("\n## ")[0]

    assert known - {"--help"} == set(re.findall(r"--[a-z][a-z-]*", section))


def test_public_names():
    """The reference shows every public name."""
    text = (ROOT / "docs/reference/python-api.md").read_text()
    errors = {name for name in wlcg_isolate.__all__ if name.endswith("Error") or name == "Problem"}

    assert [] == [name for name in wlcg_isolate.__all__ if name not in errors and f"wlcg_isolate.{name}\n" not in text]
    assert "wlcg_isolate.errors" in text


def test_changelog():
    """The changelog tells of the current version."""
    assert f"\n## {wlcg_isolate.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_all_pages_are_reachable():
    """Every page of the documentation is in its table of contents."""
    index = (ROOT / "docs/index.md").read_text()
    pages = [str(page.relative_to(ROOT / "docs")) for page in PAGES if (ROOT / "docs") in page.parents]

    assert [] == [page for page in pages if page[:-3] not in index and not page.startswith(("adr/", "index", "_build"))]

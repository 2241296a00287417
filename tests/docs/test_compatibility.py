"""
The page of what each pilot finds served says what tests prove, and nothing else.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

READER = runpy.run_path(str(Path(__file__).resolve().parents[2] / "docs" / "compatibility.py"))

SOURCE = """
import pytest

OUT_OF_SCOPE = {("slurm", "hetero|geneous jobs"): "one container has one node"}

@pytest.mark.serves("slurm", "scancel")
@pytest.mark.differs("slurm", "--propagate", "limits are policy")
def test_cancel():
    pass

@pytest.mark.parametrize("word", [pytest.param("a", marks=pytest.mark.serves("pbs", "arrays"))])
def test_array(word):
    pass
"""


def lines(source, name="runtime/test_x.py"):
    """Read the marks of a text."""
    return list(READER["lines_of"](source, name))


def test_marks_are_read():
    """Marks of tests, of parameters and of modules become lines, in the order of pilots and verdicts."""
    assert [
        "",
        "## Slurm",
        "",
        "| feature | | why | proven with | in |",
        "|---|---|---|---|---|",
        "| scancel | served |  | real Apptainer | `runtime/test_x.py` |",
        "| --propagate | differs | limits are policy | real Apptainer | `runtime/test_x.py` |",
        "| hetero\\|geneous jobs | out of scope | one container has one node |  |  |",
        "",
        "## PBS",
        "",
        "| feature | | why | proven with | in |",
        "|---|---|---|---|---|",
        "| arrays | served |  | real Apptainer | `runtime/test_x.py` |",
    ] == READER["table"](lines(SOURCE))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("integrations/slurm/test_slurm.py", "inside the real thing"),
        ("runtime/redteam/test_x.py", "real Apptainer"),
        ("fake/test_x.py", "fake runtime"),
        ("unit/pilots/test_slurm.py", "table"),
        ("query/test_x.py", "table"),
    ],
)
def test_proof(name, expected):
    """What a test proves depends on where it runs."""
    (line,) = lines('@pytest.mark.serves("slurm", "scancel")\ndef test_x(): pass\n', name)

    assert expected == line.proof


def test_strongest_proof_comes_first():
    """A feature of several tests has one line, with all places, the strongest proof first."""
    source = 'pytest.mark.serves("slurm", "scancel")\n'
    found = [line for name in ("unit/test_a.py", "integrations/test_b.py") for line in lines(source, name)]

    assert [
        "| scancel | served |  | inside the real thing, table | `integrations/test_b.py`, `unit/test_a.py` |"
    ] == READER["table"](found)[5:]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('pytest.mark.serves("slurn", "x")', "there is no pilot 'slurn'"),
        ('pytest.mark.serves("slurm", NAME)', "must be a text, written out: NAME"),
        ('pytest.mark.serves("slurm", " ")', "must be a text, written out: ' '"),
        ('pytest.mark.serves("slurm")', "a mark serves takes 2 texts"),
        ('pytest.mark.differs("slurm", "x")', "a mark differs takes 3 texts"),
        ('pytest.mark.differs("slurm", "x", why="y")', "a mark differs takes 3 texts"),
        ('OUT_OF_SCOPE = {"slurm": "why"}', "a key of OUT_OF_SCOPE is a pilot and a feature"),
        ("OUT_OF_SCOPE = dict()", "OUT_OF_SCOPE must be written as a dictionary"),
        ('OUT_OF_SCOPE = {("slurm", "x"): ""}', "must be a text, written out: ''"),
    ],
    ids=["pilot", "name", "empty", "few", "no-why", "keyword", "key", "call", "no-reason"],
)
def test_unclear_marks_are_refused(source, expected):
    """What the page cannot say stops its making, and names the file."""
    with pytest.raises(ValueError, match=r"^unit/test_y\.py:1: ") as caught:
        lines(source, "unit/test_y.py")

    assert expected in str(caught.value)


def test_tests_may_not_disagree():
    """Two tests that say different things of one feature are a defect of one of them."""
    source = 'pytest.mark.serves("pbs", "arrays")\npytest.mark.differs("pbs", "arrays", "why")\n'

    with pytest.raises(ValueError, match=r"pbs: arrays: tests disagree \(runtime/test_x\.py\)"):
        READER["table"](lines(source))


def test_own_marks():
    """Every pilot that a test names is in the page."""
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs/reference/compatibility.md").read_text()
    named = {line.pilot for line in READER["all_lines"](root / "tests")}

    assert [] == [pilot for pilot in named if f"\n## {READER['PILOTS'][pilot]}\n" not in page]

"""
What each pilot and batch system finds served, read from the marks of tests.

Nothing is run and nothing imported: a test of a real batch system says what
it proves on a machine that lacks it, too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

#: In the order of the page.
PILOTS = {
    "panda": "PanDA pilot",
    "dirac": "DIRAC",
    "glideinwms": "GlideinWMS",
    "osg": "OSG",
    "alice": "JAliEn",
    "htcondor": "HTCondor",
    "slurm": "Slurm",
    "gridengine": "Grid Engine",
    "lsf": "LSF",
    "pbs": "PBS",
    "script": "Plain batch scripts",
    "testing": "Test harnesses of experiments",
    "spython": "Singularity Python",
}

#: What a test proves depends on where it runs.
PROOFS = {
    # A program of this project stands in for the pilot.
    "integrations/java": "real Apptainer",
    "integrations": "inside the real thing",
    "runtime": "real Apptainer",
    "fake": "fake runtime",
}
TABLE = "table"

VERDICTS = {"serves": "served", "differs": "differs", "OUT_OF_SCOPE": "out of scope"}


class Line(NamedTuple):
    """
    What one mark says, and where it stands.
    """

    pilot: str
    feature: str
    verdict: str
    why: str
    proof: str
    place: str


def lines_of(source: str, name: str) -> Iterator[Line]:
    """
    Read the marks of one file; *name* is its path below the tests.
    """
    proof = next((text for start, text in PROOFS.items() if name.startswith(f"{start}/")), TABLE)
    for verdict, words, number in _said(ast.parse(source), name):
        why = words[2] if len(words) > 2 else ""
        line = Line(words[0], words[1], verdict, why, "" if verdict == "OUT_OF_SCOPE" else proof, name)
        if line.pilot not in PILOTS:
            raise ValueError(f"{name}:{number}: there is no pilot {line.pilot!r}")
        yield line


def _said(tree: ast.Module, name: str) -> Iterator[tuple[str, list[str], int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_mark(node.func):
            count = 3 if node.func.attr == "differs" else 2
            if node.keywords or len(node.args) != count:
                raise ValueError(f"{name}:{node.lineno}: a mark {node.func.attr} takes {count} texts")
            yield node.func.attr, [_text(arg, name) for arg in node.args], node.lineno
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == [
            "OUT_OF_SCOPE"
        ]:
            yield from _left_out(statement, name)


def _is_mark(func: ast.Attribute) -> bool:
    return func.attr in VERDICTS and ast.unparse(func.value) in ("pytest.mark", "mark")


def _left_out(statement: ast.Assign, name: str) -> Iterator[tuple[str, list[str], int]]:
    if not isinstance(statement.value, ast.Dict):
        raise ValueError(f"{name}:{statement.lineno}: OUT_OF_SCOPE must be written as a dictionary")  # noqa: TRY004 - of a text
    for key, why in zip(statement.value.keys, statement.value.values):
        if not isinstance(key, ast.Tuple) or len(key.elts) != 2:
            raise ValueError(f"{name}:{why.lineno}: a key of OUT_OF_SCOPE is a pilot and a feature")
        yield "OUT_OF_SCOPE", [_text(word, name) for word in (*key.elts, why)], why.lineno


def _text(node: ast.expr, name: str) -> str:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or not node.value.strip():
        raise ValueError(f"{name}:{node.lineno}: must be a text, written out: {ast.unparse(node)}")

    return " ".join(node.value.split())


def all_lines(tests: Path) -> list[Line]:
    """
    Read the marks of all tests.
    """
    files = sorted(tests.rglob("*.py"))

    return [
        line
        for file in files
        for line in lines_of(file.read_text(encoding="utf-8"), file.relative_to(tests).as_posix())
    ]


def table(lines: list[Line]) -> list[str]:
    """
    Write the page's part below its head.

    Raises:
        ValueError: Two tests say different things of one feature.
    """
    written: list[str] = []
    for pilot, title in PILOTS.items():
        own = [line for line in lines if line.pilot == pilot]
        if own:
            written += ["", f"## {title}", "", "| feature | | why | proven with | in |", "|---|---|---|---|---|"]
            written += [_row([line for line in own if line.feature == feature]) for feature in _features(own)]

    return written


def _features(lines: list[Line]) -> list[str]:
    order = list(VERDICTS)
    found = {line.feature: (order.index(line.verdict), line.feature.casefold()) for line in lines}

    return sorted(found, key=lambda feature: found[feature])


def _row(lines: list[Line]) -> str:
    first = lines[0]
    if len({line.verdict for line in lines}) > 1:
        places = ", ".join(sorted({line.place for line in lines}))
        raise ValueError(f"{first.pilot}: {first.feature}: tests disagree ({places})")
    why = "; ".join(dict.fromkeys(line.why for line in lines if line.why))
    order = [*dict.fromkeys(("inside the real thing", *PROOFS.values())), TABLE]
    proofs = ", ".join(sorted({line.proof for line in lines if line.proof}, key=order.index))
    places = ", ".join(f"`{place}`" for place in sorted({line.place for line in lines if line.proof}))
    cells = (first.feature, VERDICTS[first.verdict], why, proofs, places)

    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

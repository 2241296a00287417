"""
``wlcg-isolate explain``: show policy and where it comes from.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

import attrs

from wlcg_isolate.cli.options import add_policy, policy_of
from wlcg_isolate.cli.output import print_json, report, report_error, visible
from wlcg_isolate.errors import IsolateError
from wlcg_isolate.host import ask_runtimes, config_of
from wlcg_isolate.policy.explain import Explained, explain
from wlcg_isolate.policy.model import RULES
from wlcg_isolate.policy.node import NodeInput, node_layers
from wlcg_isolate.policy.parse import nearest
from wlcg_isolate.policy.settle import settle
from wlcg_isolate.request import Payload, Request

#: A table for people fits in so many columns.
_WIDTH = 100

#: ECMA-48: bold for keys, yellow for what lost, green for who won.
_COLOURS = {"key": "1", "won": "32", "lost": "33"}


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = argparse.ArgumentParser(
        prog="wlcg-isolate explain",
        description="Show every policy value, the layer and file that set it, and what it overrode.",
        allow_abbrev=False,
    )
    parser.add_argument("key", metavar="KEY", nargs="?", help="only this key, such as runtime.search, or section")
    add_policy(parser)
    parser.add_argument("--request", metavar="FILE|-", help="with what this request sets (JSON)")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(argv)
    try:
        rows, warnings, inputs = _explained(options)
    except IsolateError as error:
        report_error(error)
        return 1
    if options.key is not None:
        rows = [row for row in rows if options.key in (row.key, row.key.partition(".")[0])]
        if not rows:
            hint = nearest(options.key, RULES) or "; see wlcg-isolate explain"
            report(f"policy-invalid: there is no key {options.key!r} (from command line){hint}")
            return 1

    if options.json:
        print_json([_as_dict(row) for row in rows])
    else:
        paint = _Paint(on=not os.environ.get("NO_COLOR") and bool(sys.stdout) and sys.stdout.isatty())
        print("\n".join(_table(rows, paint, whole=options.key is not None)))
        if options.key is None:
            print("\n".join(_node(inputs)))
    report("\n".join(f"warning: {warning}" for warning in warnings))

    return 0


def _explained(options: argparse.Namespace) -> tuple[list[Explained], tuple[str, ...], tuple[NodeInput, ...]]:
    request = _request(options.request)
    policy = policy_of(options)
    found, _ = ask_runtimes(request, policy)
    config, file = config_of(found)
    settled = settle(policy, request, os.environ, config, file)
    _, inputs = node_layers(os.environ, config, file)

    return explain(settled), settled.warnings, inputs


def _request(file: Optional[str]) -> Request:
    if file is None:
        return Request(payload=Payload(command=("-",)))
    from wlcg_isolate.structure import read_request_json, request_from_dict

    return request_from_dict({"payload": {"command": ["-"]}, **read_request_json(file)})


def _as_dict(row: Explained) -> dict[str, Any]:
    values = attrs.asdict(row)

    return {**values, "overrode": list(row.overrode), "parts": list(row.parts)}


class _Paint:
    """
    Colours, where a terminal shows them.
    """

    def __init__(self, *, on: bool) -> None:
        self._on = on

    def __call__(self, text: str, colour: str) -> str:
        """
        Colour *text*.
        """
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._on else text


class _Sources:
    """
    Numbers for the files and variables that layers come from.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def label(self, layer: str, file: Optional[str]) -> str:
        """
        Name a layer, with the number of its source.
        """
        if file is None:
            return layer

        return f"{layer} [{self._known.setdefault(file, len(self._known) + 1)}]"

    def legend(self) -> Iterator[str]:
        """
        List the sources by number.
        """
        yield from (f"[{number}] {visible(file)}" for file, number in self._known.items())


class _Line(NamedTuple):
    """
    One value in the table.
    """

    key: str
    label: str
    text: str
    colour: str


def _table(rows: Sequence[Explained], paint: _Paint, *, whole: bool) -> Iterator[str]:
    """
    Write keys, layers and values in columns.

    Args:
        rows: The keys.

        paint: The colours.

        whole: Whether built-in values that were overridden are shown, too.
    """
    sources = _Sources()
    lines = [_Line(*map(visible, line)) for row in rows for line in _lines(row, sources, whole=whole)]
    first = max(len(line.key) for line in lines) + 2
    second = max(len("LAYER"), *(len(line.label) for line in lines)) + 2
    yield f"{'KEY':{first}}{'LAYER':{second}}VALUE"
    for line in lines:
        texts = textwrap.wrap(line.text, max(_WIDTH - first - second, 20), break_on_hyphens=False) or [""]
        for i, text in enumerate(texts):
            key, label = (line.key, line.label) if i == 0 else ("", "")
            yield f"{paint(f'{key:{first}}', 'key')}{paint(f'{label:{second}}', line.colour)}{text}".rstrip()
    yield from sources.legend()


def _lines(row: Explained, sources: _Sources, *, whole: bool) -> Iterator[_Line]:
    parts = _grouped(row.parts)
    if len(parts) > 1:
        locked = sources.label(row.layer, row.file) if row.layer == "lock" else ""
        if locked:
            yield _Line(row.key, locked, "as it is:", "won")
        for i, (layer, file, text) in enumerate(parts):
            yield _Line("" if i or locked else row.key, sources.label(layer, file), text, "won")
    else:
        yield _Line(row.key, sources.label(row.layer, row.file), _flat(row.value), "won")
    for said in row.overrode:
        if whole or said["layer"] != "built-in":
            label = sources.label(said["layer"], said["file"])
            yield _Line("", label, f"not {_flat(said['value'])}", "lost")


def _grouped(parts: Sequence[dict[str, Any]]) -> list[tuple[str, Optional[str], str]]:
    """
    Put what follows each other of one source into one line, but for binds.
    """
    lines: list[tuple[str, Optional[str], str]] = []
    for said in parts:
        source, text = (said["layer"], said["file"]), _flat(said["value"])
        bind = isinstance(said["value"], dict) and "source" in said["value"]
        if lines and lines[-1][:2] == source and not bind:
            lines[-1] = (*source, f"{lines[-1][2]}, {text}")
        else:
            lines.append((*source, text))

    return lines


def _flat(value: Any) -> str:
    """
    Write a value in one line.
    """
    if isinstance(value, dict) and {"source", "target"} <= value.keys():
        access, need = "rw" if value["writable"] else "ro", "" if value["required"] else ", if present"
        return f"{value['source']} -> {value['target']} ({access}{need})"
    if isinstance(value, dict):
        pairs = (
            (f"{name} ({inner})", path)
            for name, item in value.items()
            for inner, path in (item.items() if isinstance(item, dict) else (("", item),))
        )
        return ", ".join(f"{name.removesuffix(' ()')} = {_flat(item)}" for name, item in pairs) or "nothing"
    if isinstance(value, list):
        return ", ".join(map(_flat, value)) or "nothing"
    if value is None:
        return "none"

    return value if isinstance(value, str) else json.dumps(value)


def _node(inputs: Sequence[NodeInput]) -> Iterator[str]:
    before = None
    for found in inputs:
        if before is None:
            yield ""
        if found.source != before:
            yield f"read from {visible(found.source)}:"
        before = found.source
        became = f"-> {found.key}" if found.key else found.reason
        yield from textwrap.wrap(
            visible(f"{found.name} = {found.said}  {became}"),
            _WIDTH,
            initial_indent="  ",
            subsequent_indent="      ",
            break_on_hyphens=False,
        )

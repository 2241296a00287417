"""
``wlcg-isolate image resolve``: which image a reference means here, and why.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any, Optional

import attrs

from wlcg_isolate.cli.image import parser_for
from wlcg_isolate.cli.image_common import facts_of, policy_of, request_of
from wlcg_isolate.cli.output import print_json, report_error, table
from wlcg_isolate.errors import IsolateError, PlanError, Problem
from wlcg_isolate.fitness import Image, LookedAt, choose_image, looked_at
from wlcg_isolate.host.processor import read_processor
from wlcg_isolate.images.misfit import Node
from wlcg_isolate.platforms import canonical_architecture

_EPILOG = """\
REF is a path, a name or platform that policy knows, an OCI name that is looked
up on CVMFS (cmssw/el9:x86_64), or several of them in order of preference with
commas between.  Exit status: 0 when there is an image, 1 when there is none.
"""


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = parser_for("resolve", _EPILOG)
    parser.add_argument("reference", metavar="REF", help="image reference or platform")
    parser.add_argument("--arch", metavar="ARCH", help="architecture, when it is not this node's")
    options = parser.parse_args(argv)
    try:
        policy = policy_of(options)
        request = request_of(options.reference)
        node = _node(options.arch)
        facts = facts_of(request, policy, node)
        image, problems = choose_image(request, policy, facts)
        looks = looked_at(request, policy, facts)
        if options.json:
            print_json(_as_dict(options.reference, image, looks, problems))
        if image is None:
            raise PlanError(problems)
    except IsolateError as error:
        report_error(error)
        return 1
    if not options.json:
        print(_as_text(image))

    return 0


def _node(arch: Optional[str]) -> Node:
    node = read_processor()
    if arch is None:
        return node
    machine = canonical_architecture(arch)
    if machine is None:
        raise PlanError(
            [
                Problem(
                    kind="usage",
                    message=f"there is no architecture {arch!r}",
                    origin="--arch",
                    advice="name one as uname -m does, or as Go does",
                )
            ]
        )

    # Of a node somewhere else nothing but its architecture is known.
    return node if machine == platform.machine() else attrs.evolve(node, machine=machine, level=None, vsyscall=None)


def _as_dict(
    requested: str, image: Optional[Image], looks: Sequence[LookedAt], problems: Sequence[Problem]
) -> dict[str, Any]:
    return {
        "requested": requested,
        "path": None if image is None else image.path,
        "resolved_path": None if image is None else image.resolved_path,
        "form": None if image is None else image.form,
        "architecture": None if image is None else image.architecture,
        "digest": None if image is None else attrs.asdict(image.digest),
        "looked_at": [look._asdict() for look in looks],
        "warnings": [] if image is None else list(image.warnings),
        "problems": [attrs.asdict(problem) for problem in problems] if image is None else [],
    }


def _as_text(image: Image) -> str:
    rows = [
        ("image", image.path),
        ("resolved", image.resolved_path),
        ("form", image.form),
        ("architecture", image.architecture or "unknown"),
        ("digest", f"{image.digest.kind} {image.digest.value}" if image.digest.value else "none known"),
        *(("warning", warning) for warning in image.warnings),
        *(("looked at", f"{look.path}: {look.verdict}") for look in image.looked_at),
    ]

    return table(rows)
